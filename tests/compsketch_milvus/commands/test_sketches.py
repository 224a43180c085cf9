"""Sketches on the command line: how `compsketch render` draws them, and the bad ones that it and `search` refuse."""

from __future__ import annotations

import pytest
from PIL import Image

from encoders.bundle import Bundle


def test_render_draws_objects_boxes_and_rasters(program, sketch, tmp_path):
    out = tmp_path / "view.png"
    drawn = program.json("render", sketch, "--out", out, database=False)
    assert drawn == {
        "image": str(out),
        "width": 320,
        "height": 320,
        "objects": [{"label": "cup", "bbox": [10, 10, 150, 310], "weight": 1.0, "strokes": 1}],
    }
    with Image.open(out) as view:
        assert view.mode == "RGB"


def test_render_draws_at_the_size_that_a_bundle_says(program, sketch, tmp_path):
    Bundle({"name": "small", "objects": {"sketch_size": 16, "line_width": 1.0}}, {}).save(tmp_path / "small")
    for name, encoder in {"a": (), "b": ("--encoder", tmp_path / "small")}.items():
        program("render", sketch, "--out", tmp_path / f"{name}.png", *encoder, database=False)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    program.refused("no bundle 'magic'", "render", sketch, "--encoder", "magic", database=False)


HOSTILE = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g><text>&a;</text></g></svg>"""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.json", '{"width": 9, "height": 9, "objects": []}', r"empty\.json.*empty"),
        ("void.json", "", r"void\.json"),
        ("hostile.svg", HOSTILE, r"hostile\.svg"),
        ("Übel.json", '{"width": 9, "height": 9, "objects": [{"strokes": [[[NaN], [1]]]}]}', r"Übel\.json"),
        ("no ink.json", '{"width": 9, "height": 9, "objects": [{"strokes": []}]}', r"no ink\.json.*no ink"),
        ("outside.json", '{"width": 9, "height": 9, "objects": [{"strokes": [[[50], [50]]]}]}', "outside the canvas"),
    ],
)
@pytest.mark.parametrize("command", ["search", "render"])
def test_bad_sketches(program, tmp_path, command, name, content, words):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    program.refused(words, command, path, database=command == "search")


@pytest.mark.parametrize("command", ["search", "render"])
def test_missing_sketch(program, tmp_path, command):
    program.refused(r"nowhere\.json", command, tmp_path / "nowhere.json", database=command == "search")
