"""Ray on one machine against the ingest without it, on the same cores; and its memory, however long the source.

COUNT photos with the shipped bundle, 768 unless it is set; RECORDS made ones with the toy encoder, 100,000.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compsketch_milvus import connect
from tests.benchmarks.given import Generated, photo_files
from tests.benchmarks.ingesting import Cost, Peaks, cost_of, new_collection, steady
from tests.toy import ToyEncoder

pytest.importorskip("ray", reason='pip install "compsketch-milvus[ray]"')
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

COUNT, ROUNDS = int(os.environ.get("COUNT", "768")), 3
FEW = COUNT // 4
RECORDS = int(os.environ.get("RECORDS", "100000"))
ALLOWED_BYTES = 1_000  # that memory may grow by a record; a decoded photo has 3,072, its file and facts some 700
ROOT = Path(__file__).parents[2]


def test_two_workers_of_a_ray_keep_up_with_one_machines_ingest(tmp_path: Path, milvus_server: str, capsys) -> None:
    """Apart from what it costs to start and to end, which is told: a Ray of one's own takes seconds."""
    folders = tmp_path / "few", tmp_path / "many"
    for folder, count in zip(folders, (FEW, COUNT), strict=True):
        folder.mkdir()
        photo_files(folder, count)
    encoder, ratios = connect(), []

    def cost(folder: Path, *options: str) -> Cost:
        with new_collection(milvus_server, encoder) as name:
            return cost_of([[folder, "--uri", milvus_server, "--collection", name, *options]])

    for _ in range(ROUNDS):
        alone, spread = (
            [cost(folder, *options) for folder in folders] for options in ((), ("--ray", "local", "--workers", "2"))
        )
        assert [one.photos for one in (*alone, *spread)] == [FEW, COUNT, FEW, COUNT]
        rates = [steady(*costs)[0] for costs in (alone, spread)]
        starts = [costs[0].seconds - FEW / rate for costs, rate in zip((alone, spread), rates, strict=True)]
        ratios.append(rates[1] / rates[0])
        with capsys.disabled():
            print(
                f"\none machine {rates[0]:.0f} photos/s and {starts[0]:.1f} s, "
                f"Ray {rates[1]:.0f} photos/s and {starts[1]:.1f} s: ratio {ratios[-1]:.2f}"
            )
    assert statistics.median(ratios) >= 0.9


def measure(uri: str, collection: str) -> None:
    """Print the peak of megabytes in the first half and in the second; run in a process of its own."""
    from compsketch_milvus import cluster

    peaks = Peaks(psutil.Process())
    summary = cluster.ingest(
        Generated(RECORDS),
        uri=uri,
        collection=collection,
        encoder=ToyEncoder,
        workers=2,
        progress=lambda state: peaks.sample(second=state.indexed > RECORDS / 2),
    )
    assert summary.indexed == RECORDS
    print(len(peaks.samples), peaks.first, peaks.second)


def test_rays_memory_is_flat_whatever_the_source(milvus_server: str, capsys) -> None:
    with new_collection(milvus_server, ToyEncoder()) as name:
        ran = subprocess.run(
            [sys.executable, __file__, milvus_server, name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert ran.returncode == 0, ran.stderr[-3000:]
    samples, first, second = map(float, ran.stdout.split())
    with capsys.disabled():
        print(
            f"\n{RECORDS} records: {first:.0f} MB in the first half, {second:.0f} in the second ({samples:.0f} looks)"
        )
    assert samples > 20
    assert (second - first) * 2**20 / (RECORDS / 2) < ALLOWED_BYTES


if __name__ == "__main__":
    measure(*sys.argv[1:])
