"""A real server with 100,000 vectors as real photos have them: what IVF_PQ keeps, and what this package costs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.search import search_vectors
from tests.benchmarks.given import Vectors, photo

pytestmark = pytest.mark.benchmark

ROWS, QUERIES, REPEATS = 100_000, 200, 200
SHOWN, RERANKED = 10, 200
WRITTEN, ROUNDS = 5_000, 5
MESSAGE = 1_000  # rows of a message


@pytest.fixture(scope="module")
def gallery(space) -> np.ndarray:
    return space.sample(ROWS)


@pytest.fixture(scope="module")
def photos(gallery, milvus_server) -> Iterator[SketchCollection]:
    """The gallery in a collection, indexed."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with SketchCollection.open(name, Vectors(gallery.shape[1]), uri=milvus_server) as collection:
        started = time.perf_counter()
        collection.upsert(photo(i, vector) for i, vector in enumerate(gallery))
        stored = time.perf_counter()
        collection.flush()
        collection.optimize(wait=1800)
        print(f"\n{ROWS} rows stored in {stored - started:.0f} s, indexed in {time.perf_counter() - stored:.0f} s")
        yield collection
        collection.drop()


def recall(found: list[list[str]], true: np.ndarray, k: int) -> float:
    """The part of the true nearest k that is among what was found."""
    names = [{f"p{number:07}" for number in row[:k]} for row in true]
    return float(np.mean([len(wanted & set(ids)) / k for wanted, ids in zip(names, found, strict=True)]))


def nearest(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, 200) the true nearest, best first."""
    scores = queries @ gallery.T
    best = np.argpartition(-scores, RERANKED, axis=1)[:, :RERANKED]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def test_the_index_keeps_what_exact_search_finds(photos, gallery, space, capsys) -> None:
    assert photos.index.type == "IVF_PQ"
    figures = {}
    for kind, queries in (("sketches", space.queries[:QUERIES]), ("photos", space.sample(QUERIES, seed=1))):
        true = nearest(queries, gallery)
        ranked = [[hit.id for hit in found] for found in search_vectors(photos, queries, SHOWN, rerank=RERANKED)]
        raw = [[hit.id for hit in found] for found in search_vectors(photos, queries, RERANKED, rerank=0)]
        figures[kind] = (recall(ranked, true, SHOWN), recall(raw, true, SHOWN), recall(raw, true, RERANKED))
    with capsys.disabled():
        for kind, (after, before, deep) in figures.items():
            print(f"\n{kind}: recall@10 {after:.4f} re-ranked (in the top 200: {before:.4f}), recall@200 {deep:.3f}")
    for after, _, deep in figures.values():
        assert after >= 0.99
        assert deep >= 0.88


def p50(*steps: Callable[[int], object]) -> list[float]:
    """The median of each step's seconds, in turn."""
    taken: list[list[float]] = [[] for _ in steps]
    for number in range(REPEATS):
        for step, times in zip(steps, taken, strict=True):
            started = time.perf_counter()
            step(number)
            times.append(time.perf_counter() - started)
    return [median(times) for times in taken]


def test_a_query_costs_little_more_than_the_raw_calls(photos, space, capsys) -> None:
    queries, client = space.queries, photos.client
    parameters = {"metric_type": "L2", "params": photos.index.search_params}

    def raw(number: int) -> None:
        vector = queries[number % len(queries)]
        answer = client.search(
            photos.name, data=[vector], limit=RERANKED, search_params=parameters, anns_field="vector"
        )
        client.get(photos.name, [hit["id"] for hit in answer[0]], output_fields=["vector"])

    def ours(number: int) -> None:
        search_vectors(photos, queries[number % len(queries)], SHOWN)

    for step in (raw, ours):
        step(0)
    theirs, whole = p50(raw, ours)
    with capsys.disabled():
        print(
            f"\np50: raw search and fetch {theirs * 1e3:.1f} ms, ours {whole * 1e3:.1f} ms, ratio {whole / theirs:.2f}"
        )
    assert whole / theirs < 1.25


def test_writing_keeps_nine_tenths_of_a_raw_upsert(space, milvus_server, capsys) -> None:
    vectors = space.sample(WRITTEN, seed=2)
    ratios = []
    with SketchCollection.open(f"bench_{uuid.uuid4().hex[:8]}", Vectors(vectors.shape[1]), uri=milvus_server) as photos:
        try:
            for number in range(ROUNDS):
                first = number * 2 * WRITTEN
                started = time.perf_counter()
                for start in range(0, WRITTEN, MESSAGE):
                    rows = [
                        {"id": f"p{first + i:07}", "source": "x", "width": 640, "height": 480, "vector": vectors[i]}
                        for i in range(start, start + MESSAGE)
                    ]
                    photos.client.upsert(photos.name, rows)
                raw = time.perf_counter() - started
                started = time.perf_counter()
                for start in range(0, WRITTEN, MESSAGE):
                    photos.upsert([photo(first + WRITTEN + i, vectors[i]) for i in range(start, start + MESSAGE)])
                ratios.append(raw / (time.perf_counter() - started))
        finally:
            photos.drop()
    with capsys.disabled():
        print(f"\nupsert of ready vectors: {median(ratios):.2f} of raw; rounds {[round(one, 2) for one in ratios]}")
    assert median(ratios) >= 0.9
