"""Figures of scores by query: means, ratios of means and paired differences, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoders.evaluation.benchmark import Benchmark
from encoders.evaluation.scores import DEEP, gains, ideal, score
from encoders.evaluation.statistics import LEVEL, RESAMPLES, intervals, paired_t
from encoders.evaluation.tables.table import Cell, Figure


def mean(scores: np.ndarray, seed: int) -> Figure:
    """The mean of scores (n,), one a query, sketch or crop."""
    scores = np.asarray(scores, np.float64)
    ends = intervals(scores[:, None], seed=seed)
    return Figure(float(scores.mean()), *(() if ends is None else ends[0].tolist()))


def ratio(scores: np.ndarray, whole: np.ndarray, seed: int) -> Figure:
    """What part of a mean is kept: mean(scores) / mean(whole), of the same queries (n,), drawn together."""
    if not whole.any():
        return Figure(0.0)
    rng, n = np.random.default_rng(seed), len(scores)
    draws = [rng.integers(n, size=n) for _ in range(RESAMPLES)]
    found = [scores[rows].sum() / whole[rows].sum() for rows in draws if whole[rows].any()]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Figure(float(scores.sum() / whole.sum()), low, high)


def difference(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[Cell, Cell, Cell]:
    """Mean of a - b with its interval, p of the paired t-test, and Cohen's d_z."""
    test = paired_t(a, b)
    return mean(a - b, seed), test.p, test.effect_size


def reported(means: Mapping[str, Any], metric: str) -> Figure:
    """A metric of what ``scores.means`` says of a method."""
    ends = means["intervals"]
    return Figure(means[metric], *(() if ends is None else ends[metric]))


def scored(benchmark: Benchmark, rankings: np.ndarray, tau: float, k: int = DEEP) -> np.ndarray:
    """AP, NDCG, P@20 and P@200 of each query that has an answer, (n, 4), from rankings (Q, depth)."""
    best = ideal(benchmark.relevant, max(k, DEEP))
    scores = score(gains(benchmark.relevant, rankings), best, tau=tau, k=k)
    return scores[benchmark.possible([tau])[0] > 0]


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, F) scaled to length 1, float32: their inner products then are cosines."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
