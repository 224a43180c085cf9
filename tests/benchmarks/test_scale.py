"""What rows cost in a real server's IVF_PQ, size after size: storing, building, loading, bytes, memory, p50 and recall.

Not among the benchmarks that `make bench` runs: `make bench-scale`, with SIZES="100000 300000 …" for other sizes. Each
size is a collection of its own on a server of its own, so that none pays for another's. The vectors are made up: real
photos' embeddings moved by noise of their own spectrum (`Space.sample`). Segments are large, as deploy/milvus has them.
`growth.py` makes a table and a picture of the figures, beside them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import psutil
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.search import search_vectors
from tests.benchmarks.given import Vectors, photo
from tests.integration.standalone import Standalone

pytestmark = [pytest.mark.scale, pytest.mark.timeout(14_400)]

SIZES = [int(size) for size in os.environ.get("SIZES", "100000 300000 1000000").split()]
RESULTS = Path(os.environ.get("RESULTS", Path(__file__).parent / "results" / "scale.json"))
PART, QUERIES, SHOWN, RERANKED = 50_000, 200, 10, 200
FLATTENED = 49 * 832 * 4  # bytes of GoogLeNet's flattened 7 x 7 x 832 (section 3.4)
# One segment a million rows and more. Milvus takes a row for 1.4 KB by its schema and closes a segment at an eighth.
SEGMENTS = {"DATACOORD_SEGMENT_MAXSIZE": "4096", "DATACOORD_SEGMENT_SEALPROPORTION": "0.9"}


class Exact:
    """The true nearest of some queries among vectors that come part by part."""

    def __init__(self, queries: np.ndarray, k: int) -> None:
        self.queries, self.k = queries, k
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        self.rows = np.zeros((len(queries), k), np.int64)

    def add(self, part: np.ndarray, first: int) -> None:
        """Look through rows `first` and on."""
        scores = np.hstack([self.scores, self.queries @ part.T])
        rows = np.hstack([self.rows, np.broadcast_to(np.arange(first, first + len(part)), (len(scores), len(part)))])
        best = np.argpartition(-scores, self.k - 1, axis=1)[:, : self.k]
        self.scores, self.rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)

    def names(self, k: int) -> list[set[str]]:
        """Ids of the nearest k of each query."""
        order = np.argsort(-self.scores, axis=1)[:, :k]
        return [{photo(int(row), EMPTY).id for row in rows} for rows in np.take_along_axis(self.rows, order, 1)]


EMPTY = np.zeros(0, np.float32)


def recall(found: list[list[str]], true: list[set[str]]) -> float:
    """The part of the true ones that is among those found."""
    return float(np.mean([len(wanted & set(ids)) / len(wanted) for wanted, ids in zip(true, found, strict=True)]))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def server(milvus_program: Path, tmp_path: Path) -> Iterator[Standalone]:
    """A server of this test's own, with large segments."""
    server = Standalone(milvus_program, tmp_path / "milvus", environment=SEGMENTS)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("rows", SIZES)
def test_what_rows_cost(rows: int, space, server: Standalone, capsys) -> None:
    dim, queries = space.photos.shape[1], space.queries[:QUERIES]
    exact = Exact(queries, RERANKED)
    figures: dict[str, Any] = {"rows": rows, "dim": dim, "queries": len(queries), "idle_mib": server.memory() / 2**20}
    own = psutil.Process()
    before = peak = own.memory_info().rss
    with SketchCollection.open("scale", Vectors(dim), uri=server.uri, index="IVF_PQ") as photos:
        photos.client.release_collection("scale")  # or the server searches all rows that have no index yet
        figures["store_seconds"] = 0.0
        for first in range(0, rows, PART):
            part = space.sample(min(PART, rows - first), seed=first)
            started = time.perf_counter()
            photos.upsert(photo(first + i, vector) for i, vector in enumerate(part))
            figures["store_seconds"] += time.perf_counter() - started
            exact.add(part, first)
            peak = max(peak, own.memory_info().rss)
        started = time.perf_counter()
        photos.flush()
        photos.client.load_collection("scale", timeout=1800)
        photos.optimize(wait=10_000)
        figures["build_seconds"] = time.perf_counter() - started
        photos.client.release_collection("scale")
        started = time.perf_counter()
        photos.client.load_collection("scale", timeout=1800)
        figures["load_seconds"] = time.perf_counter() - started
        figures["index"] = {**photos.info()["index"], "consequences": None}
        took = []
        for query in [*queries[:20], *queries]:
            started = time.perf_counter()
            search_vectors(photos, query, SHOWN)
            took.append(time.perf_counter() - started)
        cuts = quantiles(took[20:], n=100)
        figures |= {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}
        ranked = [[hit.id for hit in found] for found in search_vectors(photos, queries, SHOWN, rerank=RERANKED)]
        raw = [[hit.id for hit in found] for found in search_vectors(photos, queries, RERANKED, rerank=0)]
        figures |= {
            "recall_at_10_reranked": recall(ranked, exact.names(SHOWN)),
            "recall_at_200": recall(raw, exact.names(RERANKED)),
            "counted": photos.count(),
        }
    figures |= {
        "server_mib": server.memory() / 2**20,
        "client_mib": (peak - before) / 2**20,
        "index_bytes_a_photo": size_of(server.folder / "data" / "index_files") / rows,
        "flattened_bytes_a_photo": FLATTENED,
    }
    assert figures["counted"] == rows
    assert figures["index"]["pending_rows"] == 0
    keep(figures)
    with capsys.disabled():
        print(f"\n{json.dumps(figures)}")


def keep(figures: dict[str, Any]) -> None:
    """Put one size's figures among those measured before."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [one for one in kept if one["rows"] != figures["rows"]] + [figures]
    RESULTS.write_text(json.dumps(sorted(kept, key=lambda one: one["rows"]), indent=1) + "\n")
