"""Eq. 9: how relevant a photo is to a layout, for many layouts against a whole gallery.

Boxes are fractions of their own frame, [0, 1] of the photo's or the canvas's width and height, as the encoder sees
them: it stretches both to one square, so shapes are compared after that stretch and sizes in pixels never matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


def iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes with one box.

    Args:
        boxes: (n, 4) rows x0, y0, x1, y1.
        box: (4,), in the same unit.

    Returns:
        (n,) float64 in [0, 1]; 0 where both are without area.
    """
    boxes, box = np.asarray(boxes, np.float64), np.asarray(box, np.float64)
    x0, y0, x1, y1 = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    width = np.maximum(np.minimum(x1, box[2]) - np.maximum(x0, box[0]), 0.0)
    height = np.maximum(np.minimum(y1, box[3]) - np.maximum(y0, box[1]), 0.0)
    common = width * height  # (n,)
    union = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


@dataclass(frozen=True)
class _ClassBoxes:
    """All boxes of one class, sorted by photo: photo ``photos[i]`` owns rows ``starts[i]`` to ``starts[i + 1]``."""

    boxes: np.ndarray  # (n, 4)
    photos: np.ndarray  # (p,) increasing
    starts: np.ndarray  # (p,) where each photo's rows begin

    def best(self, box: np.ndarray) -> np.ndarray:
        """Eq. 9's max: each photo's best IoU with ``box``, (p,)."""
        best: np.ndarray = np.maximum.reduceat(iou(self.boxes, box), self.starts)
        return best


@dataclass(frozen=True)
class Gallery:
    """The gallery's boxes by class, so that a query only meets the photos that hold its classes.

    Attributes:
        size: Photos in the gallery, those without a box too.
        classes: Class name -> its boxes.
    """

    size: int
    classes: dict[str, _ClassBoxes]

    @classmethod
    def build(cls, boxes: np.ndarray, photos: np.ndarray, classes: Sequence[str], size: int) -> Gallery:
        """Group boxes by class and photo.

        Args:
            boxes: (n, 4) in [0, 1] of their photo.
            photos: (n,) which photo each lies in, 0 to ``size`` - 1.
            classes: (n,) their class names.
            size: Photos in the gallery.

        Raises:
            ValueError: The three do not have the same length, or a photo is outside the gallery.
        """
        boxes, photos = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(photos, np.int64)
        names = np.asarray(classes, dtype=object)
        if not len(boxes) == len(photos) == len(names):
            raise ValueError(f"{len(boxes)} boxes, {len(photos)} photos and {len(names)} classes: expected one of each")
        if len(photos) and not 0 <= photos.min() <= photos.max() < size:
            raise ValueError(f"photos {photos.min()} to {photos.max()} are not all in a gallery of {size}")
        words, number = np.unique(names.astype(str), return_inverse=True)
        order = np.lexsort((photos, number))
        ends = np.searchsorted(number[order], np.arange(len(words) + 1))
        groups = {}
        for i, word in enumerate(words):
            rows = order[ends[i] : ends[i + 1]]
            owners, starts = np.unique(photos[rows], return_index=True)
            # Column by column: eq. 9 reads a class's x0, then its y0, and so on, which is twice as fast in one piece.
            groups[str(word)] = _ClassBoxes(np.asfortranarray(boxes[rows]), owners, starts)
        return cls(size, groups)


@dataclass(frozen=True)
class Relevant:
    """The photos relevant to one query: R of every other photo is at or under the threshold asked for.

    Attributes:
        photos: (r,) int64, increasing.
        values: (r,) float64, R(Q, I) of eq. 9.
    """

    photos: np.ndarray
    values: np.ndarray

    def of(self, photos: np.ndarray) -> np.ndarray:
        """R of the given photos, 0 for those that are not among the relevant ones; same shape as ``photos``."""
        photos = np.asarray(photos)
        if not len(self.photos):
            return np.zeros(photos.shape)
        place = np.minimum(np.searchsorted(self.photos, photos), len(self.photos) - 1)
        return np.where(self.photos[place] == photos, self.values[place], 0.0)


def relevance(boxes: np.ndarray, classes: Sequence[str], gallery: Gallery, *, above: float = 0.0) -> Relevant:
    """R(Q, I) of eq. 9 for one query and a whole gallery.

    The mean over the query's boxes of the best IoU with a box of the same class in the photo. Two boxes of the query
    may meet the same box of the photo, as in the paper.

    Args:
        boxes: (n, 4) the query's boxes in [0, 1] of its canvas, n >= 1.
        classes: (n,) their class names.
        gallery: Boxes of the photos.
        above: Keep photos with R strictly greater.

    Raises:
        ValueError: No box, a box without a class, or ``above`` negative (R = 0 is nearly the whole gallery).
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if len(boxes) == 0 or len(boxes) != len(classes):
        raise ValueError(f"a query of {len(boxes)} boxes and {len(classes)} classes: expected one class a box")
    if above < 0:
        raise ValueError(f"above is {above}: expected 0 or more")
    total = np.zeros(gallery.size)
    for box, name in zip(boxes, classes, strict=True):
        if name in gallery.classes:
            group = gallery.classes[name]
            total[group.photos] += group.best(box)
    total /= len(boxes)
    photos = np.flatnonzero(total > above)
    return Relevant(photos, total[photos])


def relevances(
    queries: Iterable[tuple[np.ndarray, Sequence[str]]], gallery: Gallery, *, above: float = 0.0
) -> list[Relevant]:
    """``relevance`` of many queries, each given as (boxes, classes); memory is one gallery and the relevant photos."""

    def of(query: tuple[np.ndarray, Sequence[str]]) -> Relevant:
        boxes, classes = query
        return relevance(boxes, classes, gallery, above=above)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # the time is numpy's, which lets others run
        return list(pool.map(of, queries))
