"""Why a photo was found: the similarity of a sketch and a photo as a sum over objects and cells, exactly.

A collection stores y_I = P(E_I), a sketch asks with y_Q = P(E_Q), and the score is s = <y_Q, y_I>. P divides by
|E_Q|, applies A and b, and divides by L = |A E_Q / |E_Q| + b|. With both lengths as they are, s is linear in E_Q:

    s = <b, y_I> / L + sum_cells <E_Q[cell], (A^T y_I)[cell]> / (|E_Q| L)

so every cell of the 7 x 7 map has its part of s. What of E_Q is whose follows from the game v(S) = E(the objects in S),
with v of none the empty canvas: each object's share is its Shapley value, what it adds to those that are there before
it, on average over all orders. Shares and canvas sum to E_Q, so all parts sum to s. y_I is what Milvus has: no photo is
needed.

An object of another weight takes part as `weighing` has it; one that is not wanted is outside the game: what it adds
is its own term there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from encoders.formats.pen import PALETTE
from encoders.projection import Projection
from encoders.weighing import Subset, expansion

EXACT = 6  # objects with which all orders are taken: 720, and 64 subsets through f_t
SAMPLED = 16  # orders with more objects, half of them the others reversed, so that early and late places even out
AGAINST = (12, 14, 18)  # the tint of parts that speak against the photo
NEAREST = Image.Resampling.NEAREST
OPACITY = 0.75  # of the cell that speaks loudest: the photo stays visible under it
PALE = 0.3  # how far a photo's greys are lifted to white, so that tints of either kind show on dark ones, too


@dataclass(frozen=True, eq=False)
class Explanation:
    """The parts of one hit's score.

    Attributes:
        objects: (n, 7, 7), what each object of the sketch adds in each cell; rows from the top.
        canvas: (7, 7), what the empty canvas would.
        bias: What the projection's offset adds, wherever things lie.
    """

    objects: NDArray[np.float64]
    canvas: NDArray[np.float64]
    bias: float

    @property
    def score(self) -> float:
        """The sum of all parts: the cosine of sketch and photo."""
        return float(self.objects.sum() + self.canvas.sum() + self.bias)

    @property
    def totals(self) -> NDArray[np.float64]:
        """(n,) what each object adds to the score."""
        return self.objects.sum(axis=(1, 2))

    @property
    def loudest(self) -> float:
        """The most that objects say in one cell, for and against together: what `overlay` tints by."""
        return float(np.abs(self.objects).sum(axis=0).max())

    def to_dict(self) -> dict[str, Any]:
        """All parts, as JSON has them."""
        return {
            "objects": [
                {"total": float(total), "cells": cells.tolist()}
                for total, cells in zip(self.totals, self.objects, strict=True)
            ],
            "canvas": {"total": float(self.canvas.sum()), "cells": self.canvas.tolist()},
            "bias": self.bias,
        }

    def overlay(self, photo: Image.Image, loudest: float | None = None) -> Image.Image:
        """A pale grey photo, tinted cell by cell: in an object's colour where it speaks for it, dark where against.

        Args:
            photo: Of any size; the cells are stretched to it.
            loudest: What is tinted most, to compare several photos; by default this one's own `loudest`.

        Returns:
            RGB, of the photo's size.
        """
        most = loudest or self.loudest or 1.0
        colours = np.array([PALETTE[i % len(PALETTE)] for i in range(len(self.objects))] + [AGAINST], np.float64)
        voices = np.concatenate([self.objects.clip(0), -self.objects.clip(max=0).sum(axis=0)[None]])  # (n + 1, 7, 7)
        strength = voices.sum(axis=0)  # (7, 7)
        mixed = np.einsum("nyx,nc->yxc", voices, colours) / np.where(strength, strength, 1)[..., None]
        opacity = np.minimum(strength / most, 1) * OPACITY
        tint = Image.fromarray(mixed.round().astype(np.uint8))
        mask = Image.fromarray((255 * opacity).round().astype(np.uint8))
        grey = photo.convert("L").point(lambda value: value + PALE * (255 - value)).convert("RGB")
        return Image.composite(tint.resize(photo.size, NEAREST), grey, mask.resize(photo.size, NEAREST))


def shares(weights: Sequence[float], seed: int = 0) -> list[dict[Subset, float]]:
    """Who adds what to E(Q), as sums over subsets that `weighing.combined` takes.

    Args:
        weights: n, one an object, not 0.
        seed: Of the orders, with more than `EXACT` objects.

    Returns:
        n + 1 sums: an object's Shapley value each, nothing for one that is not wanted, and last the empty canvas.
        Together they are `expansion(weights)`, for sampled orders, too: along each order what is added telescopes.
    """
    value = lru_cache(maxsize=None)(lambda among: expansion(weights, among))
    orders = _orders(len(weights), seed)
    sums: list[defaultdict[Subset, float]] = [defaultdict(float) for _ in weights]
    for order in orders:
        there: Subset = ()
        for i in order:
            more = tuple(sorted((*there, i)))
            for among, sign in ((more, 1), (there, -1)):
                for subset, coefficient in value(among).items():
                    sums[i][subset] += sign * coefficient / len(orders)
            there = more
    return [*map(dict, sums), {(): 1.0}]


def explain(parts: ArrayLike, projection: Projection, stored: ArrayLike, grid: int) -> list[Explanation]:
    """Spread the scores of photos over what a sketch's embedding is the sum of.

    Args:
        parts: (n + 1, D grid grid) the summands of E_Q: n objects', and last the empty canvas'.
        projection: P.
        stored: (k, d) the photos' vectors.
        grid: Cells a side of a map.
    """
    maps = np.asarray(parts, np.float64)
    matrix, offset = projection.matrix.astype(np.float64), projection.offset.astype(np.float64)
    whole = maps.sum(axis=0)  # E_Q
    length = np.linalg.norm(whole)
    norm = np.linalg.norm(matrix @ whole / length + offset)  # L
    by_cell = maps.reshape(len(maps), -1, grid * grid)  # (n + 1, D, 49)
    explained = []
    for vector in np.asarray(stored, np.float64):
        pull = (vector @ matrix / (length * norm)).reshape(-1, grid * grid)  # (D, 49)
        cells = np.einsum("ndc,dc->nc", by_cell, pull).reshape(-1, grid, grid)
        explained.append(Explanation(cells[:-1], cells[-1], float(offset @ vector / norm)))
    return explained


def _orders(count: int, seed: int) -> list[tuple[int, ...]]:
    if count <= EXACT:
        return list(permutations(range(count)))
    rng = np.random.default_rng(seed)
    forwards = [tuple(rng.permutation(count).tolist()) for _ in range(SAMPLED // 2)]
    return [*forwards, *(order[::-1] for order in forwards)]
