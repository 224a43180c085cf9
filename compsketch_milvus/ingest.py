"""Source to collection as a bounded pipeline: read, decode, encode, write.

    read     1 thread   iterate(source), ask the collection which photos it holds as they are, leave those out
    decode   N threads  bytes -> (image_size, image_size, 3) uint8; a bad photo fails here, alone
    encode   caller     batches -> vectors; a batch that fails is tried photo by photo
    write    1 thread   upsert; a photo counts as indexed once the collection has acknowledged it

The stages overlap: decoding and the encoder release the GIL. Memory is bounded, whatever the source's length, by

    pixels    (4 x batch_size + decoders) x 3 x image_size^2 bytes         queued, collected and being encoded
    decoding  decoders x (max_bytes + about 9 x max_pixels) bytes          for the largest allowed photo at full scale
    records   CHUNK + 3 x decoders of them, of which at most CHUNK_BYTES + 3 x decoders x max_bytes of data
    vectors   4 x batch_size x 4 x dim bytes
    failures  MAX_FAILURES reasons

The mark for resuming is the collection itself, so running again goes on where the last run stopped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from compsketch_milvus.errors import IngestError, SourceError
from compsketch_milvus.pipeline import Aborted, Channel, Crew
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.sources import Source, iterate
from encoders.errors import ImageError
from encoders.images import Limits, Photo, load_photo

__all__ = ["MAX_FAILURES", "Failure", "IngestProgress", "IngestSummary", "ingest"]

CHUNK = 256  # records asked for in one question to the collection
CHUNK_BYTES = 64 * 1024 * 1024
MAX_FAILURES = 10_000
PROGRESS_SECONDS = 0.1
DEADLINE_SECONDS = 10.0  # for the threads to end when an ingest breaks off


class Collection(Protocol):
    """What an ingest needs of a SketchCollection."""

    @property
    def encoder(self) -> Any: ...
    def stored(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def upsert(self, records: Sequence[PhotoVector]) -> int: ...
    def flush(self) -> None: ...


@dataclass(frozen=True)
class Failure:
    """A photo that could not be indexed, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class IngestProgress:
    """How far an ingest is; `total` is None until the source has been counted, or where it can be read only once."""

    read: int
    indexed: int
    skipped: int
    failed: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Photos done (indexed, skipped or failed) a second."""
        return (self.indexed + self.skipped + self.failed) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did: read == indexed + skipped + len(failed) + failures_dropped.

    Args:
        read: photos that the source named.
        indexed: photos written.
        skipped: photos that the collection held already, or that the source named twice.
        failed: photos that could not be indexed, each with its reason; the first 10,000.
        seconds: wall-clock time.
        images_per_second: indexed / seconds.
        failures_dropped: failures beyond the first 10,000, counted without their reasons.
    """

    read: int
    indexed: int
    skipped: int
    failed: list[Failure]
    seconds: float
    images_per_second: float
    failures_dropped: int = 0


@dataclass
class _Tally:
    """The counts, shared by the threads."""

    read: int = 0
    indexed: int = 0
    skipped: int = 0
    failed: int = 0
    total: int | None = None
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, read: int = 0, indexed: int = 0, skipped: int = 0) -> None:
        with self.lock:
            self.read, self.indexed, self.skipped = self.read + read, self.indexed + indexed, self.skipped + skipped

    def fail(self, source: str, reason: str) -> None:
        with self.lock:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(Failure(source, reason))

    def progress(self) -> IngestProgress:
        with self.lock:
            seconds = time.monotonic() - self.started
            return IngestProgress(self.read, self.indexed, self.skipped, self.failed, self.total, seconds)

    def summary(self) -> IngestSummary:
        if self.read != self.indexed + self.skipped + self.failed:
            raise RuntimeError(
                f"read {self.read} != {self.indexed} indexed + {self.skipped} skipped + {self.failed} failed"
            )
        seconds = time.monotonic() - self.started
        dropped = self.failed - len(self.failures)
        rate = self.indexed / max(seconds, 1e-9)
        return IngestSummary(self.read, self.indexed, self.skipped, self.failures, seconds, rate, dropped)


