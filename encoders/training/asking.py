"""What stages 2 and 3 ask with: query tensors over boxes of photos, and how relevant every photo is to them (eq. 9).

The paper paints f_i of the crops (eq. 2). Here an object's vector comes from sketches and class names, since those are
what is asked with: the gap between a crop's vector and a sketch's then is f_t's to close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from encoders.evaluation.metrics import average_precision
from encoders.evaluation.relevance import iou
from encoders.objects import ObjectConfig, ObjectEncoder, normalise
from encoders.query import query_tensors
from encoders.training.augment import rasters
from encoders.training.data import TrainingSet
from encoders.training.loop import autocast
from encoders.training.views import Views


@dataclass(frozen=True)
class Mixture:
    """What an object's vector comes from, for a class with sketches; the rest are crops' or names' vectors.

    Attributes:
        sketch: A training sketch, through f_s.
        name: The class's own vector.
        both: Their normalised sum.
        noise: Length of the noise added to a sketch's unit vector: training sketches are read better than new ones.
    """

    sketch: float = 0.55
    name: float = 0.2
    both: float = 0.25
    noise: float = 0.5


@dataclass(frozen=True)
class AskConfig:
    """How queries are made of photos.

    Attributes:
        mixture: Of the objects' vectors.
        jitter: Of a box's corners, as a part of the canvas.
        versions: Variations of each training sketch whose vectors are kept.
        min_area: Smaller boxes are not asked for, as a part of the photo.
        undrawable: How much less often a box is asked for whose class has no sketches.
    """

    mixture: Mixture = field(default_factory=Mixture)
    jitter: float = 0.02
    versions: int = 3
    min_area: float = 0.015
    undrawable: float = 0.2


@dataclass(frozen=True)
class Vectors:
    """The vectors that objects are painted with, by class.

    Attributes:
        sketches: (S, C) unit vectors of varied training sketches.
        by_class: Rows of ``sketches`` for each class.
        names: (K, C) unit vectors of the classes.
    """

    sketches: np.ndarray
    by_class: list[np.ndarray]
    names: np.ndarray

    def draw(self, classes: np.ndarray, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
        """(n, C) unit vectors for n objects of these classes."""
        rows = []
        for kind in classes:
            name, chosen = self.names[kind], self.by_class[kind]
            choice = rng.random()
            if not len(chosen) or choice < mixture.name:
                rows.append(name)
                continue
            sketch = self.sketches[rng.choice(chosen)]
            sketch = sketch + rng.normal(0, mixture.noise / len(sketch) ** 0.5, sketch.shape) * rng.uniform(0, 2)
            sketch = sketch / np.linalg.norm(sketch)
            rows.append(sketch + name if choice < mixture.name + mixture.both else sketch)
        vectors = np.stack(rows)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def load_objects(path: Path) -> tuple[ObjectEncoder, list[str]]:
    """The result of stage 1 and its vocabulary."""
    stored = torch.load(path, weights_only=True)
    vocabulary = list(stored["vocabulary"])
    model = ObjectEncoder(ObjectConfig(**stored["objects"]), len(vocabulary))
    model.load_state_dict(stored["weights"])
    return model.eval(), vocabulary


@torch.inference_mode()
def sketch_vectors(model: ObjectEncoder, drawings: list, rng: np.random.Generator | None) -> np.ndarray:
    """f_s of many drawings, (n, C), varied unless ``rng`` is None."""
    spec, config = model.sketch_trunk.spec, model.config
    parts = []
    for start in range(0, len(drawings), 64):
        pictures = rasters(drawings[start : start + 64], rng, config.sketch_size, config.line_width)
        with autocast():
            parts.append(model.f_s(normalise(torch.from_numpy(pictures), spec.mean, spec.std)).float().numpy())
    return np.concatenate(parts)


def make_vectors(model: ObjectEncoder, data: TrainingSet, config: AskConfig, cache: Path, seed: int) -> Vectors:
    """Vectors of ``versions`` variations of every training sketch, cached on disk, and of the classes."""
    if not cache.exists():
        rng = np.random.default_rng(seed)
        drawings = [drawing for _ in range(config.versions) for drawing in data.sketches.drawings]
        np.save(cache, sketch_vectors(model, drawings, rng))
    sketches = np.load(cache)
    classes = np.tile([data.number[word] for word in data.sketches.words], config.versions)
    names = model.class_vectors().detach().numpy()
    return Vectors(sketches, [np.flatnonzero(classes == kind) for kind in range(len(names))], names)


@dataclass(frozen=True)
class Asked:
    """B queries: their tensors (B, C, 31, 31), and the boxes and classes of the objects in each."""

    tensors: np.ndarray
    boxes: list[np.ndarray]
    classes: list[np.ndarray]


def usable(views: Views, config: AskConfig) -> np.ndarray:
    """Indices of the views with at least one box that is large enough to be asked for."""
    large = [((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) >= config.min_area).any() for boxes in views.boxes]
    return np.flatnonzero(large)


def ask(
    boxes: Sequence[np.ndarray],
    classes: Sequence[np.ndarray],
    vectors: Vectors,
    config: AskConfig,
    rng: np.random.Generator,
) -> Asked:
    """A query for each photo, of 1 to 4 of its boxes, large ones more often."""
    asked, kinds = [], []
    for its_boxes, its_classes in zip(boxes, classes, strict=True):
        area = (its_boxes[:, 2:] - its_boxes[:, :2]).prod(axis=1)
        large = np.flatnonzero(area >= config.min_area)
        drawable = np.array([len(vectors.by_class[kind]) > 0 for kind in its_classes[large]])
        weight = np.sqrt(area[large]) * np.where(drawable, 1.0, config.undrawable)
        count = min(int(rng.choice([1, 2, 3, 4], p=[0.35, 0.3, 0.25, 0.1])), len(large))
        chosen = large[rng.choice(len(large), count, replace=False, p=weight / weight.sum())]
        asked.append(its_boxes[chosen])
        kinds.append(its_classes[chosen])
    given = [vectors.draw(row, config.mixture, rng) for row in kinds]
    tensors = query_tensors(given, [_jitter(row, config.jitter, rng) for row in asked])
    return Asked(tensors, asked, kinds)


def _jitter(boxes: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    moved = np.clip(boxes + rng.normal(0, spread, boxes.shape), 0, 1)
    low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
    low = np.minimum(low, 0.98)
    return np.concatenate([low, np.maximum(high, low + 0.02)], axis=1).clip(0, 1)


def relevance(
    asked: list[np.ndarray], asked_classes: list[np.ndarray], boxes: list[np.ndarray], classes: list[np.ndarray]
) -> np.ndarray:
    """Eq. 9 of each query with each photo of the batch, (B, B) float32."""
    every = np.concatenate(boxes)  # (M, 4)
    kinds = np.concatenate(classes)
    starts = np.cumsum([0, *(len(row) for row in boxes[:-1])])
    rows = []
    for its_boxes, its_classes in zip(asked, asked_classes, strict=True):
        best = [
            np.maximum.reduceat(iou(every, box) * (kinds == kind), starts)
            for box, kind in zip(its_boxes, its_classes, strict=True)
        ]
        rows.append(np.mean(best, axis=0))
    return np.stack(rows).astype(np.float32)


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


def held_out_queries(objects: ObjectEncoder, unseen: TrainingSet, views: Views, seed: int) -> Queries:
    """A query for each held-out photo: unseen sketches, of the class where there are any, in its largest boxes."""
    rng = np.random.default_rng(seed)
    vectors = sketch_vectors(objects, list(unseen.sketches.drawings), None)
    classes = np.array([unseen.number[word] for word in unseen.sketches.words])
    asked, asked_classes, given = [], [], []
    for boxes, kinds in zip(views.boxes, views.classes, strict=True):
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        drawable = [i for i in np.argsort(-area) if area[i] > 0.02 and (classes == kinds[i]).any()]
        chosen = np.array(drawable[: int(rng.integers(1, 4))], np.int64)
        if len(chosen):
            asked.append(boxes[chosen])
            asked_classes.append(kinds[chosen])
            given.append(np.stack([vectors[rng.choice(np.flatnonzero(classes == kinds[i]))] for i in chosen]))
    return Queries(query_tensors(given, asked), _relevance_to_views(asked, asked_classes, views))


def _relevance_to_views(asked: list[np.ndarray], asked_classes: list[np.ndarray], views: Views) -> np.ndarray:
    full = [i for i, boxes in enumerate(views.boxes) if len(boxes)]
    found = np.zeros((len(asked), len(views)), np.float32)
    found[:, full] = relevance(asked, asked_classes, [views.boxes[i] for i in full], [views.classes[i] for i in full])
    return found
