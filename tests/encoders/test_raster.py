"""The picture that f_s sees: where the ink lies, how wide it is, and the inks that are hardly any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from encoders.errors import SketchError
from encoders.raster import raster

strokes = st.lists(
    npst.arrays(
        np.float64,
        st.tuples(st.just(2), st.integers(1, 12)),
        elements=st.floats(-1e6, 1e6, allow_subnormal=False),
    ),
    min_size=1,
    max_size=4,
)


def ink_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(picture < 128)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def test_a_wide_drawing_fills_the_width_and_is_centred():
    picture = raster([np.array([[0.0, 200.0], [50.0, 50.0]]), np.array([[0.0, 200.0], [150.0, 150.0]])])
    assert picture.shape == (128, 128)
    assert picture.dtype == np.uint8
    x0, y0, x1, y1 = ink_box(picture)
    # The middle line runs from 6.4 to 121.6 and the two lines lie 57.6 apart; half a line of 3 is added.
    assert (x0, x1) == (pytest.approx(5, abs=1), pytest.approx(122, abs=1))
    assert (y0, y1) == (pytest.approx(64 - 28.8 - 1.5, abs=1), pytest.approx(63 + 28.8 + 1.5, abs=1))


@pytest.mark.parametrize("scale", [0.01, 1.0, 5000.0])
@pytest.mark.parametrize("width", [2.0, 3.0, 5.0])
def test_the_line_has_one_width_whatever_the_scale(scale: float, width: float):
    square = np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]) * scale
    middle = raster([square], line_width=width)[64]
    assert (255 - middle[:64].astype(int)).sum() / 255 == pytest.approx(width, abs=0.4)


def test_ends_are_round_and_a_point_is_a_dot():
    dot = 255 - raster([np.array([[5.0], [7.0]])], line_width=12.0).astype(int)
    assert dot.sum() / 255 == pytest.approx(np.pi * 36, rel=0.05)
    assert ink_box((255 - dot).astype(np.uint8)) == (58, 58, 69, 69)


@pytest.mark.parametrize("size", [32, 128, 200])
def test_a_straight_vertical_line_is_centred(size: int):
    x0, y0, x1, y1 = ink_box(raster([np.array([[3.0, 3.0], [0.0, 9.0]])], size=size))
    assert x0 + x1 == pytest.approx(size - 1, abs=1)
    assert y1 - y0 > 0.85 * size


@settings(deadline=None, max_examples=60)
@given(strokes)
def test_any_ink_is_drawn_inside_the_margin(ink: list[np.ndarray]):
    picture = raster(ink, size=64)
    assert picture.min() < 128
    assert (picture[:1] == 255).all() and (picture[:, -1:] == 255).all()  # noqa: PT018


@settings(deadline=None, max_examples=30)
@given(strokes, st.sampled_from([0.25, 2.0, 1024.0]))
def test_scale_of_the_strokes_does_not_matter(ink: list[np.ndarray], factor: float):
    np.testing.assert_array_equal(raster(ink), raster([stroke * factor for stroke in ink]))


@pytest.mark.parametrize("ink", [[], [np.zeros((2, 0))], [np.zeros((3, 4))]])
def test_no_ink_is_an_error(ink: list[np.ndarray]):
    with pytest.raises(SketchError, match="nothing to draw"):
        raster(ink)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ink_nowhere_is_an_error(bad: float):
    with pytest.raises(SketchError, match="not finite"):
        raster([np.array([[0.0, bad], [0.0, 1.0]])])
