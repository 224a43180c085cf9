"""Last of all: what a finished bundle's scores mean, fitted on photos and sketches that training has not seen.

A set's own test photos are left out here too: what is fitted on them could not be measured on them any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle import Bundle
from encoders.calibration import Calibration, cross_fitted, fit, group, reliability
from encoders.errors import DataError
from encoders.evaluation.benchmark import Benchmark, assemble
from encoders.evaluation.compositions import split_sketches, validation_photos
from encoders.evaluation.data import Annotations, ClassMap, SketchSet, read_class_map, read_sketches
from encoders.evaluation.methods import METHODS, Encoder, Progress, Run
from encoders.evaluation.quantised import IvfPq
from encoders.local import LocalEncoder
from encoders.training.data import annotated, evenly, find_files

SEEDS = range(100, 104)  # four queries a photo, of other sketches each: three objects are rare
FOLDS = 3
SHOWN = 20  # hits that one looks at: section 4.4 shows as many


@dataclass(frozen=True)
class Config:
    """How much a bundle is calibrated on.

    Attributes:
        photos: At most; 0 for all.
        seeds: Of the queries, one a photo and seed.
    """

    photos: int = 0
    seeds: tuple[int, ...] = tuple(SEEDS)


def train(
    folder: Path, data: Path, config: Config | None = None, *, runtime: str = "auto", progress: Progress | None = None
) -> Path:
    """Calibrate a bundle on the held-out part of a data folder, and keep the result in its configuration.

    The bundle's tensors and fingerprint stay as they are: collections that it made stay its own.

    Args:
        folder: Of the bundle; it is written anew.
        data: The folder of annotated photos and sketches that it was trained on.
        config: On how much; None for `Config()`.
        runtime: See `runtimes.compile_module`.
        progress: Called with what is being encoded, how many are done, and of how many.

    Returns:
        ``folder``.

    Raises:
        BundleError: There is no whole bundle.
        DataError: The data folder lacks photos or sketches.
    """
    bundle = Bundle.load(folder)
    config = config or Config()
    photos, sketches = read_data(data, config.photos)
    found = calibrate(
        LocalEncoder(bundle, runtime=runtime), photos, sketches, read_class_map(), seeds=config.seeds, progress=progress
    )
    Bundle({**bundle.config, "calibration": found.to_dict()}, bundle.tensors).save(folder)
    return folder


def read_data(folder: Path, most: int = 0) -> tuple[list[tuple[Annotations, Path]], SketchSet]:
    """What calibration may use of a data folder: held-out photos with boxes, no test photos, and held-out sketches.

    Args:
        folder: See `data`.
        most: Photos at most, evenly taken; 0 for all.

    Returns:
        Sets of photos, each with its folder, and the sketches.

    Raises:
        DataError: There are no such photos.
    """
    boxed, drawn = find_files(folder)
    sketches = SketchSet.join([read_sketches(path) for path in drawn])
    photos = [(found.select(validation_photos(found)), images) for images, found in annotated(boxed)]
    counts = [len(found.files) for found, _ in photos]
    if not any(counts):
        raise DataError(
            f"{folder} has no photos with boxes to calibrate on: all are to train on or for testing; add photos of a "
            "split validation"
        )
    taken = np.split(np.isin(np.arange(sum(counts)), evenly(sum(counts), most)), np.cumsum(counts)[:-1])
    photos = [(found.select(keep), images) for (found, images), keep in zip(photos, taken, strict=True)]
    return photos, sketches.select(split_sketches(sketches.key_ids))


def calibrate(
    encoder: Encoder,
    photos: Sequence[tuple[Annotations, Path]],
    sketches: SketchSet,
    class_map: ClassMap,
    *,
    tau: float = 0.5,
    seeds: Sequence[int] = SEEDS,
    progress: Progress | None = None,
) -> Calibration:
    """Fit what scores mean, and measure it on pairs that each fit has seen neither query nor photo of.

    Args:
        encoder: Encodes photos and sketches.
        photos: Sets of photos that training has not seen, each with its folder.
        sketches: What queries are drawn with.
        class_map: Which word draws which class.
        tau: A photo is relevant if R > tau (eq. 9).
        seeds: Of the queries, one a photo and seed.
        progress: As for ``train``.

    Returns:
        With ``reliability`` over ``all`` pairs of a group, and over the best ``SHOWN`` photos of its queries.
    """
    benchmarks = [assemble(photos, sketches, class_map, above=tau, seed=seed) for seed in seeds]
    scores, relevant, groups, owners = _pairs(encoder, benchmarks, progress)
    count = len(benchmarks[0].paths)
    photo_folds = np.random.default_rng(0).permutation(count) % FOLDS
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
    return replace(fitted, tau=tau, photos=count, reliability=curves)


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
