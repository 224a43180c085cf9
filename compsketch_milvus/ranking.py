"""What Milvus found, ranked by exact distances where the stored vectors came with it.

Milvus returns squared L2; a hit's `distance` is its root, the ||E_Q - E_I|| of section 3 of the paper. Vectors have
unit length, so that the cosine is 1 - distance^2 / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Hit", "Ranked", "ranked"]

_NO_FIELDS = ("id", "source", "vector", "distance", "$meta")


@dataclass(frozen=True)
class Hit:
    """One photo found.

    Args:
        id: primary key.
        source: where the photo came from.
        score: cosine of sketch and photo, -1 to 1.
        distance: L2 distance of the two unit vectors, 0 to 2.
        fields: width, height and the further fields.
        confidence: probability, 0 to 1, that the photo is relevant; None where the encoder is not calibrated for it.
        duplicates: ids of photos left out because they are nearly this one, where that was asked for.
    """

    id: str
    source: str
    score: float
    distance: float
    fields: dict[str, Any] = field(default_factory=dict)
    confidence: float | None = None
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """The photos found for one query, nearest first, ties by id.

    Args:
        rows: as Milvus gave them.
        squares: (n,) squared distances.
        vectors: (n, d) stored vectors; None where they were not fetched.
    """

    rows: Sequence[dict[str, Any]]
    squares: np.ndarray
    vectors: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    def score(self, place: int) -> float:
        """The cosine of query and photo."""
        return max(-1.0, 1.0 - float(self.squares[place]) / 2)

    def passing(self, threshold: float | None) -> int:
        """How many, from the first on, have that score."""
        if threshold is None:
            return len(self)
        return int(np.searchsorted(-np.maximum(-1.0, 1.0 - self.squares / 2), -threshold, side="right"))

    def hit(self, place: int, duplicates: Sequence[int] = ()) -> Hit:
        """The photo at a place, behind which those at other places are hidden."""
        row, square = self.rows[place], float(self.squares[place])
        fields = {name: value for name, value in row.items() if name not in _NO_FIELDS}
        hidden = tuple(str(self.rows[other]["id"]) for other in duplicates)
        return Hit(str(row["id"]), row["source"], self.score(place), math.sqrt(square), fields, duplicates=hidden)


def ranked(rows: Sequence[dict[str, Any]], vector: np.ndarray) -> Ranked:
    """Rank rows, by their `vector` where they bring it, else by their `distance`.

    Args:
        rows: with `id`, and `vector` or `distance` (a squared one).
        vector: (d,) the query.
    """
    stored = None
    if rows and "vector" in rows[0]:
        stored = np.array([row["vector"] for row in rows], dtype=np.float64)  # (n, d)
        squares = ((stored - vector.astype(np.float64)) ** 2).sum(axis=1)
    else:
        squares = np.maximum(0.0, [row["distance"] for row in rows])  # rounding can go below 0
    order = sorted(range(len(rows)), key=lambda place: (squares[place], str(rows[place]["id"])))
    return Ranked([rows[place] for place in order], squares[order], None if stored is None else stored[order])
