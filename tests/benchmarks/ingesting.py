"""Ingests in processes of their own, and what they take: time, the processor's time, memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from compsketch_milvus.collection import SketchCollection

__all__ = ["Cost", "answers", "cost_of", "new_collection", "steady"]

PROGRAM = Path(sys.executable).parent / "compsketch"


@dataclass(frozen=True)
class Cost:
    """What ingests at the same time took together.

    Attributes:
        photos: that they indexed.
        seconds: from the first one's start to the last one's end.
        cpu: seconds of the processor, of their processes alone.
        busy: share of all cores that anybody used meanwhile, 0 to 1.
    """

    photos: int
    seconds: float
    cpu: float
    busy: float


@contextmanager
def new_collection(uri: str, encoder: Any) -> Iterator[str]:
    """Name of a collection that is there, empty, and is dropped at the end."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with SketchCollection.open(name, encoder, uri=uri, gpu_wait=1):
        pass
    yield name
    SketchCollection.open(name, None, uri=uri, create=False).drop()


def answers(commands: list[list[object]], *, pinned: bool = False) -> list[dict[str, Any]]:
    """The summaries of ingests that run at the same time.

    Args:
        commands: their arguments.
        pinned: each has one core, in turn, so that it takes as many threads as a worker with one core does.

    Raises:
        AssertionError: one did not come to a good end; with the end of what it said.
    """
    running = [
        subprocess.Popen(
            [str(part) for part in (PROGRAM, "ingest", *command, "--json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    cores = sorted(os.sched_getaffinity(0))
    for number, process in enumerate(running if pinned else ()):
        os.sched_setaffinity(process.pid, {cores[number % len(cores)]})
    told = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, told, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def cost_of(commands: list[list[object]], *, pinned: bool = False) -> Cost:
    """Run ingests at the same time, to their end; see `answers`."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    psutil.cpu_percent()
    indexed = sum(answer["indexed"] for answer in answers(commands, pinned=pinned))
    busy, seconds = psutil.cpu_percent() / 100, time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(indexed, seconds, cpu, busy)


def steady(few: Cost, many: Cost) -> tuple[float, float]:
    """Photos a second, and seconds of the processor a photo, apart from what it costs to start and to end."""
    photos = many.photos - few.photos
    return photos / (many.seconds - few.seconds), (many.cpu - few.cpu) / photos


@dataclass
class Peaks:
    """The most memory of a process and of all below it, before and after a mark, in megabytes.

    Memory that processes share, as Ray's object store, counts once.
    """

    root: psutil.Process
    first: float = 0.0
    second: float = 0.0
    samples: list[float] = field(default_factory=list)

    def sample(self, *, second: bool) -> None:
        """Look once."""
        total = 0
        for process in [self.root, *self.root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_full_info().uss
        megabytes = (total + _shared_memory()) / 2**20
        self.samples.append(megabytes)
        if second:
            self.second = max(self.second, megabytes)
        else:
            self.first = max(self.first, megabytes)


def _shared_memory() -> int:
    """Bytes in the machine's shared memory, where Ray keeps its objects."""
    status = os.statvfs("/dev/shm")
    return (status.f_blocks - status.f_bfree) * status.f_frsize
