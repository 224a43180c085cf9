"""The course of an ingest as its caller sees it: threads that work, counts that are reported, and an end to it all."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from compsketch_milvus.errors import IngestError, SourceError
from compsketch_milvus.pipeline import Aborted, Crew
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.tally import IngestProgress, IngestSummary, Tally

__all__ = ["Course", "Stop"]

PROGRESS_SECONDS = 0.1
DEADLINE_SECONDS = 10.0  # for the threads to end when an ingest breaks off
WAITING_SECONDS = 0.5  # the same while one of them waits for a server, which may take for ever


class Stop(Protocol):
    """What tells an ingest to stop, such as a threading.Event."""

    def is_set(self) -> bool: ...


class Course(ABC):
    """Runs the threads of an ingest to their end, or breaks them off and says why; the caller's thread reports.

    Args:
        crew: the threads.
        tally: the counts.
        progress: called at most ten times a second, and once at the end.
        stop: once it is set, nothing more is taken from the source.
        counted: whether the source can be counted beside the reading of it.
    """

    reader = ""  # name of the thread that nobody waits for once it is told to stop: it may be stuck in its source

    def __init__(
        self,
        crew: Crew,
        tally: Tally,
        *,
        progress: Callable[[IngestProgress], None] | None,
        stop: Stop | None,
        counted: bool,
    ) -> None:
        self.crew, self.tally = crew, tally
        self._progress, self._stop, self._counted = progress, stop, counted
        self.all_read = False
        self.draining = False
        self._over = threading.Event()
        self._reported = 0.0

    @abstractmethod
    def start(self) -> None:
        """Start the threads."""

    @abstractmethod
    def drain(self) -> None:
        """End the reading; what was read and is not decoded is left for the next run."""

    @abstractmethod
    def waiting(self) -> str:
        """What a thread waits for, in words, or ''."""

    @abstractmethod
    def named(self) -> Iterator[ImageRecord]:
        """What the source names, at no price: servers are asked about none of it."""

    def run(self) -> IngestSummary:
        """Run to the end.

        Raises:
            SourceError: the source is no good, and nothing was read from it.
            IngestError: a thread died; its error is the `__cause__`.
        """
        self._heed_stop()
        try:
            self.start()
            if self._progress is not None and self._counted:
                threading.Thread(target=self._count, name="ingest-count", daemon=True).start()
            while not self.crew.join(PROGRESS_SECONDS, but=self.reader if self.draining else ""):
                if self.crew.aborted:
                    raise Aborted
                self._heed_stop()
                self._report()
        except Aborted:
            pass  # a thread died: its error is below
        except Exception as error:  # the caller's progress
            self.crew.abort(error)
        except BaseException:  # Ctrl-C: end the threads, then go
            waiting = self._status()
            self.crew.abort(Aborted())
            self.crew.join(WAITING_SECONDS if waiting else DEADLINE_SECONDS)
            raise
        finally:
            self._over.set()
        if self.crew.aborted:
            self.crew.join(DEADLINE_SECONDS)
            first = self.crew.errors[0]
            if not isinstance(first, Exception):
                raise first  # Ctrl-C, which struck in a thread
            raise self._failure() from first
        self._report(last=True)
        summary = self.tally.summary()
        if summary.abandoned and not self.draining:
            raise RuntimeError(f"{summary.abandoned} photos of {self.tally.read} got lost on the way")
        return replace(summary, drained=self.draining and (not self.all_read or summary.abandoned > 0))

    def _failure(self) -> Exception:
        """What the caller gets for the errors of the threads."""
        first, *others = self.crew.errors
        if isinstance(first, SourceError) and self.tally.read == 0:
            return SourceError(str(first))
        words = "; also: ".join(dict.fromkeys(str(error) or type(error).__name__ for error in (first, *others)))
        summary = self.tally.summary()
        return IngestError(
            f"ingest stopped after {summary.indexed} photos were written: {words}; "
            "put that right and run the same ingest again, it goes on from there",
            summary,
        )

    def _heed_stop(self) -> None:
        if not self.draining and self._stop is not None and self._stop.is_set():
            self.draining = True
            self.drain()

    def _count(self) -> None:
        """Count the source, for the time left. Only a convenience: an error here is the reader's to report."""
        total = 0
        try:
            for _ in self.named():
                total += 1
                if self._over.is_set():
                    return
        except Exception:
            return
        self.tally.total = total

    def _status(self) -> str:
        """What the progress has to say: that it finishes early, what it waits for."""
        return "; ".join(filter(None, ("finishing what is decoded" if self.draining else "", self.waiting())))

    def _report(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (last or now - self._reported >= PROGRESS_SECONDS):
            self._reported = now
            self._progress(self.tally.progress("" if last else self._status()))
