"""The files that evaluation and training read: annotated photos, labelled photos, sketches, and the class map.

* ``annotations.json``: ``{"images": [{file, width, height}], "boxes": [{image, class, bbox [x0, y0, x1, y1]}]}``,
  boxes in pixels of the photo;
* ``labels.json``: ``[{file, class, ...}]``, photos with a class and without boxes;
* sketches: Quick, Draw!'s ndjson, plain or gzipped, one ``{word, key_id, drawing}`` a line;
* ``class_map.json`` beside this file: which class is drawn by which word.

Instead of any but the last there may be a manifest that `encoders.data` has built; it is told by its content.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from encoders.data.boxes import fault
from encoders.data.columns import read_photo_columns, read_sketch_columns
from encoders.data.manifest import is_manifest
from encoders.errors import DataError

CLASS_MAP = Path(__file__).with_name("class_map.json")
_GZIP = b"\x1f\x8b"


class Word(str):
    """A class that goes by the word that draws it, as in a manifest: no class map applies to it any more.

    COCO's ``mouse`` is one of a computer and is left out; the word ``mouse`` is the animal.
    """

    __slots__ = ()


@dataclass(frozen=True)
class Annotations:
    """Photos and the boxes in them; box i is ``boxes[i]``, of class ``classes[i]``, in photo ``photos[i]``.

    Attributes:
        files: (p,) names as in the file, relative to the folder of photos.
        sizes: (p, 2) int64 width and height in pixels; 0 where unknown (only photos without boxes).
        boxes: (n, 4) float64 x0, y0, x1, y1 in pixels of the photo, inside it.
        photos: (n,) int64 index into ``files``.
        classes: (n,) names, `Word` where they are words already.
        splits: (p,) ``train``, ``validation``, ``test`` or empty; () if the file has none.
    """

    files: tuple[str, ...]
    sizes: np.ndarray
    boxes: np.ndarray
    photos: np.ndarray
    classes: tuple[str, ...]
    splits: tuple[str, ...] = ()

    @cached_property
    def normalised(self) -> np.ndarray:
        """(n, 4) float64: the boxes as fractions of their photo's width and height."""
        return self.boxes / np.tile(self.sizes[self.photos], 2)

    @cached_property
    def by_photo(self) -> list[np.ndarray]:
        """For each photo the indices of its boxes, in the file's order."""
        order = np.argsort(self.photos, kind="stable")
        ends = np.searchsorted(self.photos[order], np.arange(len(self.files) + 1))
        return [order[ends[i] : ends[i + 1]] for i in range(len(self.files))]

    def select(self, keep: np.ndarray) -> Annotations:
        """The photos where ``keep`` (p,) is True, with their boxes; the order stays."""
        keep = np.asarray(keep, bool)
        number = np.cumsum(keep) - 1  # old index -> new index
        rows = np.flatnonzero(keep[self.photos])
        return Annotations(
            tuple(compress(self.files, keep)),
            self.sizes[keep],
            self.boxes[rows],
            number[self.photos[rows]],
            tuple(self.classes[row] for row in rows),
            tuple(compress(self.splits, keep)),
        )

    @classmethod
    def join(cls, parts: Sequence[Annotations]) -> Annotations:
        """One after the other; two photos may share a name (they come from two folders)."""
        starts = np.cumsum([0, *(len(part.files) for part in parts)])
        return cls(
            tuple(file for part in parts for file in part.files),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.photos + start for part, start in zip(parts, starts[:-1], strict=True)]),
            tuple(name for part in parts for name in part.classes),
            tuple(split for part in parts for split in part.splits or ("",) * len(part.files)),
        )


@dataclass(frozen=True)
class Labels:
    """Photos with a class and no boxes: ``files[i]`` shows ``classes[i]``; ``splits`` as for `Annotations`."""

    files: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...] = ()

    def select(self, keep: np.ndarray) -> Labels:
        """The photos where ``keep`` (p,) is True, in the same order."""
        return Labels(*(tuple(compress(column, keep)) for column in (self.files, self.classes, self.splits)))

    def as_annotations(self) -> Annotations:
        """The same photos without a box: distractors, to which no query is relevant."""
        count = len(self.files)
        return Annotations(
            self.files, np.zeros((count, 2), np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), (), self.splits
        )


