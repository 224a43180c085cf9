"""What stands in the way: how well a sketch is read, and what the search would reach if it were read without error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.evaluation.metrics import average_precision
from encoders.evaluation.ranking import rank
from encoders.evaluation.scores import DEEP
from encoders.evaluation.tables.figures import mean, scored, unit
from encoders.evaluation.tables.study import TAU, Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.sketch import SketchObject
from encoders.training.crops import MIN_AREA, crop_list
from encoders.training.data import crops, read_training_set

NEAR = 10


def hits(sketches: np.ndarray, sketch_classes: np.ndarray, photos: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which crops, best first for each sketch, are of its class: (n, N) booleans from vectors and their classes."""
    order = np.argsort(-(sketches @ photos.T), axis=1, kind="stable")
    return np.asarray(classes[order] == sketch_classes[:, None])


def table(study: Study) -> Table:
    """How single objects are read, then the search with vectors of ever better origin."""
    rows: list[tuple[Cell, ...]] = []

    def add(part: str, what: str, metric: str, scores: np.ndarray) -> None:
        if len(scores):
            rows.append((part, what, metric, mean(scores, study.seed), len(scores)))

    right, vectors, kinds = _read(study)
    crop_vectors, crop_kinds = _crops(study)
    shown = np.isin(kinds, crop_kinds)
    add("objects", "sketch read as its class, all classes", "accuracy", right)
    add("objects", "sketch read as its class, classes with photos", "accuracy", right[shown])
    add("objects", "crop read as its class", "accuracy", _classified(study, crop_vectors, crop_kinds))
    ranked = hits(vectors[shown], kinds[shown], crop_vectors, crop_kinds)
    add("objects", "crops ranked by a sketch", "mAP", average_precision(ranked, ranked, k=ranked.shape[1]))
    add("objects", "crops ranked by a sketch", f"P@{NEAR}", ranked[:, :NEAR].mean(axis=1))
    _search(study, add, dict(zip(study.sketches.key_ids, right, strict=True)))
    notes = (
        "Search: the query tensor is painted with other vectors, all else is the same; in 49 D, before the projection.",
        "The photo's own crops look as the photo does, which no sketch can; class vectors know the class and no more.",
        "Read right: as one of all the classes the bundle knows.",
    )
    columns = ("of", "what", "metric", "figure", "n")
    title = "What stands in the way: from reading a sketch to finding its photo"
    return Table("ceiling", title, columns, tuple(rows), notes, study.provenance("ceiling"))


def _search(study: Study, add: Callable[[str, str, str, np.ndarray], None], right: dict[str, bool]) -> None:
    encoder, benchmark = study.encoder, study.unseen
    queries, photos = benchmark.queries, study.embedded(benchmark.paths)
    sketches = [query.sketch for query in queries]
    objects = [item for sketch in sketches for item in sketch.objects]
    words = np.stack([encoder.word_vector(item.label or "") for item in objects])
    own = np.concatenate([_own_crops(study, benchmark.paths[query.photo_index], query.boxes) for query in queries])
    asked = {
        "strokes": study.queries,
        "strokes and class vectors": encoder.embed_sketches(sketches, words=True),
        "class vectors": encoder.embed_painted(sketches, words),
        "the photo's own crops": encoder.embed_painted(sketches, own),
    }
    gallery = unit(photos)
    found = {name: scored(benchmark, rank(unit(flat), gallery, DEEP), TAU)[:, 0] for name, flat in asked.items()}
    for name, scores in found.items():
        add("search", name, "mAP", scores)
    project = encoder.projection.apply
    stored = scored(benchmark, rank(project(study.queries), project(photos), DEEP), TAU)[:, 0]
    add("search", f"strokes, projected to d = {encoder.dim}", "mAP", stored)
    keys = study.sketches.key_ids
    read = np.array([all(right[keys[i]] for i in query.sketch_indices) for query in queries])
    read = read[benchmark.possible([TAU])[0] > 0]
    add("search", "strokes, queries with every sketch read right", "mAP", found["strokes"][read])
    add("search", "strokes, the other queries", "mAP", found["strokes"][~read])


def _read(study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of held-out sketches: whether the nearest class vector is their own (n,), f_s (n, C), and words (n,)."""
    vectors = study.encoder.embed_objects([SketchObject(drawing) for drawing in study.sketches.drawings])
    kinds = np.array(study.sketches.words)
    return _classified(study, vectors, kinds), vectors, kinds


def _classified(study: Study, vectors: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    vocabulary = np.array(study.encoder.vocabulary)
    classes = np.stack([study.encoder.word_vector(word) for word in vocabulary])
    return np.asarray(vocabulary[(vectors @ classes.T).argmax(axis=1)] == kinds)


def _crops(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """f_i of the held-out photos' objects (N, C), and their words (N,)."""
    data = read_training_set(study.data, held_out=True)
    jobs, kinds = crop_list(data)
    vectors: list[np.ndarray] = []
    numbers: list[int] = []
    for done, (path, boxes, first) in enumerate(jobs, start=1):
        keep = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > MIN_AREA)
        if len(keep):
            vectors.append(_own_crops(study, path, boxes[keep]))
            numbers += (first + keep).tolist()
        study.progress("crops", done, len(jobs))
    return np.concatenate(vectors), np.array(data.vocabulary)[kinds[numbers]]


def _own_crops(study: Study, path: Path, boxes: np.ndarray) -> np.ndarray:
    """f_i of a photo's boxes, (n, C)."""
    pictures = crops(path, boxes, study.bundle.config["objects"]["crop_size"])
    return study.encoder.embed_photo_objects([Image.fromarray(picture) for picture in pictures])
