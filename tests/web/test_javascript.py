"""The page's logic without a browser: node's own test runner, and what the page writes read by the encoders."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.formats import compose
from encoders.sketch import Sketch, SketchObject

HERE = Path(__file__).with_name("javascript")
OLDEST = (20, 19)  # reads modules by what they are, without a package.json


def _node() -> str | None:
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, *_ = (int(part) for part in version.strip().lstrip("v").split("."))
    return found if (major, minor) >= OLDEST else None


NODE = _node()
pytestmark = pytest.mark.skipif(NODE is None, reason="node 20.19 or newer is not on the PATH")


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.js")), ids=lambda file: file.stem.removesuffix(".test"))
def test_logic(file: Path) -> None:
    ran = subprocess.run([str(NODE), "--test", str(file)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def written(sketch: Sketch, suffix: str) -> bytes:
    """The sketch as the page writes it."""
    content = json.dumps(sketch.to_dict())
    ran = subprocess.run(
        [str(NODE), str(HERE / "export.mjs"), suffix], input=content.encode(), capture_output=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def square(x: float, y: float, side: float) -> Any:
    return [[x, x + side, x + side, x, x], [y, y, y + side, y + side, y]]


@pytest.fixture
def drawing() -> Sketch:
    """Ink with and without a word, one of it not wanted, a dot, a word over a box."""
    cat = SketchObject((square(100, 100, 200), square(150, 160, 30), [[220.5], [180.2]]), "cat & <dog>")
    unwanted = SketchObject((square(500, 300, 150),), weight=-1.5)
    word = SketchObject((), "grüner Baum", (600.0, 50.0, 900.0, 200.0), 2.0)
    return Sketch(1024, 768, (cat, unwanted, word))


def test_stroke_json_is_read_back_as_it_was(drawing: Sketch) -> None:
    assert Sketch.from_bytes(written(drawing, "json")) == drawing


def test_svg_is_read_back_with_words_weights_and_places(drawing: Sketch) -> None:
    again = Sketch.from_bytes(written(drawing, "svg"))
    assert (again.width, again.height) == (1024, 768)
    assert [(one.label, one.weight) for one in again.objects] == [("cat & <dog>", 1), (None, -1.5), ("grüner Baum", 2)]
    np.testing.assert_allclose(again.boxes, drawing.boxes, atol=1e-4)
    assert [len(one.strokes) for one in again.objects] == [3, 1, 0]


def test_png_is_read_back_with_words_and_places(drawing: Sketch) -> None:
    inked = Sketch(1024, 768, (drawing.objects[0], SketchObject((square(500, 300, 150),))))
    again = Sketch.from_bytes(written(inked, "png"))
    assert (again.width, again.height) == (1024, 768)
    assert [one.label for one in again.objects] == ["cat & <dog>", None]
    np.testing.assert_allclose(again.boxes, inked.boxes, atol=0.003)


def test_png_tells_thirty_two_objects_apart() -> None:
    objects = tuple(
        SketchObject((square(20 + 120 * (n % 8), 20 + 180 * (n // 8), 80),), f"object {n}") for n in range(32)
    )
    again = Sketch.from_bytes(written(Sketch(1024, 768, objects), "png"))
    assert [one.label for one in again.objects] == [f"object {n}" for n in range(32)]


def test_png_leaves_out_what_it_cannot_hold(drawing: Sketch) -> None:
    assert [one.label for one in Sketch.from_bytes(written(drawing, "png")).objects] == ["cat & <dog>", None]


def test_svg_is_as_the_encoders_write_it(drawing: Sketch) -> None:
    theirs = Sketch.from_bytes(compose(drawing.to_dict(), ".svg"))
    ours = Sketch.from_bytes(written(drawing, "svg"))
    assert [one.to_dict().keys() for one in ours.objects] == [one.to_dict().keys() for one in theirs.objects]
