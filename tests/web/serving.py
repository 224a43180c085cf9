"""The sketch page, served for tests: forty photos of known layout, the judging toy encoder, a free port."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import uvicorn
from PIL import Image, ImageDraw

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import Encoder
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.web.app import Options, create_app
from compsketch_milvus.web.opened import Where

PHOTOS, WIDTH, HEIGHT = 40, 320, 240
WORDS = ("cup", "cat", "dog", "flower")


def toy() -> ModuleType:
    """The module of small true encoders, `tests/toy.py`."""
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).parents[1] / "toy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judging_encoder() -> Encoder:
    """The toy that also explains its scores; it finds the photos whose dark places are where the boxes are."""
    encoder = toy().JudgingEncoder(grid=8)
    encoder.vocabulary = list(WORDS)
    return encoder


def layout(number: int) -> list[dict[str, Any]]:
    """The objects of a photo: one to three, at places drawn from its number; in fractions of the photo."""
    rng = np.random.default_rng(number)
    cells = rng.choice(9, size=1 + number % 3, replace=False).tolist()
    objects = []
    for cell in cells:
        x, y = round(cell % 3 / 3 + 0.03, 4), round(cell // 3 / 3 + 0.03, 4)
        objects.append(
            {"label": WORDS[(number + cell) % len(WORDS)], "box": [x, y, round(x + 0.27, 4), round(y + 0.27, 4)]}
        )
    return objects


def write_photos(folder: Path, count: int = PHOTOS) -> list[ImageRecord]:
    """Photos as JPEG files, dark where their objects are, each with the fields `objects`, `tag` and `rating`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        picture = Image.new("RGB", (WIDTH, HEIGHT), "#f4efe6")
        draw = ImageDraw.Draw(picture)
        for one in layout(number):
            x0, y0, x1, y1 = one["box"]
            shade = ["#3b1f2b", "#14213d", "#283618", "#5f0f40"][WORDS.index(one["label"])]
            draw.ellipse([x0 * WIDTH, y0 * HEIGHT, x1 * WIDTH, y1 * HEIGHT], fill=shade)
        path = folder / f"photo-{number:02}.jpg"
        picture.save(path, quality=90)
        fields = {"objects": json.dumps(layout(number)), "tag": WORDS[number % 4], "rating": number % 5}
        records.append(ImageRecord(f"p{number:02}", str(path), path, fields=fields))
    return records


def fill(folder: Path, encoder: Encoder, collection: str = "photos", count: int = PHOTOS) -> str:
    """Make a Milvus Lite file of such photos; returns its path."""
    uri = str(folder / "photos.db")
    with SketchCollection.open(collection, encoder, uri=uri) as photos:
        photos.ingest(write_photos(folder / "photos", count))
    return uri


def drawing(*boxes: list[float], width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """Stroke JSON: a square stroke around each box, which is given in fractions of the canvas."""
    objects = []
    for x0, y0, x1, y1 in boxes:
        xs, ys = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
        objects.append({"strokes": [[[x * width for x in xs], [y * height for y in ys]]]})
    return {"width": width, "height": height, "objects": objects}


@contextmanager
def serving(folder: Path, *, encoder: Encoder | None = None, uri: str | None = None, **options: Any) -> Iterator[str]:
    """The page at an address such as http://127.0.0.1:40123, in a thread of this process.

    Args:
        folder: for the photos, the Milvus Lite file and the cache.
        encoder: of the sketches; the judging toy by default.
        uri: of a Milvus that is filled already; by default a Milvus Lite file is made and filled.
        **options: of `Options`, such as `token`.
    """
    encoder = encoder or judging_encoder()
    where = Where(uri or fill(folder, encoder))
    app = create_app(encoder, Options(where, cache=folder / "cache", **options))
    with listening(app) as address:
        yield address


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An app on a free port of this machine, in a thread."""
    taken = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        taken.close()


if __name__ == "__main__":  # to look at the page: python -m tests.web.serving [FOLDER]
    import sys
    import tempfile

    with serving(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())) as page:
        print(page, flush=True)
        threading.Event().wait()
