"""What training reads: annotated photos, labelled photos and sketches under one folder, held-out parts left out.

The folder is walked one level deep: a subfolder with ``annotations.json`` and ``images/`` holds photos with boxes, one
with ``labels.json`` and ``images/`` photos with a class each, ``backgrounds/`` holds photos of nothing in particular;
sketches are ``*.ndjson`` or ``*.ndjson.gz`` files. Manifests (``*.parquet`` in the folder or one level down, as
`encoders.data` builds them) stand beside these or in their place: of photos, whose own split then says what is held
out, and of sketches.

A photo that several files list is read once, as the first of them has it: ``annotations.json`` before manifests, and
manifests by their path. So a manifest may lie beside the sets that ``compsketch data sets`` made of it. Where two files
put a photo in different splits, nothing says which part it is in, and the folder is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from encoders.data.manifest import Facts, facts_if_manifest
from encoders.errors import DataError
from encoders.evaluation import data as files
from encoders.evaluation.compositions import held_out_photos, split_sketches, validation_photos
from encoders.images import read_image

FEW = 5  # photos a class, on average; a set with fewer teaches no class, and its photos count as unlabelled


@dataclass(frozen=True)
class TrainingSet:
    """The training part of a data folder.

    Attributes:
        photos: Paths of the photos with boxes.
        boxes: One (n, 4) float32 array a photo, corners in [0, 1].
        words: One list of n class words a photo, a name without sketches standing for itself.
        labelled: Paths of photos of one object; ``labels`` their words.
        labels: See ``labelled``.
        unlabelled: Paths of further photos, for the projection.
        backgrounds: Paths of photos of nothing in particular, to paste objects on.
        sketches: Single-object sketches.
        vocabulary: All class words, sorted; sketches and boxes refer to it.
    """

    photos: list[Path]
    boxes: list[np.ndarray]
    words: list[list[str]]
    labelled: list[Path]
    labels: list[str]
    unlabelled: list[Path]
    backgrounds: list[Path]
    sketches: files.SketchSet
    vocabulary: list[str]

    @cached_property
    def number(self) -> dict[str, int]:
        """Each word's place in the vocabulary, by which features, boxes and logits name its class."""
        return {word: i for i, word in enumerate(self.vocabulary)}

    def sample(self, most: int) -> TrainingSet:
        """At most so many photos with boxes, labelled photos, unlabelled ones and sketches, evenly taken; 0: all."""
        photos, labelled = evenly(len(self.photos), most), evenly(len(self.labelled), most)
        drawn = np.isin(np.arange(len(self.sketches.words)), evenly(len(self.sketches.words), most))
        return replace(
            self,
            photos=[self.photos[i] for i in photos],
            boxes=[self.boxes[i] for i in photos],
            words=[self.words[i] for i in photos],
            labelled=[self.labelled[i] for i in labelled],
            labels=[self.labels[i] for i in labelled],
            unlabelled=[self.unlabelled[i] for i in evenly(len(self.unlabelled), most)],
            sketches=self.sketches.select(drawn),
        )


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below ``count``, evenly taken; 0: all."""
    return list(range(count)) if not 0 < most < count else [i * count // most for i in range(most)]


def find_files(folder: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """The files under a data folder: of photos with boxes, each with its folder of photos, and of sketches.

    A manifest of photos is listed whether they have boxes or not.

    Raises:
        DataError: There are none of the one or the other.
    """
    manifests = _manifests(folder)
    boxed = [(path, path.parent / "images") for path in sorted(folder.glob("*/annotations.json"))]
    boxed += _photo_manifests(manifests)
    drawn = sorted([*folder.glob("*.ndjson"), *folder.glob("*.ndjson.gz")])
    drawn += [path for path, facts in manifests.items() if facts.kind == "sketches"]
    if not drawn or not boxed:
        missing = (
            "photos (*/annotations.json beside images/, *.parquet)"
            if drawn
            else "sketches (*.ndjson, *.ndjson.gz, *.parquet)"
        )
        raise DataError(f"{folder} has no {missing}; give the folder that holds both, as the README describes it")
    return boxed, drawn


class _Boxed(NamedTuple):
    """A set of photos with boxes: what each box is called, None where it is left out."""

    images: Path
    photos: files.Annotations
    called: list[str | None]


class _Labelled(NamedTuple):
    """A set of photos of one object: what each is called, None where it is left out or where the set teaches none."""

    images: Path
    photos: files.Labels
    called: list[str | None]


class _Whole(NamedTuple):
    """A data folder before it is split. Both parts have its vocabulary: a class number means the same in either."""

    folder: Path
    boxed: list[_Boxed]
    labelled: list[_Labelled]
    backgrounds: list[Path]
    sketches: files.SketchSet
    vocabulary: list[str]


def read_training_set(folder: Path, *, held_out: bool = False) -> TrainingSet:
    """Read one part of a data folder.

    Args:
        folder: See the module.
        held_out: Give the held-out part instead of the part to train on.

    Raises:
        DataError: There are no sketches or no annotated photos under the folder, or none in this part; files put a
            photo in different splits.
    """
    return _part(_read(folder), held_out)


def read_parts(folder: Path) -> tuple[TrainingSet, TrainingSet]:
    """The part of a data folder to train on and the held-out one, as `read_training_set` has them; read once."""
    whole = _read(folder)
    return _part(whole, False), _part(whole, True)


def _read(folder: Path) -> _Whole:
    class_map, (boxed, drawn) = files.read_class_map(), find_files(folder)
    sketches = files.SketchSet.join([files.read_sketches(path) for path in drawn])
    call = partial(class_map.own_word, drawn=set(sketches.words))
    with_boxes, of_one, named = [], [], set[str]()
    for images, photos in annotated(boxed):
        called = [call(name) for name in photos.classes]
        with_boxes.append(_Boxed(images, photos, called))
        named.update(word for word in called if word)
    for images, shown in labelled(folder):
        teaches = len(shown.files) >= FEW * len(set(shown.classes))
        called = [call(name) if teaches else None for name in shown.classes]
        of_one.append(_Labelled(images, shown, called))
        named.update(word for word in called if word)
    backgrounds = sorted(path for path in folder.glob("*/backgrounds/*") if path.suffix.lower() in {".jpg", ".png"})
    return _Whole(folder, with_boxes, of_one, backgrounds, sketches, sorted({*sketches.words, *named}))


def _part(whole: _Whole, held_out: bool) -> TrainingSet:
    photos: list[Path] = []
    boxes: list[np.ndarray] = []
    words: list[list[str]] = []
    for images, found, called in whole.boxed:
        for i in np.flatnonzero(_in_part(found, held_out)):
            rows = [row for row in found.by_photo[i] if called[row]]
            if rows:
                photos.append(images / found.files[i])
                boxes.append(found.normalised[rows].astype(np.float32))
                words.append([str(called[row]) for row in rows])
    if not photos:
        purpose = "hold out, to measure on" if held_out else "train on"
        raise DataError(
            f"{whole.folder} has no photos with boxes to {purpose}: too few for a split, or all of another one"
        )
    of_one: list[tuple[Path, str]] = []
    unlabelled: list[Path] = []
    for images, shown, names in whole.labelled:
        for i in np.flatnonzero(_in_part(shown.as_annotations(), held_out)):
            name = names[i]
            if name:
                of_one.append((images / shown.files[i], name))
            else:
                unlabelled.append(images / shown.files[i])
    return TrainingSet(
        photos,
        boxes,
        words,
        [path for path, _ in of_one],
        [name for _, name in of_one],
        unlabelled,
        whole.backgrounds,
        whole.sketches.select(split_sketches(whole.sketches.key_ids) == held_out),
        whole.vocabulary,
    )


def _manifests(folder: Path) -> dict[Path, Facts]:
    """The manifests in the folder and one level down; parquet that is none is somebody else's."""
    found = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        facts = facts_if_manifest(path)
        if facts:
            found[path] = facts
    return found


