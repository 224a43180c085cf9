"""Sketch to vector to Milvus to hits, ranked again on the stored vectors where the index is lossy.

Milvus returns squared L2; a hit's `distance` is its root, the ||E_Q - E_I|| of section 3 of the paper. Vectors have
unit length, so that the cosine is 1 - distance^2 / 2. Where the encoder's bundle is calibrated, `confidence` reads that
cosine as a probability; `encoders.calibration` says what it means and where it ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.encoder import Calibrated
from compsketch_milvus.errors import CollectionError, CompsketchError
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder, ImageLike

__all__ = ["MAX_LIMIT", "Hit", "SearchResult", "search", "search_image", "search_many", "search_vectors"]

MAX_LIMIT = 16384  # Milvus' own
RERANKED = 200  # how many hits of a lossy index are ranked again at least
QUERIES_A_CALL = 64
EXHAUSTIVE = ("FLAT", "BRUTE_FORCE", "GPU_BRUTE_FORCE")  # these look at every row
_COLUMNS = ("source", "width", "height", "$meta")


@dataclass(frozen=True)
class Hit:
    """One photo found.

    Args:
        id: primary key.
        source: where the photo came from.
        score: cosine of sketch and photo, -1 to 1.
        distance: L2 distance of the two unit vectors, 0 to 2.
        fields: width, height and the dynamic fields.
        confidence: probability, 0 to 1, that the photo is relevant; None where the encoder is not calibrated for it.
    """

    id: str
    source: str
    score: float
    distance: float
    fields: dict[str, Any] = field(default_factory=dict)
    confidence: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """What was found.

    Args:
        hits: best first.
        seconds: that each step took: `encode`, `search`, `rerank`.
        best: confidence of the best photo, also where it is too low to be among the hits.
    """

    hits: list[Hit]
    seconds: dict[str, float]
    best: float | None = None

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


def search(
    collection: SketchCollection,
    sketch: Sketch,
    limit: int = 20,
    filter: str = "",
    *,
    words: bool = False,
    threshold: float | None = None,
    min_confidence: float | None = None,
) -> SearchResult:
    """Find the photos that hold a sketch's objects in its layout.

    Args:
        collection: where to search.
        sketch: what to search with.
        limit: number of hits, 1 to 16384.
        filter: Milvus' filter expression over width, height, source and dynamic fields, such as 'width > 640'.
        words: also use the objects' labels.
        threshold: leave out hits with a lower score, -1 to 1.
        min_confidence: leave out hits of lower confidence, 0 to 1; no hits then means that there is no good match.

    Raises:
        CollectionError: sketch, limit, threshold, min_confidence or filter do not fit, or min_confidence is given and
            the encoder is not calibrated for the sketch.
        ServerError: Milvus failed.
    """
    return search_many(
        collection, [sketch], limit, filter, words=words, threshold=threshold, min_confidence=min_confidence
    )[0]


def search_many(
    collection: SketchCollection,
    sketches: Sequence[Sketch],
    limit: int = 20,
    filter: str = "",
    *,
    words: bool = False,
    threshold: float | None = None,
    min_confidence: float | None = None,
) -> list[SearchResult]:
    """`search` for many sketches, encoded and sent in batches; the seconds are each sketch's share."""
    _check(limit, threshold)
    for sketch in sketches:
        if not isinstance(sketch, Sketch):
            raise CollectionError(f"{sketch!r:.80} is no Sketch; make one with Sketch.open(path) or Sketch.from_dict")
        if min_confidence is not None:
            _check_confidence(min_confidence, collection.encoder, sketch, words)
    if not sketches:
        return []
    start = time.perf_counter()
    vectors = collection.encoder.encode_sketches(list(sketches), words=words)  # (n, d)
    took = time.perf_counter() - start
    results = search_vectors(collection, vectors, limit, filter, threshold=threshold, encode=took)
    return [
        _judged(result, _confidence(collection.encoder, sketch, [hit.score for hit in result], words), min_confidence)
        for sketch, result in zip(sketches, results, strict=True)
    ]


def search_image(
    collection: SketchCollection,
    image: ImageLike,
    limit: int = 20,
    filter: str = "",
    *,
    threshold: float | None = None,
) -> SearchResult:
    """More like this: find the photos nearest to a photo. Arguments as for `search`."""
    _check(limit, threshold)
    start = time.perf_counter()
    vectors = collection.encoder.encode_images([image])  # (1, d)
    took = time.perf_counter() - start
    return search_vectors(collection, vectors, limit, filter, threshold=threshold, encode=took)[0]


def search_vectors(
    collection: SketchCollection,
    vectors: np.ndarray,
    limit: int = 20,
    filter: str = "",
    *,
    threshold: float | None = None,
    encode: float = 0.0,
) -> list[SearchResult]:
    """Search with vectors that the collection's encoder made.

    Args:
        collection: where to search.
        vectors: (n, d) of unit length.
        limit: number of hits a vector, 1 to 16384.
        filter: Milvus' filter expression.
        threshold: leave out hits with a lower score.
        encode: seconds that encoding all of them took, to report.

    Raises:
        CollectionError: vectors, limit, threshold or filter do not fit.
        ServerError: Milvus failed.
    """
    _check(limit, threshold)
    vectors = _checked_vectors(vectors, collection.encoder.dim)
    results: list[SearchResult] = []
    for start in range(0, len(vectors), QUERIES_A_CALL):
        batch = vectors[start : start + QUERIES_A_CALL]
        found, seconds = _search_batch(collection, batch, limit, filter)
        share = {name: taken / len(batch) for name, taken in seconds.items()}
        for hits in found:
            kept = [hit for hit in hits if threshold is None or hit.score >= threshold]
            results.append(SearchResult(kept, {"encode": encode / len(vectors), **share}))
    return results


