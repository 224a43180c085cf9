"""A million rows in a real server's IVF_PQ: stored, built, loaded and searched once, and the memory of either side.

Not among the benchmarks that `make bench` runs: `make bench-million`, which takes about half an hour on two cores.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import psutil
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.search import search_vectors
from tests.benchmarks.given import Vectors, photo

pytestmark = [pytest.mark.million, pytest.mark.timeout(7200)]

ROWS, PART, QUERIES = 1_000_000, 100_000, 200
FLATTENED = 49 * 832 * 4  # bytes of GoogLeNet's flattened 7 x 7 x 832 (section 3.4)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_million_photos(space, restartable_server, capsys) -> None:
    server, dim = restartable_server, space.photos.shape[1]
    seconds: dict[str, float] = {}
    own = psutil.Process()
    before = own.memory_info().rss
    peak = 0
    with SketchCollection.open("million", Vectors(dim), uri=server.uri) as photos:
        seconds["store"] = 0.0
        for start in range(0, ROWS, PART):
            part = space.sample(PART, seed=start)
            started = time.perf_counter()
            photos.upsert(photo(start + i, vector) for i, vector in enumerate(part))
            seconds["store"] += time.perf_counter() - started
            peak = max(peak, own.memory_info().rss)
        started = time.perf_counter()
        photos.flush()
        photos.optimize(wait=3600)
        seconds["build"] = time.perf_counter() - started
        photos.client.release_collection("million")
        started = time.perf_counter()
        photos.client.load_collection("million", timeout=600)
        seconds["load"] = time.perf_counter() - started
        took = []
        for query in space.queries[:QUERIES]:
            started = time.perf_counter()
            assert len(search_vectors(photos, query, 10)[0].hits) == 10
            took.append(time.perf_counter() - started)
        assert photos.count() == ROWS
        index = photos.info()["index"]
    on_disk = size(server.folder / "data" / "index_files")
    with capsys.disabled():
        print(f"\n{ROWS} rows of {dim}-D, {index['type']} {index['params']}")
        print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
        print(f"p50 of a query {median(took) * 1e3:.1f} ms; server {server.memory() / 2**20:.0f} MiB resident")
        print(f"client {(peak - before) / 2**20:.0f} MiB more than before, vectors of {PART} photos among them")
        print(f"index files {on_disk / ROWS:.1f} bytes a photo, of {FLATTENED} that the flattened features take")
