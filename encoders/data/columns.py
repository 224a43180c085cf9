"""Manifests as whole columns, which is how evaluation and training hold them: arrays, not a row at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from encoders.data.manifest import batches
from encoders.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class PhotoColumns(NamedTuple):
    """p photos with n boxes between them.

    Attributes:
        files: (p,) names below the folder of photos.
        sizes: (p, 2) int64 width and height in pixels.
        splits: (p,) ``train``, ``validation``, ``test`` or empty.
        labels: (p,) the word of a photo of one object without a box, else None.
        boxes: (n, 4) float64 x0, y0, x1, y1 as fractions of the photo.
        photos: (n,) int64 index into ``files``, ascending.
        words: (n,) what draws each box.
    """

    files: list[str]
    sizes: np.ndarray
    splits: list[str]
    labels: list[str | None]
    boxes: np.ndarray
    photos: np.ndarray
    words: list[str]


class SketchColumns(NamedTuple):
    """Sketches as columns: their words, strokes (float32 (2, n) each) and key_ids."""

    words: list[str]
    drawings: list[tuple[np.ndarray, ...]]
    key_ids: list[str]


def read_photo_columns(path: str | os.PathLike[str]) -> PhotoColumns:
    """All photos of a manifest.

    Raises:
        DataError: It is no manifest of photos, a size is not positive or a box is not inside its photo.
    """
    found = PhotoColumns([], np.zeros((0, 2), np.int64), [], [], np.zeros((0, 4)), np.zeros(0, np.int64), [])
    sizes, boxes, photos = [found.sizes], [found.boxes], [found.photos]
    for batch in batches(path, "photos"):
        listed, first = batch["boxes"], len(found.files)
        inner = listed.flatten()
        photos.append(first + np.repeat(np.arange(len(batch)), np.diff(_offsets(listed))))
        boxes.append(np.stack([_numbers(inner.field(side)) for side in ("x0", "y0", "x1", "y1")], axis=1))
        sizes.append(np.stack([_numbers(batch[side]) for side in ("width", "height")], axis=1).astype(np.int64))
        found.words.extend(_interned(inner.field("class")))
        found.files.extend(batch["file"].to_pylist())
        found.splits.extend(_interned(batch["split"]))
        found.labels.extend(batch["label"].to_pylist())
    whole = found._replace(sizes=np.concatenate(sizes), boxes=np.concatenate(boxes), photos=np.concatenate(photos))
    corners = whole.boxes
    good = (corners >= 0).all(axis=1) & (corners <= 1).all(axis=1) & (corners[:, :2] < corners[:, 2:]).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{path}: a box of {whole.files[whole.photos[row]]} is {corners[row].tolist()}: not inside it")
    if not (whole.sizes > 0).all():
        photo = whole.files[int(np.argmin((whole.sizes > 0).all(axis=1)))]
        raise DataError(f"{path}: {photo} has no width and height; build the manifest again, with --images")
    return whole


def read_sketch_columns(path: str | os.PathLike[str]) -> SketchColumns:
    """All sketches of a manifest.

    Raises:
        DataError: It is no manifest of sketches, or a drawing is not strokes of as many finite x as y.
    """
    found = SketchColumns([], [], [])
    for batch in batches(path, "sketches"):
        drawings = batch["drawing"]
        strokes = drawings.flatten()
        rows = strokes.flatten()
        points = _numbers(rows.flatten()).astype(np.float32)
        ends = [_offsets(level) for level in (drawings, strokes, rows)]
        for place, key_id in enumerate(batch["key_id"].to_pylist()):
            drawing = tuple(
                _stroke(points, ends[2], ends[1][stroke], ends[1][stroke + 1])
                for stroke in range(ends[0][place], ends[0][place + 1])
            )
            if not drawing or any(stroke.size == 0 or not np.isfinite(stroke).all() for stroke in drawing):
                raise DataError(f"{path}: sketch {key_id}: expected strokes [[x, ...], [y, ...]] of finite numbers")
            found.drawings.append(drawing)
        found.words.extend(_interned(batch["word"]))
        found.key_ids.extend(batch["key_id"].to_pylist())
    return found


def _stroke(points: np.ndarray, ends: np.ndarray, row: int, last: int) -> np.ndarray:
    """Rows ``row`` and ``row + 1`` of the points as (2, n); empty if there are not just two, of one length."""
    if last - row != 2 or ends[row + 1] - ends[row] != ends[row + 2] - ends[row + 1]:
        return points[:0]
    return points[ends[row] : ends[row + 2]].reshape(2, -1)


def _offsets(listed: pa.ListArray) -> np.ndarray:
    """(rows + 1,) where each list begins in the flattened array, from 0 also where the batch is a slice."""
    offsets: np.ndarray = listed.offsets.to_numpy()
    return offsets - offsets[0]


def _numbers(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _interned(column: Any) -> list[str]:
    """The column's strings, each different one once in memory: there are millions of boxes and few words."""
    encoded = column.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    return [words[index] for index in encoded.indices.to_pylist()]
