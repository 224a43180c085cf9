"""What a photo costs with 1, 2 and 4 processes that ingest shares of one source, and what limits them.

With the shipped bundle, into a real server on the same machine. Each process has one core, and loads the networks
itself. More of them than cores bring no more photos; they show what a worker costs beside others. COUNT photos, 768
unless it is set.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import psutil
import pytest

from compsketch_milvus import connect
from tests.benchmarks.given import photo_files
from tests.benchmarks.ingesting import Cost, cost_of, new_collection, steady

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

COUNT = int(os.environ.get("COUNT", "768"))
FEW = COUNT // 4
WORKERS, ROUNDS = (1, 2, 4), 3
ALLOWED = 1.10  # of what a photo costs one worker


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of few photos, and one of many."""
    few, many = tmp_path_factory.mktemp("few"), tmp_path_factory.mktemp("many")
    photo_files(few, FEW)
    photo_files(many, COUNT)
    return few, many


def cost(folder: Path, workers: int, uri: str) -> Cost:
    """Of as many processes on one folder."""
    with new_collection(uri, connect()) as name:
        where = ["--uri", uri, "--collection", name]
        commands = [[folder, "--shard", f"{number}/{workers}", *where] for number in range(1, workers + 1)]
        return cost_of(commands, pinned=True)


def test_a_photo_costs_several_workers_what_it_costs_one(folders, milvus_server, capsys) -> None:
    found: dict[int, list[tuple[float, float]]] = {workers: [] for workers in WORKERS}
    for _ in range(ROUNDS):
        for workers in WORKERS:
            few, many = (cost(folder, workers, milvus_server) for folder in folders)
            assert (few.photos, many.photos) == (FEW, COUNT)
            rate, each = steady(few, many)
            found[workers].append((rate, each))
            with capsys.disabled():
                print(
                    f"\n{workers} processes: {rate:.0f} photos/s, {1000 * each:.1f} ms of the processor a photo; "
                    f"{100 * many.busy:.0f} % of {psutil.cpu_count()} cores busy, "
                    f"{100 * many.cpu / many.seconds / psutil.cpu_count():.0f} % with ingesting"
                )
    one, *more = (statistics.median(each for _, each in found[workers]) for workers in WORKERS)
    with capsys.disabled():
        print("cost a photo against one worker: " + ", ".join(f"{each / one:.2f}" for each in more))
    assert all(each <= ALLOWED * one for each in more)
