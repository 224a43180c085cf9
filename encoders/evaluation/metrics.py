"""mAP, NDCG and P@k as in section 4.2: only the top k results count, and R <= tau counts as irrelevant.

Each function scores one query from two arrays: ``ranked``, R of the results, best first; and ``gallery``, R of all
photos, in any order (those with R <= tau may be missing: they add nothing). A query to which no photo is relevant has
no defined score: it gets 0 here, and a mean leaves it out and says how many it left out. That can't happen to a query
made from a photo of the gallery: its own photo has R = 1.
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
    if k < len(scores):
        # A stable sort of all of a large gallery costs ten times as much as sorting what reaches the cut.
        cut = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= cut)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def average_precision(ranked: np.ndarray, gallery: np.ndarray, *, tau: float = 0.5, k: int = 200) -> float:
    """AP of the top ``k``: precision at each relevant result, summed, over min(relevant in the gallery, ``k``).

    That denominator lets a perfect ranking reach 1 whether fewer or more than ``k`` photos are relevant.

    Returns:
        0 to 1; 0 where nothing in the gallery is relevant.
    """
    hits = np.asarray(ranked)[:k] > tau
    possible = min(int(np.count_nonzero(np.asarray(gallery) > tau)), k)
    if possible == 0:
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / possible)


def ndcg(ranked: np.ndarray, gallery: np.ndarray, *, tau: float = 0.5, k: int = 200) -> float:
    """NDCG of the top ``k``: gain R where R > tau, else 0; discount log2(rank + 1).

    The ideal ranking is that of the whole gallery, cut at ``k``: what was not found counts against a method.

    Returns:
        0 to 1; 0 where nothing in the gallery is relevant.
    """
    ideal = _discounted(np.sort(np.asarray(gallery, np.float64))[::-1], tau, k)
    return _discounted(ranked, tau, k) / ideal if ideal > 0 else 0.0


def precision_at(ranked: np.ndarray, *, tau: float = 0.5, k: int = 20) -> float:
    """The relevant part of the top ``k``; results that a small gallery can't give count as irrelevant."""
    return float(np.count_nonzero(np.asarray(ranked)[:k] > tau) / k)


def _discounted(ranked: np.ndarray, tau: float, k: int) -> float:
    gains = np.asarray(ranked, np.float64)[:k]
    gains = np.where(gains > tau, gains, 0.0)
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
