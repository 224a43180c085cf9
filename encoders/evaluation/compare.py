"""Methods side by side: the same queries, the same gallery, scored by eq. 9, mAP, NDCG and P@k (section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.errors import CompsketchError, DataError
from encoders.evaluation import per_query as by_query
from encoders.evaluation.benchmark import Benchmark, PathLike, prepare
from encoders.evaluation.data import CLASS_MAP, read_class_map, read_sketches
from encoders.evaluation.methods import METHODS, Encoder, Progress, Run
from encoders.evaluation.quantised import IvfPq
from encoders.evaluation.ranking import Index
from encoders.evaluation.scores import DEEP, by_group, gains, ideal, means, pairs, score
from encoders.evaluation.statistics import LEVEL, RESAMPLES

TAUS = (0.3, 0.4, 0.5, 0.6, 0.7)  # the study of tau
STATISTICS = {
    "interval": "BCa bootstrap over queries, two-sided",
    "level": LEVEL,
    "resamples": RESAMPLES,
    "test": "paired t-test over queries, two-sided, not corrected for the number of pairs",
    "effect_size": "Cohen's d_z: mean difference over the standard deviation of the differences",
}


def evaluate(
    encoder: Encoder,
    annotations_path: PathLike | Sequence[PathLike],
    images_dir: PathLike | Sequence[PathLike],
    sketches_path: PathLike,
    *,
    methods: Sequence[str] = ("ssbir", "msbir", "random"),
    semir: Any = None,
    index: Index | None = None,
    tau: float = 0.5,
    taus: Sequence[float] = TAUS,
    k: int = 200,
    seed: int = 0,
    limit: int | None = None,
    subset: Literal["all", "held_out"] = "all",
    extra_gallery: Sequence[tuple[PathLike, PathLike]] = (),
    queries_path: PathLike | None = None,
    class_map_path: PathLike = CLASS_MAP,
    batch_size: int = 64,
    per_query: PathLike | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank a gallery for sketched layouts made from its own photos, and score the rankings.

    Args:
        encoder: Encodes photos and sketches.
        annotations_path: ``annotations.json`` or a manifest, or several; queries are made from all their photos.
        images_dir: The folder of photos, or one for each of ``annotations_path``.
        sketches_path: Quick, Draw! ndjson, plain or gzipped, or a manifest.
        methods: Of `methods.METHODS`.
        semir: SemIR's encoder: ``encode_images``, and ``encode_sketches`` by the objects' labels.
        index: What ``@pq`` ranks through; None is faiss' IVF_PQ with the paper's parameters, scaled to the gallery.
        tau: A photo is relevant if R > tau.
        taus: The sweep in ``by_tau``; ``tau`` is always part of it.
        k: Results that count in mAP and NDCG.
        seed: Of the queries, of ``random`` and of the bootstrap; the held-out split has its own.
        limit: Queries at most. The gallery stays whole.
        subset: ``held_out`` keeps the photos and the sketches that training has never seen.
        extra_gallery: Pairs of such a file, or ``labels.json``, and its folder of photos: ranked, but not asked for.
        queries_path: Ask these, of a manifest that ``compsketch data queries`` wrote, in place of queries made here.
        class_map_path: Which word draws which class.
        batch_size: Photos and sketches encoded at once.
        per_query: Write each query's scores to this .jsonl or .parquet too.
        progress: Called with what is being encoded, how many are done, and of how many.

    Returns:
        What ``compare`` returns, ``seed`` and ``subset`` too, and ``classes_left_out``.

    Raises:
        DataError: A file or a photo is missing or not in its format.
        ImageError: A photo cannot be decoded.
        CompsketchError: An unknown method, an encoder that can't do it, or a setting out of range.
    """
    _check(encoder, semir, methods, (tau, *taus), k, batch_size, subset, per_query)
    benchmark = prepare(
        _pairs(annotations_path, images_dir), read_sketches(sketches_path), read_class_map(class_map_path),
        above=min(tau, *taus), seed=seed, limit=limit, subset=subset, extra_gallery=extra_gallery,
        queries_path=queries_path,
    )  # fmt: skip
    scores = compare(
        encoder, benchmark, methods=methods, semir=semir, index=index, tau=tau, taus=taus, k=k, seed=seed,
        batch_size=batch_size, per_query=per_query, progress=progress,
    )  # fmt: skip
    return {**scores, "subset": subset, "classes_left_out": list(benchmark.left_out)}


