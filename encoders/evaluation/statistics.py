"""Is one method better than another? Intervals, and paired t-tests as in sections 4.3 and 4.4.

All methods answer the same queries, and what makes a query hard is in every method's score of it: a test of the
differences, query by query, sees what a comparison of two means with their intervals can't.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
RESAMPLES = 2000  # the ends of a 95 % interval then rest on 50 resamples each


@dataclass(frozen=True)
class PairedTest:
    """Student's t-test of paired scores against equal means, two-sided.

    Attributes:
        difference: Mean of a - b.
        t: The mean difference over its standard error, n - 1 degrees of freedom. None where it has no finite value:
            a single pair, or all differences equal and not 0.
        p: Chance of a t at least as far from 0 if the means were equal; not corrected for other tests. None for a
            single pair.
        effect_size: Cohen's d_z, the mean difference over the standard deviation of the differences; None as for t.
        n: Pairs.
    """

    difference: float
    t: float | None
    p: float | None
    effect_size: float | None
    n: int


def paired_t(a: np.ndarray, b: np.ndarray) -> PairedTest:
    """Test two methods' scores of the same queries.

    Args:
        a: (n,) scores of the one, n >= 1.
        b: (n,) of the other, query by query.

    Raises:
        ValueError: No pair, or not as many of the one as of the other.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"scores have shapes {a.shape} and {b.shape}: expected two of (n,), n >= 1")
    differences, n = a - b, len(a)
    mean = float(differences.mean())
    if n == 1:
        return PairedTest(mean, None, None, None, n)
    deviation = float(differences.std(ddof=1))
    if deviation <= 1e-12 * abs(mean):  # constant but for rounding
        return PairedTest(mean, 0.0, 1.0, 0.0, n) if mean == 0 else PairedTest(mean, None, 0.0, None, n)
    effect_size = mean / deviation
    t = effect_size * np.sqrt(n)
    return PairedTest(mean, float(t), float(2 * special.stdtr(n - 1, -abs(t))), effect_size, n)


def intervals(
    scores: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray | None:
    """Bootstrap intervals of column means: queries are drawn with replacement, the same ones for all columns.

    BCa (bias-corrected and accelerated, Efron 1987): a percentile interval whose ends are moved for the skewness that
    scores between 0 and 1, many of them 0, have. A column without spread has its mean for both ends.

    Args:
        scores: (n, m), a row a query, a column a method's metric or a difference of two.
        level: Part of such intervals that hold the true mean.
        resamples: How many.
        seed: Of the draws.

    Returns:
        (m, 2) float64, low and high; None for fewer than 2 queries, which say nothing of their spread.

    Raises:
        ValueError: ``scores`` is not a table, or ``level`` or ``resamples`` is out of range.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {scores.shape}: expected (queries, columns)")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level is {level} and resamples {resamples}: expected 0 < level < 1 and 1 or more")
    n, m = scores.shape
    if n < 2:
        return None
    means = np.concatenate([counts @ scores for counts in _draws(n, resamples, seed)]) / n  # (resamples, m)
    ends = _bca_levels(scores, means, level)  # (m, 2)
    found = np.array([np.quantile(means[:, column], ends[column]) for column in range(m)]).reshape(m, 2)
    flat = np.ptp(scores, axis=0) == 0
    found[flat] = scores[0, flat, None]
    return found


def _draws(n: int, resamples: int, seed: int, block: int = 128) -> Iterator[np.ndarray]:
    """How often each query is drawn, (block, n) float64 at a time: means of resamples are then one matrix product."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]  # counted in one go, each row apart
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _bca_levels(scores: np.ndarray, means: np.ndarray, level: float) -> np.ndarray:
    """Which quantiles of the resampled means (resamples, m) are the interval's ends, (m, 2)."""
    deviations = scores - scores.mean(axis=0)  # of a mean, the jackknife's deviations are these / (1 - n)
    squares = (deviations**2).sum(axis=0)
    cubes = (deviations**3).sum(axis=0)
    acceleration = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 0)[:, None]  # (m, 1)
    resamples = len(means)
    apart = means - scores.mean(axis=0)
    apart[np.abs(apart) <= 1e-12 * np.abs(scores).max(axis=0)] = 0.0  # few queries: many resamples have their mean
    below = (apart < 0).mean(axis=0) + (apart == 0).mean(axis=0) / 2
    bias = special.ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))[:, None]  # (m, 1)
    z = bias + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))  # (m, 2)
    levels: np.ndarray = special.ndtr(bias + z / (1 - acceleration * z))
    return levels
