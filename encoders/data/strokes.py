"""A drawing in any file to strokes in Quick, Draw!'s unit, so that sketches of all sets are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from encoders.errors import SketchError
from encoders.formats import svg
from encoders.formats.pixels import strokes_of
from encoders.formats.skeleton import simplify
from encoders.images import Limits, read_image

UNIT = 255.0  # Quick, Draw!'s longest side
TOLERANCE = 2.0  # of Quick, Draw!'s own simplification (Douglas and Peucker)
MAX_SIDE = 512  # of a PNG that is thinned: 255 is what is kept of it
LIMITS = Limits(max_pixels=16_000_000)
DARK = 128  # of 255: below is ink


def to_unit(strokes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Scale a drawing as Quick, Draw! simplifies its own: its ink's corner to 0, its longest side to 255, few points.

    Args:
        strokes: (2, n) in any unit.

    Returns:
        float32 (2, n) strokes, in the same order.
    """
    ink = np.concatenate(strokes, axis=1).astype(np.float64)  # (2, N)
    low, extent = ink.min(axis=1, keepdims=True), float(np.ptp(ink, axis=1).max())
    scale = UNIT / extent if extent > 0 else 0.0
    return tuple(simplify((np.asarray(s, np.float64) - low) * scale, TOLERANCE).astype(np.float32) for s in strokes)


def from_svg(data: bytes) -> tuple[np.ndarray, ...]:
    """All ink of an SVG as one drawing; words over boxes are none.

    Raises:
        SketchError: It is malformed, or holds no ink.
    """
    objects = svg.read(data)["objects"]
    strokes = [np.asarray(stroke) for item in objects for stroke in item.get("strokes", ())]
    if not strokes:
        raise SketchError("it has no ink")
    return to_unit(strokes)


def from_png(data: bytes) -> tuple[np.ndarray, ...]:
    """The dark pixels of a PNG, thinned to lines, as one drawing.

    Raises:
        ImageError: It is damaged or too large.
        SketchError: It holds no ink.
    """
    gray = read_image(data, limits=LIMITS).convert("L")
    if max(gray.size) > MAX_SIDE:
        gray.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    ink = np.asarray(gray) < DARK
    if not ink.any():
        raise SketchError("it has no ink")
    return to_unit(strokes_of(ink)[0])
