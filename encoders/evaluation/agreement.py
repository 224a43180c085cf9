"""Do people agree? Krippendorff's alpha for ratings in order (Krippendorff 2011, "Computing Krippendorff's
Alpha-Reliability"), whoever rated what.

Two ratings of one unit are a pair; a pair of different values disagrees the more, the more ratings lie between the two.
Alpha is 1 less the disagreement within units over that of ratings paired at random: 1 is agreement, 0 is chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's alpha for ordinal values.

    Args:
        units: What was rated: the values that each unit was given, by any raters in any order. One with a single value
            says nothing of agreement and is left out.

    Returns:
        At most 1. None where it is not defined: no unit has two values, or all values are the same.
    """
    paired = [values for values in units if len(values) > 1]
    levels = np.unique([value for values in paired for value in values])
    if len(levels) < 2:
        return None
    place = {value: row for row, value in enumerate(levels.tolist())}
    together = np.zeros((len(levels), len(levels)))  # the coincidence matrix: how often two values met in a unit
    for values in paired:
        counts = np.bincount([place[value] for value in values], minlength=len(levels)).astype(np.float64)
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    totals = together.sum(axis=1)
    apart = _distances(totals)
    observed = (together * apart).sum()
    expected = ((np.outer(totals, totals) - np.diag(totals)) * apart).sum() / (totals.sum() - 1)
    return float(1 - observed / expected)


def _distances(totals: np.ndarray) -> np.ndarray:
    """Ordinal distances (v, v): the square of the ratings from one value to the other, each end counted half."""
    middles = np.cumsum(totals) - totals / 2
    distances: np.ndarray = np.square(middles[:, None] - middles[None, :])
    return distances
