"""What the comparison of peers measures, on vectors of which the answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.ways import Factory, Flat, Lite, _cost


@pytest.fixture
def vectors() -> np.ndarray:
    """(400, 16) unit vectors."""
    rows = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_exact_search_finds_its_own_exact_answers(vectors: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", vectors)
    found = _cost(Flat(), tmp_path / "vectors.npy", vectors[:5])
    assert found.recall == 1
    assert found.found[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert 64 <= found.index_bytes < 65  # 16 numbers of 4 bytes, and the file's head
    assert min(found.rate, found.rate_of_four, found.seconds) > 0


def test_codes_find_less_and_take_less(vectors: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", vectors)
    found = _cost(Factory("PCA8,IVF4,PQ4x4", 1), tmp_path / "vectors.npy", vectors[:5])
    assert found.recall < 1
    assert -1 in found.found  # one list of four has fewer than the 200 that are asked for


def test_ours_is_asked_like_the_others(vectors: np.ndarray, tmp_path: Path) -> None:
    with Lite().built(vectors, tmp_path) as built:
        assert built.search(vectors[7], 3)[0] == 7
        assert built.index_bytes == 400 * 64
        assert built.stored_bytes > built.index_bytes
