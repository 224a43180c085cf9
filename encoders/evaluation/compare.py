"""Methods side by side: the same queries, the same gallery, scored by eq. 9, mAP, NDCG and P@20 (section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from encoders.errors import CompsketchError, DataError
from encoders.evaluation.compositions import Composition, compositions, split_photos, split_sketches
from encoders.evaluation.data import (
    CLASS_MAP,
    Annotations,
    ClassMap,
    SketchSet,
    read_annotations,
    read_class_map,
    read_photos,
    read_sketches,
)
from encoders.evaluation.metrics import average_precision, ndcg, precision_at, top_k
from encoders.evaluation.relevance import Gallery, Relevant, relevances
from encoders.sketch import Sketch

PRECISION_AT = 20  # section 4.4 shows 20 results
QUERY_BLOCK = 256  # queries scored at once: 256 x 125,000 photos are 128 MB

Progress = Callable[[str, int, int], None]
PathLike = str | Path


class Encoder(Protocol):
    """What ``ssbir`` and ``ssbir+words`` need; ``msbir`` also needs ``embed_photo_objects`` and ``embed_canvas``."""

    @property
    def name(self) -> str: ...

    def encode_images(self, images: Sequence[Any]) -> np.ndarray: ...

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray: ...


@dataclass(frozen=True)
class Benchmark:
    """Photos, queries, and what is relevant to each: all that scoring needs besides the rankings.

    Attributes:
        paths: (G,) the gallery's photos.
        queries: (Q,) the compositions.
        relevant: (Q,) the photos with R > tau.
        left_out: Classes in the gallery that no query shows: the class map leaves them out, or there are no sketches.
    """

    paths: tuple[Path, ...]
    queries: tuple[Composition, ...]
    relevant: tuple[Relevant, ...]
    left_out: tuple[str, ...]


def evaluate(
    encoder: Encoder,
    annotations_path: PathLike | Sequence[PathLike],
    images_dir: PathLike | Sequence[PathLike],
    sketches_path: PathLike,
    *,
    methods: Sequence[str] = ("ssbir", "msbir", "random"),
    tau: float = 0.5,
    k: int = 200,
    seed: int = 0,
    limit: int | None = None,
    subset: Literal["all", "held_out"] = "all",
    extra_gallery: Sequence[tuple[PathLike, PathLike]] = (),
    class_map_path: PathLike = CLASS_MAP,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank a gallery for sketched layouts made from its own photos, and score the rankings.

    Args:
        encoder: Encodes photos and sketches.
        annotations_path: ``annotations.json``, or several; queries are made from all their photos.
        images_dir: The folder of photos, or one for each of ``annotations_path``.
        sketches_path: Quick, Draw! ndjson, plain or gzipped.
        methods: Of ``ssbir`` (strokes), ``ssbir+words`` (strokes and the words they stand for), ``msbir`` (the
            canvas as one object against the whole photo), ``random``.
        tau: A photo is relevant if R > tau.
        k: Results that count in mAP and NDCG.
        seed: Of the queries and of ``random``; the held-out split has its own.
        limit: Queries at most. The gallery stays whole.
        subset: ``held_out`` keeps the photos and the sketches that training has never seen.
        extra_gallery: Pairs of a file (``annotations.json`` or ``labels.json``) and its folder of photos: ranked with
            the rest, no queries are made from them.
        class_map_path: Which word draws which class.
        batch_size: Photos and sketches encoded at once.
        progress: Called with what is being encoded, how many are done, and of how many.

    Returns:
        ``{"methods": {name: {"mAP", "NDCG", "P@20", "by_objects": {"1": {"mAP", "NDCG", "P@20", "queries"}, ...}}},
        "queries", "gallery", "tau", "k", "seed", "subset", "relevant_per_query", "queries_without_relevant",
        "classes_left_out"}``. Means are over queries to which at least one photo is relevant; here that is every one.

    Raises:
        DataError: A file or a photo is missing or not in its format.
        ImageError: A photo cannot be decoded.
        CompsketchError: An unknown method, an encoder that can't do it, or a setting out of range.
    """
    _check(encoder, methods, tau, k, batch_size, subset)
    class_map, sketches = read_class_map(class_map_path), read_sketches(sketches_path)
    benchmark = prepare(
        _pairs(annotations_path, images_dir), sketches, class_map,
        tau=tau, seed=seed, limit=limit, subset=subset, extra_gallery=extra_gallery,
    )  # fmt: skip
    depth = max(k, PRECISION_AT)
    run = _Run(encoder, benchmark, batch_size, seed, progress or (lambda stage, done, total: None))
    scores = {method: score(benchmark, METHODS[method].rank(run, depth), tau=tau, k=k) for method in methods}
    per_query = [len(relevant.photos) for relevant in benchmark.relevant]
    return {
        "methods": scores,
        "queries": len(benchmark.queries),
        "gallery": len(benchmark.paths),
        "tau": tau,
        "k": k,
        "seed": seed,
        "subset": subset,
        "relevant_per_query": float(np.mean(per_query)),
        "queries_without_relevant": per_query.count(0),
        "classes_left_out": list(benchmark.left_out),
    }


