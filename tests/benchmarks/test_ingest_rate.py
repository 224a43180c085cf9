"""Ingest against the encoder alone, on the shipped bundle and in one run: the pipeline must not cost much more."""

from __future__ import annotations

import os
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from compsketch_milvus import SketchCollection, connect
from compsketch_milvus.encoder import Encoder
from encoders.images import load_photo
from tests.benchmarks.given import photo_files

pytestmark = pytest.mark.benchmark

PHOTOS, FEW = 768, 128
ROUNDS = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return photo_files(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(params=["lite", "server"])
def uri(request, tmp_path: Path) -> str:
    """Milvus Lite in this process, and a server beside it."""
    return str(tmp_path / "photos.db") if request.param == "lite" else request.getfixturevalue("milvus_server")


def seconds_to_ingest(paths: list[Path], name: str, encoder: Encoder, uri: str) -> float:
    """Of an ingest of its own into a new collection, flush and all."""
    with SketchCollection.open(name, encoder, uri=uri) as collection:
        started = time.perf_counter()
        summary = collection.ingest(paths)
        taken = time.perf_counter() - started
        collection.drop()
    assert summary.indexed == len(paths)
    return taken


def test_ingest_keeps_up_with_the_encoder(photos: list[Path], uri: str) -> None:
    """Against decoding by all cores and then the encoder alone: what these can do, without a pipeline's own costs.

    Of the encoder's rate by itself a pipeline on the same cores cannot keep more; it is told, too. What an ingest costs
    however few photos it has (a server's flush takes seconds) is told apart from its rate.
    """
    encoder, run = connect(), uuid.uuid4().hex[:8]
    decode = partial(load_photo, size=encoder.image_size)
    encoder.encode_images([decode(path).pixels for path in photos[:64]])  # compiled and warm
    ratios = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            decoded = [photo.pixels for photo in threads.map(decode, photos)]
        encoding = time.perf_counter()
        encoder.encode_images(decoded)
        ended = time.perf_counter()
        alone, both = len(photos) / (ended - encoding), len(photos) / (ended - started)
        few = seconds_to_ingest(photos[:FEW], f"few_{run}_{number}", encoder, uri)
        many = seconds_to_ingest(photos, f"many_{run}_{number}", encoder, uri)
        rate = (len(photos) - FEW) / (many - few)
        ratios.append(rate / both)
        print(
            f"\nencoder alone {alone:.0f} photos/s, with decoding {both:.0f}; ingest {rate:.0f} photos/s, "
            f"{rate / alone:.2f} and {ratios[-1]:.2f} of them, and {few - FEW / rate:.1f} s"
        )
    assert statistics.median(ratios) >= 0.95
