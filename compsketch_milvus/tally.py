"""What an ingest counts. At every moment read == indexed + skipped + failed + under way, for photos of the source."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compsketch_milvus.records import ImageRecord, PhotoVector

if TYPE_CHECKING:
    from compsketch_milvus.rejects import Rejects

__all__ = ["MAX_FAILURES", "REASONS", "Failure", "IngestProgress", "IngestSummary", "Tally"]

MAX_FAILURES = 10_000
# What keeps a photo out: its source refuses it; it cannot be had, decoded or encoded; Milvus refuses its row.
REASONS = ("source", "photo", "row")


@dataclass(frozen=True)
class Failure:
    """A photo that could not be indexed, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class IngestProgress:
    """How far an ingest is; `total` is None until the source has been counted, or where it can be read only once.

    `status` says what it is waiting for, or that it is finishing early; empty while all goes well. `reasons` counts the
    failed photos by `REASONS`.
    """

    read: int
    indexed: int
    skipped: int
    failed: int
    total: int | None
    seconds: float
    status: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> bool:
        """Whether it waits for a server that is away or busy."""
        return "waiting for " in self.status

    @property
    def rate(self) -> float:
        """Photos done (indexed, skipped or failed) a second."""
        return (self.indexed + self.skipped + self.failed) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did: read == indexed + skipped + failures, also where it was stopped or broke off.

    Args:
        read: photos that the source named and that came to an end, this or that.
        indexed: photos written, and acknowledged by Milvus.
        skipped: photos that the collection held already, or that the source named twice.
        failed: photos that could not be indexed, each with its reason; the first 10,000.
        seconds: wall-clock time.
        images_per_second: indexed / seconds.
        failures_dropped: failures beyond the first 10,000, counted without their reasons.
        abandoned: photos that were under way when it was stopped or broke off, not in `read`: the next run does them.
        drained: it was told to stop, and did so before the source's end.
    """

    read: int
    indexed: int
    skipped: int
    failed: list[Failure]
    seconds: float
    images_per_second: float
    failures_dropped: int = 0
    abandoned: int = 0
    drained: bool = False

    @property
    def failures(self) -> int:
        """All photos that could not be indexed."""
        return len(self.failed) + self.failures_dropped


class Tally:
    """The counts, shared by the threads. Each photo is taken once, and ends once: written, skipped or failed.

    Args:
        rejects: where failures are written before they are counted.
    """

    def __init__(self, rejects: Rejects | None = None) -> None:
        self.total: int | None = None
        self._rejects = rejects
        self._read = self._indexed = self._skipped = 0
        self._reasons = dict.fromkeys(REASONS, 0)
        self._failures: list[Failure] = []
        self._under_way: set[str] = set()
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def read(self) -> int:
        """Photos taken so far."""
        return self._read

    def take(self, record: ImageRecord) -> bool:
        """Take a photo on; False, and it is skipped, if its id was named before and is still under way.

        To be called before the collection is asked for it, so that no id falls between the two: one that is not under
        way any more is stored.
        """
        with self._lock:
            self._read += 1
            fresh = record.id not in self._under_way
            if fresh:
                self._under_way.add(record.id)
            else:
                self._skipped += 1
            return fresh

    def skip(self, record: ImageRecord) -> None:
        """End a photo that the collection holds already."""
        with self._lock:
            self._under_way.remove(record.id)
            self._skipped += 1

    def wrote(self, photos: Iterable[PhotoVector]) -> None:
        """End photos that Milvus has acknowledged."""
        self.stored(photo.id for photo in photos)

    def stored(self, ids: Iterable[str]) -> None:
        """The same, by their ids."""
        with self._lock:
            for one in ids:
                self._under_way.remove(one)
                self._indexed += 1

    def fail(self, record: ImageRecord | PhotoVector, reason: str) -> None:
        """End a photo that cannot be indexed."""
        reason = reason.removeprefix(f"{record.source}: ")
        if self._rejects is not None:
            self._rejects.add(record, reason)
        with self._lock:
            self._under_way.remove(record.id)
            self._count_failure(record.source, reason, "row" if isinstance(record, PhotoVector) else "photo")

    def refuse(self, record: ImageRecord, reason: str) -> None:
        """Take and end a photo that its source refuses."""
        if self._rejects is not None:
            self._rejects.add(record, reason)
        with self._lock:
            self._read += 1
            self._count_failure(record.source, reason, "source")

    @property
    def _failed(self) -> int:
        return sum(self._reasons.values())

    def _count_failure(self, source: str, reason: str, kind: str) -> None:
        self._reasons[kind] += 1
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(Failure(source, reason))

    def progress(self, status: str = "") -> IngestProgress:
        """The counts as they are now."""
        with self._lock:
            seconds = time.monotonic() - self._started
            counts = self._read, self._indexed, self._skipped, self._failed, self.total
            return IngestProgress(*counts, seconds, status, dict(self._reasons))

    def summary(self) -> IngestSummary:
        """The counts at the end."""
        with self._lock:
            ended, under_way = self._indexed + self._skipped + self._failed, len(self._under_way)
            if self._read != ended + under_way:
                raise RuntimeError(f"{self._read} photos read, but {ended} ended and {under_way} under way")
            seconds = time.monotonic() - self._started
            return IngestSummary(
                read=ended,
                indexed=self._indexed,
                skipped=self._skipped,
                failed=list(self._failures),
                seconds=seconds,
                images_per_second=self._indexed / max(seconds, 1e-9),
                failures_dropped=self._failed - len(self._failures),
                abandoned=under_way,
            )
