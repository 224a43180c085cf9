"""Sketch to vector to Milvus to hits, ranked again on the stored vectors where the index is lossy.

Where the encoder's bundle is calibrated, `confidence` reads a hit's cosine as a probability; `encoders.calibration`
says what it means and where it ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.encoder import Calibrated
from compsketch_milvus.errors import CollectionError, CompsketchError
from compsketch_milvus.ranking import Hit
from compsketch_milvus.retrieval import retrieve
from compsketch_milvus.steps import Steps, Work
from compsketch_milvus.terms import MAX_LIMIT, Terms

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder, ImageLike
    from encoders.sketch import Sketch

__all__ = [
    "MAX_LIMIT",
    "Hit",
    "SearchResult",
    "by_image",
    "by_sketches",
    "by_vectors",
    "checked_vectors",
    "search",
    "search_image",
    "search_many",
    "search_vectors",
]


@dataclass(frozen=True)
class SearchResult:
    """What was found.

    Args:
        hits: best first.
        seconds: that each step took: `encode`, `search`, `rerank`.
        best: confidence of the best photo, also where it is too low to be among the hits.
        short: why grouping or hidden duplicates left fewer hits than the limit although there may be more photos;
            None where the limit was filled or the photos ended.
    """

    hits: list[Hit]
    seconds: dict[str, float]
    best: float | None = None
    short: str | None = None

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
    min_confidence: float | None = None,
    **terms: Any,
) -> SearchResult:
    """Find the photos that hold a sketch's objects in its layout.

    Args:
        collection: where to search.
        sketch: what to search with.
        limit: number of hits, 1 to 16384.
        filter: Milvus' filter expression over width, height, source and further fields, such as 'width > 640'.
        words: also use the objects' labels.
        min_confidence: leave out hits of lower confidence, 0 to 1; no hits then means that there is no good match.
        **terms: `filter_params`, `threshold`, `rerank`, `consistency`, `group_by`, `group_size` and `hide_duplicates`,
            as `compsketch_milvus.terms.Terms` explains them.

    Raises:
        CollectionError: the sketch or a term does not fit, or min_confidence is given and the encoder is not
            calibrated for the sketch.
        ServerError: Milvus failed.
    """
    return search_many(collection, [sketch], limit, filter, words=words, min_confidence=min_confidence, **terms)[0]


def search_many(
    collection: SketchCollection,
    sketches: Sequence[Sketch],
    limit: int = 20,
    filter: str = "",
    *,
    words: bool = False,
    min_confidence: float | None = None,
    **terms: Any,
) -> list[SearchResult]:
    """`search` for many sketches, encoded and sent in batches; results in their order.

    An error names the sketch by its place, from 0; the seconds are each sketch's share.
    """
    asked = Terms(limit, filter, **terms)
    return collection.carry_out(by_sketches(collection, sketches, asked, words=words, min_confidence=min_confidence))


def search_image(
    collection: SketchCollection, image: ImageLike, limit: int = 20, filter: str = "", **terms: Any
) -> SearchResult:
    """More like this: find the photos nearest to a photo. Arguments as for `search`."""
    return collection.carry_out(by_image(collection, image, Terms(limit, filter, **terms)))


def search_vectors(
    collection: SketchCollection, vectors: np.ndarray, limit: int = 20, filter: str = "", **terms: Any
) -> list[SearchResult]:
    """Search with vectors that the collection's encoder made.

    Args:
        collection: where to search.
        vectors: (n, d) of unit length.
        limit: number of hits a vector, 1 to 16384.
        filter: Milvus' filter expression.
        **terms: as for `search`.

    Raises:
        CollectionError: a vector, by its place, or a term does not fit.
        ServerError: Milvus failed.
    """
    return collection.carry_out(by_vectors(collection, vectors, Terms(limit, filter, **terms)))


# --- the steps ---


def by_sketches(
    collection: SketchCollection,
    sketches: Sequence[Sketch],
    terms: Terms,
    *,
    words: bool = False,
    min_confidence: float | None = None,
) -> Steps[list[SearchResult]]:
    """The steps of `search_many`."""
    encoder = collection.encoder
    for place, sketch in enumerate(sketches):
        where = f"sketch {place}: " if len(sketches) > 1 else ""
        _check_sketch(encoder, sketch, where, words, min_confidence)
    if not sketches:
        return []
    start = time.perf_counter()
    vectors = yield Work(lambda: encoder.encode_sketches(list(sketches), words=words), "encode sketches")  # (n, d)
    took = time.perf_counter() - start
    results = yield from by_vectors(collection, vectors, terms, encode=took)
    return [
        _judged(result, _confidence(encoder, sketch, [hit.score for hit in result], words), min_confidence)
        for sketch, result in zip(sketches, results, strict=True)
    ]


def by_image(collection: SketchCollection, image: ImageLike, terms: Terms) -> Steps[SearchResult]:
    """The steps of `search_image`."""
    encoder = collection.encoder
    start = time.perf_counter()
    vectors = yield Work(lambda: encoder.encode_images([image]), "encode photos")  # (1, d)
    took = time.perf_counter() - start
    results = yield from by_vectors(collection, vectors, terms, encode=took)
    return results[0]


def by_vectors(
    collection: SketchCollection, vectors: np.ndarray, terms: Terms, *, encode: float = 0.0
) -> Steps[list[SearchResult]]:
    """The steps of `search_vectors`; `encode` is the seconds that encoding all of them took."""
    vectors = checked_vectors(vectors, collection.encoder.dim)
    found = yield from retrieve(collection, vectors, terms)
    share = encode / max(1, len(vectors))
    return [
        SearchResult(one.hits, {"encode": share, "search": one.searched, "rerank": one.ranked}, short=one.short)
        for one in found
    ]


def _confidence(encoder: Encoder, sketch: Sketch, scores: list[float], words: bool) -> np.ndarray | None:
    return encoder.confidence(sketch, np.array(scores), words=words) if isinstance(encoder, Calibrated) else None


def _judged(result: SearchResult, confidence: np.ndarray | None, least: float | None) -> SearchResult:
    """Give hits their confidence, and leave out those with too little."""
    if confidence is None or not len(confidence):
        return result
    hits = [replace(hit, confidence=value) for hit, value in zip(result.hits, confidence.tolist(), strict=True)]
    kept = [hit for hit, value in zip(hits, confidence.tolist(), strict=True) if least is None or value >= least]
    return replace(result, hits=kept, best=hits[0].confidence)


def _check_sketch(encoder: Encoder, sketch: Sketch, where: str, words: bool, least: float | None) -> None:
    from encoders.sketch import Sketch

    if not isinstance(sketch, Sketch):
        raise CollectionError(
            f"{where}{sketch!r:.80} is no Sketch; make one with Sketch.open(path) or Sketch.from_dict"
        )
    if least is None:
        return
    if not 0 <= least <= 1:
        raise CollectionError(f"min_confidence {least!r}: it has to be a probability, from 0 to 1")
    if _confidence(encoder, sketch, [], words) is None:
        raise CollectionError(
            f"{where}min_confidence {least!r}: encoder {encoder.name!r} is not calibrated for such sketches; "
            "use threshold, a least score, or an encoder that is"
        )


def checked_vectors(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) float32 to send to Milvus, which gives no hits for a vector that is not finite, and no reason.

    Raises:
        CollectionError: it names the first vector that has another shape or length.
        CompsketchError: it names the first that is not finite.
    """
    try:
        vectors = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise CollectionError(f"query vectors: the collection needs numbers of shape (n, {dim}) ({error})") from None
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise CollectionError(f"query vectors of shape {vectors.shape}: the collection needs (n, {dim})")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        which = f"query vector {finite.argmin()}" if len(vectors) > 1 else "the query vector"
        raise CompsketchError(f"{which} is not finite; check the sketch's coordinates and the encoder")
    off = np.abs(np.linalg.norm(vectors, axis=1) - 1) > 1e-2
    if off.any():
        which = f"query vector {off.argmax()} has" if len(vectors) > 1 else "query vectors have"
        raise CollectionError(f"{which} to be of unit length; divide each by its norm")
    return vectors
