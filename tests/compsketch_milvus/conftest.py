"""Real Milvus Lite files in temporary folders, and the program `compsketch` run on them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.cli import run
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector

LEFT = {
    "width": 320,
    "height": 320,
    "objects": [{"label": "cup", "strokes": [[[10, 150, 150, 10, 10], [10, 10, 310, 310, 10]]]}],
}


@pytest.fixture(autouse=True)
def _settings_of_the_tests_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the person who runs the tests gets in."""
    for name in [name for name in os.environ if name.startswith(("MILVUS_", "COMPSKETCH_"))]:
        monkeypatch.delenv(name, raising=False)
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


class Program:
    """Runs commands in this process, against a Milvus Lite file of this test's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: object, database: bool = True) -> int:
        where = ["--uri", str(self.folder / "photos.db")] if database else []
        self.capsys.readouterr()
        status = run([command, *where, *map(str, arguments)])
        self.out, self.err = self.capsys.readouterr()
        return status

    def json(self, command: str, *arguments: object, database: bool = True, status: int = 0) -> dict:
        assert self(command, *arguments, "--json", database=database) == status, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    def refused(self, words: str, command: str, *arguments: object, database: bool = True) -> None:
        """Bad input: status 2, and one line that says ``words``, in JSON too."""
        assert self(command, *arguments, database=database) == 2
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        assert re.search(words, self.err), self.err
        assert self.out == ""
        said = self.err[len("error: ") : -1]
        assert self.json(command, *arguments, database=database, status=2) == {"error": said}


@pytest.fixture
def program(tmp_path: Path, capsys, monkeypatch, toy_encoder) -> Program:
    """`compsketch` with the toy encoder, whatever encoder is asked for."""
    monkeypatch.setattr(
        "compsketch_milvus.encoder.connect", lambda spec=None, *, device=None, runtime=None, timeout=None: toy_encoder
    )
    return Program(tmp_path, capsys)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos, each dark in one part."""
    folder = tmp_path / "Fotos für Käthe"
    folder.mkdir()
    parts = {"left": np.s_[:, :32], "right": np.s_[:, 32:], "top": np.s_[:32], "Straße nach Süden": np.s_[32:]}
    for name, part in parts.items():
        pixels = np.full((64, 64, 3), 255, np.uint8)
        pixels[part] = 0
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def sketch(tmp_path: Path) -> Path:
    """One object that fills the left half."""
    path = tmp_path / "left.json"
    path.write_text(json.dumps(LEFT))
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder of so many small photos of noise, each of its own."""

    def make(count: int) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
        return folder

    return make
