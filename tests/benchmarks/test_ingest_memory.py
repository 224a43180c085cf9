"""An ingest's memory does not grow with its source."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

COUNT, SETTLED = 20_000, 2_000
ALLOWED_MB = 12


class Forgetful:
    """A collection that counts its rows and keeps none, so that what grows is the pipeline's."""

    def __init__(self, encoder: object) -> None:
        self.encoder = encoder
        self.rows = 0

    def stored(self, ids, fields) -> dict[str, dict]:
        return {}

    def upsert(self, records) -> int:
        self.rows += len(records)
        return len(records)

    def flush(self) -> None:
        pass


def measure() -> None:
    """Print resident megabytes at 2,000 photos and the peak after; run in a process of its own."""
    import psutil

    from compsketch_milvus.ingest import ingest
    from tests.benchmarks.given import Generated

    spec = importlib.util.spec_from_file_location("toy", Path(__file__).parents[1] / "toy.py")
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    process, resident = psutil.Process(os.getpid()), {"settled": 0.0, "peak": 0.0}

    def progress(state) -> None:
        now = process.memory_info().rss / 2**20
        # The peak up to 2,000 photos, then the peak of all.
        key = "settled" if state.indexed <= SETTLED else "peak"
        resident[key] = max(resident[key], now)

    summary = ingest(Forgetful(toy.ToyEncoder()), Generated(COUNT), progress=progress)
    assert summary.indexed == COUNT
    print(resident["settled"], resident["peak"])


def test_memory_is_flat_from_2000_photos_to_20000():
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, __file__],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    settled, peak = map(float, ran.stdout.split())
    print(f"\nresident: {settled:.1f} MB up to {SETTLED} photos, {peak:.1f} MB up to {COUNT}")
    assert settled > 0
    assert peak - settled < ALLOWED_MB


if __name__ == "__main__":
    measure()