def prepare(
    sources: Sequence[tuple[PathLike, PathLike]],
    sketches: SketchSet,
    class_map: ClassMap,
    *,
    tau: float = 0.5,
    seed: int = 0,
    limit: int | None = None,
    subset: str = "all",
    extra_gallery: Sequence[tuple[PathLike, PathLike]] = (),
) -> Benchmark:
    """The gallery, the queries and their relevant photos; arguments and errors as for ``evaluate``."""
    held_out = subset == "held_out"
    parts, paths = [], []
    for number, (file, folder) in enumerate([*sources, *extra_gallery]):
        part = read_annotations(file) if number < len(sources) else read_photos(file)
        if held_out:
            part = part.select(split_photos(part.files))
        parts.append(part)
        paths += [Path(folder) / name for name in part.files]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} photos are missing, {missing[0]} first; check the folder")
    if held_out:
        sketches = sketches.select(split_sketches(sketches.key_ids))
    photos = Annotations.join(parts)
    asked = range(sum(len(part.files) for part in parts[: len(sources)]))
    queries = compositions(photos, sketches, class_map, n=limit, seed=seed, photos=asked)
    # Classes meet as words: COCO's "couch" and VOC's "sofa" are one; a class that is left out is in no query.
    words = [class_map.word(name) for name in photos.classes]
    rows = [row for row, word in enumerate(words) if word in sketches.by_class]
    gallery = Gallery.build(
        photos.normalised[rows], photos.photos[rows], [str(words[row]) for row in rows], len(photos.files)
    )
    relevant = relevances(
        ((query.boxes, [str(class_map.word(name)) for name in query.classes]) for query in queries), gallery, above=tau
    )
    left_out = sorted({name for name in photos.classes if class_map.word(name) not in sketches.by_class})
    return Benchmark(tuple(paths), tuple(queries), tuple(relevant), tuple(left_out))


def rank(queries: np.ndarray, gallery: np.ndarray, depth: int) -> Iterator[np.ndarray]:
    """The ``depth`` photos of largest inner product for each query, best first, ties by place in the gallery.

    Args:
        queries: (Q, d).
        gallery: (G, d).
        depth: Results a query.

    Yields:
        (min(depth, G),) indices into the gallery, one array a query.
    """
    for start in range(0, len(queries), QUERY_BLOCK):
        for scores in queries[start : start + QUERY_BLOCK] @ gallery.T:
            yield top_k(scores, depth)


def score(benchmark: Benchmark, rankings: Iterator[np.ndarray], *, tau: float, k: int) -> dict[str, Any]:
    """Means of AP, NDCG and P@20 over the queries, and over those of each number of objects.

    Queries to which no photo is relevant are left out of every mean.
    """
    rows, objects = [], []
    for query, relevant, ranking in zip(benchmark.queries, benchmark.relevant, rankings, strict=True):
        ranked = relevant.of(ranking)
        if len(relevant.photos):
            rows.append((
                average_precision(ranked, relevant.values, tau=tau, k=k),
                ndcg(ranked, relevant.values, tau=tau, k=k),
                precision_at(ranked, tau=tau, k=PRECISION_AT),
            ))  # fmt: skip
            objects.append(len(query.classes))
    table, counts = np.array(rows).reshape(-1, 3), np.array(objects)
    by_objects = {
        str(count): {**_means(table[counts == count]), "queries": int((counts == count).sum())}
        for count in np.unique(counts)
    }
    return {**_means(table), "by_objects": by_objects}