@dataclass(frozen=True)
class SketchSet:
    """Sketches of single objects; sketch i is ``drawings[i]``, a ``words[i]``, called ``key_ids[i]``.

    Attributes:
        words: (n,) class words.
        drawings: (n,) tuples of strokes, float32 (2, points): row 0 x, row 1 y, in the file's unit.
        key_ids: (n,) names that stay with a sketch whatever file it is in.
    """

    words: tuple[str, ...]
    drawings: tuple[tuple[np.ndarray, ...], ...]
    key_ids: tuple[str, ...]

    @cached_property
    def by_class(self) -> dict[str, np.ndarray]:
        """Word -> indices of its sketches, by key_id: the file's order must not decide what a seed draws."""
        groups: dict[str, list[int]] = {}
        for index in sorted(range(len(self.words)), key=self.key_ids.__getitem__):
            groups.setdefault(self.words[index], []).append(index)
        return {word: np.array(indices) for word, indices in sorted(groups.items())}

    @classmethod
    def join(cls, parts: Sequence[SketchSet]) -> SketchSet:
        """One after the other."""
        return cls(
            tuple(word for part in parts for word in part.words),
            tuple(drawing for part in parts for drawing in part.drawings),
            tuple(key for part in parts for key in part.key_ids),
        )

    def of(self, word: str) -> np.ndarray:
        """Indices of the sketches of ``word``.

        Raises:
            DataError: There are none.
        """
        if word not in self.by_class:
            raise DataError(
                f"no sketches of {word!r} among {len(self.by_class)} classes; add some or edit the class map"
            )
        return self.by_class[word]

    def select(self, keep: np.ndarray) -> SketchSet:
        """The sketches where ``keep`` (n,) is True, in the same order."""
        return SketchSet(
            tuple(compress(self.words, keep)),
            tuple(compress(self.drawings, keep)),
            tuple(compress(self.key_ids, keep)),
        )


@dataclass(frozen=True)
class ClassMap:
    """Which word draws which class.

    Attributes:
        words: Class name -> word of its sketches; several names may share a word and are then the same class.
        left_out: Class name -> why it is not drawn.
    """

    words: Mapping[str, str]
    left_out: Mapping[str, str]

    def word(self, name: str) -> str | None:
        """The word that draws class ``name``, None if it is left out; a name in neither list stands for itself."""
        if isinstance(name, Word):
            return name
        if name in self.left_out:
            return None
        return self.words.get(name, name)

    def own_word(self, name: str, drawn: Collection[str]) -> str | None:
        """What a class is called: the word that draws it, else its name; None if ``drawn`` has another thing by it.

        A computer mouse is called "mouse" and left out, and what is drawn under that word is an animal.
        """
        word = self.word(name)
        return str(word) if word else (None if name in drawn else name)


def read_class_map(path: str | Path = CLASS_MAP) -> ClassMap:
    """Read ``{"words": {class: word}, "left_out": {class: reason}}``.

    Raises:
        DataError: The file is missing or has another form, or a class is in both lists.
    """
    data = _read_json(path)
    parts = []
    for key in ("words", "left_out"):
        part = _get(data, key, f"{path}")
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            raise DataError(f"{path}: {key!r} is not an object of strings; expected class name -> text")
        parts.append(part)
    both = sorted(set(parts[0]) & set(parts[1]))
    if both:
        raise DataError(f"{path}: {both[0]!r} is both in 'words' and in 'left_out'; keep one")
    return ClassMap(*parts)


