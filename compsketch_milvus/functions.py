"""For applications that already use Milvus: an embedding function in the shape of `pymilvus.model`'s.

It has the four members such applications call and depends on nothing of that package, which would bring transformers,
onnxruntime and scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from compsketch_milvus.encoder import Encoder, ImageLike, connect
from compsketch_milvus.errors import CompsketchError
from encoders.sketch import Sketch

__all__ = ["SketchEmbeddingFunction", "SketchLike"]

# A sketch, its dictionary (stroke JSON), or the path of one of its files.
SketchLike: TypeAlias = Sketch | Mapping[str, Any] | str | Path


class SketchEmbeddingFunction:
    """Sketches as queries, photos as documents.

    Args:
        encoder: an open encoder; None opens the one that `connect()` gives.
        batch_size: how many photos are encoded at once.

    Raises:
        CompsketchError: `batch_size` is below 1, or no encoder can be opened.
    """

    def __init__(self, encoder: Encoder | None = None, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise CompsketchError(f"batch_size {batch_size}: it has to be at least 1")
        self.encoder = connect() if encoder is None else encoder
        self.batch_size = batch_size

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.encoder.dim

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> list[np.ndarray]:
        """The same as `encode_documents`, as in pymilvus.model."""
        return self.encode_documents(images)

    def encode_queries(self, queries: SketchLike | Sequence[SketchLike]) -> list[np.ndarray]:
        """One or many sketches to unit vectors, each (dim,) float32.

        Raises:
            SketchError: one of them cannot be read.
        """
        sketches = [_sketch(query) for query in _many(queries)]
        return [] if not sketches else list(self.encoder.encode_sketches(sketches))

    def encode_documents(self, documents: ImageLike | Sequence[ImageLike]) -> list[np.ndarray]:
        """One or many photos to unit vectors, each (dim,) float32.

        Raises:
            ImageError: one of them cannot be read.
        """
        images = _many(documents)
        vectors: list[np.ndarray] = []
        for start in range(0, len(images), self.batch_size):
            vectors.extend(self.encoder.encode_images(images[start : start + self.batch_size]))
        return vectors


def _many(given: Any) -> list[Any]:
    single = (str, bytes, Path, Image.Image, Sketch, Mapping)
    if isinstance(given, single) or (isinstance(given, np.ndarray) and given.ndim == 3):
        return [given]
    return list(given)


def _sketch(query: SketchLike) -> Sketch:
    if isinstance(query, Sketch):
        return query
    return Sketch.from_dict(dict(query)) if isinstance(query, Mapping) else Sketch.open(query)
