"""Real Milvus Lite files in temporary folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector


@pytest.fixture(autouse=True)
def _settings_of_the_tests_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the person who runs the tests gets in."""
    for name in ("MILVUS_URI", "MILVUS_TOKEN", "MILVUS_DB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ENCODER", "COLLECTION", "DEVICE", "RUNTIME"):
        monkeypatch.delenv(f"COMPSKETCH_{name}", raising=False)
    monkeypatch.setattr("compsketch_milvus.settings.config_file", lambda: tmp_path / "config" / "config.env")


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[str]:
    """The path of a Milvus Lite file that does not exist yet; its lock is given back at the end."""
    from milvus_lite.server_manager import server_manager_instance

    path = str(tmp_path / "photos.db")
    yield path
    server_manager_instance.release_server(path)


@pytest.fixture
def open_collection(lite: str, toy_encoder) -> Iterator[Callable[..., SketchCollection]]:
    """`SketchCollection.open` on the Milvus Lite file, with the toy encoder unless told."""
    opened = []

    def open_(name: str = "photos", encoder=toy_encoder, **options) -> SketchCollection:
        opened.append(SketchCollection.open(name, encoder, uri=lite, **options))
        return opened[-1]

    yield open_
    for collection in opened:
        collection.close()


@pytest.fixture
def collection(open_collection) -> SketchCollection:
    return open_collection()


@pytest.fixture
def vectors() -> np.ndarray:
    """(60, 16) float32 of unit length."""
    rows = np.random.default_rng(7).normal(size=(60, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def photo_vectors(vectors: np.ndarray) -> list[PhotoVector]:
    """Sixty photos p00, p01, …, of width 100, 101, … and a field `tag`, t0 to t2."""
    return [
        PhotoVector(f"p{i:02}", f"/photos/{i}.jpg", 100 + i, 80, vector, {"tag": f"t{i % 3}"})
        for i, vector in enumerate(vectors)
    ]
