"""The collections that the page searches: opened when they are first asked for, and again when they failed.

All methods block, and may be called from several threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, FingerprintError, ServerError
from compsketch_milvus.identity import Identity
from compsketch_milvus.server import WAIT, RefusedError, guard
from compsketch_milvus.web.refusals import Refusal

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder

__all__ = ["Opened", "Where"]

AGE = 300.0  # seconds after which one is opened anew: an alias may have moved, an index may be another one
REST = 60.0  # seconds until one that is no longer used is closed: some thread may still be at it
PAUSE = 2.0  # seconds for which a failure to open is remembered, so that requests do not queue up to time out
LISTED = 30.0  # seconds for which the list of names is
MOST_NAMES = 100
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Where:
    """Where the collections are.

    Args:
        uri: of Milvus.
        collection: the one that is searched unless another one is named.
        token: for Milvus.
        db_name: its database.
    """

    uri: str
    collection: str = "photos"
    token: str | None = None
    db_name: str | None = None


class Opened:
    """The collections of one Milvus that one encoder made.

    Args:
        encoder: which has to have made their vectors.
        where: they are.
    """

    def __init__(self, encoder: Encoder, where: Where) -> None:
        self.encoder, self.where = encoder, where
        self._open: dict[str, tuple[float, SketchCollection]] = {}  # by the name that was asked for: since when
        self._retired: list[tuple[float, SketchCollection]] = []
        self._names: tuple[float, list[str]] = (-LISTED, [])
        self._failure: tuple[float, ServerError] | None = None
        self._lock = threading.RLock()

    def use(self, name: str | None, work: Callable[[SketchCollection], T]) -> T:
        """What work does with a collection; None: with the first one.

        Raises:
            Refusal: 404, there is none of that name, or another encoder made it.
            ServerError: Milvus is away. The next call tries again.
        """
        asked = name or self.where.collection
        collection = self._get(asked)
        try:
            return work(collection)
        except ServerError as error:
            if not error.transient and not isinstance(error, RefusedError):  # it would fail for ever
                self._retire(asked)
            raise

    def names(self) -> list[str]:
        """Those that the encoder can search, the first one first."""
        since, names = self._names
        if time.monotonic() - since > LISTED:
            names = self.use(None, self._listed)
            self._names = (time.monotonic(), names)
        return names

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for _, collection in [*self._open.values(), *self._retired]:
                collection.close()
            self._open, self._retired = {}, []

    def _get(self, asked: str) -> SketchCollection:
        found = self._open.get(asked)
        if found is not None and time.monotonic() - found[0] < AGE:
            return found[1]
        if asked != self.where.collection and asked not in self.names():
            raise _unknown(asked)
        with self._lock:
            found = self._open.get(asked)
            if found is not None and time.monotonic() - found[0] < AGE:
                return found[1]
            try:
                collection = self._opened(asked)
            except FingerprintError as error:
                if found is None:
                    raise _unknown(asked) from error
                log.warning("%s; until the page is started with that encoder it stays with %r", error, found[1].name)
                collection = found[1]  # an alias points elsewhere now: those who search go on where they were
            else:
                self._retire(asked)
            self._open[asked] = (time.monotonic(), collection)
            return collection

    def _opened(self, asked: str) -> SketchCollection:
        where = self.where
        if self._failure is not None and time.monotonic() - self._failure[0] < PAUSE:
            raise self._failure[1]
        try:
            collection = SketchCollection.open(
                asked, self.encoder, create=False, uri=where.uri, token=where.token, db_name=where.db_name
            )
        except FingerprintError:
            raise
        except CollectionError as error:
            raise _unknown(asked) from error
        except ServerError as error:
            self._failure = (time.monotonic(), error)
            raise
        self._failure = None
        return collection

    def _retire(self, asked: str) -> None:
        with self._lock:
            now, found = time.monotonic(), self._open.pop(asked, None)
            if found is not None:
                self._retired.append((now, found[1]))
            for _, collection in [one for one in self._retired if now - one[0] > REST]:
                collection.close()
            self._retired = [one for one in self._retired if now - one[0] <= REST]

    def _listed(self, first: SketchCollection) -> list[str]:
        names = [first.name]
        with guard("list the collections", first.uri):
            there = first.client.list_collections(timeout=WAIT)
        for name in sorted(set(there) - {first.name})[: 10 * MOST_NAMES]:
            with guard("look up the collection", first.uri):
                described = first.client.describe_collection(name, timeout=WAIT)
            try:
                Identity.read(described, name).check(self.encoder, name, name)
            except CollectionError:
                continue  # somebody else's, or of another encoder
            names.append(name)
        return names[:MOST_NAMES]


def _unknown(name: str) -> Refusal:
    return Refusal(404, f"there is no collection {name!r} that this encoder can search")