def ingest(
    collection: Collection,
    source: Source,
    *,
    batch_size: int = 32,
    decoders: int | None = None,
    force: bool = False,
    progress: Callable[[IngestProgress], None] | None = None,
    limits: Limits | None = None,
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

    Raises:
        SourceError: the source is no good, and nothing was read from it.
        IngestError: the source, the encoder or the collection gave way in the middle. What was written stays, and
            running the same ingest again goes on from there. The fault is the `__cause__`.
    """
    decoders = decoders if decoders is not None else os.cpu_count() or 1
    if batch_size < 1 or decoders < 1:
        raise SourceError(f"batch_size {batch_size}, decoders {decoders}: both must be at least 1")
    return _Ingest(collection, source, batch_size, decoders, force, progress, limits or Limits()).run()


class _Ingest:
    """One run; its methods are the stages."""

    def __init__(
        self,
        collection: Collection,
        source: Source,
        batch_size: int,
        decoders: int,
        force: bool,
        progress: Callable[[IngestProgress], None] | None,
        limits: Limits,
    ) -> None:
        self.collection, self.source, self.batch_size, self.decoders = collection, source, batch_size, decoders
        self.force, self.progress, self.limits = force, progress, limits
        self.size: int = collection.encoder.image_size
        self.tally = _Tally()
        self.records: Channel[ImageRecord] = Channel(2 * decoders)
        self.photos: Channel[tuple[ImageRecord, Photo]] = Channel(2 * batch_size, producers=decoders)
        self.vectors: Channel[list[PhotoVector]] = Channel(2)
        self.crew = Crew(self.records, self.photos, self.vectors)
        self.client_lock = threading.Lock()  # MilvusClient promises nothing about threads: one call at a time
        self.in_flight: set[str] = set()  # ids read, and not yet written, failed or left out
        self.in_flight_lock = threading.Lock()
        self.over = threading.Event()
        self.reported = 0.0

    def run(self) -> IngestSummary:
        """Run the stages to their end, or break them off and say why."""
        try:
            self.crew.start(self.read, self.records, name="ingest-read")
            for number in range(self.decoders):
                self.crew.start(self.decode, self.photos, name=f"ingest-decode-{number}")
            self.crew.start(self.write, name="ingest-write")
            if self.progress is not None and _countable(self.source):
                threading.Thread(target=self.count, name="ingest-count", daemon=True).start()
            self.encode()
            self.vectors.close()
            while not self.crew.join(PROGRESS_SECONDS):
                self.report()
            if not self.crew.aborted:
                self.collection.flush()
        except Aborted:
            pass  # a stage died: its error is below
        except Exception as error:  # the encoder, the flush, the caller's progress
            self.crew.abort(error)
        except BaseException:  # Ctrl-C: end the threads, then go
            self.crew.abort(Aborted())
            self.crew.join(DEADLINE_SECONDS)
            raise
        finally:
            self.over.set()
        self.crew.join(DEADLINE_SECONDS)
        if self.crew.error is not None:
            raise self.failure(self.crew.error) from self.crew.error
        self.report(last=True)
        return self.tally.summary()

    def failure(self, error: BaseException) -> Exception:
        """What the caller gets for the error of a stage."""
        if isinstance(error, SourceError) and self.tally.read == 0:
            return SourceError(str(error))
        detail = str(error) or type(error).__name__
        return IngestError(
            f"ingest stopped after {self.tally.indexed} photos were written: {detail}; "
            "put that right and run the same ingest again, it goes on from there",
            self.tally.indexed,
        )

    def count(self) -> None:
        """Count the source, for the time left. Only a convenience: an error here is the reader's to report."""
        total = 0
        try:
            for _ in iterate(self.source):
                total += 1
                if self.over.is_set():
                    return
        except Exception:
            return
        self.tally.total = total

    def read(self) -> None:
        chunk: list[ImageRecord] = []
        held = 0
        for record in iterate(self.source):
            self.tally.add(read=1)
            if record.error is not None:
                self.tally.fail(record.source, record.error)
            elif not self.enter(record.id):
                self.tally.add(skipped=1)
            else:
                chunk.append(record)
                held += len(record.data or b"")
            if len(chunk) >= CHUNK or held >= CHUNK_BYTES:
                self.pass_on(chunk)
                chunk, held = [], 0
            if self.crew.aborted:
                raise Aborted
        self.pass_on(chunk)

    def pass_on(self, chunk: list[ImageRecord]) -> None:
        """Hand over the records of a chunk that the collection does not hold as they are."""
        stored: dict[str, dict[str, Any]] = {}
        if chunk and not self.force:
            names = sorted({name for record in chunk for name in record.fields})
            with self.client_lock:
                stored = self.collection.stored([record.id for record in chunk], names)
        chunk.reverse()
        while chunk:  # popped, so that data is not held twice
            record = chunk.pop()
            held = stored.get(record.id)
            if held is not None and all(held.get(name) == value for name, value in record.fields.items()):
                self.leave([record.id])
                self.tally.add(skipped=1)
            else:
                self.records.put(record)

    def enter(self, id: str) -> bool:
        """Take an id on board; False if it is there: named twice, and the first is still under way.

        Taken on before the collection is asked, so that no id falls between the two: once it is off board it is stored.
        """
        with self.in_flight_lock:
            fresh = id not in self.in_flight
            self.in_flight.add(id)
            return fresh

    def leave(self, ids: Sequence[str]) -> None:
        with self.in_flight_lock:
            self.in_flight.difference_update(ids)

    def fail(self, record: ImageRecord, reason: str) -> None:
        self.tally.fail(record.source, reason.removeprefix(f"{record.source}: "))
        self.leave([record.id])

    def decode(self) -> None:
        for record in self.records:
            try:
                content = record.data if record.data is not None else record.path
                photo = load_photo(content, self.size, limits=self.limits)  # type: ignore[arg-type]  # one is given
            except ImageError as error:
                self.fail(record, str(error))
            else:
                # The bytes are not needed any more: without them the record weighs next to nothing.
                self.photos.put((ImageRecord(record.id, record.source, fields=record.fields), photo))

    def encode(self) -> None:
        batch: list[tuple[ImageRecord, Photo]] = []
        while True:
            try:
                item = self.photos.get(timeout=PROGRESS_SECONDS)
            except TimeoutError:
                self.report()
                continue
            if item is not None:
                batch.append(item)
            if batch and (item is None or len(batch) == self.batch_size):
                self.encode_batch(batch)
                batch = []
                self.report()
            if item is None:
                return

    def encode_batch(self, batch: list[tuple[ImageRecord, Photo]]) -> None:
        vectors: Sequence[np.ndarray | None]
        try:
            vectors = self.vectors_of([photo for _, photo in batch])
        except Exception as error:
            vectors = self.one_by_one(batch, error)
        done = []
        for (record, photo), vector in zip(batch, vectors, strict=True):
            if vector is None:
                continue
            if np.isfinite(vector).all():
                done.append(PhotoVector(record.id, record.source, photo.width, photo.height, vector, record.fields))
            else:
                self.fail(record, "the encoder gave a vector that is not finite; leave the photo out and report it")
        if done:
            self.vectors.put(done)

    def vectors_of(self, photos: Sequence[Photo]) -> Sequence[np.ndarray]:
        encoder = self.collection.encoder
        vectors: np.ndarray = encoder.encode_images([photo.pixels for photo in photos])
        if vectors.shape != (len(photos), encoder.dim):
            raise ValueError(f"encoder {encoder.name} gave {vectors.shape}, expected {(len(photos), encoder.dim)}")
        return list(vectors)

    def one_by_one(self, batch: list[tuple[ImageRecord, Photo]], cause: Exception) -> list[np.ndarray | None]:
        """After a failed batch: only the photo at fault fails. Where all of several do, it is the encoder's fault."""
        vectors: list[np.ndarray | None] = []
        reasons: list[tuple[ImageRecord, str]] = []
        for record, photo in batch:
            try:
                vectors.append(self.vectors_of([photo])[0])
            except Exception as error:
                vectors.append(None)
                reasons.append((record, str(error) or type(error).__name__))
        if len(reasons) == len(batch) > 1:
            raise cause
        for record, reason in reasons:
            self.fail(record, f"the encoder refused it ({reason}); leave the photo out")
        return vectors

    def write(self) -> None:
        for batch in self.vectors:
            with self.client_lock:
                self.collection.upsert(batch)
            self.tally.add(indexed=len(batch))
            self.leave([photo.id for photo in batch])

    def report(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.progress is not None and (last or now - self.reported >= PROGRESS_SECONDS):
            self.reported = now
            self.progress(self.tally.progress())


def _countable(source: Source) -> bool:
    """Whether reading the source a second time, only to count it, takes nothing away from the first."""
    one = (str, Path, ImageRecord)
    return isinstance(source, one) or (isinstance(source, (list, tuple)) and all(isinstance(x, one) for x in source))
