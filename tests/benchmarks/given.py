"""Photos whose vectors are given, where the encoder is not measured; photos as they are read, or as files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.records import ImageRecord, PhotoVector


@dataclass(frozen=True)
class Generated:
    """So many different photos of 24 x 24, each made when it is asked for; up to 16,777,216."""

    count: int

    def __iter__(self) -> Iterator[ImageRecord]:
        for number in range(self.count):
            stream = io.BytesIO()
            Image.new("RGB", (24, 24), (number % 256, number // 256 % 256, number // 65536)).save(stream, "PNG")
            yield ImageRecord(
                f"{number:032x}", f"generated {number}", data=stream.getvalue(), fields={"number": number}
            )


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
