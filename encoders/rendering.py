"""A sketch as people see it: each object in its colour, with its box, its word and what it weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from encoders import cutout
from encoders.formats.pen import PALETTE, Colour, draw_box, draw_strokes
from encoders.images import read_image

if TYPE_CHECKING:
    from encoders.sketch import Sketch, SketchObject


def render(
    sketch: Sketch,
    size: int | tuple[int, int] | None = None,
    background: Image.Image | None = None,
    *,
    bare: bool = False,
) -> Image.Image:
    """Draw each object with its box, clipped to the canvas, and its caption.

    A word without strokes stands in the middle of its box, a photo fills it; the box of an object that is not
    wanted is dashed and crossed out.

    Args:
        sketch: What to draw.
        size: The longest side, or (width, height), to which the canvas is stretched; by default the canvas' own size,
            at most 1024.
        background: A photo to draw on, stretched to the same frame; by default white.
        bare: Draw what was drawn and no more: no box and no caption but those of a word, or of what is not wanted.

    Returns:
        An RGB image.
    """
    longest = max(sketch.width, sketch.height)
    if size is None:
        size = min(longest, 1024)
    if isinstance(size, int):
        factor = size / longest
        size = max(1, round(sketch.width * factor)), max(1, round(sketch.height * factor))
    if background is None:
        image = Image.new("RGB", size, "white")
    else:
        image = background.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    scale = np.array([[size[0] / sketch.width], [size[1] / sketch.height]])
    line = max(1, round(max(size) / 160))
    font = ImageFont.load_default(size=max(9, max(size) / 32))
    frame = np.array([*size, *size]) - 1
    for index, (item, box) in enumerate(zip(sketch.objects, sketch.boxes, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        if item.photo is not None:
            _paste(image, item.photo, (box * frame).tolist())
        draw_strokes(pen, [np.clip(stroke, -1e9, 1e9) * scale for stroke in item.strokes], colour, line)
        if bare and item.weight > 0 and (item.strokes or item.photo):
            continue
        x0, y0, x1, y1 = (box * frame).tolist()
        draw_box(pen, (x0, y0, x1, y1), colour, max(1, line // 2), wanted=item.weight > 0)
        middle = None if item.strokes or item.photo else ((x0 + x1) / 2, (y0 + y1) / 2)
        _write(pen, caption(item, index), (x0, y0), middle, size, colour, font)
    return image


def _paste(image: Image.Image, photo: bytes, box: list[float]) -> None:
    """Lay an object's photo in its box, stretched."""
    x0, y0, x1, y1 = (round(value) for value in box)
    cut = read_image(photo, limits=cutout.LIMITS).resize((max(1, x1 - x0), max(1, y1 - y0)), Image.Resampling.BILINEAR)
    image.paste(cut, (x0, y0))


def caption(item: SketchObject, index: int) -> str:
    """What an object is called and what it weighs: "dog", "not dog", "dog x2", "not 3 x0.5"."""
    negation = "not " if item.weight < 0 else ""
    times = f" x{abs(item.weight):g}" if abs(item.weight) != 1 else ""
    return f"{negation}{item.label or index}{times}"


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    middle: tuple[float, float] | None,
    size: tuple[int, int],
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write white on the object's colour: about a middle, else just above a corner or, at the rim, just inside it."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x, y = corner if middle is None else (middle[0] - width / 2, middle[1] - height / 2)
    x = max(0.0, min(x, size[0] - width))
    if middle is None and y >= height:
        y -= height
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), text, fill="white", font=font)
