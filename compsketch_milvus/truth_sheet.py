"""Contact sheets as in the paper's figures: a row a sketch, the photos found, and what is true of each (eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from compsketch_milvus.sheet import INK, PAPER, TILE, contain
from encoders.evaluation.tables.sheets import Answer, Answered
from encoders.formats.pen import PALETTE
from encoders.images import read_image

__all__ = ["draw"]

WIDTH, HEIGHT, CAPTION, GAP = 300, 225, 30, 16  # of a cell, in pixels
QUALITY = 85


def draw(title: str, queries: Sequence[Answered], path: Path) -> None:
    """Draw a sheet to a JPEG: the sketch first, then its photos, each with the true boxes of the query's classes.

    A box has the colour of the object of its class; where a photo has none, nothing that is asked for is in it.
    """
    columns = 1 + max(len(query.answers) for query in queries)
    size = GAP + columns * (WIDTH + GAP), CAPTION + 2 * GAP + len(queries) * (HEIGHT + CAPTION + GAP)
    sheet = Image.new("RGB", size, PAPER)
    _write(sheet, (GAP, GAP), title)
    for row, query in enumerate(queries):
        top = CAPTION + 2 * GAP + row * (HEIGHT + CAPTION + GAP)
        drawn = contain(query.sketch.render(size=2 * WIDTH), WIDTH, HEIGHT)
        sheet.paste(drawn, (GAP + (WIDTH - drawn.width) // 2, top + (HEIGHT - drawn.height) // 2))
        words = ", ".join(item.label or "?" for item in query.sketch.objects)
        _write(sheet, (GAP, top + HEIGHT + 4), words)
        for place, answer in enumerate(query.answers, start=1):
            left = GAP + place * (WIDTH + GAP)
            sheet.paste(_photo(answer), (left, top))
            _write(sheet, (left, top + HEIGHT + 4), f"{place}   R = {answer.relevance:.2f}")
    sheet.save(path, quality=QUALITY)


def _photo(answer: Answer) -> Image.Image:
    tile = Image.new("RGB", (WIDTH, HEIGHT), TILE)
    photo = contain(read_image(answer.photo), WIDTH, HEIGHT)
    pen = ImageDraw.Draw(photo)
    for (x0, y0, x1, y1), index in zip(answer.boxes.tolist(), answer.objects, strict=True):
        corners = [x0 * (photo.width - 1), y0 * (photo.height - 1), x1 * (photo.width - 1), y1 * (photo.height - 1)]
        pen.rectangle(corners, outline="white", width=5)  # a light rim, or a dark box drowns in a dark photo
        pen.rectangle(corners, outline=PALETTE[index % len(PALETTE)], width=3)
    tile.paste(photo, ((WIDTH - photo.width) // 2, (HEIGHT - photo.height) // 2))
    return tile


def _write(sheet: Image.Image, at: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(sheet).text(at, text, INK, ImageFont.load_default(18))
