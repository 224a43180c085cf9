"""What travels through an ingest: a photo as a source names it, and a photo as a collection stores it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FACTS", "RESERVED_FIELDS", "Fetch", "ImageRecord", "PhotoVector"]

# What ingest keeps about a photo to see whether it changed: its size, its time of modification, its version.
FACTS = ("bytes", "mtime", "etag")
# Those, and the columns of the schema.
RESERVED_FIELDS = ("id", "source", "width", "height", "vector", *FACTS)

# Given the most bytes that a photo may have, its encoded bytes; raises ImageError. Called in any thread.
Fetch = Callable[[int], bytes]


@dataclass(frozen=True)
class ImageRecord:
    """One photo of a source, not yet decoded.

    Args:
        id: primary key, at most 64 characters, stable for the source.
        source: where the photo came from, at most 4096 characters.
        path: the file to read. Of `path`, `data` and `fetch` exactly one is given.
        data: the encoded bytes.
        fields: further fields to store, JSON scalars by name; where they are known also `bytes` (its size), `mtime`
            (milliseconds since the epoch) and `etag`, by which a later ingest sees that it has not changed.
        error: why the source refuses this photo; an ingest counts it as failed.
        fetch: gets the bytes when they are needed, from an archive or another machine.
    """

    id: str
    source: str
    path: Path | None = None
    data: bytes | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    fetch: Fetch | None = None

    def content(self, max_bytes: int) -> Path | bytes:
        """The file, or the bytes. Raises ImageError where they cannot be had or are more than `max_bytes`."""
        if self.fetch is not None:
            return self.fetch(max_bytes)
        return self.path if self.path is not None else self.data or b""


@dataclass(frozen=True)
class PhotoVector:
    """One photo as a collection stores it.

    Args:
        id: primary key.
        source: where the photo came from.
        width: of the original in pixels, upright.
        height: of the original in pixels, upright.
        vector: (dim,) float32 of unit length.
        fields: dynamic fields, JSON scalars by name.
        features: (F,) of which the projection made the vector, where they are to be kept (`features.FeatureStore`).
    """

    id: str
    source: str
    width: int
    height: int
    vector: np.ndarray
    fields: dict[str, Any] = field(default_factory=dict)
    features: np.ndarray | None = None
