"""Photos whose vectors are given, where it is not the encoder that is measured; and photos as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.records import PhotoVector


class Vectors:
    """An encoder's name and length."""

    name, fingerprint, device, image_size = "given", "given-0000000000000000", "cpu", 224

    def __init__(self, dim: int) -> None:
        self.dim = dim


def photo(number: int, vector: np.ndarray) -> PhotoVector:
    """A photo as a collection stores it."""
    return PhotoVector(f"p{number:07}", f"/photos/{number}.jpg", 640, 480, vector)


def photo_files(folder: Path, count: int) -> list[Path]:
    """Crops of two real photos, saved as JPEGs of 448 x 336: what web-sized photos cost to decode."""
    datasets = pytest.importorskip("sklearn.datasets")
    wholes = [Image.fromarray(image) for image in datasets.load_sample_images().images]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        whole = wholes[i % len(wholes)]
        width = int(rng.integers(320, whole.width))
        x, y = int(rng.integers(0, whole.width - width + 1)), int(rng.integers(0, whole.height - width * 3 // 5 + 1))
        paths.append(folder / f"{i:04}.jpg")
        whole.crop((x, y, x + width, y + width * 3 // 5)).resize((448, 336)).save(paths[-1], quality=88)
    return paths
