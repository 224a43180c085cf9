"""The encode stage of an ingest: a batch of decoded photos to vectors, where only the photo at fault fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compsketch_milvus.errors import ServerError
from compsketch_milvus.records import ImageRecord, PhotoVector
from encoders import tracing
from encoders.images import Photo

__all__ = ["encode"]

_Encoded = tuple[np.ndarray, np.ndarray | None]  # vector (d,), features (F,) where they are to be kept


def encode(
    encoder: Any,
    batch: Sequence[tuple[ImageRecord, Photo]],
    fail: Callable[[ImageRecord, str], None],
    *,
    features: bool = False,
) -> list[PhotoVector]:
    """Encode a batch; if that fails, its photos one by one.

    Args:
        encoder: an `Encoder`; a `Projecting` one where `features` are asked for.
        batch: records and their pixels.
        fail: called with each record that gives no vector, and why.
        features: also give the features of which the projection made the vectors.

    Raises:
        ServerError: the encoder's service is away, or refuses; nothing was counted, and all may be encoded again.
        Exception: the encoder's own, where it refuses all of several photos: then the fault is not theirs.
    """
    encoded: Sequence[_Encoded | None]
    with tracing.span("encode photos", {"compsketch.rows": len(batch)}):
        try:
            encoded = _vectors(encoder, [photo for _, photo in batch], features)
        except ServerError:
            raise  # its service's fault, not a photo's
        except Exception as error:
            encoded = _one_by_one(encoder, batch, fail, features, error)
    photos = []
    for (record, photo), one in zip(batch, encoded, strict=True):
        if one is None:
            continue
        vector, kept = one
        if np.isfinite(vector).all():
            size = photo.width, photo.height
            photos.append(PhotoVector(record.id, record.source, *size, vector, record.fields, kept))
        else:
            fail(record, "the encoder gave a vector that is not finite; leave the photo out and report it")
    return photos


def _vectors(encoder: Any, photos: Sequence[Photo], features: bool) -> list[_Encoded]:
    pixels = [photo.pixels for photo in photos]
    kept: Sequence[np.ndarray | None] = [None] * len(photos)
    if features:
        kept = encoder.embed_images(pixels)  # (B, F)
        vectors: np.ndarray = encoder.project(kept)
    else:
        vectors = encoder.encode_images(pixels)
    if vectors.shape != (len(photos), encoder.dim):
        raise ValueError(f"encoder {encoder.name} gave {vectors.shape}, expected {(len(photos), encoder.dim)}")
    return list(zip(vectors, kept, strict=True))


def _one_by_one(
    encoder: Any,
    batch: Sequence[tuple[ImageRecord, Photo]],
    fail: Callable[[ImageRecord, str], None],
    features: bool,
    cause: Exception,
) -> list[_Encoded | None]:
    encoded: list[_Encoded | None] = []
    reasons: list[tuple[ImageRecord, str]] = []
    for record, photo in batch:
        try:
            encoded.append(_vectors(encoder, [photo], features)[0])
        except ServerError:
            raise
        except Exception as error:
            encoded.append(None)
            reasons.append((record, str(error) or type(error).__name__))
    if len(reasons) == len(batch) > 1:
        raise cause
    for record, reason in reasons:
        fail(record, f"the encoder refused it ({reason}); leave the photo out")
    return encoded
