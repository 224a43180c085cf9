"""mAP, NDCG and P@k as in section 4.2: only the top k results count, and R <= tau counts as irrelevant.

Each function scores one query or many, from two arrays whose last axis is: ``ranked``, R of the results, best first;
and ``gallery``, R of all photos, in any order (those with R <= tau may be missing, and so may all but the best k: they
add nothing). Leading axes are queries. A query to which no photo is relevant has no defined score: it gets 0 here, and
a mean leaves it out and says how many it left out. That can't happen to a query made from a photo of the gallery: its
own photo has R = 1.
"""

from __future__ import annotations

import numpy as np


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` best of ``scores``, best first; of equal scores the earlier comes first, at the cut too.

    Args:
        scores: (n,), finite.
        k: How many, at least 1; all of them when ``k`` > n.

    Returns:
        (min(k, n),) int64 indices.
    """
    scores = np.asarray(scores)
    # A stable sort of all of a large gallery costs a hundred times as much as sorting what reaches the cut.
    candidates = np.flatnonzero(scores >= _floor(scores, k)) if k < len(scores) else np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def _floor(scores: np.ndarray, k: int, groups: int = 16) -> np.floating | np.integer:
    """A score that at least ``k`` reach, and not many more: the k-th best of the best of ``groups * k`` groups."""
    n = len(scores)
    if n >= 4 * groups * k:
        depth = n // (groups * k)
        # Each column is a group: its best is a score that is reached, and no two groups share a photo.
        scores = scores[: depth * groups * k].reshape(depth, groups * k).max(axis=0)
    floor: np.floating | np.integer = np.partition(scores, len(scores) - k)[len(scores) - k]
    return floor


def average_precision(ranked: np.ndarray, gallery: np.ndarray, *, tau: float = 0.5, k: int = 200) -> np.ndarray:
    """AP of the top ``k``: precision at each relevant result, summed, over min(relevant in the gallery, ``k``).

    That denominator lets a perfect ranking reach 1 whether fewer or more than ``k`` photos are relevant.

    Returns:
        (...,) float64, 0 to 1; 0 where nothing in the gallery is relevant.
    """
    hits = np.asarray(ranked)[..., :k] > tau  # (..., n)
    possible = np.minimum(np.count_nonzero(np.asarray(gallery) > tau, axis=-1), k)
    precision = np.cumsum(hits, axis=-1) / np.arange(1, hits.shape[-1] + 1)
    return _part((precision * hits).sum(axis=-1), possible)


def ndcg(ranked: np.ndarray, gallery: np.ndarray, *, tau: float = 0.5, k: int = 200) -> np.ndarray:
    """NDCG of the top ``k``: gain R where R > tau, else 0; discount log2(rank + 1).

    The ideal ranking is that of the whole gallery, cut at ``k``: what was not found counts against a method.

    Returns:
        (...,) float64, 0 to 1; 0 where nothing in the gallery is relevant.
    """
    ideal = np.sort(np.asarray(gallery, np.float64), axis=-1)[..., ::-1]
    return _part(_discounted(ranked, tau, k), _discounted(ideal, tau, k))


def precision_at(ranked: np.ndarray, *, tau: float = 0.5, k: int = 20) -> np.ndarray:
    """The relevant part of the top ``k``, (...,); results that a small gallery can't give count as irrelevant."""
    return np.count_nonzero(np.asarray(ranked)[..., :k] > tau, axis=-1) / np.float64(k)


def _discounted(ranked: np.ndarray, tau: float, k: int) -> np.ndarray:
    gains = np.asarray(ranked, np.float64)[..., :k]
    gains = np.where(gains > tau, gains, 0.0)
    total: np.ndarray = (gains / np.log2(np.arange(2, gains.shape[-1] + 2))).sum(axis=-1)
    return total


def _part(found: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """``found / possible``, 0 where nothing is possible."""
    found, possible = np.asarray(found, np.float64), np.asarray(possible, np.float64)
    return np.divide(found, possible, out=np.zeros_like(found), where=possible > 0)
