"""What Prometheus is told of an ingest, and of a watch, which is many of them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from compsketch_milvus.records import PhotoVector
from compsketch_milvus.tally import REASONS, IngestProgress

__all__ = ["IngestMetrics", "WatchMetrics"]

STATES = ("read", "indexed", "skipped")
LAGS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600)
NOTHING = IngestProgress(0, 0, 0, 0, None, 0.0)


class IngestMetrics:
    """All metrics of a program that ingests, once or again and again."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry, "namespace": "compsketch_ingest"}
        self._photos = Counter("photos", "Photos that were read, and how they ended", ("state",), **known)
        self._failures = Counter("failures", "Photos that could not be indexed", ("reason",), **known)
        self._running = Gauge("running", "Whether an ingest is under way", **known)
        self._under_way = Gauge("under_way", "Photos that were read and have not ended", **known)
        self._backlog = Gauge("backlog", "Photos of the source that have not ended; NaN where nobody knows", **known)
        self._waiting = Gauge("waiting", "Whether it waits for a server that is away or busy", **known)
        self._waits = Counter("waits", "How often it began to wait for one", **known)
        self._written = Gauge("last_write_timestamp_seconds", "When Milvus last acknowledged photos", **known)
        for state in STATES:  # there from the start, so that a rate has something to begin from
            self._photos.labels(state)
        for reason in REASONS:
            self._failures.labels(reason)
        self._backlog.set(math.nan)
        self._written.set(time.time())  # before the first write it tells since when there is none

    @contextmanager
    def running(self) -> Iterator[Callable[[IngestProgress], None]]:
        """Around one ingest.

        Yields:
            Its `progress`.
        """
        before, waiting = NOTHING, False

        def progress(now: IngestProgress) -> None:
            nonlocal before, waiting
            for state in STATES:
                self._photos.labels(state).inc(getattr(now, state) - getattr(before, state))
            for reason, count in now.reasons.items():
                self._failures.labels(reason).inc(count - before.reasons.get(reason, 0))
            ended = now.indexed + now.skipped + now.failed
            self._under_way.set(now.read - ended)
            self._backlog.set(math.nan if now.total is None else max(0, now.total - ended))
            if now.indexed > before.indexed:
                self._written.set(time.time())
            self._waits.inc(now.waiting and not waiting)
            self._waiting.set(now.waiting)
            before, waiting = now, now.waiting

        self._running.set(1)
        try:
            yield progress
        finally:
            self._running.set(0)
            self._under_way.set(0)
            self._waiting.set(0)
            self._backlog.set(math.nan)


class WatchMetrics(IngestMetrics):
    """Those of a watch: the `watch.Observer` that tells Prometheus."""

    def __init__(self) -> None:
        super().__init__()
        known: dict[str, Any] = {"registry": self.registry, "namespace": "compsketch_watch"}
        self._began = time.time()
        self._lag = Histogram("lag_seconds", "From a file's change to its row", buckets=LAGS, **known)
        self._in_step = Gauge("in_step_timestamp_seconds", "When nothing was left to do last", **known)
        self._deleted = Counter("deleted", "Rows deleted, since their files have gone", **known)
        self._in_step.set(self._began)

    def stored(self, photos: Sequence[PhotoVector]) -> None:
        """See `watch.Observer`. The change of a file from before the watch counts from the watch's begin."""
        now = time.time()
        for photo in photos:
            try:
                changed = os.stat(photo.source).st_ctime  # also that of a move, which leaves the time of modification
            except OSError:
                continue  # gone again
            self._lag.observe(max(0.0, now - max(changed, self._began)))

    def deleted(self, rows: int) -> None:
        """See `watch.Observer`."""
        self._deleted.inc(rows)

    def in_step(self) -> None:
        """See `watch.Observer`."""
        self._in_step.set(time.time())