def _means(table: np.ndarray) -> dict[str, float]:
    means = table.mean(axis=0) if len(table) else np.zeros(3)
    return dict(zip(("mAP", "NDCG", f"P@{PRECISION_AT}"), means.tolist(), strict=True))


@dataclass
class _Run:
    """One evaluation's encoder and what it has encoded: two methods on the same vectors encode the gallery once."""

    encoder: Any
    benchmark: Benchmark
    batch_size: int
    seed: int
    progress: Progress
    cache: dict[str, np.ndarray] = field(default_factory=dict)

    def photos(self, method: str) -> np.ndarray:
        if method not in self.cache:
            encode = getattr(self.encoder, method)
            self.cache[method] = self._encode(encode, self.benchmark.paths, f"photos: {method}")
        return self.cache[method]

    def sketches(self, method: str, **options: bool) -> np.ndarray:
        encode = partial(getattr(self.encoder, method), **options)
        sketches = [query.sketch for query in self.benchmark.queries]
        return self._encode(encode, sketches, f"sketches: {method}")

    def _encode(self, encode: Callable[[Sequence[Any]], np.ndarray], items: Sequence[Any], stage: str) -> np.ndarray:
        batches = []
        for start in range(0, len(items), self.batch_size):
            batch = items[start : start + self.batch_size]
            vectors = np.asarray(encode(list(batch)), np.float32)
            if vectors.ndim != 2 or len(vectors) != len(batch) or not np.isfinite(vectors).all():
                raise CompsketchError(
                    f"encoder {self.encoder.name!r}, {stage}: expected {len(batch)} finite vectors, "
                    f"found {vectors.shape}" + ("" if np.isfinite(vectors).all() else " with NaN or infinity")
                )
            batches.append(vectors)
            self.progress(stage, start + len(batch), len(items))
        return np.concatenate(batches)


@dataclass(frozen=True)
class Method:
    """How a method ranks, and what it asks of the encoder."""

    rank: Callable[[_Run, int], Iterator[np.ndarray]]
    needs: tuple[str, ...]


def _ssbir(run: _Run, depth: int, words: bool) -> Iterator[np.ndarray]:
    return rank(run.sketches("encode_sketches", words=words), run.photos("encode_images"), depth)


def _msbir(run: _Run, depth: int) -> Iterator[np.ndarray]:
    return rank(run.sketches("embed_canvas"), run.photos("embed_photo_objects"), depth)


def _random(run: _Run, depth: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(run.seed)
    for _ in run.benchmark.queries:
        yield rng.permutation(len(run.benchmark.paths))[:depth]


METHODS = {
    "ssbir": Method(partial(_ssbir, words=False), ("encode_images", "encode_sketches")),
    "ssbir+words": Method(partial(_ssbir, words=True), ("encode_images", "encode_sketches")),
    "msbir": Method(_msbir, ("embed_photo_objects", "embed_canvas")),
    "random": Method(_random, ()),
}


def _check(encoder: Encoder, methods: Sequence[str], tau: float, k: int, batch_size: int, subset: str) -> None:
    if not methods:
        raise CompsketchError(f"no methods to evaluate; choose from {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise CompsketchError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
        lacking = [need for need in METHODS[method].needs if not hasattr(encoder, need)]
        if lacking:
            raise CompsketchError(
                f"encoder {encoder.name!r} can't do method {method!r}: it has no {' and no '.join(lacking)}; "
                f"leave the method out or take another encoder"
            )
    if not 0 <= tau < 1:
        raise CompsketchError(f"tau is {tau}: expected 0 <= tau < 1")
    if k < 1 or batch_size < 1:
        raise CompsketchError(f"k is {k} and batch_size {batch_size}: expected 1 or more")
    if subset not in ("all", "held_out"):
        raise CompsketchError(f"unknown subset {subset!r}; choose from all, held_out")


def _pairs(
    annotations: PathLike | Sequence[PathLike], images: PathLike | Sequence[PathLike]
) -> list[tuple[PathLike, PathLike]]:
    files = [annotations] if isinstance(annotations, str | Path) else list(annotations)
    folders = [images] if isinstance(images, str | Path) else list(images)
    if not files or len(files) != len(folders):
        raise DataError(f"{len(files)} annotation files and {len(folders)} folders of photos: give one folder a file")
    return list(zip(files, folders, strict=True))
