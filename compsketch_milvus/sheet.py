"""The contact sheet: a sketch beside its best photos, with the query's boxes laid over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from encoders.cutout import LIMITS
from encoders.errors import CompsketchError, SketchError
from encoders.explain import AGAINST, Explanation
from encoders.formats.pen import PALETTE, Colour, draw_box
from encoders.images import load_photo, read_image
from encoders.raster import raster
from encoders.rendering import caption
from encoders.sketch import Sketch

PAPER, TILE, INK, FAINT, RULE = "#f6f5f2", "#e6e4df", "#1f2328", "#6b7077", "#d3d0c9"
SCALE = 2  # everything is laid out in CSS-like units and drawn at twice that, so that type stays sharp
MARGIN, GAP = 24, 14
CELL_WIDTH, CELL_HEIGHT, CAPTION = 200, 150, 40
SKETCH_SIDE, RASTER = 300, 128
LINE, LEGEND = 18, 96  # heights: of a line of a caption, of the legend to heat maps


class Shown(Protocol):
    """What of a hit the sheet shows: `compsketch_milvus.search.Hit` is one."""

    @property
    def source(self) -> str:
        """Where the photo lies."""

    @property
    def score(self) -> float:
        """Cosine, in [-1, 1]."""

    @property
    def confidence(self) -> float | None:
        """Probability that the photo is relevant, if known."""


def contact_sheet(
    sketch: Sketch,
    hits: Sequence[Shown],
    *,
    title: str = "",
    columns: int = 4,
    explanations: Sequence[Explanation] = (),
) -> Image.Image:
    """Draw the sketch on the left and the hits, best first, in a grid on its right.

    A photo that can no longer be read gets a tile that says so: a sheet is drawn from what the collection
    remembers, and files move.

    Args:
        sketch: The query; each object keeps the colour that `Sketch.render` gives it.
        hits: What to show, best first; an empty list gives a sheet that says "no hits".
        title: A line over the sketch, such as the sketch's file name.
        columns: Photos a row, >= 1.
        explanations: One a hit: each photo is tinted by what speaks for it, all by one measure. By default none is.

    Returns:
        An RGB picture, as high as its rows need.
    """
    columns = max(1, min(columns, len(hits) or 1))
    rows = max(1, -(-len(hits) // columns))
    tall = CELL_HEIGHT + CAPTION + GAP + (LINE if explanations else 0)
    left_height = 30 + _canvas_height(sketch) + (LEGEND if explanations else 0)
    left = MARGIN + SKETCH_SIDE + 2 * GAP
    width = left + columns * CELL_WIDTH + (columns - 1) * GAP + MARGIN
    height = 2 * MARGIN + max(left_height, rows * tall - GAP)
    sheet = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    _draw_query(sheet, sketch, title, _canvas_height(sketch))
    loudest = max((one.loudest for one in explanations), default=0.0)
    for index, hit in enumerate(hits):
        row, column = divmod(index, columns)
        x, y = left + column * (CELL_WIDTH + GAP), MARGIN + row * tall
        explanation = explanations[index] if explanations else None
        _draw_hit(sheet, sketch, index + 1, hit, (x, y), explanation, loudest)
    if explanations:
        _draw_legend(sheet, MARGIN + 30 + _canvas_height(sketch) + GAP)
    if not hits:
        _text(sheet, (left, MARGIN + CELL_HEIGHT // 2), "no hits", 16, FAINT)
    return sheet


def network_view(sketch: Sketch, *, title: str = "", size: int = 128, line_width: float = 3.0) -> Image.Image:
    """Draw what the networks see: the canvas with its objects and boxes, and each object as its raster.

    f_s gets the rasters; the query tensor holds what f_s makes of each at the place of its box.

    Args:
        sketch: What to show.
        title: A line over the sketch, such as its file name.
        size: Side of the raster in pixels, as the bundle says.
        line_width: Width of its strokes in pixels, likewise.

    Returns:
        An RGB picture.
    """
    columns = max(1, min(4, len(sketch.objects)))
    rows = -(-len(sketch.objects) // columns)
    canvas_height = _canvas_height(sketch)
    left, top = MARGIN + SKETCH_SIDE + 2 * GAP, MARGIN + 30
    width = left + columns * (RASTER + GAP) - GAP + MARGIN
    height = top + max(canvas_height, rows * (RASTER + 26 + GAP) - GAP) + MARGIN
    view = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    _draw_query(view, sketch, title, canvas_height)
    for index, item in enumerate(sketch.objects):
        row, column = divmod(index, columns)
        x, y = left + column * (RASTER + GAP), top + row * (RASTER + 26 + GAP)
        if item.strokes:
            drawn = Image.fromarray(raster(item.strokes, size, line_width)).resize(
                (RASTER * SCALE, RASTER * SCALE), Image.Resampling.NEAREST
            )
            view.paste(drawn.convert("RGB"), (x * SCALE, y * SCALE))
        elif item.photo is not None:
            cut = Image.fromarray(load_photo(item.photo, RASTER * SCALE, limits=LIMITS).pixels)
            view.paste(cut, (x * SCALE, y * SCALE))
        else:
            _text(view, (x + RASTER / 2, y + RASTER / 2), "a word", 14, FAINT, anchor="mm")
        edge = [x * SCALE, y * SCALE, (x + RASTER) * SCALE - 1, (y + RASTER) * SCALE - 1]
        ImageDraw.Draw(view).rectangle(edge, outline=PALETTE[index % len(PALETTE)], width=2 * SCALE)
        _text(view, (x, y + RASTER + 6), _elide(caption(item, index), 14, RASTER), 14, INK)
    return view


def check_place(path: Path) -> None:
    """Refuse what a picture cannot be written to, before there is work to lose.

    Raises:
        SketchError: Another suffix than `save` knows, no such folder, or a folder in the place of the file.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise SketchError(f"{path}: a picture is written as .png, .jpg or .jpeg; give one of these")
    if not path.parent.is_dir() or path.is_dir():
        what = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise SketchError(f"{path}: cannot be written ({what}); choose another place")


