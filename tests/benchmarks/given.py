"""Photos whose vectors are given, where it is not the encoder that is measured."""

from __future__ import annotations

import numpy as np

from compsketch_milvus.records import PhotoVector


class Vectors:
    """An encoder's name and length."""

    name, fingerprint, device, image_size = "given", "given-0000000000000000", "cpu", 224

    def __init__(self, dim: int) -> None:
        self.dim = dim


def photo(number: int, vector: np.ndarray) -> PhotoVector:
    """A photo as a collection stores it."""
    return PhotoVector(f"p{number:07}", f"/photos/{number}.jpg", 640, 480, vector)
