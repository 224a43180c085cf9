"""What is drawn: a canvas with objects, each its strokes, a word for it, or both, or a photo; a box and a weight.

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
from PIL import Image

from encoders import cutout, formats
from encoders.errors import SketchError
from encoders.query import MAX_OBJECTS
from encoders.rendering import render

MAX_POINTS = 100_000  # in a whole sketch
MAX_SIDE = 65_536  # of the canvas
MAX_LABEL = 200
MAX_WEIGHT = 4.0
MIN_EXTENT = 0.01  # of the canvas: a straight line's box is widened to this, so that it occupies something

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class SketchObject:
    """One object: drawn, named by a word, or both, or cut out of a photo; wanted where its box is, or not wanted there.

    Args:
        strokes: One (2, n) array or ``[[x…], [y…]]`` a stroke, canvas pixels; kept as read-only float64 arrays. None
            for a word over a box, which needs both ``label`` and ``bbox``.
        label: A word for it, at most 200 characters; blank means none.
        bbox: ``(x0, y0, x1, y1)`` in canvas pixels with x0 < x1 and y0 < y1; by default the ink's box.
        weight: How much it counts, -4 to 4 but not 0: 1 as drawn, 2 twice as much, below 0 not wanted.
        photo: In place of strokes, the cut-out of a photo: the bytes of a JPEG, PNG or WebP, at most 1 MB, or their
            base64; it needs ``bbox``.

    Raises:
        SketchError: Neither ink nor a word with a box nor a photo with one, a photo beside ink, rows of unequal length,
            coordinates that are not finite, too many points, a bad box or weight.
    """

    strokes: tuple[np.ndarray, ...] = ()
    label: str | None = None
    bbox: Box | None = None
    weight: float = 1.0
    photo: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", _check_label(self.label))
        try:
            strokes = _check_strokes(self.strokes)
            bbox = None if self.bbox is None else _check_bbox(self.bbox)
            weight = _check_weight(self.weight)
            photo = cutout.check(self.photo)
            if photo is not None and (strokes or bbox is None):
                raise SketchError(
                    "it has both strokes and a photo; keep one of them" if strokes else "its photo has no bbox; add it"
                )
            if not strokes and photo is None and self.label is None:
                raise SketchError("it has no ink; draw it, give it a label and a bbox, or remove it")
            if not strokes and photo is None and bbox is None:
                raise SketchError("it has no ink, and its word no place; draw it, or give it a bbox")
        except SketchError as error:
            who = f' "{self.label}"' if self.label else ""
            raise SketchError(f"object{who}: {error}") from None
        object.__setattr__(self, "strokes", strokes)
        object.__setattr__(self, "bbox", bbox)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "photo", photo)

    @property
    def box(self) -> Box:
        """``bbox`` if given, else the ink's ``(x0, y0, x1, y1)``; a straight line's has no width or no height."""
        if self.bbox is not None:
            return self.bbox
        ink = np.concatenate(self.strokes, axis=1)
        (x0, y0), (x1, y1) = ink.min(axis=1).tolist(), ink.max(axis=1).tolist()
        return x0, y0, x1, y1

    def to_dict(self) -> dict[str, Any]:
        """As one member of ``objects`` in stroke JSON; what is not there, or as it is by default, is left out."""
        out: dict[str, Any] = {}
        if self.label is not None:
            out["label"] = self.label
        if self.bbox is not None:
            out["bbox"] = list(self.bbox)
        if self.weight != 1:
            out["weight"] = self.weight
        if self.strokes:
            out["strokes"] = [stroke.tolist() for stroke in self.strokes]
        if self.photo is not None:
            out["photo"] = cutout.text(self.photo)
        return out

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SketchObject):
            return NotImplemented
        own = self.label, self.bbox, self.weight, self.photo, len(self.strokes)
        return own == (other.label, other.bbox, other.weight, other.photo, len(other.strokes)) and all(
            np.array_equal(a, b) for a, b in zip(self.strokes, other.strokes, strict=True)
        )

    def __hash__(self) -> int:
        return hash(
            (self.label, self.bbox, self.weight, self.photo, *((stroke + 0.0).tobytes() for stroke in self.strokes))
        )


@dataclass(frozen=True)
class Sketch:
    """A canvas and 1 to ``MAX_OBJECTS`` objects, at least one of them wanted; they may overlap and partly leave it.

    Args:
        width: Canvas width in pixels, 1 to ``MAX_SIDE``.
        height: Canvas height likewise.
        objects: The objects; any iterable of ``SketchObject``.

    Raises:
        SketchError: No object, none that is wanted, too many objects or points, an object outside the canvas, an
            impossible canvas.
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
        if all(item.weight < 0 for item in objects):
            raise SketchError(
                "no object is wanted, and what not to find is no query: give at least one a weight above 0"
            )
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

    def without_strokes(self) -> Sketch:
        """The same layout asked with words alone: each object's word over its box.

        Raises:
            SketchError: An object has no label.
        """
        for index, item in enumerate(self.objects):
            if item.label is None:
                raise SketchError(f"object {index}: it has no label to stand for its strokes; give it one")
        places = self.boxes.astype(np.float64) * [self.width, self.height, self.width, self.height]  # (n, 4)
        words = [
            SketchObject((), item.label, tuple(place), item.weight)
            for item, place in zip(self.objects, places.tolist(), strict=True)
        ]
        return Sketch(self.width, self.height, tuple(words))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sketch:
        """Build from ``{"width", "height", "objects": [{"label"?, "bbox"?, "weight"?, "strokes"?, "photo"?}]}``.

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
            _check_keys(f"object {index}", item, required=(), optional=("strokes", "label", "bbox", "weight", "photo"))
            try:
                objects.append(SketchObject(**item))
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
        """Draw the sketch for people; arguments as for `rendering.render`."""
        return render(self, size, background)


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


def _check_weight(weight: Any) -> float:
    number = isinstance(weight, (int, float, np.integer, np.floating)) and not isinstance(weight, bool)
    if not number or not 0 < abs(weight) <= MAX_WEIGHT:  # false for NaN, too
        raise SketchError(
            f"its weight has to be a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}, but not 0 (1 as drawn, 2 twice as "
            f"much, -1 not wanted); found {weight!r:.80}"
        )
    return float(weight)


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
