"""Layered masks in ``.npz``: ``masks`` (n, H, W) bool, one layer an object, and optionally ``labels`` (n,) text."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np

from encoders.errors import SketchError
from encoders.formats.pixels import strokes_of

MAGIC = b"PK\x03\x04"
MAX_LAYERS = 32
MAX_UNPACKED = 512 * 2**20


def read(data: bytes) -> dict[str, Any]:
    """Read layered masks to the dict of stroke JSON; layers may overlap, nothing is pickled.

    Raises:
        SketchError: Damaged, too large, or its arrays have other shapes or types.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_UNPACKED:
            raise SketchError(f"the .npz unpacks to {size} bytes, {MAX_UNPACKED} is the limit; make the masks smaller")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if "masks" not in arrays.files:
                raise SketchError(f"the .npz has no array 'masks' (n, H, W), only {', '.join(arrays.files) or 'none'}")
            masks = arrays["masks"]
            labels = arrays["labels"] if "labels" in arrays.files else None
    except SketchError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise SketchError(f"the .npz is damaged or holds objects ({error}); save plain arrays") from None
    if masks.ndim != 3 or masks.dtype.kind not in "bui" or 0 in masks.shape:
        raise SketchError(f"'masks' has to be (n, H, W) of bool; found {masks.shape} of {masks.dtype}")
    if len(masks) > MAX_LAYERS:
        raise SketchError(f"'masks' has {len(masks)} layers, {MAX_LAYERS} is the limit")
    if labels is not None and (labels.shape != (len(masks),) or labels.dtype.kind != "U"):
        raise SketchError(f"'labels' has to be ({len(masks)},) of text; found {labels.shape} of {labels.dtype}")
    objects: list[dict[str, Any]] = []
    for index, mask in enumerate(masks.astype(bool)):
        if not mask.any():
            raise SketchError(f"object {index}: its mask is empty; leave the layer out")
        strokes, box = strokes_of(mask)
        objects.append({"strokes": strokes, "bbox": box})
        if labels is not None:
            objects[-1]["label"] = str(labels[index])
    return {"width": masks.shape[2], "height": masks.shape[1], "objects": objects}
