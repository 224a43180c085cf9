"""Which of the photos found are shown: not too many of one group, and of near-duplicates the best alone."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from compsketch_milvus.ranking import Ranked
from compsketch_milvus.terms import Terms

__all__ = ["pick"]

ROUNDING = 1e-6  # of the cosine of two equal vectors of float32


def pick(found: Ranked, terms: Terms) -> dict[int, list[int]]:
    """Go through the photos from the best to the worst, and leave out what earlier ones make superfluous.

    Args:
        found: the photos; with vectors where near-duplicates are to be hidden.
        terms: `limit`, `threshold`, `group_by`, `group_size` and `hide_duplicates` are heeded.

    Returns:
        The places of the photos shown, each with the places of those that it hides.
    """
    passing = found.passing(terms.threshold)
    if not terms.thins:
        return {place: [] for place in range(min(passing, terms.limit))}
    vectors = found.vectors if terms.hide_duplicates is not None else None
    units = None if vectors is None else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.empty((min(terms.limit, passing), 0 if units is None else units.shape[1]))  # those of the photos shown
    shown: dict[int, list[int]] = {}
    groups: Counter[str] = Counter()
    for place in range(passing):
        if units is not None:
            near = np.flatnonzero(best[: len(shown)] @ units[place] >= (terms.hide_duplicates or 1) - ROUNDING)
            if len(near):
                shown[list(shown)[near[0]]].append(place)
                continue
        group = _group(found, place, terms.group_by)
        if len(shown) < terms.limit and groups[group] < terms.group_size:
            groups[group] += group != ""
            if units is not None:
                best[len(shown)] = units[place]
            shown[place] = []
    return shown


def _group(found: Ranked, place: int, name: str | None) -> str:
    """A value as a key; empty where there is none."""
    row = found.rows[place]
    return json.dumps(row[name], sort_keys=True) if name is not None and row.get(name) is not None else ""
