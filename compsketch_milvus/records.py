"""What travels through an ingest: a photo as a source names it, and a photo as a collection stores it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RESERVED_FIELDS", "ImageRecord", "PhotoVector"]

# Columns of the schema, and the two facts that ingest keeps about a file to see whether it changed.
RESERVED_FIELDS = ("id", "source", "width", "height", "vector", "bytes", "mtime")


@dataclass(frozen=True)
class ImageRecord:
    """One photo of a source, not yet decoded.

    Args:
        id: primary key, at most 64 characters, stable for the source.
        source: where the photo came from, at most 4096 characters.
        path: the file to read, or None where `data` holds the bytes.
        data: the encoded bytes, or None where `path` names the file.
        fields: further fields to store, JSON scalars by name; for a file also `bytes` (its size) and `mtime`
            (milliseconds since the epoch), by which a later ingest sees that it has not changed.
        error: why the source refuses this photo; an ingest counts it as failed.
    """

    id: str
    source: str
    path: Path | None = None
    data: bytes | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


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
    """

    id: str
    source: str
    width: int
    height: int
    vector: np.ndarray
    fields: dict[str, Any] = field(default_factory=dict)