def save(picture: Image.Image, path: Path, *, quality: int = 88) -> None:
    """Write a picture as PNG or JPEG, by its suffix.

    Raises:
        SketchError: Another suffix, or a place that cannot be written.
    """
    check_place(path)
    try:
        picture.save(path, quality=quality)
    except OSError as error:
        raise SketchError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


def contain(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to fit, aspect kept, but never to no pixels: `ImageOps.contain` fails on a photo of 5000 x 1."""
    factor = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _canvas_height(sketch: Sketch) -> int:
    """Of a sketch in the left column, in layout units; a canvas of 65536 x 1 gets one, too."""
    return max(1, round(SKETCH_SIDE * min(1.5, sketch.height / sketch.width)))


def _draw_query(sheet: Image.Image, sketch: Sketch, title: str, height: int) -> None:
    """The sketch as drawn, with its boxes and words, under a title."""
    _text(sheet, (MARGIN, MARGIN - 3), _elide(title or "query", 17, SKETCH_SIDE), 17, INK)
    top = MARGIN + 30
    drawn = sketch.render(size=max(SKETCH_SIDE, height) * SCALE)
    drawn = contain(drawn, SKETCH_SIDE * SCALE, height * SCALE)
    x = MARGIN * SCALE + (SKETCH_SIDE * SCALE - drawn.width) // 2
    sheet.paste(drawn, (x, top * SCALE))
    edge = (x, top * SCALE, x + drawn.width - 1, top * SCALE + drawn.height - 1)
    ImageDraw.Draw(sheet).rectangle(edge, outline=RULE, width=SCALE)


def _draw_hit(
    sheet: Image.Image,
    sketch: Sketch,
    rank: int,
    hit: Shown,
    at: tuple[int, int],
    explanation: Explanation | None,
    loudest: float,
) -> None:
    """One photo with the query's boxes over it, and its rank, score and name below; tinted where it is explained."""
    x, y = at
    tile = Image.new("RGB", (CELL_WIDTH * SCALE, CELL_HEIGHT * SCALE), TILE)
    try:
        photo = read_image(Path(hit.source), draft=max(tile.size))
    except (CompsketchError, OSError):
        _text(tile, (CELL_WIDTH / 2, CELL_HEIGHT / 2), "this photo can no longer\nbe read", 13, FAINT, anchor="mm")
    else:
        photo = contain(photo, *tile.size)
        photo = photo if explanation is None else explanation.overlay(photo, loudest)
        _overlay(photo, sketch)
        tile.paste(photo, ((tile.width - photo.width) // 2, (tile.height - photo.height) // 2))
    sheet.paste(tile, (x * SCALE, y * SCALE))
    line = y + CELL_HEIGHT + 4
    score = f"{hit.score:.3f}" if hit.confidence is None else f"{hit.confidence:.0%}   {hit.score:.3f}"
    _text(sheet, (x, line), f"{rank}", 14, INK)
    _text(sheet, (x + CELL_WIDTH, line + 1), score, 13, FAINT, anchor="ra")
    _text(sheet, (x, line + LINE), _elide(Path(hit.source).name or hit.source, 12, CELL_WIDTH), 12, FAINT)
    if explanation is not None:
        _draw_totals(sheet, explanation, x, line + 2 * LINE)


def _draw_totals(sheet: Image.Image, explanation: Explanation, x: int, y: int) -> None:
    """What each object adds to the score, in its colour, as many as there is room for."""
    end = x + CELL_WIDTH
    for index, total in enumerate(explanation.totals.tolist()):
        text = f"{total:+.2f}"
        wide = int(_font(13).getlength(text) / SCALE) + 10
        if x + wide > end:
            _text(sheet, (x, y), "…", 13, FAINT)
            return
        _text(sheet, (x, y), text, 13, PALETTE[index % len(PALETTE)])
        x += wide


def _draw_legend(sheet: Image.Image, top: int) -> None:
    """What the tints and the numbers mean."""
    lines = [
        (PALETTE[0], "in an object's colour: cells that speak for the photo"),
        (AGAINST, "dark: cells that speak against it"),
        (None, "+.00: what each object adds to the score;"),
        (None, "the rest of it comes from the empty canvas"),
    ]
    for index, (colour, text) in enumerate(lines):
        y = top + index * LINE
        if colour is not None:
            box = [MARGIN * SCALE, (y + 3) * SCALE, (MARGIN + 12) * SCALE, (y + 15) * SCALE]
            ImageDraw.Draw(sheet).rectangle(box, fill=colour)
        _text(sheet, (MARGIN + 20, y), text, 12, FAINT)


def _overlay(photo: Image.Image, sketch: Sketch) -> None:
    """Lay the query's boxes over a photo: canvas and photo share one frame, whatever their aspects."""
    pen = ImageDraw.Draw(photo)
    for index, (x0, y0, x1, y1) in enumerate(sketch.boxes.clip(0, 1).tolist()):
        box = [x0 * (photo.width - 1), y0 * (photo.height - 1), x1 * (photo.width - 1), y1 * (photo.height - 1)]
        pen.rectangle(box, outline="white", width=4 * SCALE // 2)  # a light rim, or a dark box drowns in a dark photo
        inset = SCALE // 2
        x0, y0 = box[0] + inset, box[1] + inset
        inner = (x0, y0, max(box[2] - inset, x0), max(box[3] - inset, y0))
        wanted = sketch.objects[index].weight > 0
        draw_box(pen, inner, PALETTE[index % len(PALETTE)], 3 * SCALE // 2, wanted=wanted)


def _text(
    image: Image.Image, at: tuple[float, float], text: str, size: int, colour: str | Colour, *, anchor: str = "la"
) -> None:
    """Write text at a place in layout units."""
    position = (at[0] * SCALE, at[1] * SCALE)
    # Pillow takes no top or bottom anchor for text of several lines, but takes the middle.
    ImageDraw.Draw(image).text(position, text, colour, _font(size), anchor=anchor, align="center", spacing=4 * SCALE)


def _elide(text: str, size: int, width: int) -> str:
    """Shorten text in the middle until it is at most ``width`` layout units wide: a file name's end tells most."""
    font, kept = _font(size), text[-400:]
    while font.getlength(kept) > width * SCALE and len(kept) > 3:
        half = (len(kept) - 2) // 2
        kept = kept[:half] + "…" + kept[-half:]
    return kept


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)
