"""Source to collection as a bounded pipeline: read, decode, encode, write.

    read     1 thread   iterate(source), ask the collection which photos it holds as they are, leave those out
    decode   N threads  bytes -> (image_size, image_size, 3) uint8; a bad photo fails here, alone
    encode   1 thread   batches -> vectors; a batch that fails is tried photo by photo; `concurrency` threads where an
                        encoder has it: a service, which encodes one batch while others travel
    write    1 thread   upsert, then flush; a photo counts as indexed once the collection has acknowledged it

The caller's thread reports. The stages overlap: decoding and the encoder release the GIL. Memory is bounded, whatever
the source's length and however slow the servers, by

    pixels    ((3 + encoders) x batch_size + decoders) x 3 x image_size^2 bytes    queued, collected, being encoded
    decoding  decoders x (max_bytes + about 9 x max_pixels) bytes          for the largest allowed photo at full scale
    records   2 x CHUNK + decoders of them, of which at most 2 x (CHUNK_BYTES + max_bytes) of data
    vectors   (3 + encoders) x batch_size x 4 x (dim, and F where features are kept) bytes, and one message
              of `rows.MESSAGE_BYTES`
    failures  MAX_FAILURES reasons

The mark for resuming is the collection itself, so running again goes on where the last run stopped. An upsert that was
not acknowledged (a time-out, a server that went away) is made again: with stable ids that leaves each photo once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from compsketch_milvus import stages
from compsketch_milvus.course import Course, Stop
from compsketch_milvus.errors import SourceError
from compsketch_milvus.pipeline import Aborted, Channel, Crew
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.rejects import Rejects
from compsketch_milvus.retry import Backoff, Retry
from compsketch_milvus.shard import Shard
from compsketch_milvus.sources import Source, is_countable, iterate
from compsketch_milvus.sources.access import Access
from compsketch_milvus.tally import Failure, IngestProgress, IngestSummary, Tally
from encoders import tracing
from encoders.errors import ImageError
from encoders.images import Limits, Photo
from encoders.request import ongoing

if TYPE_CHECKING:
    from compsketch_milvus.features import FeatureStore

__all__ = ["Failure", "IngestProgress", "IngestSummary", "Writer", "ingest"]

T = TypeVar("T")


class Collection(Protocol):
    """What an ingest needs of a SketchCollection."""

    @property
    def encoder(self) -> Any: ...
    def stored(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def upsert(self, records: Sequence[PhotoVector]) -> int: ...
    def flush(self) -> None: ...


class Writer(Protocol):
    """What stores photos in place of the collection's upsert, maybe later: `bulk.BulkWriter`."""

    @property
    def status(self) -> str:
        """What it waits for, in words; read by other threads."""

    def recover(self) -> object:
        """Before anything is read: end what a run that was killed began."""

    def store(self, photos: Sequence[PhotoVector]) -> Sequence[str]:
        """Take photos; returns the ids of those, of this call and earlier ones, that came to be stored meanwhile."""

    def finish(self) -> Sequence[str]:
        """Store what is left, and return its ids."""


def ingest(
    collection: Collection,
    source: Source,
    *,
    batch_size: int = 32,
    decoders: int | None = None,
    force: bool = False,
    progress: Callable[[IngestProgress], None] | None = None,
    limits: Limits | None = None,
    shard: Shard | None = None,
    rejects: str | Path | None = None,
    stop: Stop | None = None,
    backoff: Backoff | None = None,
    keep_features: FeatureStore | None = None,
    allow_private: bool = False,
    stored: Callable[[Sequence[PhotoVector]], None] | None = None,
    writer: Writer | None = None,
) -> IngestSummary:
    """Index the photos of a source.

    A photo is skipped if the collection holds it with every field of its record as it is now (for a file: its size and
    time of modification; for a manifest: its columns too): a second run encodes nothing twice, and a changed file anew.

    Args:
        collection: an open SketchCollection.
        source: as for `sources.iterate`.
        batch_size: photos a call of the encoder.
        decoders: threads that decode; None for one a core.
        force: index also what the collection holds already.
        progress: called on the caller's thread, at most ten times a second and once at the end.
        limits: ceilings on one photo's bytes and pixels.
        shard: this worker's share, where several work on one source; None for all of it.
        rejects: a file to which each failure is appended as it happens, and which is a source for another ingest.
        stop: once it is set, nothing more is taken from the source; what is decoded is encoded and written.
        backoff: how long to try again while the server is away or busy.
        keep_features: where the photos' features are kept, too; what it does not hold is encoded again.
        allow_private: whether URLs may lead to addresses that are not of the public internet; see `access`.
        stored: called with photos that the collection has just acknowledged, on the thread that writes; not with a
            `writer`, which remembers ids alone.
        writer: what stores the photos in place of the collection's upsert.

    Raises:
        SourceError: the source is no good, and nothing was read from it; or `rejects` cannot be written.
        IngestError: the source, the encoder or the collection gave way in the middle. What was written stays, and
            running the same ingest again goes on from there. The fault is the `__cause__`, the counts are in `summary`.
    """
    decoders = decoders if decoders is not None else os.cpu_count() or 1
    if batch_size < 1 or decoders < 1:
        raise SourceError(f"batch_size {batch_size}, decoders {decoders}: both must be at least 1")
    with ExitStack() as stack:
        stack.enter_context(ongoing())
        stack.enter_context(tracing.span("compsketch ingest"))
        log = stack.enter_context(Rejects.of(source, rejects)) if rejects is not None else None
        return _Ingest(
            collection,
            source,
            batch_size=batch_size,
            decoders=decoders,
            force=force,
            progress=progress,
            access=Access(limits or Limits(), allow_private),
            shard=shard,
            tally=Tally(log),
            stop=stop,
            backoff=backoff or Backoff(),
            kept=keep_features,
            stored=stored,
            writer=writer,
        ).run()


