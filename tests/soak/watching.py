"""What the processes of a run take, each second: memory, open files; and what they leave lying about."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.soak.checks import slope

__all__ = ["Life", "Sampler", "belonging"]

EVERY = 1.0  # seconds
YOUNG = 60.0  # seconds for which a process may grow: it loads what it needs, and opens its connections


@dataclass
class Life:
    """One process, from its start to its end.

    Attributes:
        samples: seconds of the shared clock, and bytes in memory.
        files: the most open files.
    """

    name: str
    samples: list[tuple[float, float]] = field(default_factory=list)
    files: int = 0

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.samples[-1][0] - self.samples[0][0]

    @property
    def most(self) -> float:
        """Bytes."""
        return max(value for _, value in self.samples)

    @property
    def growth(self) -> float:
        """Bytes an hour, once it has all that it needs."""
        return 3600 * slope([one for one in self.samples if one[0] - self.samples[0][0] > YOUNG])


class Sampler(threading.Thread):
    """Looks at the processes each second.

    Args:
        processes: name and process id of those that run.
        temporary: their folder for temporary files.
    """

    def __init__(self, processes: Callable[[], list[tuple[str, int]]], temporary: Path) -> None:
        super().__init__(name="sampler", daemon=True)
        self._processes, self._temporary = processes, temporary
        self.lives: dict[int, Life] = {}
        self.temporary: list[tuple[float, float]] = []  # files
        self.crowd: list[tuple[float, float]] = []  # processes
        self.over = threading.Event()

    def run(self) -> None:
        """Until `over` is set."""
        while not self.over.wait(EVERY):
            now = time.monotonic()
            for name, pid in self._processes():
                with suppress(psutil.Error):
                    process = psutil.Process(pid)
                    with process.oneshot():
                        life = self.lives.setdefault(pid, Life(name))
                        life.samples.append((now, process.memory_info().rss))
                        life.files = max(life.files, process.num_fds())
            self.temporary.append((now, sum(len(files) for _, _, files in os.walk(self._temporary))))
            self.crowd.append((now, len(belonging(self._temporary))))

    def by_name(self) -> dict[str, dict[str, float]]:
        """Of all processes of a name: how many, the most megabytes and files, the growth of the longest lived."""
        named: dict[str, list[Life]] = defaultdict(list)
        for life in self.lives.values():
            named[life.name].append(life)
        table = {}
        for name, lives in sorted(named.items()):
            oldest = max(lives, key=lambda life: life.seconds)
            table[name] = {
                "processes": len(lives),
                "most_mb": round(max(life.most for life in lives) / 2**20, 1),
                "most_files": max(life.files for life in lives),
                "longest_seconds": round(oldest.seconds),
                "growth_mb_an_hour": round(oldest.growth / 2**20, 1),
            }
        return table


def belonging(temporary: Path) -> list[int]:
    """The processes that live and have this folder for temporary files, which also children of children are told."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(temporary) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
