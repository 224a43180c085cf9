"""Variations of a drawing: what stays, and what a seed decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from encoders.raster import raster
from encoders.training.augment import rasters, vary

HOUSE = [
    np.array([[0, 10, 10, 0, 0], [4, 4, 12, 12, 4.0]]),
    np.array([[0, 5, 10], [4, 0, 4.0]]),
    np.array([[4, 4, 6, 6], [12, 8, 8, 12.0]]),
]
strokes = st.lists(
    st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (2, n), elements=st.floats(-500, 500, width=16))),
    min_size=1,
    max_size=5,
)


def test_without_strength_only_the_mirror_is_left():
    ink = np.concatenate(HOUSE, axis=1)
    centre, extent = np.array([[5.0], [6.0]]), 12.0
    assert np.array_equal(centre[:, 0], (ink.min(axis=1) + ink.max(axis=1)) / 2)
    as_it_is = [(stroke - centre) / extent for stroke in HOUSE]
    mirrored = [stroke * [[-1], [1]] for stroke in as_it_is]
    seen = set()
    for seed in range(20):
        varied = vary(HOUSE, np.random.default_rng(seed), strength=0)
        kept = [all(np.allclose(a, b) for a, b in zip(varied, sides, strict=True)) for sides in (as_it_is, mirrored)]
        assert any(kept)
        seen.add(kept.index(True))
    assert seen == {0, 1}


@settings(deadline=None, max_examples=50)
@given(strokes, st.integers(0, 2**31))
def test_varied_strokes_keep_their_points_and_are_about_as_large_as_one(drawing, seed):
    given_strokes = [stroke.copy() for stroke in drawing]
    varied = vary(drawing, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(drawing, given_strokes, strict=True))  # arguments left alone
    lengths = [stroke.shape[1] for stroke in drawing]
    if len(varied) < len(drawing):  # at most one stroke is dropped, and never of two
        assert len(varied) == len(drawing) - 1 >= 2
        shorter = [[n for i, n in enumerate(lengths) if i != gone] for gone in range(len(lengths))]
        assert [stroke.shape[1] for stroke in varied] in shorter
    else:
        assert [stroke.shape[1] for stroke in varied] == lengths
    assert all(np.isfinite(stroke).all() and np.abs(stroke).max() < 10 for stroke in varied)


def test_a_variation_is_its_seeds():
    one, same, other = (vary(HOUSE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert len(one) != len(other) or not np.allclose(one[0], other[0])


def test_a_larger_drawing_varies_in_the_same_way():
    small, large = (vary([scale * stroke for stroke in HOUSE], np.random.default_rng(3)) for scale in (1, 1000))
    assert all(np.allclose(a, b) for a, b in zip(small, large, strict=True))


def test_less_strength_stays_nearer_to_the_drawing():
    def far(strength: float) -> float:
        varied = [vary(HOUSE[:2], np.random.default_rng(seed), strength) for seed in range(30)]
        plain = [vary(HOUSE[:2], np.random.default_rng(seed), 0) for seed in range(30)]
        # Mirrored or not: compare the rows of y, which no mirror changes.
        return float(np.mean([np.abs(v[0][1] - p[0][1]).mean() for v, p in zip(varied, plain, strict=True)]))

    assert 0 < far(0.3) < far(1.0)


def test_rasters_without_a_generator_are_what_f_s_sees():
    pictures = rasters([HOUSE, HOUSE[:1]], None, 32, 2.0)
    assert pictures.shape == (2, 32, 32)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures[0], raster(HOUSE, 32, 2.0))
    assert np.array_equal(pictures[1], raster(HOUSE[:1], 32, 2.0))


def test_rasters_vary_every_drawing_on_its_own_and_repeat_with_their_seed():
    pictures, again = (rasters([HOUSE, HOUSE], np.random.default_rng(5), 32, 2.0) for _ in range(2))
    assert np.array_equal(pictures, again)
    assert not np.array_equal(pictures[0], pictures[1])
    assert (pictures.min(axis=(1, 2)) < 100).all()  # both hold ink


@pytest.mark.parametrize("drawing", [[np.zeros((2, 1))], [np.array([[0, 9], [3, 3.0]])]], ids=["dot", "line"])
def test_a_drawing_without_extent_is_drawn(drawing):
    (picture,) = rasters([drawing], np.random.default_rng(0), 32, 2.0)
    assert picture.min() < 200
