"""What training reads: annotated photos, labelled photos and sketches under one folder, held-out parts left out.

The folder is walked one level deep: a subfolder with ``annotations.json`` and ``images/`` holds photos with boxes, one
with ``labels.json`` and ``images/`` photos with a class each, ``backgrounds/`` holds photos of nothing in particular;
sketches are ``*.ndjson`` or ``*.ndjson.gz`` files. Manifests (``*.parquet`` in the folder or one level down, as
`encoders.data` builds them) stand beside these or in their place: of photos, whose own split then says what is held
out, and of sketches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.data.manifest import Facts, facts_if_manifest
from encoders.errors import DataError
from encoders.evaluation import data as files
from encoders.evaluation.compositions import held_out_photos, split_sketches
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

        def rows(count: int) -> list[int]:
            return list(range(count)) if not 0 < most < count else [i * count // most for i in range(most)]

        photos, labelled = rows(len(self.photos)), rows(len(self.labelled))
        drawn = np.isin(np.arange(len(self.sketches.words)), rows(len(self.sketches.words)))
        return replace(
            self,
            photos=[self.photos[i] for i in photos],
            boxes=[self.boxes[i] for i in photos],
            words=[self.words[i] for i in photos],
            labelled=[self.labelled[i] for i in labelled],
            labels=[self.labels[i] for i in labelled],
            unlabelled=[self.unlabelled[i] for i in rows(len(self.unlabelled))],
            sketches=self.sketches.select(drawn),
        )


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


def read_training_set(folder: Path, *, held_out: bool = False) -> TrainingSet:
    """Read a data folder.

    Args:
        folder: See the module.
        held_out: Give the held-out part instead of the part to train on.

    Raises:
        DataError: There are no sketches or no annotated photos under the folder, or none in this part.
    """
    class_map, (boxed, drawn) = files.read_class_map(), find_files(folder)
    sketches = files.SketchSet.join([files.read_sketches(path) for path in drawn])
    call = partial(class_map.own_word, drawn=set(sketches.words))
    photos: list[Path] = []
    boxes: list[np.ndarray] = []
    words: list[list[str]] = []
    named: set[str] = set()
    for images, whole in annotated(boxed):
        called = [call(name) for name in whole.classes]
        named.update(name for name in called if name)
        own = _in_part(whole, held_out)
        for i, file in enumerate(whole.files):
            rows = [row for row in whole.by_photo[i] if called[row]]
            if own[i] and rows:
                photos.append(images / file)
                boxes.append(whole.normalised[rows].astype(np.float32))
                words.append([str(called[row]) for row in rows])
    of_one: list[tuple[Path, str]] = []
    unlabelled: list[Path] = []
    for images, found in labelled(folder):
        chosen = _in_part(found.as_annotations(), held_out)
        pairs = [(images / file, call(name)) for file, name in zip(found.files, found.classes, strict=True)]
        teaches = len(pairs) >= FEW * len(set(found.classes))
        named.update(word for _, word in pairs if word and teaches)
        for (path, word), own in zip(pairs, chosen, strict=True):
            if own and word and teaches:
                of_one.append((path, word))
            elif own:
                unlabelled.append(path)
    if not photos:
        purpose = "hold out, to measure on" if held_out else "train on"
        raise DataError(f"{folder} has no photos with boxes to {purpose}: too few for a split, or all of another one")
    # Both parts have the whole set's vocabulary: a class number means the same in either.
    vocabulary = sorted({*sketches.words, *named})
    backgrounds = sorted(path for path in folder.glob("*/backgrounds/*") if path.suffix.lower() in {".jpg", ".png"})
    sketches = sketches.select(split_sketches(sketches.key_ids) == held_out)
    labels = [name for _, name in of_one]
    return TrainingSet(
        photos, boxes, words, [path for path, _ in of_one], labels, unlabelled, backgrounds, sketches, vocabulary
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


def annotated(boxed: list[tuple[Path, Path]]) -> Iterator[tuple[Path, files.Annotations]]:
    """Photos with boxes, each set with its folder of photos."""
    for path, images in boxed:
        annotations = files.read_annotations(path)
        if path.suffix == ".parquet":  # its photos without boxes have a label
            annotations = annotations.select(np.array([rows.size > 0 for rows in annotations.by_photo], bool))
        if annotations.files:
            yield images, annotations


def labelled(folder: Path) -> Iterator[tuple[Path, files.Labels]]:
    """Photos of one object, each set with its folder of photos."""
    for path in sorted(folder.glob("*/labels.json")):
        yield path.parent / "images", files.read_labels(path)
    for path, images in _photo_manifests(_manifests(folder)):
        labels = files.read_labels(path)
        if labels.files:
            yield images, labels


def _in_part(annotations: files.Annotations, held_out: bool) -> np.ndarray:
    """The photos to train on, or those to validate with; a set's own test photos are for neither."""
    part = held_out_photos(annotations) == held_out
    for photo, split in enumerate(annotations.splits):
        part[photo] &= split != "test"
    return part


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
