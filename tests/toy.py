"""A tiny true encoder: photos and sketches meet in one space, so that rankings mean something without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.bundle import Bundle
from encoders.calibration import Calibration, Sigmoid, group
from encoders.explain import Explanation, explain, shares
from encoders.images import load_photo
from encoders.projection import Projection
from encoders.sketch import Sketch
from encoders.weighing import Subset, combined


class ToyEncoder:
    """Darkness on a coarse grid: a photo's is its gray thumbnail's, a sketch's is where its boxes lie.

    Args:
        grid: Cells a side; ``dim`` is its square.
        fingerprint: What a collection remembers; give two encoders two of them to test a mismatch.
    """

    def __init__(self, grid: int = 4, fingerprint: str = "toy-0000000000000000") -> None:
        self.grid = grid
        self.name = "toy"
        self.dim = grid * grid
        self.fingerprint = fingerprint
        self.networks, self.features = f"toy-networks-{grid}", grid * grid
        self.device = "cpu"
        self.image_size = 32
        self.batches = 0
        self.images = 0

    def embed_images(self, images: Sequence[object], *, project: bool = False) -> np.ndarray:
        self.batches += 1
        self.images += len(images)
        size, grid = self.image_size, self.grid
        pixels = [
            image
            if isinstance(image, np.ndarray) and image.shape == (size, size, 3)
            else load_photo(image, size).pixels
            for image in images
        ]
        dark = 255.0 - np.stack(pixels).mean(axis=3) if pixels else np.zeros((0, size, size))  # (B, 32, 32)
        cells = dark.reshape(-1, grid, size // grid, grid, size // grid).mean(axis=(2, 4))  # (B, 4, 4)
        flat = cells.reshape(len(images), self.features).astype(np.float32)
        return self.project(flat) if project else flat

    def encode_images(self, images: Sequence[object]) -> np.ndarray:
        return self.project(self.embed_images(images))

    def project(self, features: np.ndarray) -> np.ndarray:
        return _unit(features.astype(np.float32))

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        rows = [self._field(sketch.boxes) for sketch in sketches]
        return self.project(np.array(rows, dtype=np.float32).reshape(len(sketches), self.features))

    def _field(self, boxes: np.ndarray) -> np.ndarray:
        centres = (np.arange(self.grid) + 0.5) / self.grid
        field = np.zeros((self.grid, self.grid))
        for x0, y0, x1, y1 in boxes:
            inside_y, inside_x = (centres >= y0) & (centres <= y1), (centres >= x0) & (centres <= x1)
            field += np.outer(inside_y, inside_x)
        return field.reshape(-1)


class TurnedEncoder(ToyEncoder):
    """The toy's networks with another projection: the cells in reverse order, all, or the first ``dim`` of them."""

    def __init__(self, grid: int = 4, fingerprint: str = "toy-turned0000000000", dim: int | None = None) -> None:
        super().__init__(grid, fingerprint)
        self.name, self.dim = "turned", dim or self.dim

    def project(self, features: np.ndarray) -> np.ndarray:
        return super().project(features[:, ::-1][:, : self.dim])


class BundledEncoder(ToyEncoder):
    """The toy's networks with the projection that a bundle holds."""

    def __init__(self, bundle: Bundle, grid: int = 8) -> None:
        super().__init__(grid, bundle.fingerprint)
        self._projection = Projection.from_tensors(bundle.tensors)
        self.name, self.networks, self.dim = bundle.config["name"], bundle.networks, self._projection.dim

    def project(self, features: np.ndarray) -> np.ndarray:
        return self._projection.apply(features)


class JudgingEncoder(ToyEncoder):
    """The toy that also says why it found a photo, and how likely with one object of strokes that it is relevant."""

    calibration = Calibration({"strokes/1": Sigmoid(10.0, -8.0, 100, 10)})

    def explain(self, sketch: Sketch, vectors: np.ndarray, *, words: bool = False) -> list[Explanation]:
        def embed(subsets: list[Subset]) -> np.ndarray:
            return np.stack([self._field(sketch.boxes[list(subset)]) + 1e-6 for subset in subsets])

        as_it_is = Projection(np.eye(self.dim, dtype=np.float32), np.zeros(self.dim, np.float32))
        return explain(combined(embed, shares([1.0] * len(sketch.objects))), as_it_is, vectors, self.grid)

    def confidence(self, sketch: Sketch, scores: np.ndarray, *, words: bool = False) -> np.ndarray | None:
        return self.calibration.apply(scores, group(sketch, words=words))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors + 1e-6
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