def read_annotations(path: str | Path) -> Annotations:
    """Read ``annotations.json``, or a manifest of photos.

    Boxes may reach past the photo by 1 % and a pixel, as rounding does, and are cut to it.

    Raises:
        DataError: The file is missing or not JSON; an entry lacks a key; a photo is listed twice; a box belongs to no
            photo listed, is inside out, not finite or lies outside its photo.
    """
    if is_manifest(path):
        return _annotations(path)
    data = _read_json(path)
    files: dict[str, int] = {}
    sizes = []
    for i, image in enumerate(_list(data, "images", path)):
        file, where = str(_get(image, "file", f"{path}: image {i}")), f"{path}: image {i}"
        if file in files:
            raise DataError(f"{where}: {file!r} is listed twice; list each photo once")
        files[file] = len(files)
        size = _numbers([_get(image, "width", where), _get(image, "height", where)], 2, f"{where} ({file})")
        if not (size >= 1).all():
            raise DataError(f"{where} ({file}): width and height are {size.tolist()}; expected pixels")
        sizes.append(size)
    boxes, photos, classes = [], [], []
    for i, box in enumerate(_list(data, "boxes", path)):
        where = f"{path}: box {i}"
        image, name = str(_get(box, "image", where)), str(_get(box, "class", where))
        if image not in files:
            raise DataError(f"{where}: its image {image!r} is not among the {len(files)}; add it or drop the box")
        corners = _numbers(_get(box, "bbox", where), 4, f"{where} ({name} in {image})")
        boxes.append(_inside(corners, sizes[files[image]], f"{where} ({name} in {image})"))
        photos.append(files[image])
        classes.append(name)
    return Annotations(
        tuple(files),
        np.array(sizes).reshape(-1, 2).astype(np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(photos, np.int64),
        tuple(classes),
    )


def read_labels(path: str | Path) -> Labels:
    """Read ``labels.json``, or the photos with a label of a manifest.

    Raises:
        DataError: The file is missing or not a JSON list, or an entry lacks ``file`` or ``class``.
    """
    if is_manifest(path):
        found = read_photo_columns(path)
        rows = [row for row, label in enumerate(found.labels) if label]
        labels = tuple(Word(found.labels[row]) for row in rows)
        return Labels(tuple(found.files[row] for row in rows), labels, tuple(found.splits[row] for row in rows))
    entries = _list(_read_json(path), None, path)
    wheres = [f"{path}: entry {i}" for i in range(len(entries))]
    return Labels(
        tuple(str(_get(entry, "file", where)) for entry, where in zip(entries, wheres, strict=True)),
        tuple(str(_get(entry, "class", where)) for entry, where in zip(entries, wheres, strict=True)),
    )


def read_photos(path: str | Path) -> Annotations:
    """Read either format by its content: an object is annotations, a list is labelled photos without boxes."""
    if is_manifest(path):
        return _annotations(path)
    return read_labels(path).as_annotations() if isinstance(_read_json(path), list) else read_annotations(path)


def read_sketches(path: str | Path) -> SketchSet:
    """Read Quick, Draw! sketches, plain or gzipped, or a manifest; a stroke's third row (raw files' time) is dropped.

    Raises:
        DataError: The file is missing, damaged or empty, or a line is not JSON, lacks a key or holds no ink.
    """
    if is_manifest(path):
        found = read_sketch_columns(path)
        return SketchSet(tuple(found.words), tuple(found.drawings), tuple(found.key_ids))
    words, drawings, key_ids = [], [], []
    for number, line in _lines(path):
        where = f"{path}: line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:  # no JSON, or no UTF-8
            raise DataError(f"{where} is not JSON ({error}); expected one sketch a line") from error
        words.append(str(_get(entry, "word", where)))
        key_ids.append(str(_get(entry, "key_id", where)))
        drawings.append(strokes_of(_get(entry, "drawing", where), f"{where} ({words[-1]})"))
    if not words:
        raise DataError(f"{path} holds no sketches; expected one JSON object a line")
    return SketchSet(tuple(words), tuple(drawings), tuple(key_ids))


def strokes_of(drawing: Any, where: str) -> tuple[np.ndarray, ...]:
    """A Quick, Draw! drawing as float32 (2, n) strokes.

    Raises:
        DataError: A stroke is not as many finite x as y; ``where`` says which.
    """
    try:
        strokes = tuple(np.array(stroke[:2], dtype=np.float32) for stroke in drawing)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{where}: a stroke is not [[x, ...], [y, ...]] of numbers ({error})") from error
    if not strokes or any(
        s.ndim != 2 or s.shape[0] != 2 or s.shape[1] == 0 or not np.isfinite(s).all() for s in strokes
    ):
        raise DataError(f"{where}: expected strokes [[x, ...], [y, ...]] with as many finite x as y, at least one")
    return strokes


def _annotations(path: str | Path) -> Annotations:
    """A manifest of photos, its boxes in pixels."""
    found = read_photo_columns(path)
    named = {word: Word(word) for word in set(found.words)}
    return Annotations(
        tuple(found.files),
        found.sizes,
        found.boxes * np.tile(found.sizes[found.photos], 2),
        found.photos,
        tuple(named[word] for word in found.words),
        tuple(found.splits),
    )


def _inside(box: np.ndarray, size: np.ndarray, where: str) -> np.ndarray:
    wrong = fault(box.tolist(), size.tolist(), (1, 1))
    if wrong:
        raise DataError(f"{where}: bbox {box.tolist()} is {wrong} of {size.tolist()}; expected x0, y0, x1, y1")
    return np.clip(box, 0, np.tile(size, 2))


def _numbers(values: Any, count: int, where: str) -> np.ndarray:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {values!r} is not {count} numbers") from error
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise DataError(f"{where}: {values!r} is not {count} finite numbers")
    return numbers


def _get(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise DataError(f"{where} is not a JSON object; expected one with {key!r}")
    if key not in entry:
        raise DataError(f"{where} has no {key!r}; it has {', '.join(map(repr, entry)) or 'nothing'}")
    return entry[key]


def _list(data: Any, key: str | None, path: str | Path) -> list[Any]:
    entries = data if key is None else _get(data, key, str(path))
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list" + (f" under {key!r}" if key else ""))
    return entries


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(_read(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip():
            yield number, line


def _read(path: str | Path) -> bytes:
    """The file's bytes, unpacked if they are gzip whatever its name says."""
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"no file {path}; give the path of an existing file") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:  # a damaged or cut gzip raises any of these
        raise DataError(f"{path} cannot be read: {error}") from error
