"""Fig. 4: how often each rating was given, a panel for each number of objects, a bar for each method.

One list of shapes, drawn twice: as SVG, and as PNG by Pillow. They are the same picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_png", "draw_svg"]

Counts = Mapping[str, Mapping[str, Sequence[int]]]

# Told apart without colours too: they differ in lightness (after Okabe and Ito); chance is grey.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
CHANCE = "#8b9096"
PAPER, INK, FAINT, RULE = "#ffffff", "#1f2328", "#5c6168", "#e2dfd9"
WIDTH, HEIGHT, GAP = 320, 230, 44  # of a panel's field and between two
LEFT, TOP, BOTTOM, RIGHT = 64, 86, 64, 20  # around the fields
SCALE = 2  # of the PNG
SCORES = 5


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Text:
    """A line of text, x where its anchor is, y its baseline."""

    x: float
    y: float
    text: str
    size: int = 13
    anchor: Literal["start", "middle", "end"] = "middle"
    colour: str = INK


def draw_svg(counts: Counts) -> str:
    """The figure as SVG.

    Args:
        counts: by number of objects and method, how often each of the ratings 1 to 5 was given.
    """
    width, height = _size(counts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif"><title>{escape(_title(counts))}</title>',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    for shape in _shapes(counts):
        if isinstance(shape, Box):
            parts.append(
                f'<rect x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" height="{shape.height:.2f}" '
                f'fill="{shape.colour}"/>'
            )
        else:
            parts.append(
                f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size}" text-anchor="{shape.anchor}" '
                f'fill="{shape.colour}">{escape(shape.text)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_png(counts: Counts) -> Image.Image:
    """The same figure as a picture, twice as large."""
    width, height = _size(counts)
    image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    pen = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in _shapes(counts):
        if isinstance(shape, Text):
            font = ImageFont.load_default(shape.size * SCALE)
            at = (shape.x * SCALE, shape.y * SCALE)
            pen.text(at, shape.text, shape.colour, font, anchor=anchors[shape.anchor])
        elif shape.height > 0:
            corners = (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
            x0, y0, x1, y1 = (round(value * SCALE) for value in corners)
            pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), shape.colour)
    return image


def _size(counts: Counts) -> tuple[int, int]:
    return LEFT + len(counts) * (WIDTH + GAP) - GAP + RIGHT, TOP + HEIGHT + BOTTOM


def _title(counts: Counts) -> str:
    return f"How often each rating was given, for queries of {', '.join(counts)} object(s)"


def _shapes(counts: Counts) -> Iterator[Box | Text]:
    methods = list(next(iter(counts.values())))
    colours = {name: CHANCE if name == methods[-1] else COLOURS[i % len(COLOURS)] for i, name in enumerate(methods)}
    x = float(LEFT)
    for name in methods:
        yield Box(x, 18, 14, 14, colours[name])
        yield Text(x + 20, 30, name, anchor="start")
        x += 44 + 8 * len(name)
    tallest = max(share for panel in counts.values() for values in panel.values() for share in _shares(values))
    top = max(0.2, -(-tallest // 0.2) * 0.2) if tallest else 1.0  # the next fifth
    for place, (objects, panel) in enumerate(counts.items()):
        left = LEFT + place * (WIDTH + GAP)
        yield Text(left + WIDTH / 2, TOP - 16, f"{objects} object" + ("" if objects == "1" else "s"), 15)
        yield from _axes(left, top, labelled=place == 0)
        yield from _bars(left, top, panel, colours)
    yield Text(18, TOP - 16, "ratings", anchor="start", colour=FAINT)
    middle = LEFT + (len(counts) * (WIDTH + GAP) - GAP) / 2
    yield Text(
        middle, TOP + HEIGHT + 50, "1 = completely irrelevant … 5 = same objects, pose and location", colour=FAINT
    )


def _axes(left: float, top: float, *, labelled: bool) -> Iterator[Box | Text]:
    for step in range(round(top / 0.2) + 1):
        share = 0.2 * step
        y = TOP + HEIGHT * (1 - share / top)
        yield Box(left, y - 0.5, WIDTH, 1, RULE if step else INK)
        if labelled:
            yield Text(left - 8, y + 4, f"{share:.0%}", 12, "end", FAINT)
    for score in range(1, SCORES + 1):
        yield Text(left + WIDTH * (score - 0.5) / SCORES, TOP + HEIGHT + 20, str(score))


def _bars(left: float, top: float, panel: Mapping[str, Sequence[int]], colours: Mapping[str, str]) -> Iterator[Box]:
    slot = WIDTH / SCORES
    width = 0.8 * slot / len(panel)
    for place, (name, values) in enumerate(panel.items()):
        for score, share in enumerate(_shares(values)):
            x, height = left + slot * (score + 0.1) + place * width, HEIGHT * share / top
            yield Box(x, TOP + HEIGHT - height, width - 1, height, colours[name])


def _shares(values: Sequence[int]) -> list[float]:
    """Parts of all ratings that a method got; 0 where it got none."""
    total = sum(values)
    return [value / total if total else 0.0 for value in values]
