"""What stages 2 and 3 ask with: query tensors over boxes of photos, and how relevant every photo is to them (eq. 9).

The paper paints f_i of the crops (eq. 2). Here an object's vector comes from a source, by default of sketches and class
names, since those are what is asked with: the gap between a crop's vector and a sketch's then is f_t's to close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from encoders.errors import DataError
from encoders.evaluation.compositions import MIN_AREA
from encoders.evaluation.metrics import average_precision
from encoders.evaluation.relevance import Gallery, relevances
from encoders.query import Painting, layout, paint, query_tensors
from encoders.training.vectors import Mixture, Source
from encoders.training.views import Views


@dataclass(frozen=True)
class AskConfig:
    """How queries are made of photos.

    Attributes:
        mixture: Of the objects' vectors.
        jitter: Of a box's corners, as a part of the canvas.
        strengths: Of the variation (`augment.vary`) of each training sketch, one for every version whose vector is
            kept: what is varied more is misread more often, as unseen sketches are.
        min_area: Smaller boxes are not asked for, as a part of the photo.
        undrawable: How much less often a box is asked for whose class has no sketches.
    """

    mixture: Mixture = field(default_factory=Mixture)
    jitter: float = 0.02
    strengths: tuple[float, ...] = (1.0, 1.0, 1.0)
    min_area: float = 0.015
    undrawable: float = 0.2


@dataclass(frozen=True)
class Asked:
    """B queries: their tensors before these are spread, and the boxes and classes of the objects in each."""

    paintings: list[Painting]
    boxes: list[np.ndarray]
    classes: list[np.ndarray]

    @property
    def tensors(self) -> np.ndarray:
        """(B, C, 31, 31)."""
        return np.stack([painting.spread() for painting in self.paintings])


class Boxes(Protocol):
    """Photos' boxes (n, 4), their classes (n,) and the crops (n,) that they show, as `Views` have them."""

    @property
    def boxes(self) -> Sequence[np.ndarray]: ...

    @property
    def classes(self) -> Sequence[np.ndarray]: ...

    @property
    def crops(self) -> Sequence[np.ndarray]: ...


@dataclass(frozen=True)
class Asker:
    """Makes queries of photos.

    Attributes:
        source: Of the vectors that objects are painted with.
        config: How.
    """

    source: Source
    config: AskConfig

    def askable(self, boxes: np.ndarray, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """Indices of a photo's boxes that are large enough and have a vector."""
        return np.flatnonzero((_area(boxes) >= self.config.min_area) & self.source.training.paints(classes, crops))

    def usable(self, photos: Boxes) -> np.ndarray:
        """Indices of the photos with at least one box that can be asked for."""
        rows = zip(photos.boxes, photos.classes, photos.crops, strict=True)
        return np.flatnonzero([len(self.askable(*row)) > 0 for row in rows])

    def ask(
        self,
        boxes: Sequence[np.ndarray],
        classes: Sequence[np.ndarray],
        crops: Sequence[np.ndarray],
        rng: np.random.Generator,
    ) -> Asked:
        """A query for each of some usable photos, of 1 to 4 of its boxes, large ones more often."""
        asked, kinds, vectors = [], [], []
        for its_boxes, its_classes, its_crops in zip(boxes, classes, crops, strict=True):
            able = self.askable(its_boxes, its_classes, its_crops)
            favour = np.where(self.source.drawable[its_classes[able]], 1.0, self.config.undrawable)
            weight = np.sqrt(_area(its_boxes[able])) * favour
            count = min(int(rng.choice([1, 2, 3, 4], p=[0.35, 0.3, 0.25, 0.1])), len(able))
            chosen = able[rng.choice(len(able), count, replace=False, p=weight / weight.sum())]
            asked.append(its_boxes[chosen])
            kinds.append(its_classes[chosen])
            vectors.append(self.source.training.draw(its_classes[chosen], its_crops[chosen], rng))
        moved = [_jitter(row, self.config.jitter, rng) for row in asked]
        paintings = [paint(layout(row), given) for row, given in zip(moved, vectors, strict=True)]
        return Asked(paintings, asked, kinds)


def _area(boxes: np.ndarray) -> np.ndarray:
    """(n,) parts of the photo."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _jitter(boxes: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    moved = np.clip(boxes + rng.normal(0, spread, boxes.shape), 0, 1)
    low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
    low = np.minimum(low, 0.98)
    return np.concatenate([low, np.maximum(high, low + 0.02)], axis=1).clip(0, 1)


@dataclass(frozen=True)
class Queries:
    """Held-out queries: tensors (Q, C, 31, 31) of unseen sketches and the relevance (Q, N) of each held-out photo."""

    tensors: np.ndarray
    relevance: np.ndarray

    def mean_average_precision(self, scores: np.ndarray) -> float:
        """mAP at tau .5 of the photos ranked by ``scores`` (Q, N), higher first."""
        order = np.argsort(-scores, axis=1, kind="stable")
        ranked = zip(self.relevance, order, strict=True)
        return float(np.mean([average_precision(row[rank], row) for row, rank in ranked]))


def held_out_queries(source: Source, views: Views, seed: int) -> Queries:
    """A query for each held-out photo, of its largest boxes whose class has unseen sketches.

    Which boxes does not depend on the source, unless it has no vector for one: what differs between methods is what
    they are told of the objects in the boxes.

    Raises:
        DataError: There is nothing to ask.
    """
    rng = np.random.default_rng(seed)
    chosen = [_largest(views, row, int(rng.integers(1, 4)), source) for row in range(len(views))]
    layouts = [(row, boxes) for row, boxes in enumerate(chosen) if len(boxes)]
    if not layouts:
        raise DataError(
            f"none of {len(views)} held-out photos has a box whose class has held-out sketches; give more photos or "
            "sketches: training is measured on them"
        )
    asked = [views.boxes[row][boxes] for row, boxes in layouts]
    kinds = [views.classes[row][boxes] for row, boxes in layouts]
    given = [source.held_out.draw(views.classes[row][boxes], views.crops[row][boxes], rng) for row, boxes in layouts]
    return Queries(query_tensors(given, asked), _relevance_to_views(asked, kinds, views))


def _largest(views: Views, row: int, most: int, source: Source) -> np.ndarray:
    """Indices of a view's boxes to measure with, the largest first."""
    classes, area = views.classes[row], _area(views.boxes[row])
    able = (area > MIN_AREA) & source.measured[classes] & source.held_out.paints(classes, views.crops[row])
    order = np.argsort(-area)
    return order[able[order]][:most]


def _relevance_to_views(asked: list[np.ndarray], kinds: list[np.ndarray], views: Views) -> np.ndarray:
    """Eq. 9 of each query with each view, (Q, N) float32."""
    owners = np.repeat(np.arange(len(views)), [len(boxes) for boxes in views.boxes])
    names = [str(kind) for kind in np.concatenate(views.classes)]
    gallery = Gallery.build(np.concatenate(views.boxes), owners, names, len(views))
    queries = [(boxes, [str(kind) for kind in classes]) for boxes, classes in zip(asked, kinds, strict=True)]
    return np.stack([found.of(np.arange(len(views))) for found in relevances(queries, gallery)]).astype(np.float32)
