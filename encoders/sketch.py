"""What is drawn: a canvas with objects, each its strokes, perhaps a word for it and a box.

Coordinates are canvas pixels, x to the right and y down. The canvas and a photo share one frame, whatever their
aspects, so ``Sketch.boxes`` in [0, 1] is where the objects ought to be in a photo.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from encoders import formats
from encoders.errors import SketchError
from encoders.formats.pen import PALETTE, draw_strokes
from encoders.query import MAX_OBJECTS

MAX_POINTS = 100_000  # in a whole sketch
MAX_SIDE = 65_536  # of the canvas
MAX_LABEL = 200
MIN_EXTENT = 0.01  # of the canvas: a straight line's box is widened to this, so that it occupies something

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class SketchObject:
    """One drawn object.

    Args:
        strokes: One (2, n) array or ``[[x…], [y…]]`` a stroke, canvas pixels; kept as read-only float64 arrays.
        label: A word for it, at most 200 characters; blank means none.
        bbox: ``(x0, y0, x1, y1)`` in canvas pixels with x0 < x1 and y0 < y1; by default the ink's box.

    Raises:
        SketchError: No ink, rows of unequal length, coordinates that are not finite, too many points, a bad box.
    """

    strokes: tuple[np.ndarray, ...]
    label: str | None = None
    bbox: Box | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", _check_label(self.label))
        who = f' "{self.label}"' if self.label else ""
        try:
            strokes = _check_strokes(self.strokes)
            bbox = None if self.bbox is None else _check_bbox(self.bbox)
        except SketchError as error:
            raise SketchError(f"object{who}: {error}") from None
        object.__setattr__(self, "strokes", strokes)
        object.__setattr__(self, "bbox", bbox)

    @property
    def box(self) -> Box:
        """``bbox`` if given, else the ink's ``(x0, y0, x1, y1)``; a straight line's has no width or no height."""
        if self.bbox is not None:
            return self.bbox
        ink = np.concatenate(self.strokes, axis=1)
        (x0, y0), (x1, y1) = ink.min(axis=1).tolist(), ink.max(axis=1).tolist()
        return x0, y0, x1, y1

    def to_dict(self) -> dict[str, Any]:
        """As one member of ``objects`` in stroke JSON."""
        out: dict[str, Any] = {}
        if self.label is not None:
            out["label"] = self.label
        if self.bbox is not None:
            out["bbox"] = list(self.bbox)
        out["strokes"] = [stroke.tolist() for stroke in self.strokes]
        return out

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SketchObject):
            return NotImplemented
        return ((self.label, self.bbox, len(self.strokes)) == (other.label, other.bbox, len(other.strokes))) and all(
            np.array_equal(a, b) for a, b in zip(self.strokes, other.strokes, strict=True)
        )

    def __hash__(self) -> int:
        return hash((self.label, self.bbox, *((stroke + 0.0).tobytes() for stroke in self.strokes)))


@dataclass(frozen=True)
class Sketch:
    """A canvas and 1 to ``MAX_OBJECTS`` objects, which may overlap and may partly leave it.

    Args:
        width: Canvas width in pixels, 1 to ``MAX_SIDE``.
        height: Canvas height likewise.
        objects: The objects; any iterable of ``SketchObject``.

    Raises:
        SketchError: No object, too many objects or points, an object outside the canvas, an impossible canvas.
    """

    width: int
    height: int
    objects: tuple[SketchObject, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _check_side("width", self.width))
        object.__setattr__(self, "height", _check_side("height", self.height))
        objects = tuple(self.objects)
        if not objects:
            raise SketchError("the sketch is empty: it has no objects; draw at least one")
        if len(objects) > MAX_OBJECTS:
            raise SketchError(f"the sketch has {len(objects)} objects; keep to {MAX_OBJECTS} or fewer")
        for index, item in enumerate(objects):
            if not isinstance(item, SketchObject):
                raise SketchError(f"object {index}: expected a SketchObject, found {type(item).__name__}")
            self._check_inside(index, item)
        points = sum(stroke.shape[1] for item in objects for stroke in item.strokes)
        if points > MAX_POINTS:
            raise SketchError(f"the sketch has {points} points; simplify its strokes to {MAX_POINTS} or fewer")
        object.__setattr__(self, "objects", objects)

    def _check_inside(self, index: int, item: SketchObject) -> None:
        x0, y0, x1, y1 = item.box
        if x1 < 0 or y1 < 0 or x0 > self.width or y0 > self.height:
            what = "ink" if item.bbox is None else "bbox"
            raise SketchError(
                f"{_name(index, item.label)}: its {what} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies wholly outside the "
                f"canvas of {self.width} x {self.height}; move it in, or remove it"
            )

    @property
    def boxes(self) -> np.ndarray:
        """float32 (n, 4): x0, y0, x1, y1 of each object, clipped to the canvas and scaled to [0, 1].

        A side shorter than ``MIN_EXTENT`` (a straight line) is widened to it about its middle, within the canvas.
        """
        raw = np.array([item.box for item in self.objects], dtype=np.float64)  # (n, 4)
        scaled = np.clip(raw / [self.width, self.height, self.width, self.height], 0.0, 1.0)
        low, high = scaled[:, :2], scaled[:, 2:]
        thin = high - low < MIN_EXTENT
        start = np.clip((low + high) / 2 - MIN_EXTENT / 2, 0.0, 1.0 - MIN_EXTENT)
        low, high = np.where(thin, start, low), np.where(thin, start + MIN_EXTENT, high)
        return np.concatenate([low, high], axis=1).astype(np.float32)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sketch:
        """Build from ``{"width", "height", "objects": [{"label"?, "bbox"?, "strokes"}]}``, as in stroke JSON.

        Raises:
            SketchError: A key is missing or unknown, or a value does not fit; the object is named by its index.
        """
        _check_keys("the sketch", data, required=("width", "height", "objects"), optional=())
        if not isinstance(data["objects"], (list, tuple)):
            raise SketchError(f'"objects" has to be a list, found {type(data["objects"]).__name__}')
        objects = []
        if len(data["objects"]) > MAX_OBJECTS:
            raise SketchError(f"the sketch has {len(data['objects'])} objects; keep to {MAX_OBJECTS} or fewer")
        for index, item in enumerate(data["objects"]):
            _check_keys(f"object {index}", item, required=("strokes",), optional=("label", "bbox"))
            try:
                objects.append(SketchObject(item["strokes"], item.get("label"), item.get("bbox")))
            except SketchError as error:
                text = str(error).removeprefix("object")
                raise SketchError(f"object {index}{text}") from None
        return cls(data["width"], data["height"], tuple(objects))

    def to_dict(self) -> dict[str, Any]:
        """The inverse of ``from_dict``: plain numbers, strings and lists."""
        return {"width": self.width, "height": self.height, "objects": [item.to_dict() for item in self.objects]}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Sketch:
        """Read a file: stroke JSON, SVG, PNG or ``.npz`` masks, told apart by content, not by suffix.

        Raises:
            SketchError: The file is missing, no file, too large, of no known format, or holds no valid sketch.
        """
        return cls.from_bytes(formats.read_file(Path(path)), name=str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "sketch") -> Sketch:
        """Read a file's content; ``name`` is what error messages call it.

        Raises:
            SketchError: As ``open``.
        """
        try:
            return cls.from_dict(formats.parse(data))
        except SketchError as error:
            raise SketchError(f"{name}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write by suffix: ``.json`` keeps everything, ``.svg`` rounds to 1/1000 pixel, ``.png`` keeps the looks.

        A PNG has one colour an object, so where objects cross the later hides the earlier. An old file is only
        replaced by a whole new one.

        Raises:
            SketchError: An unknown suffix, a place that cannot be written, a sketch that a PNG cannot hold.
        """
        path = Path(path)
        try:
            data = formats.compose(self.to_dict(), path.suffix)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".sketch-", delete=False) as file:
                try:
                    file.write(data)
                    file.close()
                    os.chmod(file.name, 0o644)
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            raise SketchError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
        except SketchError as error:
            raise SketchError(f"{path}: {error}") from None

    def render(self, size: int | tuple[int, int] | None = None, background: Image.Image | None = None) -> Image.Image:
        """Draw the sketch for people: each object in its colour, with its box (clipped to the canvas) and label.

        Args:
            size: The longest side, or (width, height), to which the canvas is stretched; by default the canvas'
                own size, at most 1024.
            background: A photo to draw on, stretched to the same frame; by default white.

        Returns:
            An RGB image.
        """
        longest = max(self.width, self.height)
        if size is None:
            size = min(longest, 1024)
        if isinstance(size, int):
            factor = size / longest
            size = max(1, round(self.width * factor)), max(1, round(self.height * factor))
        if background is None:
            image = Image.new("RGB", size, "white")
        else:
            image = background.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pen = ImageDraw.Draw(image)
        scale = np.array([[size[0] / self.width], [size[1] / self.height]])
        line = max(1, round(max(size) / 160))
        font = ImageFont.load_default(size=max(9, max(size) / 32))
        frame = np.array([*size, *size]) - 1
        for index, (item, box) in enumerate(zip(self.objects, self.boxes, strict=True)):
            colour = PALETTE[index % len(PALETTE)]
            draw_strokes(pen, [np.clip(stroke, -1e9, 1e9) * scale for stroke in item.strokes], colour, line)
            x0, y0, x1, y1 = (box * frame).tolist()
            pen.rectangle((x0, y0, x1, y1), outline=colour, width=max(1, line // 2))
            _write_label(pen, item.label or str(index), (x0, y0), size, colour, font)
        return image


def _write_label(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    size: tuple[int, int],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write white on the object's colour, just above the box's corner or, at the rim, just inside it."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), text, fill="white", font=font)


def _name(index: int, label: str | None) -> str:
    return f'object {index} "{label}"' if label else f"object {index}"


def _check_side(which: str, value: Any) -> int:
    whole = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not whole or not np.isfinite(value) or value != int(value) or not 1 <= value <= MAX_SIDE:
        raise SketchError(f"the canvas' {which} has to be a whole number of pixels, 1 to {MAX_SIDE}; found {value!r}")
    return int(value)


def _check_label(label: Any) -> str | None:
    if label is None:
        return None
    if not isinstance(label, str):
        raise SketchError(f"object: its label has to be text, found {type(label).__name__}")
    label = label.strip()
    if len(label) > MAX_LABEL:
        raise SketchError(f'object "{label[:20]}…": its label has {len(label)} characters; keep to {MAX_LABEL}')
    if any(unicodedata.category(letter) in ("Cc", "Cs") or letter in "\ufffe\uffff" for letter in label):
        raise SketchError(f"object: its label {label!r} holds control characters; remove them")
    return label or None


def _check_strokes(strokes: Iterable[Any]) -> tuple[np.ndarray, ...]:
    if isinstance(strokes, (str, bytes, Mapping)) or not isinstance(strokes, Iterable):
        raise SketchError(f"its strokes have to be a list, found {type(strokes).__name__}")
    checked = []
    for number, stroke in enumerate(strokes):
        try:
            points = np.array(stroke, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise SketchError(f"stroke {number} is no [[x…], [y…]] of numbers in two rows of one length") from None
        if points.shape == (2, 0) or points.shape == (0,):
            continue  # a stroke without points is no ink; the object may have other strokes
        if points.ndim != 2 or points.shape[0] != 2:
            raise SketchError(f"stroke {number} has to be [[x…], [y…]], shape (2, n); found shape {points.shape}")
        if not np.isfinite(points).all():
            row, column = np.argwhere(~np.isfinite(points))[0].tolist()
            raise SketchError(
                f"stroke {number} has {'xy'[row]} = {points[row, column]} at point {column}; "
                "coordinates have to be finite numbers"
            )
        points.setflags(write=False)
        checked.append(points)
    total = sum(points.shape[1] for points in checked)
    if total == 0:
        raise SketchError("it has no ink; draw it, or remove it")
    if total > MAX_POINTS:
        raise SketchError(f"it has {total} points; simplify its strokes: a sketch may have {MAX_POINTS}")
    return tuple(checked)


def _check_bbox(bbox: Any) -> Box:
    try:
        values = [float(value) for value in bbox]
    except (TypeError, ValueError, OverflowError):
        values = []
    if len(values) != 4 or not np.isfinite(values).all():
        raise SketchError(f"its bbox has to be four finite numbers x0, y0, x1, y1; found {bbox!r:.80}")
    x0, y0, x1, y1 = values
    if not (x0 < x1 and y0 < y1):
        raise SketchError(f"its bbox {values} needs x0 < x1 and y0 < y1; order the corners, or leave it out")
    return x0, y0, x1, y1


def _check_keys(what: str, data: Any, *, required: Sequence[str], optional: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise SketchError(f"{what} has to be an object with {', '.join(required)}; found {type(data).__name__}")
    known = (*required, *optional)
    unknown = [key for key in data if key not in known]
    if unknown:
        raise SketchError(f"{what}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    missing = [key for key in required if key not in data]
    if missing:
        raise SketchError(f'{what}: the key "{missing[0]}" is missing')
