"""What the objects of queries are painted with.

==================  ===================================================================  ==========================
vectors             an object's vector                                                   asked with
==================  ===================================================================  ==========================
`SketchVectors`     f_s of a sketch of its class                                         strokes (eq. 1)
`CropVectors`       f_i of its own crop of the photo                                     photos (eq. 2), as the paper
`NameVectors`       its class's: a row of stage 1's classifier, or a sentence model's    words; SemIR
`MixedVectors`      one of these by chance, or the sum of a sketch's and the class's     what stage 2 learns from
==================  ===================================================================  ==========================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from encoders.errors import CompsketchError


class Vectors(Protocol):
    """Gives objects their vectors."""

    def paints(self, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """Which objects, of these classes and crops (`Views.crops`), it has a vector for: (n,) booleans."""
        ...

    def draw(self, classes: np.ndarray, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n, C) float32 unit vectors of n objects that it paints."""
        ...


@dataclass(frozen=True)
class SketchVectors:
    """Of an object's class, any sketch.

    Attributes:
        vectors: (S, C) unit vectors of sketches.
        by_class: Rows of ``vectors`` for each of the K classes.
    """

    vectors: np.ndarray
    by_class: list[np.ndarray]

    @classmethod
    def build(cls, vectors: np.ndarray, classes: np.ndarray, count: int) -> SketchVectors:
        """From the class (S,) of each vector and the number of classes."""
        return cls(vectors, [np.flatnonzero(classes == kind) for kind in range(count)])

    def paints(self, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """See `Vectors`."""
        return np.array([len(self.by_class[kind]) > 0 for kind in classes], bool)

    def draw(self, classes: np.ndarray, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `Vectors`."""
        return self.vectors[[rng.choice(self.by_class[kind]) for kind in classes]]


@dataclass(frozen=True)
class NameVectors:
    """Of an object's class, its own vector.

    Attributes:
        vectors: (K, C) unit vectors.
    """

    vectors: np.ndarray

    def paints(self, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """See `Vectors`."""
        return np.ones(len(classes), bool)

    def draw(self, classes: np.ndarray, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `Vectors`."""
        return self.vectors[classes]


@dataclass(frozen=True)
class CropVectors:
    """What f_i makes of the object itself, cut out of its photo.

    Attributes:
        vectors: (N, C) unit vectors of crops.
        row: (M + 1,) row of each crop by its number, -1 of one that is too small to have a vector and, last, of any
            with a higher number.
    """

    vectors: np.ndarray
    row: np.ndarray

    @classmethod
    def build(cls, vectors: np.ndarray, numbers: np.ndarray) -> CropVectors:
        """From the number (N,) of the crop that each vector is of."""
        row = np.full(int(numbers.max(initial=-1)) + 2, -1)
        row[numbers] = np.arange(len(numbers))
        return cls(vectors, row)

    def rows(self, crops: np.ndarray) -> np.ndarray:
        """Row of each crop, -1 where there is none."""
        return self.row[np.minimum(crops, len(self.row) - 1)]

    def paints(self, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """See `Vectors`."""
        return self.rows(crops) >= 0

    def draw(self, classes: np.ndarray, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `Vectors`."""
        return self.vectors[self.rows(crops)]


@dataclass(frozen=True)
class Mixture:
    """Which part of the objects is painted with what.

    An object that nobody can draw, or too small a crop, is painted with its class's name instead.

    Attributes:
        sketch: A training sketch, through f_s.
        name: The class's own vector.
        both: Their normalised sum.
        crop: The object itself, through f_i; 1 is the paper's recipe (eq. 2), and leaves out objects without a crop.
        noise: Length of the noise added to a sketch's unit vector: training sketches are read better than new ones.

    Raises:
        CompsketchError: The parts do not add up to 1.
    """

    sketch: float = 0.55
    name: float = 0.2
    both: float = 0.25
    crop: float = 0.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        parts = (self.sketch, self.name, self.both, self.crop)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-6:
            raise CompsketchError(f"the mixture's parts sketch, name, both, crop are {parts}: they have to add up to 1")


@dataclass(frozen=True)
class MixedVectors:
    """One of several by chance.

    Attributes:
        mixture: The chances.
        sketches: Of training sketches.
        names: Of classes.
        crops: Of the photos' objects; None where ``mixture.crop`` is 0.
    """

    mixture: Mixture
    sketches: SketchVectors
    names: NameVectors
    crops: CropVectors | None = None

    def paints(self, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
        """See `Vectors`; with crops alone those that have one, else every object."""
        if self.crops is not None and self.mixture.crop == 1:
            return self.crops.paints(classes, crops)
        return self.names.paints(classes, crops)

    def draw(self, classes: np.ndarray, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `Vectors`."""
        rows = np.full(len(crops), -1) if self.crops is None else self.crops.rows(crops)
        vectors = np.stack([self._draw(kind, row, rng) for kind, row in zip(classes, rows, strict=True)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _draw(self, kind: int, row: int, rng: np.random.Generator) -> np.ndarray:
        mixture, name, drawn = self.mixture, self.names.vectors[kind], self.sketches.by_class[kind]
        choice = rng.random()
        if self.crops is not None and choice < mixture.crop and row >= 0:
            return self.crops.vectors[row]
        if choice < mixture.crop + mixture.name or not len(drawn):
            return name
        sketch = self.sketches.vectors[rng.choice(drawn)]
        sketch = sketch + rng.normal(0, mixture.noise / len(sketch) ** 0.5, sketch.shape) * rng.uniform(0, 2)
        sketch = sketch / np.linalg.norm(sketch)
        return sketch + name if choice < mixture.crop + mixture.name + mixture.both else sketch


@dataclass(frozen=True)
class Source:
    """What one method's queries are painted with.

    Attributes:
        channels: C of the vectors.
        vocabulary: The K classes.
        training: Of queries to learn from.
        held_out: Of queries to measure with.
        drawable: (K,) which classes have training sketches: they are asked for more often, by every method alike.
        measured: (K,) which classes have held-out sketches: they are what is measured, for every method alike.
    """

    channels: int
    vocabulary: list[str]
    training: Vectors
    held_out: Vectors
    drawable: np.ndarray
    measured: np.ndarray
