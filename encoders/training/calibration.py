"""Last of all: what a finished bundle's scores mean, fitted on photos and sketches that training has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle import Bundle
from encoders.calibration import Calibration, cross_fitted, fit, group, reliability
from encoders.evaluation.benchmark import Benchmark, PathLike, prepare
from encoders.evaluation.data import ClassMap, SketchSet, read_annotations, read_class_map, read_sketches
from encoders.evaluation.methods import METHODS, Encoder, Progress, Run
from encoders.evaluation.quantised import IvfPq
from encoders.local import LocalEncoder
from encoders.training.data import find_files

SEEDS = range(100, 104)  # four queries a photo, of other sketches each: three objects are rare
FOLDS = 3
SHOWN = 20  # hits that one looks at: section 4.4 shows as many


def train(folder: Path, data: Path, *, runtime: str = "auto", progress: Progress | None = None) -> Path:
    """Calibrate a bundle on the held-out part of a data folder, and keep the result in its configuration.

    The bundle's tensors and fingerprint stay as they are: collections that it made stay its own.

    Args:
        folder: Of the bundle; it is written anew.
        data: The folder of annotated photos and sketches that it was trained on.
        runtime: See `runtimes.compile_module`.
        progress: Called with what is being encoded, how many are done, and of how many.

    Returns:
        ``folder``.

    Raises:
        BundleError: There is no whole bundle.
        DataError: The data folder lacks photos or sketches.
    """
    bundle = Bundle.load(folder)
    sources, sketches = read_data(data)
    found = calibrate(LocalEncoder(bundle, runtime=runtime), sources, sketches, read_class_map(), progress=progress)
    Bundle({**bundle.config, "calibration": found.to_dict()}, bundle.tensors).save(folder)
    return folder


def read_data(folder: Path) -> tuple[list[tuple[Path, Path]], SketchSet]:
    """A data folder's files of photos with boxes, each with its folder of photos, and its sketches.

    Raises:
        DataError: It lacks either.
    """
    boxed, drawn = find_files(folder)
    sources = [(path, images) for path, images in boxed if read_annotations(path).classes]
    return sources, SketchSet.join([read_sketches(path) for path in drawn])


def calibrate(
    encoder: Encoder,
    sources: Sequence[tuple[PathLike, PathLike]],
    sketches: SketchSet,
    class_map: ClassMap,
    *,
    tau: float = 0.5,
    subset: str = "held_out",
    seeds: Sequence[int] = SEEDS,
    progress: Progress | None = None,
) -> Calibration:
    """Fit what scores mean, and measure it on pairs that each fit has seen neither query nor photo of.

    Args:
        encoder: Encodes photos and sketches.
        sources: Pairs of ``annotations.json`` and its folder of photos.
        sketches: What queries are drawn with.
        class_map: Which word draws which class.
        tau: A photo is relevant if R > tau (eq. 9).
        subset: ``held_out``, or ``all`` for data that training has not seen at all.
        seeds: Of the queries, one a photo and seed.
        progress: As for ``train``.

    Returns:
        With ``reliability`` over ``all`` pairs of a group, and over the best ``SHOWN`` photos of its queries.
    """
    benchmarks = [prepare(sources, sketches, class_map, above=tau, seed=seed, subset=subset) for seed in seeds]
    scores, relevant, groups, owners = _pairs(encoder, benchmarks, progress)
    photos = len(benchmarks[0].paths)
    photo_folds = np.random.default_rng(0).permutation(photos) % FOLDS
    # A query is in the fold of the photo whose layout it has.
    chances = cross_fitted(scores, relevant, groups, photo_folds[owners], photo_folds)
    fitted = fit(scores, relevant, groups)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN]
    curves = {}
    for name in fitted.groups:
        rows = np.array(groups, object) == name
        said, was = chances[rows], relevant[rows]
        shown, held = (np.take_along_axis(values, best[rows], axis=1) for values in (said, was))
        curves[name] = {
            "all": reliability(said[~np.isnan(said)], was[~np.isnan(said)]),
            f"best {SHOWN}": reliability(shown[~np.isnan(shown)], held[~np.isnan(shown)]),
        }
    return replace(fitted, tau=tau, photos=photos, reliability=curves)


def _pairs(
    encoder: Any, benchmarks: Sequence[Benchmark], progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, list[str | None], np.ndarray]:
    """Every query of the benchmarks in each mode against their gallery.

    Returns:
        Scores (Q, G), relevance (Q, G) bool, the queries' groups, and the photo whose layout each has (Q,).
    """
    queries = [query for benchmark in benchmarks for query in benchmark.queries]
    drawn, paths = [query.sketch for query in queries], benchmarks[0].paths
    run = Run({"encoder": encoder}, paths, drawn, IvfPq(), 64, 0, progress or (lambda stage, done, total: None))
    relevant = np.zeros((len(queries), len(paths)), bool)
    for row, found in zip(relevant, (found for benchmark in benchmarks for found in benchmark.relevant), strict=True):
        row[found.photos] = True
    owners = np.array([query.photo_index for query in queries])
    scores, groups = [], []
    for method in ("ssbir", "ssbir+words", "words"):
        vectors = METHODS[method].vectors
        assert vectors is not None  # these methods compare vectors
        scores.append(vectors.of_sketches(run) @ vectors.of_photos(run).T)
        asked = drawn if vectors.strokes else [sketch.without_strokes() for sketch in drawn]
        groups += [group(sketch, words=bool(vectors.words)) for sketch in asked]
    return np.concatenate(scores), np.tile(relevant, (len(scores), 1)), groups, np.tile(owners, len(scores))
