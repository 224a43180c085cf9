"""For applications that already use Milvus: an embedding function in the shape of `pymilvus.model`'s.

It has the four members such applications call (`encode_documents`, `encode_queries`, the call itself, `dim`; none of
that package is asynchronous) and depends on nothing of it, which would bring transformers, onnxruntime and scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from compsketch_milvus.encoder import Encoder, ImageLike, connect
from compsketch_milvus.errors import CompsketchError
from encoders.errors import SketchError
from encoders.sketch import Sketch

__all__ = ["SketchEmbeddingFunction", "SketchLike", "sketch_of"]

# A sketch, its dictionary (stroke JSON), the text of one of its files (stroke JSON, SVG), or the path of one.
SketchLike: TypeAlias = Sketch | Mapping[str, Any] | str | Path

T = TypeVar("T")


def sketch_of(query: SketchLike) -> Sketch:
    """The sketch that a query is: a text that begins like JSON or SVG is read as such, any other names a file.

    Raises:
        SketchError: it cannot be read, or holds nothing to search with.
    """
    if isinstance(query, Sketch):
        return query
    if isinstance(query, Mapping):
        return Sketch.from_dict(dict(query))
    if isinstance(query, str) and query.lstrip()[:1] in ("{", "<"):
        return Sketch.from_bytes(query.encode("utf-8", "backslashreplace"))
    if isinstance(query, (str, Path)):
        return Sketch.open(query)
    raise SketchError(f"a {type(query).__name__} is no sketch; give a Sketch, stroke JSON, or the path of a file")


class SketchEmbeddingFunction:
    """Sketches as queries, photos as documents.

    Args:
        encoder: an open encoder; None opens the one that `connect()` gives.
        batch_size: how many photos, or sketches, are encoded at once.

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

    def __call__(self, images: ImageLike | Iterable[ImageLike]) -> list[np.ndarray]:
        """The same as `encode_documents`, as in pymilvus.model."""
        return self.encode_documents(images)

    def encode_queries(self, queries: SketchLike | Iterable[SketchLike]) -> list[np.ndarray]:
        """One or many sketches to unit vectors, each (dim,) float32.

        Raises:
            SketchError: one of them cannot be read; the message says which, counted from 0.
        """

        def encode(batch: list[SketchLike], first: int) -> np.ndarray:
            named = enumerate(batch, first)
            return self.encoder.encode_sketches([_named("query", place, sketch_of, query) for place, query in named])

        return self._in_batches(queries, encode)

    def encode_documents(self, documents: ImageLike | Iterable[ImageLike]) -> list[np.ndarray]:
        """One or many photos to unit vectors, each (dim,) float32; an iterator is read a batch at a time.

        Raises:
            ImageError: one of them cannot be read; the message says which, counted from 0.
        """

        def encode(batch: list[ImageLike], first: int) -> np.ndarray:
            try:
                return self.encoder.encode_images(batch)
            except CompsketchError:
                for place, document in enumerate(batch, first):  # whose fault it is
                    _named("document", place, lambda one: self.encoder.encode_images([one]), document)
                raise

        return self._in_batches(documents, encode)

    def _in_batches(self, given: Any, encode: Callable[[list[Any], int], np.ndarray]) -> list[np.ndarray]:
        items = _many(given)
        vectors: list[np.ndarray] = []
        while batch := list(islice(items, self.batch_size)):
            vectors.extend(encode(batch, len(vectors)))
        return vectors


def _many(given: Any) -> Iterator[Any]:
    single = (str, bytes, Path, Image.Image, Sketch, Mapping)
    if isinstance(given, single) or (isinstance(given, np.ndarray) and given.ndim == 3):
        return iter([given])
    if not isinstance(given, Iterable):
        raise CompsketchError(f"a {type(given).__name__} cannot be encoded; give one item or a list of them")
    return iter(given)


def _named(what: str, place: int, work: Callable[[Any], T], item: Any) -> T:
    """Work on one item, whose place is said where it fails."""
    try:
        return work(item)
    except CompsketchError as error:
        raise type(error)(f"{what} {place}: {error}") from error
