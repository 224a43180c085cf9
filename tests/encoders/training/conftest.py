"""A small data folder to train on: photos of coloured shapes, and sketches of the same shapes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.training import loop

COLOURS = {"cat": (220, 60, 40), "dog": (40, 90, 220), "motorcycle": (240, 220, 40), "person": (60, 200, 90)}
DRAWN = {  # the shape of each word; nobody draws a person here
    "cat": [[0, 5, 10, 0], [10, 0, 10, 10]],
    "dog": [[0, 10, 10, 0, 0], [0, 0, 6, 6, 0]],
    "motorbike": [[0, 4, 8, 12, 16], [6, 0, 6, 0, 6]],
}
PHOTOS, LABELLED, SKETCHES = 230, 90, 40


def photo(rng: np.random.Generator, names: list[str], boxes: list[list[int]], size: tuple[int, int]) -> Image.Image:
    """Plain rectangles, a colour a class, on noise of any shade."""
    width, height = size
    pixels = rng.integers(0, 60, (height, width, 3)) + rng.integers(0, 160, 3)
    for name, (x0, y0, x1, y1) in zip(names, boxes, strict=True):
        pixels[y0:y1, x0:x1] = COLOURS[name] + rng.integers(-25, 15, (y1 - y0, x1 - x0, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_annotated(folder: Path, rng: np.random.Generator) -> None:
    """COCO's form: 1 to 3 objects a photo."""
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for index in range(PHOTOS):
        file, size = f"photo-{index:03d}.jpg", (72, 54) if index % 2 else (54, 60)
        names = [str(name) for name in rng.choice(list(COLOURS), rng.integers(1, 4))]
        corners = []
        for _ in names:
            extent = rng.integers(16, 40, 2)
            start = rng.integers(0, np.array(size) - extent)
            corners.append([int(value) for value in (*start, *(start + extent))])
        photo(rng, names, corners, size).save(folder / "images" / file, quality=90)
        images.append({"file": file, "width": size[0], "height": size[1]})
        boxes += [{"image": file, "class": n, "bbox": box} for n, box in zip(names, corners, strict=True)]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "boxes": boxes}))


def write_labelled(folder: Path, rng: np.random.Generator, count: int, names: list[str]) -> None:
    """Caltech's form: one object a photo, which fills it; backgrounds beside them."""
    (folder / "images").mkdir(parents=True)
    entries = []
    for index in range(count):
        file, name = f"{folder.name}-{index:03d}.jpg", names[index % len(names)]
        photo(rng, [name] if name in COLOURS else [], [[4, 4, 44, 44]][: name in COLOURS], (48, 48)).save(
            folder / "images" / file
        )
        entries.append({"file": file, "class": name})
    (folder / "labels.json").write_text(json.dumps(entries))


def write_sketches(path: Path, rng: np.random.Generator) -> None:
    """Quick, Draw!'s form: each word's shape with a shaking hand."""
    lines = []
    for word, shape in DRAWN.items():
        for index in range(SKETCHES):
            stroke = np.array(shape) * rng.uniform(0.6, 1.4, (2, 1)) + rng.normal(0, 0.4, np.shape(shape))
            entry = {"word": word, "key_id": f"{word}-{index}", "drawing": [stroke.round(2).tolist()]}
            lines.append(json.dumps(entry))
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `read_training_set` reads; do not write into it."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_annotated(folder / "annotated", rng)
    write_labelled(folder / "labelled", rng, LABELLED, ["cat", "dog", "kettle"])
    write_labelled(folder / "various", rng, 12, ["cat", "dog", "anvil", "harp", "lute"])  # too few to teach a class
    (folder / "labelled" / "backgrounds").mkdir()
    for index in range(3):
        photo(rng, [], [], (64, 48)).save(folder / "labelled" / "backgrounds" / f"{index}.jpg")
    write_sketches(folder / "sketches.ndjson.gz", rng)
    return folder


class Killed(BaseException):
    """What an interrupt is to a run."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Lets a run die as soon as it has written so many checkpoints."""

    @contextmanager
    def die_after(saves: int) -> Iterator[None]:
        save, left = loop.save_state, [saves]

        def save_and_die(*args: object, **parts: object) -> None:
            save(*args, **parts)
            left[0] -= 1
            if not left[0]:
                raise Killed

        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(loop, "save_state", save_and_die)
            yield
        assert left == [0]

    return die_after
