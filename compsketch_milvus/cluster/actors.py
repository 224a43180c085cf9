"""The two kinds of actors that outlive a batch: the gate before the readers, and the keepers of the collection."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from compsketch_milvus import stages
from compsketch_milvus.cluster.batch import Outcome, Written, bare
from compsketch_milvus.cluster.setup import EncoderFacts, Environment, Opening
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.retry import Backoff, Retry
from encoders import tracing

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.ingest import Writer

__all__ = ["Gate", "Keeper", "Patience", "answer"]

T = TypeVar("T")


def answer(reference: Any) -> Any:
    """The result of a task or of an actor's method, or the error it raised, as it was raised."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


class Gate:
    """Holds readers back, so that of each shard only so many photos are on their way, and ends them when told to.

    It counts photos that have ended, and those only once, whatever Ray does a second time: a reader that is started
    anew after its machine died finds the way free up to where the first one was.

    Args:
        window: photos of a shard that may be on their way.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._ended: Counter[int] = Counter()
        self._stopped = False
        self._waits: dict[str, str] = {}
        self._changed = asyncio.Condition()

    async def enter(self, shard: int, position: int) -> bool:
        """Wait until the photos of a shard up to `position` may be on their way; False if none is to be taken."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopped or position <= self._ended[shard] + self._window)
        return not self._stopped

    async def leave(self, shard: int, count: int) -> None:
        """So many photos of a shard have ended."""
        async with self._changed:
            self._ended[shard] += count
            self._changed.notify_all()

    async def stop(self) -> None:
        """Let nothing more in."""
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def stopped(self) -> bool:
        """Whether nothing more is let in, and what is not decoded is left for the next run."""
        return self._stopped

    async def say(self, who: str, words: str) -> None:
        """A worker waits for a server, or no longer, if there are no words."""
        self._waits[who] = words

    async def waits(self) -> str:
        """What a worker waits for, if one does."""
        return next(filter(None, self._waits.values()), "")


class Patience:
    """Makes calls to a server again while it is away or busy, and says so at the gate.

    Args:
        gate: name of the one where the driver asks. Not the gate itself: what starts an actor anew must hold nothing
            that Ray could have lost by then.
        backoff: for how long.
    """

    def __init__(self, gate: str, backoff: Backoff) -> None:
        self._gate, self._who = gate, uuid.uuid4().hex
        self._retry = Retry(backoff, self._pause, answer="")
        self._said = False

    def __call__(self, work: Callable[[], T]) -> T:
        """The answer of `work`. Raises ServerError, once there is no more patience."""
        try:
            return self._retry(work)
        finally:
            if self._said:
                self._say("")
                self._said = False

    def _pause(self, seconds: float) -> bool:
        self._say(self._retry.status)
        self._said = True
        time.sleep(seconds)
        return False

    def _say(self, words: str) -> None:
        import ray

        ray.get_actor(self._gate).say.remote(self._who, words)


class Keeper:
    """The collection in one process: who asks what it holds and who writes does it here.

    On a server there are several keepers. A Milvus Lite file can be open in one process only, and has one.

    Args:
        environment: settings.
        opening: of the collection.
        encoder: whose vectors are written; the collection is made for it, or checked against its fingerprint.
        patience: with the server.
    """

    def __init__(self, environment: Environment, opening: Opening, encoder: EncoderFacts, patience: Patience) -> None:
        environment.enter()
        self._opening, self._encoder, self._patience = opening, encoder, patience
        self._part = environment.part

    @cached_property
    def _collection(self) -> SketchCollection:
        return self._opening.open(self._encoder)

    @cached_property
    def _writer(self) -> Writer | None:
        return self._opening.writer(self._collection)

    def open(self) -> int:
        """Open the collection, or make it. Raises as `SketchCollection.open`. Returns the id of this process."""
        with self._part("open"):
            self._patience(lambda: self._collection.check_usable())
            self._patience(lambda: self._writer)
        return os.getpid()

    def unchanged(self, records: Sequence[ImageRecord]) -> set[str]:
        """Ids of the photos that the collection holds as they are; see `stages.unchanged`."""
        with self._part("compare"):
            return self._patience(lambda: stages.unchanged(self._collection, records))

    def write(self, photos: list[PhotoVector]) -> Written:
        """Store photos; see `stages.write`."""
        with self._part("write"):
            return self._written(photos, self._patience(lambda: self._writer))

    def _written(self, photos: list[PhotoVector], writer: Writer | None) -> Written:
        outcomes: list[Outcome] = []
        stored: list[str] = []

        def put(some: list[PhotoVector]) -> None:
            if writer is None:
                self._patience(lambda: self._collection.upsert(some))
            else:
                stored.extend(self._patience(lambda: writer.store(some)))
            outcomes.extend(Outcome(bare(photo), "indexed" if writer is None else "staged") for photo in some)

        stages.write(photos, put, lambda photo, reason: outcomes.append(Outcome(bare(photo), "failed", reason)))
        return Written(outcomes, stored)

    def finish(self) -> Sequence[str]:
        """Store what is staged, and write everything out; returns the ids of what was stored by it."""
        with self._part("finish"):
            writer = self._patience(lambda: self._writer)
            stored = self._patience(writer.finish) if writer is not None else ()
            self._patience(lambda: self._collection.flush())
        tracing.flush()  # this process is killed next
        return stored