def _photo_manifests(manifests: dict[Path, Facts]) -> Iterator[tuple[Path, Path]]:
    """Each manifest of photos with its folder of photos."""
    for path, facts in manifests.items():
        if facts.kind == "photos":
            yield path, path.parent / (facts.images or "images")


class _Once:
    """Which photos no earlier file lists."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Path, str]] = {}

    def new(self, path: Path, images: Path, names: Sequence[str], splits: Sequence[str]) -> np.ndarray:
        """Of the photos of a file, (p,) booleans.

        Raises:
            DataError: A photo is in another split there.
        """
        place, found = images.resolve(), np.ones(len(names), bool)
        for i, (name, split) in enumerate(zip(names, splits or [""] * len(names), strict=True)):
            first, its_split = self._first.setdefault(f"{place}/{name}", (path, split))
            found[i] = first == path
            if its_split != split:
                raise DataError(
                    f"photo {images / name}: its split is {its_split or 'none'} in {first} and {split or 'none'} in "
                    f"{path}; take one of the two files out of the data folder"
                )
        return found


def annotated(boxed: list[tuple[Path, Path]]) -> Iterator[tuple[Path, files.Annotations]]:
    """Photos with boxes, each set with its folder of photos and each photo once.

    Raises:
        DataError: Files put a photo in different splits.
    """
    once = _Once()
    for path, images in boxed:
        annotations = files.read_annotations(path)
        if path.suffix == ".parquet":  # its photos without boxes have a label
            annotations = annotations.select(np.array([rows.size > 0 for rows in annotations.by_photo], bool))
        annotations = annotations.select(once.new(path, images, annotations.files, annotations.splits))
        if annotations.files:
            yield images, annotations


def labelled(folder: Path) -> Iterator[tuple[Path, files.Labels]]:
    """Photos of one object, each set with its folder of photos and each photo once; errors as for `annotated`."""
    once = _Once()
    found = [(path, path.parent / "images") for path in sorted(folder.glob("*/labels.json"))]
    for path, images in [*found, *_photo_manifests(_manifests(folder))]:
        labels = files.read_labels(path)
        labels = labels.select(once.new(path, images, labels.files, labels.splits))
        if labels.files or path.suffix != ".parquet":
            yield images, labels


def _in_part(annotations: files.Annotations, held_out: bool) -> np.ndarray:
    """The photos to train on, or those to validate with; a set's own test photos are for neither."""
    return validation_photos(annotations) if held_out else ~held_out_photos(annotations)


def crops(path: Path, boxes: np.ndarray, size: int, margin: float = 0.05) -> np.ndarray:
    """The photo's objects, each with some margin and stretched to a square: what f_i sees.

    Args:
        path: The photo.
        boxes: (n, 4) corners in [0, 1].
        size: Side in pixels.
        margin: Part of the box's size added on every side, as far as the photo goes.

    Returns:
        (n, size, size, 3) uint8.
    """
    photo = read_image(path)
    scale = np.array([photo.width, photo.height] * 2)
    grown = np.array(boxes, np.float64)
    extent = grown[:, 2:] - grown[:, :2]
    grown = np.clip(np.concatenate([grown[:, :2] - margin * extent, grown[:, 2:] + margin * extent], axis=1), 0, 1)
    return np.stack([
        np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR, box=tuple(box * scale))) for box in grown
    ])  # fmt: skip
