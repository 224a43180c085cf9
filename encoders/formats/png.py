"""PNG drawings: one colour an object, or all of one colour and each cluster of ink an object.

Strokes are traced along the middle of the drawn lines, and boxes are those of the lines' middles, not of the pen.
A dot of a colour that has nothing else is stray and dropped; so is a dot far off the rest of its colour.
What `write` makes carries a legend of its colours and labels, so that even a tiny object is found again.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from encoders.errors import SketchError
from encoders.formats.inks import separate
from encoders.formats.pen import PALETTE, draw_strokes
from encoders.formats.pixels import is_dot, pieces, strokes_of, without_stray_dots
from encoders.query import MAX_OBJECTS

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 16_000_000
LINE_WIDTH = 3
_LEGEND = "compsketch-legend"  # JSON: [["#rrggbb", label or null], …]


def read(data: bytes) -> dict[str, Any]:
    """Read a PNG to the dict of stroke JSON.

    Raises:
        SketchError: Damaged, too large, without ink, without plain paper, or too many colours or clusters.
    """
    pixels, legend = _decode(data)
    height, width, _ = pixels.shape
    found: list[tuple[np.ndarray, str | None]]
    if legend:
        found = [((pixels == colour).all(axis=2), label) for colour, label in legend]
        found = [(mask, label) for mask, label in found if mask.any()]
    else:
        found = [(mask, None) for mask in _masks(pixels)]
    if not found:
        raise SketchError("it has no ink: nothing stands out from the paper; draw with darker colours")
    if len(found) > MAX_OBJECTS:
        raise SketchError(
            f"it has {len(found)} separate colours or clusters of ink, {MAX_OBJECTS} is the limit; "
            "use one plain colour an object"
        )
    objects = []
    for mask, label in found:
        strokes, box = strokes_of(mask, LINE_WIDTH if legend else None)
        item: dict[str, Any] = {"strokes": strokes, "bbox": box}
        if label:
            item["label"] = label
        objects.append(item)
    return {"width": width, "height": height, "objects": objects}


def _masks(pixels: np.ndarray) -> list[np.ndarray]:
    """One bool (H, W) an object, of a drawing that nothing is known about."""
    inks = separate(pixels)
    masks = [inks.owner == number for number in range(len(inks.colours))]
    masks = [without_stray_dots(mask, (inks.owner >= 0) & ~mask) for mask in masks if mask.any()]
    masks = [mask for mask in masks if not is_dot(mask)] or masks
    return pieces(masks[0]) if len(masks) == 1 else masks


def write(sketch: dict[str, Any]) -> bytes:
    """Draw one colour an object, without antialiasing, with a legend of colours and labels.

    Raises:
        SketchError: The canvas is too large for a PNG, later objects cover one wholly, or one has a weight or is a
            word without strokes, which a PNG cannot hold.
    """
    for index, item in enumerate(sketch["objects"]):
        if "photo" in item:
            raise SketchError(f"object {index}: a PNG sketch cannot hold its photo; save it as .json")
        what = f"its weight of {item['weight']:g}" if "weight" in item else "a word without strokes"
        if "weight" in item or not item.get("strokes"):
            name = f'object {index} "{item["label"]}"' if "label" in item else f"object {index}"
            raise SketchError(f"{name}: a PNG cannot hold {what}; save it as .json or .svg")
    width, height = sketch["width"], sketch["height"]
    if width * height > MAX_PIXELS:
        raise SketchError(f"a canvas of {width} x {height} is too large for a PNG sketch; save it as .json or .svg")
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    legend = []
    for colour, item in zip(PALETTE, sketch["objects"], strict=False):
        draw_strokes(pen, [np.array(stroke) for stroke in item["strokes"]], colour, LINE_WIDTH)
        legend.append(["#{:02x}{:02x}{:02x}".format(*colour), item.get("label")])
    pixels = np.asarray(image)
    for index, colour in enumerate(PALETTE[: len(legend)]):
        if not (pixels == colour).all(axis=2).any():
            raise SketchError(f"object {index} is hidden by later ones or off the canvas; save it as .json or .svg")
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_LEGEND, json.dumps(legend))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _decode(data: bytes) -> tuple[np.ndarray, list[tuple[tuple[int, int, int], str | None]]]:
    """uint8 (H, W, 3), alpha laid on white, and the legend if there is one."""
    if len(data) < 33:
        raise SketchError("the PNG is cut off; save it again")
    width, height = struct.unpack(">II", data[16:24])  # before Pillow sees a bomb
    if width * height > MAX_PIXELS:
        raise SketchError(f"the PNG has {width} x {height} pixels, {MAX_PIXELS} is the limit; make it smaller")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            text = image.info.get(_LEGEND)
            image.load()
            if image.mode.startswith("I"):  # 16 bits
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
            layer = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise SketchError(f"the PNG is damaged ({error}); save it again") from None
    paper = Image.new("RGBA", layer.size, "white")
    flat = np.asarray(Image.alpha_composite(paper, layer).convert("RGB"))
    return flat, _legend(text, flat)


def _legend(text: object, pixels: np.ndarray) -> list[tuple[tuple[int, int, int], str | None]]:
    """The colours of a PNG that `write` made; none if it was redrawn in other colours since."""
    try:
        entries = [(colour, label) for colour, label in json.loads(text)] if isinstance(text, str) else []
        legend = [(tuple(bytes.fromhex(colour[1:])), label) for colour, label in entries[:MAX_OBJECTS]]
    except (TypeError, ValueError, RecursionError):
        return []
    known = [
        ((colour[0], colour[1], colour[2]), label if isinstance(label, str) else None)
        for colour, label in legend
        if len(colour) == 3
    ]
    inks = np.array([(255, 255, 255), *(colour for colour, _ in known)])
    drawn = np.unique(pixels @ np.array([65536, 256, 1]))
    return known if np.isin(drawn, inks @ np.array([65536, 256, 1])).all() else []