def _search_batch(
    collection: SketchCollection, vectors: np.ndarray, limit: int, filter: str
) -> tuple[list[list[Hit]], dict[str, float]]:
    index = collection.index
    fetch = min(MAX_LIMIT, max(RERANKED, limit)) if index.lossy else limit
    params = dict(index.search_params)
    if "ef" in params:
        params["ef"] = max(int(params["ef"]), fetch)  # HNSW refuses a list shorter than its answer
    start = time.perf_counter()
    answer = collection.call(
        "search",
        "search",
        expression=filter,
        data=list(vectors),
        filter=filter,
        limit=fetch,
        output_fields=[*_COLUMNS, *(["vector"] if index.lossy else [])],
        search_params={"metric_type": "L2", "params": params},
        anns_field="vector",
    )
    rows = [[{"id": row["id"], "distance": row["distance"], **row["entity"]} for row in query] for query in answer]
    if filter and index.type not in EXHAUSTIVE:
        rows = _completed(collection, rows, fetch, filter)
    searched = time.perf_counter()
    hits = [_ranked(found, vector)[:limit] for found, vector in zip(rows, vectors, strict=True)]
    return hits, {"search": searched - start, "rerank": time.perf_counter() - searched}


def _completed(
    collection: SketchCollection, rows: list[list[dict[str, Any]]], wanted: int, filter: str
) -> list[list[dict[str, Any]]]:
    """Where a filter left too few, fetch every row that passes it.

    A search through a graph, or through some of the lists, can miss what a narrow filter lets pass.
    """
    fewest = min(len(found) for found in rows)
    if fewest >= wanted:
        return rows
    matching = collection.count(filter)
    if not fewest < matching <= MAX_LIMIT:
        return rows
    every = collection.call(
        "search",
        "query",
        expression=filter,
        filter=filter,
        output_fields=["id", "vector", *_COLUMNS],
        limit=matching,
    )
    return [[dict(row) for row in every] for _ in rows]


def _ranked(rows: list[dict[str, Any]], vector: np.ndarray) -> list[Hit]:
    """Hits by distance, ties by id; exact distances where the rows bring their vectors."""
    if rows and "vector" in rows[0]:
        stored = np.array([row["vector"] for row in rows], dtype=np.float64)  # (n, d)
        squares = ((stored - vector.astype(np.float64)) ** 2).sum(axis=1).tolist()
    else:
        squares = [max(0.0, row["distance"]) for row in rows]  # rounding can go below 0
    hits = [_hit(row, square) for row, square in zip(rows, squares, strict=True)]
    return sorted(hits, key=lambda hit: (hit.distance, hit.id))


def _hit(row: dict[str, Any], square: float) -> Hit:
    fields = {name: value for name, value in row.items() if name not in ("id", "source", "vector", "distance", "$meta")}
    return Hit(str(row["id"]), row["source"], max(-1.0, 1.0 - square / 2), math.sqrt(square), fields)


def _confidence(encoder: Encoder, sketch: Sketch, scores: list[float], words: bool) -> np.ndarray | None:
    return encoder.confidence(sketch, np.array(scores), words=words) if isinstance(encoder, Calibrated) else None


def _judged(result: SearchResult, confidence: np.ndarray | None, least: float | None) -> SearchResult:
    """Give hits their confidence, and leave out those with too little."""
    if confidence is None or not len(confidence):
        return result
    hits = [replace(hit, confidence=value) for hit, value in zip(result.hits, confidence.tolist(), strict=True)]
    kept = [hit for hit, value in zip(hits, confidence.tolist(), strict=True) if least is None or value >= least]
    return SearchResult(kept, result.seconds, hits[0].confidence)


def _check(limit: int, threshold: float | None) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise CollectionError(f"limit {limit!r}: it has to be a whole number from 1 to {MAX_LIMIT}")
    if threshold is not None and not -1 <= threshold <= 1:
        raise CollectionError(f"threshold {threshold!r}: it has to be a cosine, from -1 to 1")


def _check_confidence(least: float, encoder: Encoder, sketch: Sketch, words: bool) -> None:
    if not 0 <= least <= 1:
        raise CollectionError(f"min_confidence {least!r}: it has to be a probability, from 0 to 1")
    if _confidence(encoder, sketch, [], words) is None:
        raise CollectionError(
            f"min_confidence {least!r}: encoder {encoder.name!r} is not calibrated for such sketches; "
            "use threshold, a least score, or an encoder that is"
        )


def _checked_vectors(vectors: np.ndarray, dim: int) -> np.ndarray:
    vectors = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise CollectionError(f"query vectors of shape {vectors.shape}: the collection needs (n, {dim})")
    if not np.isfinite(vectors).all():
        raise CompsketchError("the query vector is not finite; check the sketch's coordinates and the encoder")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max(initial=0) > 1e-2:
        raise CollectionError("query vectors have to be of unit length; divide each by its norm")
    return vectors
