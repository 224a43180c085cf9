"""Eq. 1 against the merge of the authors' demo: one query tensor of all objects, or f_t on each object alone.

The demo's way: a 31 x 31 tensor an object, f_t on each, each output cut to the cells of the 7 x 7 map that the object's
box meets, and averaged where several do. It runs f_t once an object, and no cell sees its neighbour's object.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from encoders.evaluation.ranking import rank
from encoders.evaluation.scores import DEEP, METRICS
from encoders.evaluation.tables.figures import difference, mean, scored
from encoders.evaluation.tables.study import TAU, Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.indexing import GRID
from encoders.sketch import Sketch

ROUNDS = 3
TIMED = 64  # queries that the times are taken of


def cells(box: Sequence[float]) -> np.ndarray:
    """The cells of the map that a box (4,) in [0, 1] meets: (7, 7) booleans, rows from the top."""
    x0, y0, x1, y1 = (min(max(float(value), 0.0), 1.0) for value in box)
    met = np.zeros((GRID, GRID), bool)
    left, top = min(math.floor(x0 * GRID), GRID - 1), min(math.floor(y0 * GRID), GRID - 1)
    met[top : max(math.ceil(y1 * GRID), top + 1), left : max(math.ceil(x1 * GRID), left + 1)] = True
    return met


def merged(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """One sketch's map of the maps of its objects.

    Args:
        maps: (n, D, 7, 7), f_t of each object alone.
        boxes: (n, 4) in [0, 1].

    Returns:
        (D, 7, 7): in each cell the mean over the objects whose box meets it; 0 where none does.
    """
    mask = np.stack([cells(box) for box in boxes])[:, None]  # (n, 1, 7, 7)
    total: np.ndarray = (maps * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
    return total


def embed_merged(study: Study, sketches: Sequence[Sketch]) -> np.ndarray:
    """The demo's E_Q, (B, 49 D)."""
    alone = [Sketch(sketch.width, sketch.height, (item,)) for sketch in sketches for item in sketch.objects]
    maps = study.encoder.embed_sketches(alone).reshape(len(alone), -1, GRID, GRID)
    ends = np.cumsum([len(sketch.objects) for sketch in sketches])[:-1]
    return np.stack([
        merged(part, sketch.boxes).ravel() for part, sketch in zip(np.split(maps, ends), sketches, strict=True)
    ])  # fmt: skip


def table(study: Study) -> Table:
    """Both on the same f_t: scores, the paired test by number of objects, and the time of a query."""
    sketches = [query.sketch for query in study.unseen.queries]
    project, photos = study.encoder.projection.apply, study.embedded(study.unseen.paths)
    ways: dict[str, Callable[[list[Sketch]], np.ndarray]] = {
        "eq. 1: one tensor": study.encoder.embed_sketches,
        "one tensor an object, merged": lambda some: embed_merged(study, some),
    }
    gallery = project(photos)
    scores = {
        name: scored(study.unseen, rank(project(embed(sketches)), gallery, DEEP), TAU) for name, embed in ways.items()
    }
    ours, theirs = scores.values()
    seconds = _times(ways, sketches[:TIMED])
    rows: list[tuple[Cell, ...]] = [
        (name, "all", *(mean(found[:, i], study.seed) for i in range(len(METRICS))), None, None, None, seconds[name])
        for name, found in scores.items()
    ]
    answered = study.unseen.possible([TAU])[0] > 0
    counts = np.array([len(sketch.objects) for sketch in sketches])[answered]
    for label, chosen in [("all", counts > 0), *((str(count), counts == count) for count in np.unique(counts))]:
        gain = [mean(ours[chosen, i] - theirs[chosen, i], study.seed) for i in range(len(METRICS))]
        _, p, effect = difference(ours[chosen, 0], theirs[chosen, 0], study.seed)
        rows.append(("difference", label, *gain, p, effect, int(chosen.sum()), None))
    notes = (
        "The same trained f_t and vectors of objects for both; it was trained on tensors of all objects.",
        f"p and d_z: paired t-test of AP. Time: f_s remembered, painting and f_t, the median of {ROUNDS} rounds over "
        f"{len(sketches[:TIMED])} queries, and so the one column that differs from run to run.",
    )
    columns = ("query", "objects", *METRICS, "p", "d_z", "queries", "ms a query")
    return Table("merge", "Eq. 1 against a merge of single objects", columns, tuple(rows), notes,
                 study.provenance("merge"))  # fmt: skip


def _times(ways: dict[str, Callable[[list[Sketch]], np.ndarray]], sketches: list[Sketch]) -> dict[str, float]:
    """Milliseconds a query, the rounds in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, embed in ways.items():
            started = time.perf_counter()
            embed(sketches)
            taken[name].append((time.perf_counter() - started) * 1000 / len(sketches))
    return {name: float(np.median(values)) for name, values in taken.items()}
