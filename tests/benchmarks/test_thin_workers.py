"""What a photo costs 1, 2 and 4 workers without networks: reading, asking a stand-in for an encoder, writing.

`test_workers.py` has the shipped bundle in each worker, and so measures little but the networks. Here the stand-in
answers at once and the photos are tiny: what is left is the side that writes, and Milvus. COUNT photos, 4,000 unless it
is set.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.benchmarks.ingesting import cost_of, new_collection
from tests.encoders.serving.servicer import Service, running
from tests.integration.standalone import Standalone
from tests.toy import ToyEncoder

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

COUNT = int(os.environ.get("COUNT", "4000"))
FEW = COUNT // 4
WORKERS, ROUNDS = (1, 2, 4), 3
ALLOWED = 1.10  # of what a photo costs one worker


@dataclass(frozen=True)
class Spent:
    """Seconds: of the clock, and of the processor by who took them."""

    clock: float
    workers: float
    encoder: float
    milvus: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(mine - yours for mine, yours in zip(self.each(), other.each(), strict=True)))

    def each(self) -> tuple[float, float, float, float]:
        """All of them."""
        return self.clock, self.workers, self.encoder, self.milvus


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of few photos, and one of many."""
    few, many = tmp_path_factory.mktemp("few"), tmp_path_factory.mktemp("many")
    for folder, count in ((few, FEW), (many, COUNT)):
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number:05}.jpg")
    return few, many


@pytest.fixture
def stand_in() -> Iterator[Service]:
    """An encoder's service in this process; its vectors have 256 dimensions, as the shipped bundle's."""
    with running(ToyEncoder(grid=16)) as service:
        yield service


def spent(folder: Path, workers: int, service: Service, server: Standalone) -> Spent:
    """What as many ingests of one folder at the same time take together."""

    def milvus() -> float:
        times = [process.cpu_times() for process in server.processes()]
        return sum(one.user + one.system for one in times)

    with new_collection(server.uri, service.encoder) as name:
        where = ["--uri", server.uri, "--collection", name, "--encoder", service.address]
        before = time.process_time(), milvus()
        cost = cost_of([[folder, "--shard", f"{number}/{workers}", *where] for number in range(1, workers + 1)])
        assert cost.photos == sum(1 for _ in folder.iterdir())
        return Spent(cost.seconds, cost.cpu, time.process_time() - before[0], milvus() - before[1])


def test_a_photo_costs_several_thin_workers_what_it_costs_one(folders, stand_in, restartable_server, capsys) -> None:
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(ROUNDS):
        for workers in WORKERS:
            few, many = (spent(folder, workers, stand_in, restartable_server) for folder in folders)
            steady = many - few  # apart from what it costs to start and to end
            each = [1000 * seconds / (COUNT - FEW) for seconds in steady.each()]
            found[workers].append(each[1])
            used = sum(steady.each()[1:]) / steady.clock
            with capsys.disabled():
                print(
                    f"\n{workers} thin workers: {1000 / each[0]:.0f} photos/s; ms of the processor a photo: workers "
                    f"{each[1]:.2f}, stand-in {each[2]:.2f}, Milvus {each[3]:.2f}; "
                    f"{used:.2f} of {psutil.cpu_count()} cores"
                )
    one, *more = (statistics.median(found[workers]) for workers in WORKERS)
    with capsys.disabled():
        print("cost a photo against one worker: " + ", ".join(f"{each / one:.2f}" for each in more))
    assert all(each <= ALLOWED * one for each in more)
