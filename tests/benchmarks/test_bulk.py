"""Rows into a real server by bulk import and by upsert, in one run; the files lie in a folder that the server sees."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.bulk import CollectionFacts, Parts, import_parts
from compsketch_milvus.collection import SketchCollection
from tests.benchmarks.given import Vectors, photo

pytestmark = pytest.mark.benchmark

ROWS, DIM, BATCH = 100_000, 256, 32  # BATCH: as an ingest hands photos over


@pytest.fixture
def vectors() -> np.ndarray:
    rows = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def make(milvus_server) -> Iterator[object]:
    """Makes an empty collection."""
    made = []

    def empty() -> SketchCollection:
        made.append(SketchCollection.open(f"bench_{uuid.uuid4().hex[:8]}", Vectors(DIM), uri=milvus_server))
        return made[-1]

    yield empty
    for collection in made:
        collection.drop()


def test_bulk_import_against_upsert(make, vectors, tmp_path: Path, capsys) -> None:
    photos = [photo(i, vector) for i, vector in enumerate(vectors)]
    seconds: dict[str, float] = {}

    def taken(step: str, started: float) -> float:
        seconds[step] = time.perf_counter() - started
        return time.perf_counter()

    collection, started = make(), time.perf_counter()
    collection.upsert(photos)
    collection.flush()
    taken("upsert", started)
    assert collection.count() == ROWS

    collection, started = make(), time.perf_counter()
    parts = Parts(CollectionFacts.of(collection), str(tmp_path), worker="all")
    for first in range(0, ROWS, BATCH):
        parts.add(photos[first : first + BATCH])
    whole = parts.close()
    begun = taken("files", started)
    imported = import_parts(collection, whole)
    taken("import", begun)
    assert imported.rows == collection.count() == ROWS

    bulk = seconds["files"] + seconds["import"]
    with capsys.disabled():
        size = sum(part.bytes for part in whole) / 2**20
        print(f"\n{ROWS} x {DIM}: upsert {ROWS / seconds['upsert']:.0f} rows/s (flushed)")
        print(
            f"bulk {ROWS / bulk:.0f} rows/s: {size:.0f} MB in {len(whole)} files {seconds['files']:.1f} s, "
            f"imported, seen and counted {seconds['import']:.1f} s"
        )
        print(f"bulk / upsert: {seconds['upsert'] / bulk:.2f}")
