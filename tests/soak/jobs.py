"""Batches of photos that arrive, each ingested by several workers that are started until they have ended well."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.noise import photo
from tests.soak.folder import BROKEN, photos_below
from tests.soak.ledger import Ledger
from tests.soak.operating import Operator, Service

__all__ = ["Jobs", "accounts", "answer_of"]

WORKERS, PHOTOS = 2, 500
REST = 1.0  # seconds between two batches


def answer_of(out: str) -> dict[str, Any] | None:
    """The summary of an ingest that came to its end, whatever failed in it; None where it is to be run again."""
    lines = [line for line in out.splitlines() if line.startswith("{")]
    answer = json.loads(lines[-1]) if lines else {"error": "it said nothing"}
    return None if "error" in answer or answer["drained"] else answer


def accounts(answer: dict[str, Any]) -> bool:
    """Whether every photo that was read has become something."""
    failed = len(answer["failed"]) + answer["failures_dropped"]
    return bool(answer["read"] == answer["indexed"] + answer["skipped"] + failed and not answer["abandoned"])


class Jobs(threading.Thread):
    """One batch after the other, until it is told to stop; the last one is brought to its end.

    Args:
        root: folder for the batches' folders.
        operator: runs the workers.
        ingest: the command line of an ingest of a folder, by workers' shares.
        ledger: is told of each batch that is done.
        seed: of the photos.
    """

    def __init__(
        self, root: Path, operator: Operator, ingest: Callable[[Path, str], list[object]], ledger: Ledger, seed: int
    ) -> None:
        super().__init__(name="jobs", daemon=True)
        self.root, self._operator, self._ingest, self._ledger = root, operator, ingest, ledger
        self._seed, self.batches = seed << 32, 0
        self.over = threading.Event()

    def run(self) -> None:
        """Until `over` is set."""
        while not self.over.wait(REST):
            self.batch()

    def batch(self) -> None:
        """One batch, from its files to the moment at which everything in it can be searched."""
        self.batches += 1
        folder = self._arrived()
        paths = [str(path) for path in photos_below(folder)]
        started = time.monotonic()
        workers = [self._begin(folder, number) for number in range(1, WORKERS + 1)]
        for worker in workers:
            worker.finished.wait()
        answers = [answer for worker in workers if (answer := answer_of(self._operator.out(worker))) is not None]
        total = {name: sum(one[name] for one in answers) for name in ("read", "indexed", "skipped")}
        failed = sorted(failure["source"] for one in answers for failure in one["failed"])
        if total["read"] != len(paths) + 1 or not all(map(accounts, answers)) or len(failed) != 1:
            self._ledger.write("violation", what=f"batch {self.batches}: {total}, failed {failed}")
        starts, seconds = sum(worker.starts for worker in workers), round(time.monotonic() - started, 1)
        self._ledger.write("batch", number=self.batches, paths=paths, starts=starts, seconds=seconds, **total)

    def _begin(self, folder: Path, number: int) -> Service:
        started, name = self._ingest(folder, f"{number}/{WORKERS}"), f"ingest-{self.batches}-{number}"
        return self._operator.add(Service(name, started, done=lambda out: answer_of(out) is not None))

    def _arrived(self) -> Path:
        folder = self.root / f"batch-{self.batches:04}"
        folder.mkdir(parents=True)
        for number in range(PHOTOS):
            (folder / f"{number:04}.png").write_bytes(photo(self._seed + self.batches * PHOTOS + number))
        (folder / f"{BROKEN}.png").write_bytes(b"no photo")
        return folder
