"""A collection of photos in Milvus: its schema, the encoder it belongs to, and the ways in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from compsketch_milvus import creating, indexing
from compsketch_milvus.contents import LONG, count, look_up, remove, store
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.identity import Identity
from compsketch_milvus.index import IndexChoice, ServerFacts
from compsketch_milvus.probing import GPU_WAIT, probe
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import check_partition_key
from compsketch_milvus.server import WAIT, DiskFullError, connect_server, guard, lite_path, public_uri
from compsketch_milvus.settings import COLLECTION_NAME, load_settings
from compsketch_milvus.steps import Call, Done, Steps, Work, advance, operation

if TYPE_CHECKING:
    import numpy as np
    from pymilvus import AsyncMilvusClient, MilvusClient

    from compsketch_milvus.encoder import Encoder, ImageLike
    from compsketch_milvus.ingest import IngestSummary
    from compsketch_milvus.search import Hit
    from encoders.explain import Explanation
    from encoders.sketch import Sketch

__all__ = ["SketchCollection"]

DELETION = 60  # seconds in which a deletion is seen everywhere, however busy a server is
T = TypeVar("T")


class SketchCollection:
    """Photos as vectors, searched with sketches. Made by `open`; a context manager.

    Attributes:
        name: of the collection.
        client: the open MilvusClient.
        uri: where it is, without credentials.
        facts: what is known of the server.
        index: the index in use, and why.
        connect_async: opens an AsyncMilvusClient to the same server, in the same way.
        identity: what it remembers of its making.
        gpu_wait: seconds given to the server to build a first index on a GPU, where it is asked for one.
    """

    index: IndexChoice
    identity: Identity
    connect_async: Callable[[], AsyncMilvusClient]

    def __init__(
        self,
        name: str,
        encoder: Encoder | None,
        client: MilvusClient,
        uri: str,
        facts: ServerFacts,
        gpu_wait: int = GPU_WAIT,
    ) -> None:
        self.name, self.client, self.uri, self.facts = name, client, public_uri(uri), facts
        self.gpu_wait = gpu_wait
        self._encoder = encoder
        self._unusable: str | None = None
        self._stored = False
        self._deleted = -math.inf  # seconds of a clock, at the last deletion

    @classmethod
    def open(
        cls,
        name: str,
        encoder: Encoder | None,
        *,
        uri: str | None = None,
        token: str | None = None,
        db_name: str | None = None,
        create: bool = True,
        index: str = "auto",
        index_params: Mapping[str, Any] | None = None,
        gpu_wait: int = GPU_WAIT,
        attached: Mapping[str, Any] | None = None,
        partition_key: str | None = None,
    ) -> SketchCollection:
        """Open a collection, or make it.

        Args:
            name: letters, digits and underscores; an alias stands for the collection that it names now.
            encoder: what its vectors are made with; None is enough for `info`, `count` and `delete`.
            uri: Milvus' address or a Milvus Lite file; None takes MILVUS_URI, else a file in the user's data folder.
            token: token or user:password; None takes MILVUS_TOKEN.
            db_name: database; None takes MILVUS_DB_NAME, else the default one.
            create: make the collection where there is none.
            index: "auto", or an index type; naming one that the collection does not have rebuilds its index.
            index_params: parameters, for building or for searching, that replace the defaults.
            gpu_wait: seconds given to a server to build a first index on a GPU, when a collection is made there, before
                it counts as one that cannot.
            attached: of a new collection that stands beside another one, what it belongs to.
            partition_key: of a new collection, name of the text field by whose value Milvus keeps photos apart, as for
                tenants: a search whose filter gives the value looks at few others. Every photo has to have it.

        Raises:
            FingerprintError: the collection was made by another encoder.
            CollectionError: there is none and `create` is False, it was not made here, or name or index do not fit.
            ServerError: Milvus cannot be reached or refuses; a Milvus Lite file that another process has open.
        """
        if not COLLECTION_NAME.fullmatch(name):
            raise CollectionError(
                f"collection name {name!r}: use letters, digits and underscores, at most 255, no digit in front"
            )
        if partition_key is not None:
            check_partition_key(partition_key)
        settings = load_settings(uri=uri, token=token, db_name=db_name)
        secret = settings.token.get_secret_value() if settings.token else None
        path = lite_path(settings.uri)
        if path is not None and not path.exists() and (encoder is None or not create):
            raise CollectionError(f"{settings.uri}: there is no such Milvus Lite file; ingest photos first")
        address = settings.uri if path is None else str(path)
        where: dict[str, Any] = {"token": secret, "db_name": settings.db_name}
        client: MilvusClient = connect_server(settings.uri, **where)
        try:
            with guard("connect", address):
                facts = probe(client, address)
            opened = cls(name, encoder, client, address, facts, gpu_wait)
            kept = {"attached": dict(attached) if attached else None, "partition_key": partition_key}
            opened._prepare(create, index, dict(index_params or {}), kept)
            opened.connect_async = lambda: connect_server(settings.uri, client="AsyncMilvusClient", **where)
        except BaseException:
            client.close()
            raise
        return opened

    @property
    def encoder(self) -> Encoder:
        """The encoder it was opened with.

        Raises:
            CollectionError: it was opened without one.
        """
        if self._encoder is None:
            raise CollectionError(f"collection {self.name!r} was opened without an encoder; open it with one to search")
        return self._encoder

    def call(self, doing: str, method: str, *, expression: str = "", **arguments: Any) -> Any:
        """Call a method of the MilvusClient on this collection, with this package's errors.

        Args:
            doing: the verb for an error's message.
            method: name of the MilvusClient's method.
            expression: the user's filter, where one is sent, for an error's message.
            **arguments: for the method; `timeout` is set where it is missing.
        """
        return self._send(Call(doing, method, arguments, expression))

    def _send(self, asked: Call) -> Any:
        with self.guarded(asked) as call:
            return getattr(self.client, call.method)(self.name, **call.arguments)

    def check_usable(self) -> None:
        """Refuse to go on after `close`, or after a full disk.

        Raises:
            ServerError: it says which.
        """
        if self._unusable:
            raise ServerError(self._unusable)

    @contextmanager
    def guarded(self, call: Call) -> Iterator[Call]:
        """Around a call by any client: its span, our errors, a timeout, and what this object remembers of it."""
        self.check_usable()
        self._stored = self._stored or call.method in ("upsert", "insert")
        self._deleted = monotonic() if call.method == "delete" else self._deleted
        try:
            with call.span(self.name, vars(self).get("index")), guard(call.doing, self.uri, expression=call.expression):
                yield call.sent(WAIT)
        except DiskFullError as error:
            # After a flush that failed, Milvus Lite shows none of the rows until the file is opened again.
            self._unusable = str(error)
            raise

    def carry_out(self, steps: Steps[T]) -> T:
        """Take the steps of an operation, one after the other, and return its result."""
        with operation(steps, self.name):
            step = advance(steps)
            while not isinstance(step, Done):
                step = advance(steps, step.run() if isinstance(step, Work) else self._send(step))
        return cast(T, step.result)

    # --- making and opening ---

    def _prepare(self, create: bool, index: str, params: dict[str, Any], kept: dict[str, Any]) -> None:
        if not creating.exists(self):
            if not create or self._encoder is None:
                raise creating.missing(self)
            creating.create(self, index, params, kept)
        described = self.call("describe the collection", "describe_collection")
        # An alias is followed once: if it is pointed elsewhere, this stays with the collection whose encoder it has.
        asked, self.name = self.name, str(described.get("collection_name") or self.name)
        self.identity = Identity.read(described, self.name)
        if kept["partition_key"] not in (None, self.partition_key):
            raise CollectionError(
                f"collection {self.name!r} has partition key {self.partition_key!r}, not {kept['partition_key']!r}, "
                "and that cannot be changed; ingest into another collection"
            )
        if self._encoder is not None:
            self.identity.check(self._encoder, self.name, asked)
        indexing.adopt(self, index, params)
        self.load()

    def load(self) -> None:
        """Load it, for searching and counting; a collection that is loaded stays so."""
        indexing.load(self)

    # --- the index ---

    def reindex(self, index: str = "auto", params: Mapping[str, Any] | None = None, *, wait: int = 6 * LONG) -> None:
        """Choose the index anew, for the rows that are there now, and build it if it is another one.

        Until it is built, `wait` seconds at most, nobody can search the collection.

        Args:
            index: "auto", or an index type.
            params: parameters that replace the defaults.
            wait: seconds; a server goes on building after them.

        Raises:
            CollectionError: no such type or parameter.
            ServerError: Milvus refuses; the index that was there is built again.
        """
        indexing.reindex(self, index, dict(params or {}), wait)

    def optimize(self, wait: int = LONG) -> IndexChoice:
        """Build an index that the collection has outgrown again, if it was left to us, and wait until it is built.

        Args:
            wait: seconds; what is not built after them is logged, and a server goes on building.

        Returns:
            The index in use afterwards; its `reason` says why.
        """
        indexing.optimize(self, wait)
        return self.index

    # --- rows in and out ---

    def upsert(self, records: Iterable[PhotoVector]) -> int:
        """Store photos; one whose id is there already is replaced.

        The photos are taken from `records` as they are sent, in messages of at most 32 MB. An error leaves the
        messages before it stored. On Milvus Lite, call `flush` after many: a search is slow until then.

        Returns:
            How many rows were written; an id given twice in one message counts once, and the last one stays.

        Raises:
            CollectionError: a record that does not fit, by its id.
            ServerError: Milvus cannot be reached, or its disk is full.
        """
        return self.carry_out(store(self, records))

    def delete(
        self,
        ids: Sequence[str] | None = None,
        filter: str | None = None,
        filter_params: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete photos by id or by a filter expression; returns how many there were.

        Raises:
            CollectionError: neither or both of `ids` and `filter` are given, or Milvus refuses the filter.
        """
        return self.carry_out(remove(self, ids, filter, filter_params))

    def count(self, filter: str = "", filter_params: Mapping[str, Any] | None = None) -> int:
        """The exact number of photos, or of those that pass a filter expression."""
        return self.carry_out(count(self, filter, filter_params))

    def existing(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that are in the collection."""
        return set(self.stored(ids, ()))

    def stored(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is kept of photos: by id, those of the named fields that the photo has; also what others just wrote."""
        return self.carry_out(look_up(self, ids, fields))

    def flush(self) -> None:
        """Write everything out. A server then builds the index in the background: `optimize` waits for it.

        On Milvus Lite the index is changed where the collection has outgrown it; on a server, where that would take the
        collection away from others, `optimize` does that, or `compsketch index auto`.
        """
        self.call("flush", "flush", timeout=LONG)
        if self.facts.kind == "lite":
            self.optimize()

    def ingest(self, source: Any, **options: Any) -> IngestSummary:
        """Index the photos of a folder, glob or manifest; see `compsketch_milvus.ingest.ingest`."""
        from compsketch_milvus.ingest import ingest

        return ingest(self, source, **options)

    # --- searching ---

    @property
    def consistency(self) -> str:
        """The level of a search that names none, so that it sees what was done through this object: else "Bounded".

        "Session" once photos were stored. "Strong" for a minute after a deletion, of which Milvus 2.3 does not say when
        it took place, so that a session cannot wait for it.
        """
        if monotonic() - self._deleted < DELETION:
            return "Strong"
        return "Session" if self._stored else "Bounded"

    def search(self, sketch: Sketch, limit: int = 20, filter: str = "", **options: Any) -> list[Hit]:
        """The photos that hold a sketch's objects in its layout, best first; see `compsketch_milvus.search.search`."""
        from compsketch_milvus.search import search

        return search(self, sketch, limit, filter, **options).hits

    def explain(self, hit: Hit, sketch: Sketch, *, words: bool = False) -> Explanation:
        """What each object adds to a hit's score, and in which cells; see `compsketch_milvus.explain.explain`."""
        from compsketch_milvus.explain import explain

        return explain(self, [hit], sketch, words=words)[0]

    def search_vector(self, vector: np.ndarray, limit: int = 20, filter: str = "", **terms: Any) -> list[Hit]:
        """The photos nearest to a (dim,) vector of unit length that this collection's encoder made."""
        from compsketch_milvus.search import search_vectors

        return search_vectors(self, vector, limit, filter, **terms)[0].hits

    def search_image(self, image: ImageLike, limit: int = 20, filter: str = "", **terms: Any) -> list[Hit]:
        """More like this: the photos nearest to a photo."""
        from compsketch_milvus.search import search_image

        return search_image(self, image, limit, filter, **terms).hits

    # --- the rest ---

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.identity.dim

    @property
    def partition_key(self) -> str | None:
        """The field by whose value Milvus keeps photos apart; None where there is none."""
        return self.identity.partition_key

    @property
    def columns(self) -> list[str]:
        """What is kept of a photo beside its id and its vector; `$meta` stands for all further fields."""
        return ["source", "width", "height", "$meta", *([self.partition_key] if self.partition_key else [])]

    @property
    def attached(self) -> dict[str, Any] | None:
        """What it belongs to, where it stands beside another collection."""
        return self.identity.attached

    def info(self) -> dict[str, Any]:
        """The collection in one JSON object: name, count, dim, encoder, index and server."""
        count = self.count()
        return {
            "collection": self.name,
            "count": count,
            "dim": self.dim,
            "partition_key": self.partition_key,
            "encoder": {"name": self.identity.encoder, "fingerprint": self.identity.fingerprint},
            "index": indexing.report(self, count),
            "server": {
                "kind": self.facts.kind,
                "version": self.facts.version,
                "uri": self.uri,
                "gpu": self.facts.gpu,
            },
        }

    def drop(self) -> None:
        """Delete the collection with all its photos, and close."""
        self.call("drop the collection", "drop_collection", timeout=LONG)
        self.close()

    def close(self) -> None:
        """Close the connection. Milvus Lite keeps its file locked until this process ends."""
        if self._unusable is None:
            self._unusable = f"collection {self.name!r} is closed; open it again"
        self.client.close()

    def __enter__(self) -> SketchCollection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
