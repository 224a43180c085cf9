"""Colours that tell objects apart, a pen with round ends, and boxes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]


def _palette() -> tuple[Colour, ...]:
    """Eight colours chosen by hand, then twenty-four around the colour circle; all far from white."""
    first = [
        (214, 39, 40), (31, 98, 200), (30, 140, 50), (240, 130, 0),
        (130, 60, 190), (0, 150, 160), (220, 40, 160), (130, 80, 40),
    ]  # fmt: skip
    rest = []
    for saturation, value, shift in ((1.0, 0.45, 0.0), (1.0, 0.98, 0.04), (0.55, 0.72, 0.08)):
        for step in range(8):
            red, green, blue = colorsys.hsv_to_rgb((step / 8 + shift) % 1, saturation, value)
            rest.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(first + rest)


PALETTE = _palette()


def draw_strokes(pen: ImageDraw.ImageDraw, strokes: Sequence[np.ndarray], colour: Colour, width: int) -> None:
    """Draw (2, n) strokes given in the picture's pixels, ``width`` wide, with round joints and ends."""
    radius = (width - 1) / 2
    for stroke in strokes:
        points = np.floor(np.clip(stroke, -1e6, 1e6)).T  # a point far outside must not overflow Pillow's integers
        if len(points) > 1:
            pen.line(points.ravel().tolist(), fill=colour, width=width)
        for x, y in points.tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def draw_box(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], colour: Colour, width: int, *, wanted: bool = True
) -> None:
    """Outline a box given in the picture's pixels; that of an object that is not wanted is dashed and crossed out."""
    if wanted:
        pen.rectangle(box, outline=colour, width=width)
        return
    x0, y0, x1, y1 = box
    for start, end in (
        ((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0)),
        ((x0, y0), (x1, y1)), ((x0, y1), (x1, y0)),
    ):  # fmt: skip
        _dash(pen, np.array(start), np.array(end), colour, width)


def _dash(pen: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, colour: Colour, width: int) -> None:
    """A line of dashes, one at each of its ends."""
    dashes = max(1, round(float(np.hypot(*(end - start))) / (8 * width)))
    for share in np.linspace(0, 1 - 1 / (2 * dashes), dashes):
        a, b = start + (end - start) * share, start + (end - start) * (share + 1 / (2 * dashes))
        pen.line((*a.tolist(), *b.tolist()), fill=colour, width=width)
