"""Objects that weigh more or less than others, and objects that are not wanted: eq. 3 over subsets of a sketch.

With e(S) = f_t*(T_Q(S)), eq. 3 for a set S of the objects, P the wanted ones (weight w > 0), m their largest weight,
and N those that are not wanted (w < 0):

    E+(Q) = 1/m  integral from 0 to m of  e({i in P: w_i >= t}) dt
    E(Q)  = E+(Q) + 1/4 sum_{j in N} w_j |E+(Q)| e({j}) / |e({j})|

The first is the Lovasz extension of e: an object of half the weight is there half of the time. Only ratios matter, so
that equal weights are eq. 3 itself, and a weight that tends to 0 takes its object out. The second leads away from
photos that hold j there: by a quarter of what is wanted with w = -1, by all of it with -4.

Both were measured against what is at hand, on held-out photos (`evaluation.negatives`). Adding what an object alone
embeds to, or its marginal e(P) - e(P without i), raises a heavy object's match no further at the same cost to the
others, and the marginal takes f_t's output where it has never been. Negatives by marginals e(P and j) - e(P), by
painting -v in eq. 1, or without the two norms cost more of what is wanted for each photo they keep out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

Subset = tuple[int, ...]  # places of objects in a sketch, ascending
Key = TypeVar("Key", bound=Hashable)
OPPOSITION = 0.25  # of what is wanted, an object's of weight -1: the most at which what is wanted is found as before


def expansion(weights: Sequence[float], among: Collection[int] | None = None) -> dict[Subset, float]:
    """E+(Q) as a sum over subsets: the c_S of E+(Q) = sum_S c_S e(S), which are above 0 and sum to 1.

    Args:
        weights: One an object, not 0; those below 0 have no part in it.
        among: Only these objects are there; by default all.

    Returns:
        One subset a distinct weight at most, each within the one before; the empty set alone if nothing is wanted.
    """
    there = range(len(weights)) if among is None else among
    levels = sorted({weight for weight in weights if weight > 0})
    sums: dict[Subset, float] = {} if levels else {(): 1.0}
    below = 0.0
    for level in levels:
        subset = tuple(i for i in sorted(there) if weights[i] >= level)
        sums[subset] = sums.get(subset, 0.0) + (level - below) / levels[-1]
        below = level
    return sums


def combined(embed: Callable[[list[Key]], np.ndarray], sums: Sequence[Mapping[Key, float]]) -> np.ndarray:
    """Rows sum_S c_S e(S).

    Args:
        embed: Takes all distinct keys at once, in order of appearance, and gives e of each: (k, F).
        sums: B rows; a key says which set of objects it is, and of which sketch if there are several.

    Returns:
        (B, F), of ``embed``'s type; a row with one coefficient 1 is ``embed``'s own, bit for bit.
    """
    keys = list(dict.fromkeys(key for row in sums for key in row))
    embedded = embed(keys)  # (k, F)
    place = {key: number for number, key in enumerate(keys)}
    rows = np.zeros((len(sums), embedded.shape[1]), embedded.dtype)
    for row, coefficients in zip(rows, sums, strict=True):
        for key, coefficient in coefficients.items():
            row += embedded.dtype.type(coefficient) * embedded[place[key]]
    return rows


def opposed(wanted: np.ndarray, alone: np.ndarray, weights: ArrayLike) -> np.ndarray:
    """What objects that are not wanted add to E(Q): 1/4 w_j |E+(Q)| e({j}) / |e({j})|.

    Args:
        wanted: (F,), E+(Q).
        alone: (k, F), e({j}) of each.
        weights: (k,), below 0.

    Returns:
        (k, F), of ``wanted``'s type.
    """
    sizes = np.linalg.norm(alone, axis=1, keepdims=True)  # (k, 1)
    sizes[sizes == 0] = 1.0  # a rectified f_t may see nothing in an object
    times = OPPOSITION * np.asarray(weights, np.float64)[:, None] * np.linalg.norm(wanted) / sizes
    return (times * alone).astype(wanted.dtype)


def weighted(embed: Callable[[list[tuple[int, Subset]]], np.ndarray], weights: Sequence[Sequence[float]]) -> np.ndarray:
    """E(Q) of many sketches.

    Args:
        embed: e of pairs (sketch, places of objects in it), all at once: (k, F).
        weights: B sequences, one weight an object.

    Returns:
        (B, F); with equal weights, none below 0, ``embed``'s own rows.
    """
    wanted = [{(row, subset): c for subset, c in expansion(own).items()} for row, own in enumerate(weights)]
    unwanted = [[i for i, weight in enumerate(own) if weight < 0] for own in weights]
    alone: list[dict[tuple[int, Subset], float]] = [
        {(row, (i,)): 1.0} for row, places in enumerate(unwanted) for i in places
    ]
    rows, others = np.split(combined(embed, [*wanted, *alone]), [len(weights)])  # (B, F), (negatives, F)
    ends = np.cumsum([len(places) for places in unwanted])
    for row, own, places, those in zip(rows, weights, unwanted, np.split(others, ends[:-1]), strict=False):
        if places:
            row += opposed(row, those, [own[i] for i in places]).sum(axis=0)
    return rows
