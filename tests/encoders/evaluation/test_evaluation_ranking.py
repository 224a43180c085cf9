"""Rankings: exact against sorting, by a quantised index against faiss' own reconstruction, and ranked again."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.errors import CompsketchError
from encoders.evaluation import ranking
from encoders.evaluation.quantised import IvfPq, lists
from encoders.evaluation.ranking import rank, rerank


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Queries (5, 32) and photos (600, 32) in 20 groups."""
    rng = np.random.default_rng(0)
    gallery = unit(rng.normal(size=(20, 32))[rng.integers(20, size=600)] + 0.5 * rng.normal(size=(600, 32)))
    return unit(gallery[:5] + 0.05 * rng.normal(size=(5, 32))), gallery


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_rank_sorts_by_inner_product_and_follows_its_gallery(seed, depth):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(-2, 3, (4, 3)), rng.integers(-2, 3, (9, 3))  # many ties
    found = rank(queries.astype(np.float32), gallery.astype(np.float32), depth)
    for row, query in zip(found, queries, strict=True):
        scores = gallery @ query
        assert row.tolist() == sorted(range(9), key=lambda i: (-scores[i], i))[:depth]
    order = rng.permutation(9)
    moved = rank(queries.astype(np.float32), gallery[order].astype(np.float32), depth)
    for row, other, query in zip(found, moved, queries, strict=True):
        assert (gallery[row] @ query).tolist() == (gallery[order][other] @ query).tolist()


def test_rank_does_not_depend_on_its_blocks(vectors, monkeypatch):
    queries, gallery = vectors
    whole = rank(queries, gallery, 50)
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 2 * 4 * len(gallery))  # two queries at a time
    np.testing.assert_array_equal(rank(queries, gallery, 50), whole)


def test_the_index_ranks_by_the_distance_to_what_its_codes_stand_for(vectors):
    queries, gallery = vectors
    found = IvfPq().search(queries, gallery, 600)
    assert [sorted(row) for row in found.tolist()] == [list(range(600))] * 5  # as many lists are probed as there are
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(32), 32, 8, 16, 8)  # 8 lists leave 75 rows each, 16 would leave 37
    index.cp.seed = index.pq.cp.seed = 0
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(gallery)
    index.add(gallery)
    index.make_direct_map()
    decoded = index.reconstruct_n(0, 600)
    distances = ((queries[:, None] - decoded[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(np.take_along_axis(distances, found, axis=1), np.sort(distances, axis=1), atol=1e-5)
    again = rerank(queries, gallery, found[:, :100])
    np.testing.assert_array_equal(np.sort(again, axis=1), np.sort(found[:, :100], axis=1))
    assert again[:, 0].tolist() == [0, 1, 2, 3, 4] == rank(queries, gallery, 1)[:, 0].tolist()


def test_an_index_that_looks_into_few_lists_ends_early(vectors):
    queries, gallery = vectors
    found = IvfPq(nlist=64, nprobe=1).search(queries, gallery, 600)
    assert (found[:, -1] == -1).all()
    again = rerank(queries, gallery, found)
    np.testing.assert_array_equal(again < 0, found < 0)  # what was not found stays behind


def test_the_paper_s_lists_scaled_down():
    assert {rows: lists(rows) for rows in (1, 38, 39, 503, 3840, 62_399, 62_400, 4_500_000)} == {
        1: 1, 38: 1, 39: 1, 503: 8, 3840: 64, 62_399: 1024, 62_400: 1600, 4_500_000: 1600,
    }  # fmt: skip
    assert IvfPq().describe(125_000, 256) == {"kind": "faiss IVF_PQ", "nlist": 1600, "m": 16, "nbits": 8, "nprobe": 64}
    assert IvfPq().describe(503, 256)["nprobe"] == 8


def test_mistakes_are_named(vectors):
    queries, gallery = vectors
    with pytest.raises(CompsketchError, match="255 photos are too few to learn 256 centroids"):
        IvfPq().search(queries, gallery[:255], 10)
    with pytest.raises(CompsketchError, match="30 dimensions can't be cut into 16 parts"):
        IvfPq().search(queries[:, :30], gallery[:, :30], 10)
