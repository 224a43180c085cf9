"""Queries against a gallery, many at once: exactly, by a quantised index, and by the index with its best ranked again.

A ranking is a row of places in the gallery, best first; -1 fills a row where an index has found fewer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from encoders.evaluation.metrics import top_k

BLOCK_BYTES = 128 << 20  # of scores at a time: 256 queries against 125,000 photos


class Index(Protocol):
    """A vector index to be measured: faiss' here, or Milvus' own, which the caller brings."""

    def describe(self, rows: int, dim: int) -> dict[str, Any]:
        """What it is for so many vectors of such a length: ``kind`` and its parameters, as JSON."""
        ...

    def search(self, queries: np.ndarray, gallery: np.ndarray, depth: int) -> np.ndarray:
        """Rankings (Q, depth) int64 by squared L2 of ``queries`` (Q, d) against ``gallery`` (G, d)."""
        ...


def rank(queries: np.ndarray, gallery: np.ndarray, depth: int) -> np.ndarray:
    """The ``depth`` photos of largest inner product for each query, ties by place in the gallery.

    Args:
        queries: (Q, d).
        gallery: (G, d).
        depth: Results a query.

    Returns:
        (Q, min(depth, G)) int64.
    """
    found = np.empty((len(queries), min(depth, len(gallery))), np.int64)
    block = max(1, BLOCK_BYTES // (4 * max(1, len(gallery))))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, len(queries), block):
            scores = queries[start : start + block] @ gallery.T  # (block, G)
            for row, best in enumerate(pool.map(lambda row: top_k(row, depth), scores), start):
                found[row] = best
    return found


def rerank(queries: np.ndarray, gallery: np.ndarray, found: np.ndarray) -> np.ndarray:
    """What an index has found, ranked again by the inner product of the vectors themselves; ties as they were.

    Args:
        queries: (Q, d).
        gallery: (G, d).
        found: (Q, n) rankings; -1 stays behind all others.
    """
    ordered = np.empty_like(found)
    for row, (query, places) in enumerate(zip(queries, found, strict=True)):
        scores = np.where(places >= 0, gallery[places] @ query, -np.inf)
        ordered[row] = places[np.argsort(-scores, kind="stable")]
    return ordered