class _Ingest(Course):
    """One run; its methods are the stages."""

    reader = "ingest-read"

    def __init__(
        self,
        collection: Collection,
        source: Source,
        *,
        batch_size: int,
        decoders: int,
        force: bool,
        progress: Callable[[IngestProgress], None] | None,
        access: Access,
        shard: Shard | None,
        tally: Tally,
        stop: Stop | None,
        backoff: Backoff,
        kept: FeatureStore | None,
        stored: Callable[[Sequence[PhotoVector]], None] | None,
        writer: Writer | None,
    ) -> None:
        self.collection, self.source, self.batch_size, self.decoders = collection, source, batch_size, decoders
        self.force, self.access, self.shard, self.kept, self.stored = force, access, shard, kept, stored
        self.writer = writer
        self.size: int = collection.encoder.image_size
        self.records: Channel[ImageRecord] = Channel(stages.CHUNK_BYTES, weigh=stages.weight)
        self.photos: Channel[tuple[ImageRecord, Photo]] = Channel(2 * batch_size, producers=decoders)
        self.encoders: int = getattr(collection.encoder, "concurrency", 1)
        self.vectors: Channel[list[PhotoVector]] = Channel(2, producers=self.encoders)
        crew = Crew(self.records, self.photos, self.vectors)
        super().__init__(crew, tally, progress=progress, stop=stop, counted=is_countable(source))
        self.reading = Retry(backoff, self.records.pause)
        self.encoding = [Retry(backoff, self.vectors.pause, answer="") for _ in range(self.encoders)]
        self.writing = Retry(backoff, self.vectors.pause)
        self.client_lock = threading.Lock()  # MilvusClient promises nothing about threads: one call at a time
        self.collecting = threading.Lock()  # one batch at a time, so that all but the last are whole

    def start(self) -> None:
        self.crew.start(self.read, self.records, name=self.reader)
        for number in range(self.decoders):
            self.crew.start(self.decode, self.photos, name=f"ingest-decode-{number}")
        for number, retry in enumerate(self.encoding):
            self.crew.start(partial(self.encode, retry), self.vectors, name=f"ingest-encode-{number}")
        self.crew.start(self.write, name="ingest-write")

    def drain(self) -> None:
        self.records.end()

    def waiting(self) -> str:
        storing = self.writer.status if self.writer is not None else ""
        others = (retry.status for retry in (self.writing, self.reading, *self.encoding))
        return next(filter(None, (storing, *others)), "")

    def named(self) -> Iterator[ImageRecord]:
        return self.own(asks=False)

    def own(self, *, asks: bool = True) -> Iterator[ImageRecord]:
        """The source's records that are this worker's; servers are asked about those alone, or about none."""
        holds = self.shard.holds if self.shard is not None else lambda _: True
        access = replace(self.access, asks=lambda id: asks and holds(id))
        return (record for record in iterate(self.source, access) if holds(record.id))

    def read(self) -> None:
        if self.writer is not None:
            self.reading(partial(self.locked, self.writer.recover))
        for chunk in stages.chunks(self.taken()):
            self.pass_on(chunk)
        self.all_read = True

    def taken(self) -> Iterator[ImageRecord]:
        """The records that are to be looked up."""
        for record in self.own():
            if self.records.pause(0):
                raise Aborted
            if record.error is not None:
                self.tally.refuse(record, record.error)
            elif self.tally.take(record):
                yield record

    def pass_on(self, chunk: list[ImageRecord]) -> None:
        """Hand over the records of a chunk that the collection does not hold as they are."""
        same = set() if self.force else self.reading(lambda: self.look_up(chunk))
        chunk.reverse()
        while chunk:  # popped, so that data is not held twice
            record = chunk.pop()
            if record.id in same and (self.kept is None or self.kept.holds(record)):
                self.tally.skip(record)
            else:
                self.records.put(record)

    def look_up(self, chunk: list[ImageRecord]) -> set[str]:
        with self.client_lock:
            return stages.unchanged(self.collection, chunk)

    def decode(self) -> None:
        for record in self.records:
            try:
                decoded = stages.decode(record, self.size, self.access.limits)
            except ImageError as error:
                self.tally.fail(record, str(error))
            else:
                self.photos.put(decoded)

    def encode(self, retry: Retry) -> None:
        encode = partial(stages.encode, self.collection.encoder, fail=self.tally.fail, features=self.kept is not None)
        for batch in self.batches():
            work = partial(encode, batch)
            if photos := retry(work):
                self.vectors.put(photos)

    def batches(self) -> Iterator[list[tuple[ImageRecord, Photo]]]:
        while True:
            with self.collecting:
                batch = list(islice(self.photos, self.batch_size))
            if not batch:
                return
            yield batch

    def write(self) -> None:
        for batch in self.vectors:
            if self.kept is not None:
                self.kept.add(batch)  # before the rows: what is stored is kept
            stages.write(batch, self.put, self.tally.fail)
        if self.writer is not None:
            self.tally.stored(self.writing(partial(self.locked, self.writer.finish)))
        self.writing(self.flush)

    def put(self, batch: list[PhotoVector]) -> None:
        if self.writer is not None:
            self.tally.stored(self.writing(partial(self.locked, partial(self.writer.store, batch))))
            return

        def upsert() -> None:
            with self.client_lock:
                self.collection.upsert(batch)

        self.writing(upsert)
        self.tally.wrote(batch)
        if self.stored is not None:
            self.stored(batch)

    def locked(self, work: Callable[[], T]) -> T:
        with self.client_lock:
            return work()

    def flush(self) -> None:
        with self.client_lock:
            self.collection.flush()