def compare(
    encoder: Encoder,
    benchmark: Benchmark,
    *,
    methods: Sequence[str],
    semir: Any = None,
    index: Index | None = None,
    tau: float = 0.5,
    taus: Sequence[float] = TAUS,
    k: int = 200,
    seed: int = 0,
    batch_size: int = 64,
    per_query: PathLike | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank a benchmark's gallery by each method, and score the rankings; arguments as for ``evaluate``.

    Returns:
        ``{"methods": {name: {**means, "by_objects": {"1": means, ...}, "by_class": {word: means, ...}, "by_tau":
        {"0.3": means, ...}}}, "pairs", "queries", "gallery", "tau", "taus", "k", "seed", "relevant_per_query",
        "queries_without_relevant", "encoders", "index", "statistics"}``. ``means`` are of ``scores.means``, over the
        queries to which at least one photo is relevant, as many as its ``queries``; ``pairs`` of ``scores.pairs``. A
        query is in the class of each of its objects.

    Raises:
        CompsketchError: As for ``evaluate``.
    """
    _check(encoder, semir, methods, (tau, *taus), k, batch_size, "all", per_query)
    if benchmark.above > min(tau, *taus):
        raise CompsketchError(f"the benchmark knows what is relevant over {benchmark.above}, not over a smaller tau")
    index, sweep, names = index or IvfPq(), sorted({tau, *taus}), list(dict.fromkeys(methods))
    sketches = [query.sketch for query in benchmark.queries]
    encoders = {role: one for role, one in (("encoder", encoder), ("semir", semir)) if one is not None}
    progress = progress or (lambda stage, done, total: None)
    run = Run(encoders, benchmark.paths, sketches, index, batch_size, seed, progress)
    best, table = ideal(benchmark.relevant, max(k, DEEP)), np.empty((len(sweep), len(sketches), len(names), 4))
    for i, method in enumerate(names):
        ranked = gains(benchmark.relevant, METHODS[method].rank(run, max(k, DEEP)))  # (Q, depth)
        table[:, :, i] = [score(ranked, best, tau=each, k=k) for each in sweep]
        progress("ranked", i + 1, len(names))
    possible = benchmark.possible(sweep)  # (T, Q)
    if per_query is not None:
        by_query.write(Path(per_query), by_query.rows(_about(benchmark), possible, table, names, sweep))
    main = sweep.index(tau)
    return {
        **_report(benchmark, table, possible, names, sweep, main, seed),
        "queries": len(sketches),
        "gallery": len(benchmark.paths),
        "tau": tau,
        "taus": sweep,
        "k": k,
        "seed": seed,
        "relevant_per_query": float(possible[main].mean()),
        "queries_without_relevant": int((possible[main] == 0).sum()),
        "encoders": {role: _identity(one) for role, one in encoders.items()},
        "index": _described(index, run, names),
        "statistics": {**STATISTICS, "seed": seed},
    }


def _report(
    benchmark: Benchmark,
    table: np.ndarray,
    possible: np.ndarray,
    methods: list[str],
    taus: list[float],
    main: int,
    seed: int,
) -> dict[str, Any]:
    """``methods`` and ``pairs`` from every score, (T, Q, M, 4), and how many photos are relevant, (T, Q)."""
    by_tau = {f"{tau:g}": means(table[i, possible[i] > 0], methods, seed) for i, tau in enumerate(taus)}
    answered = np.flatnonzero(possible[main])
    scores = table[main, answered]  # (n, M, 4)
    queries = [benchmark.queries[row] for row in answered]
    objects = by_group(scores, [[len(query.classes)] for query in queries], methods, seed)
    words = [[item.label or "" for item in query.sketch.objects] for query in queries]
    classes = by_group(scores, words, methods, seed)
    return {
        "methods": {
            method: {
                **by_tau[f"{taus[main]:g}"][method],
                "by_objects": objects[method],
                "by_class": classes[method],
                "by_tau": {tau: found[method] for tau, found in by_tau.items()},
            }
            for method in methods
        },
        "pairs": pairs(scores, methods, seed),
    }


def _about(benchmark: Benchmark) -> list[dict[str, Any]]:
    """What is written of each query beside its scores."""
    return [
        {
            "query": number,
            "photo": str(benchmark.paths[query.photo_index]),
            "objects": len(query.classes),
            "classes": [item.label for item in query.sketch.objects],
        }
        for number, query in enumerate(benchmark.queries)
    ]


def _described(index: Index, run: Run, methods: list[str]) -> dict[str, Any] | None:
    """What the index is for the vectors that it was asked for; None if no method goes through it."""
    asked = [METHODS[name].vectors for name in methods if METHODS[name].indexed]
    return index.describe(*asked[0].of_photos(run).shape) if asked and asked[0] else None


def _identity(encoder: Any) -> dict[str, str | None]:
    return {"name": encoder.name, "fingerprint": getattr(encoder, "fingerprint", None)}


def _check(
    encoder: Encoder,
    semir: Any,
    methods: Sequence[str],
    taus: Sequence[float],
    k: int,
    batch_size: int,
    subset: str,
    per_query: PathLike | None,
) -> None:
    if not methods:
        raise CompsketchError(f"no methods to evaluate; choose from {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise CompsketchError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
        METHODS[method].check(method, {"encoder": encoder, "semir": semir})
    for tau in taus:
        if not 0 <= tau < 1:
            raise CompsketchError(f"tau is {tau}: expected 0 <= tau < 1")
    if k < 1 or batch_size < 1:
        raise CompsketchError(f"k is {k} and batch_size {batch_size}: expected 1 or more")
    if subset not in ("all", "held_out"):
        raise CompsketchError(f"unknown subset {subset!r}; choose from all, held_out")
    if per_query is not None:
        by_query.check(per_query)


def _pairs(
    annotations: PathLike | Sequence[PathLike], images: PathLike | Sequence[PathLike]
) -> list[tuple[PathLike, PathLike]]:
    files = [annotations] if isinstance(annotations, str | Path) else list(annotations)
    folders = [images] if isinstance(images, str | Path) else list(images)
    if not files or len(files) != len(folders):
        raise DataError(f"{len(files)} annotation files and {len(folders)} folders of photos: give one folder a file")
    return list(zip(files, folders, strict=True))
