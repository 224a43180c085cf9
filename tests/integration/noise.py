"""Photos of noise, no two alike, made at once."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from compsketch_milvus.records import ImageRecord


def photo(index: int, side: int = 16) -> bytes:
    """A PNG file."""
    pixels = np.random.default_rng(index).integers(0, 255, (side, side, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def record(index: int) -> ImageRecord:
    """The same as a source gives it."""
    return ImageRecord(f"photo-{index}", f"memory/{index}.png", data=photo(index))
