"""The key under which an encoder remembers a drawing: short, and another one for another drawing."""

from __future__ import annotations

import numpy as np

from encoders.local import _key
from encoders.sketch import SketchObject


def test_a_key_is_short_however_long_the_drawing() -> None:
    long = SketchObject([np.random.default_rng(0).uniform(0, 100, (2, 50_000))])
    assert len(_key(long)) == len(_key(SketchObject([[[1], [2]]]))) == 16


def test_strokes_tell_drawings_apart_and_words_and_boxes_do_not() -> None:
    one = SketchObject([[[1, 2, 3, 4], [5, 6, 7, 8]]])
    assert _key(one) == _key(SketchObject([[[1, 2, 3, 4], [5, 6, 7, 8]]], "cat", (0, 0, 9, 9)))
    cut = SketchObject([[[1, 2], [5, 6]], [[3, 4], [7, 8]]])
    same_numbers = SketchObject([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    moved = SketchObject([[[2, 3, 4, 5], [5, 6, 7, 8]]])
    assert len({_key(item) for item in (one, cut, same_numbers, moved)}) == 4
