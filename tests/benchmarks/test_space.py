"""Vectors that are made up for the benchmarks: like the real ones that they are made of, here made up themselves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.space import NEAR, Space

COUNT, DIM = 1500, 48


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def space() -> Space:
    """Of photos in loose groups, with variances that fall like a power, in axes that are not the coordinates'."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    groups = rng.normal(size=(40, DIM))[rng.integers(40, size=COUNT)]
    photos = (groups + rng.normal(size=(COUNT, DIM))) / np.arange(1, DIM + 1) ** 0.6
    return Space(unit(photos @ turn), unit(rng.normal(size=(10, DIM))))


def spectrum(x: np.ndarray) -> np.ndarray:
    """Each principal axis' share of the variance."""
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return values / values.sum()


def neighbours(x: np.ndarray, rank: int) -> np.ndarray:
    """Distance of each vector to its nearest other, the second nearest, …"""
    squares = 2 - 2 * x @ x.T
    return np.sqrt(np.maximum(np.sort(squares, axis=1)[:, rank], 0))


@pytest.mark.parametrize("count", [COUNT, 12_000])
def test_they_have_the_spectrum_of_the_real_ones(space, count) -> None:
    made = space.sample(count, seed=1)
    assert (made.shape, made.dtype) == ((count, DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(spectrum(made), spectrum(space.photos), rtol=0.15)
    _, _, axes = np.linalg.svd(space.photos - space.photos.mean(axis=0), full_matrices=False)
    along = np.var(made @ axes.T, axis=0)  # and along the same axes
    np.testing.assert_allclose(along / along.sum(), spectrum(space.photos), rtol=0.2)


def test_their_neighbours_are_about_as_far_as_real_ones(space) -> None:
    made = space.sample(COUNT, seed=2)
    nearest, tenth = (np.median(neighbours(made, k)) / np.median(neighbours(space.photos, k)) for k in (1, 10))
    assert 0.5 < nearest < 1.1
    assert 0.85 < tenth < 1.1


def test_each_lies_near_the_photo_it_is_made_of_and_none_twice(space) -> None:
    made = space.sample(3000, seed=3)
    gap = neighbours(space.photos, 1).mean()
    away = np.sqrt(2 - 2 * (made @ space.photos.T).max(axis=1))
    assert away.min() > 0
    assert np.median(away) == pytest.approx(NEAR * gap, rel=0.15)
    assert len(np.unique(made, axis=0)) == 3000


def test_a_seed_gives_the_same_and_another_other_ones(space) -> None:
    assert np.array_equal(space.sample(50, seed=4), space.sample(50, seed=4))
    assert not np.isin(space.sample(50, seed=4), space.sample(50, seed=5)).any()
