"""What training reads: annotated photos, labelled photos and sketches under one folder, held-out parts left out.

The folder is walked one level deep: a subfolder with ``annotations.json`` and ``images/`` holds photos with boxes, one
with ``labels.json`` and ``images/`` photos with a class each, ``backgrounds/`` holds photos of nothing in particular;
sketches are ``*.ndjson`` or ``*.ndjson.gz`` files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.errors import DataError
from encoders.evaluation import data as files
from encoders.evaluation.compositions import split_photos, split_sketches
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


def read_training_set(folder: Path, *, held_out: bool = False) -> TrainingSet:
    """Read a data folder.

    Args:
        folder: See the module.
        held_out: Give the held-out part instead of the part to train on.

    Raises:
        DataError: There are no sketches or no annotated photos under the folder.
    """
    class_map = files.read_class_map()
    photos: list[Path] = []
    boxes: list[np.ndarray] = []
    words: list[list[str]] = []
    named: set[str] = set()
    for path in sorted(folder.glob("*/annotations.json")):
        annotations = files.read_annotations(path)
        named.update(class_map.word(name) or name for name in annotations.classes)
        part = annotations.select(split_photos(annotations.files) == held_out)
        for i, file in enumerate(part.files):
            rows = part.by_photo[i]
            photos.append(path.parent / "images" / file)
            boxes.append(part.normalised[rows].astype(np.float32))
            words.append([class_map.word(part.classes[row]) or part.classes[row] for row in rows])
    labelled: list[tuple[Path, str]] = []
    unlabelled: list[Path] = []
    for path in sorted(folder.glob("*/labels.json")):
        found = files.read_labels(path)
        words_of = [class_map.word(name) or name for name in found.classes]
        pairs = [(path.parent / "images" / file, name) for file, name in zip(found.files, words_of, strict=True)]
        kept = [pair for pair, out in zip(pairs, split_photos(found.files), strict=True) if out == held_out]
        if len(pairs) < FEW * len(set(found.classes)):
            unlabelled += [path for path, _ in kept]
        else:
            labelled += kept
            named.update(words_of)
    sketch_files = sorted([*folder.glob("*.ndjson"), *folder.glob("*.ndjson.gz")])
    if not sketch_files or not photos:
        missing = "photos (*/annotations.json beside images/)" if sketch_files else "sketches (*.ndjson, *.ndjson.gz)"
        raise DataError(
            f"{folder} has no {missing}; give the folder that holds both, see the README's part on training"
        )
    sketches = files.SketchSet.join([files.read_sketches(path) for path in sketch_files])
    # Both parts have the whole set's vocabulary: a class number means the same in either.
    vocabulary = sorted({*sketches.words, *named})
    backgrounds = sorted(path for path in folder.glob("*/backgrounds/*") if path.suffix.lower() in {".jpg", ".png"})
    sketches = sketches.select(split_sketches(sketches.key_ids) == held_out)
    labels = [name for _, name in labelled]
    return TrainingSet(
        photos, boxes, words, [path for path, _ in labelled], labels, unlabelled, backgrounds, sketches, vocabulary
    )


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
