"""Scores of rankings, query by query, and what is made of them: means with intervals, and methods in pairs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from encoders.evaluation.metrics import average_precision, ndcg, precision_at
from encoders.evaluation.relevance import Relevant
from encoders.evaluation.statistics import intervals, paired_t

METRICS = ("mAP", "NDCG", "P@20", "P@200")
SHOWN = 20  # results that section 4.4 shows to people
DEEP = 200  # results that section 4.2 counts


def gains(relevant: Sequence[Relevant], rankings: np.ndarray) -> np.ndarray:
    """R of the ranked photos: (Q, n) float64; 0 where a ranking has ended (-1)."""
    return np.stack([of.of(ranking) for of, ranking in zip(relevant, rankings, strict=True)])


def ideal(relevant: Sequence[Relevant], k: int) -> np.ndarray:
    """R of each query's ``k`` most relevant photos, best first: (Q, k) float64, 0 where there are no more."""
    best = np.zeros((len(relevant), k))
    for row, of in zip(best, relevant, strict=True):
        values = np.sort(of.values)[::-1][:k]
        row[: len(values)] = values
    return best


def score(ranked: np.ndarray, best: np.ndarray, *, tau: float, k: int) -> np.ndarray:
    """Each query's AP, NDCG, P@20 and P@200, (Q, 4), from ``gains`` and ``ideal``."""
    return np.stack([
        average_precision(ranked, best, tau=tau, k=k),
        ndcg(ranked, best, tau=tau, k=k),
        precision_at(ranked, tau=tau, k=SHOWN),
        precision_at(ranked, tau=tau, k=DEEP),
    ], axis=-1)  # fmt: skip


def means(scores: np.ndarray, methods: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """What one group of queries says of each method.

    Args:
        scores: (n, M, 4) of the group's queries.
        methods: (M,) names.
        seed: Of the bootstrap.

    Returns:
        ``{method: {"mAP", "NDCG", "P@20", "P@200", "intervals": {metric: [low, high]}, "queries": n}}``; of no query
        means are 0, and of fewer than two intervals are None.
    """
    n, M, _ = scores.shape
    middle = scores.mean(axis=0) if n else np.zeros((M, len(METRICS)))
    ends = intervals(scores.reshape(n, M * len(METRICS)), seed=seed)  # (4 M, 2)
    table = None if ends is None else ends.reshape(M, len(METRICS), 2).tolist()
    return {
        method: {
            **dict(zip(METRICS, middle[i].tolist(), strict=True)),
            "intervals": None if table is None else dict(zip(METRICS, table[i], strict=True)),
            "queries": n,
        }
        for i, method in enumerate(methods)
    }


def by_group(
    scores: np.ndarray, groups: Sequence[Sequence[Hashable]], methods: Sequence[str], seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """``means`` of the queries of each group, by method and then by group.

    Args:
        scores: (n, M, 4).
        groups: (n,) the groups that each query is in.
        methods: (M,) names.
        seed: Of the bootstrap.
    """
    members: dict[Any, list[int]] = {}
    for row, names in enumerate(groups):
        for name in dict.fromkeys(names):
            members.setdefault(name, []).append(row)
    parts = {str(name): means(scores[members[name]], methods, seed) for name in sorted(members)}
    return {method: {name: part[method] for name, part in parts.items()} for method in methods}


def pairs(scores: np.ndarray, methods: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Every two methods compared by every metric, the differences query by query.

    Args:
        scores: (n, M, 4).
        methods: (M,) names.
        seed: Of the bootstrap.

    Returns:
        ``{"a", "b", "metric", "difference", "interval", "t", "p", "effect_size", "n"}`` each: the mean of a's score
        less b's, its bootstrap interval [low, high], and the paired t-test; see ``statistics.PairedTest``.
    """
    if not len(scores):
        return []
    found, columns = [], []
    for one, other, metric in _compared(methods):
        a, b = scores[:, one, metric], scores[:, other, metric]
        found.append({"a": methods[one], "b": methods[other], "metric": METRICS[metric], **asdict(paired_t(a, b))})
        columns.append(a - b)
    ends = intervals(np.stack(columns, axis=1), seed=seed) if columns else None
    for i, pair in enumerate(found):
        pair["interval"] = None if ends is None else ends[i].tolist()
    return found


def _compared(methods: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    for one, other in combinations(range(len(methods)), 2):
        for metric in range(len(METRICS)):
            yield one, other, metric
