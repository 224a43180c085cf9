"""Ingest against the encoder alone, on the shipped bundle and in one run: the pipeline must not cost much more."""

from __future__ import annotations

import statistics
import time
import uuid
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
    """What an ingest costs however few photos it has (a server's flush takes seconds) is told apart from its rate."""
    encoder, run = connect(), uuid.uuid4().hex[:8]
    decoded = [load_photo(path, encoder.image_size).pixels for path in photos]
    encoder.encode_images(decoded[:64])  # compiled and warm
    ratios = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        encoder.encode_images(decoded)
        alone = len(photos) / (time.perf_counter() - started)
        few = seconds_to_ingest(photos[:FEW], f"few_{run}_{number}", encoder, uri)
        many = seconds_to_ingest(photos, f"many_{run}_{number}", encoder, uri)
        rate = (len(photos) - FEW) / (many - few)
        ratios.append(rate / alone)
        fixed = few - FEW / rate
        print(f"\nencoder alone {alone:.0f} photos/s; ingest {rate:.0f} photos/s, {ratios[-1]:.2f}, and {fixed:.1f} s")
    assert statistics.median(ratios) >= 0.95
