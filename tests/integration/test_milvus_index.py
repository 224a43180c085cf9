"""Ranking through IVF_PQ of a real Milvus server; skipped where there is no server's program."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus import MilvusClient

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.ranker import MilvusIndex
from encoders.evaluation.quantised import IvfPq, lists
from encoders.evaluation.ranking import rank, rerank


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Six queries and 3,000 photos, most of whose spread is between 40 groups."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 64))
    gallery = unit(centres[rng.integers(40, size=3000)] + 0.6 * rng.normal(size=(3000, 64)))
    return unit(gallery[:6] + 0.05 * rng.normal(size=(6, 64))), gallery


def test_it_ranks_like_faiss_with_the_same_parameters_and_leaves_nothing(milvus_server: str, vectors) -> None:
    queries, gallery = vectors
    index = MilvusIndex(milvus_server)
    found = index.search(queries, gallery, 200)
    assert found.shape == (6, 200)
    assert found.min() >= 0
    assert all(len(set(row)) == 200 for row in found.tolist())
    exact = rank(queries, gallery, 200)
    of_faiss = IvfPq().search(queries, gallery, 200)

    def recall(rankings: np.ndarray) -> float:
        return float(np.mean([len(set(a) & set(b)) / 200 for a, b in zip(rankings, exact, strict=True)]))

    assert recall(found) < 1  # the codes were searched, not the vectors
    assert recall(found) == pytest.approx(recall(of_faiss), abs=0.1)
    assert rerank(queries, gallery, found)[:, 0].tolist() == exact[:, 0].tolist() == list(range(6))
    facts = {"nlist": lists(3000), "m": 16, "nbits": 8, "nprobe": 64}
    assert index.describe(*gallery.shape) == {"kind": f"Milvus {index.facts.version} IVF_PQ", **facts}
    assert index.describe(3000, 60)["m"] == 15, "sixteen parts do not cut 60 numbers evenly"
    client = MilvusClient(milvus_server)
    assert not [name for name in client.list_collections() if name.startswith("compsketch_evaluation")]
    client.close()


def test_a_gallery_that_milvus_would_search_exactly_is_refused(milvus_server: str, vectors) -> None:
    queries, gallery = vectors
    with pytest.raises(CollectionError, match="1000 photos: Milvus indexes 1024 and more"):
        MilvusIndex(milvus_server).search(queries, gallery[:1000], 20)
