"""Objects that weigh more or less than others, and objects that are not wanted: eq. 3 over subsets of a sketch.

With e(S) = f_t*(T_Q(S)), eq. 3 for a set S of the objects, P the wanted ones (weight w > 0) and N the others (w < 0):

    E(Q) = e(P) + sum_{i in P} (w_i - 1) (e(P) - e(P \\ i)) + sum_{j in N} w_j (e(P u j) - e(P))

What an object adds to the embedding, beside those that are there, counts w times: all weights 1 are eq. 3 itself, a
weight near 0 leaves the object out, and a negative one leads away from photos that hold it there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Subset = tuple[int, ...]  # places of objects in a sketch, ascending
Key = TypeVar("Key", bound=Hashable)


def expansion(weights: Sequence[float], among: Collection[int] | None = None) -> dict[Subset, float]:
    """E(Q) as a sum over subsets: the c_S of E(Q) = sum_S c_S e(S); they sum to 1.

    Args:
        weights: One an object, not 0.
        among: Only these objects, as if the sketch had no others; by default all.

    Returns:
        At most n + 1 subsets; the wanted objects' own comes first, and alone if all weights are 1.
    """
    members = range(len(weights)) if among is None else sorted(set(among))
    wanted = tuple(i for i in members if weights[i] > 0)
    sums = {wanted: 1.0}
    for i in members:
        if weights[i] > 0:
            more, less, times = wanted, tuple(j for j in wanted if j != i), weights[i] - 1
        else:
            more, less, times = tuple(sorted((*wanted, i))), wanted, weights[i]
        if times:
            sums[more] = sums.get(more, 0.0) + times
            sums[less] = sums.get(less, 0.0) - times
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
