"""Sketches: boxes, what is refused and how it is said, and stroke JSON there and back."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.errors import SketchError
from encoders.formats import MAX_BYTES
from encoders.rendering import caption
from encoders.sketch import MAX_OBJECTS, MAX_POINTS, MIN_EXTENT, Sketch, SketchObject

SQUARE = [[[10, 30, 30, 10, 10], [20, 20, 60, 60, 20]]]


def one(**changes: Any) -> dict[str, Any]:
    """A valid sketch of one object, with the object's keys replaced."""
    return {"width": 100, "height": 80, "objects": [{"label": "dog", "strokes": SQUARE, **changes}]}


coordinates = st.floats(0, 300, allow_nan=False)
labels = st.none() | st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=20)


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    objects = []
    for _ in range(draw(st.integers(1, 4))):
        strokes = [
            np.array([draw(st.lists(coordinates, min_size=n, max_size=n)) for _ in range(2)])
            for n in draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
        ]
        bbox = draw(st.none() | st.just((1.5, 2.0, 30.25, 40.0)))
        weight = draw(st.sampled_from([1.0, 0.1, 4.0, -1.0]) if objects else st.just(1.0))
        if draw(st.booleans()):
            objects.append(SketchObject(tuple(strokes), draw(labels), bbox, weight))
        else:
            objects.append(SketchObject((), "a word", (1.5, 2.0, 30.25, 40.0), weight))
    return Sketch(300, 300, tuple(objects))


def test_boxes_come_from_the_ink_unless_given():
    given_box = SketchObject(SQUARE, bbox=(0, 0, 50, 40))
    sketch = Sketch(100, 80, (SketchObject(SQUARE), given_box))
    assert sketch.objects[0].box == (10, 20, 30, 60)
    assert sketch.boxes.dtype == np.float32
    np.testing.assert_allclose(sketch.boxes, [[0.1, 0.25, 0.3, 0.75], [0, 0, 0.5, 0.5]])


def test_boxes_are_clipped_to_the_canvas():
    sketch = Sketch(100, 80, (SketchObject([[[-50, 50], [40, 500]]]),))
    np.testing.assert_allclose(sketch.boxes, [[0, 0.5, 0.5, 1]])


@pytest.mark.parametrize(("x", "low"), [(50, 0.5 - MIN_EXTENT / 2), (0, 0.0), (100, 1 - MIN_EXTENT)])
def test_a_straight_line_is_widened_to_occupy_something(x: float, low: float):
    sketch = Sketch(100, 80, (SketchObject([[[x, x], [8, 72]]]),))
    np.testing.assert_allclose(sketch.boxes, [[low, 0.1, low + MIN_EXTENT, 0.9]], atol=1e-6)


@given(sketches())
def test_boxes_lie_in_the_canvas_and_occupy_something(sketch: Sketch):
    boxes = sketch.boxes
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= MIN_EXTENT - 1e-6).all()


@settings(deadline=None)
@given(sketch=sketches())
def test_json_is_exact(tmp_path_factory: pytest.TempPathFactory, sketch: Sketch):
    assert Sketch.from_dict(json.loads(json.dumps(sketch.to_dict()))) == sketch
    path = tmp_path_factory.getbasetemp() / "sketch äöü.json"
    sketch.save(path)
    again = Sketch.open(path)
    assert again == sketch
    assert hash(again.objects[0]) == hash(sketch.objects[0])


def test_objects_are_equal_by_value_and_cannot_be_changed():
    first, second = SketchObject(SQUARE, "dog"), SketchObject(SQUARE, "dog")
    assert first == second
    assert first != SketchObject(SQUARE, "cat")
    assert first != SketchObject(SQUARE, "dog", weight=-1)
    assert len({first, second}) == 1
    with pytest.raises(ValueError, match="read-only"):
        first.strokes[0][0, 0] = 5


BAD = [
    ({"width": 10, "height": 10, "objects": []}, "the sketch is empty: it has no objects"),
    (one(strokes=[]), 'object 0 "dog": it has no ink, and its word no place; draw it, or give it a bbox'),
    (one(strokes=[[[], []]]), 'object 0 "dog": it has no ink, and its word no place'),
    (one(strokes=[], label=None), "object 0: it has no ink; draw it, give it a label and a bbox, or remove it"),
    (one(strokes=[], label=" ", bbox=[0, 0, 9, 9]), "object 0: it has no ink; draw it, give it a label"),
    (one(strokes=None), "strokes have to be a list, found NoneType"),
    (one(weight=0), 'object 0 "dog": its weight has to be a number from -4 to 4, but not 0 .* found 0'),
    (one(weight=4.5), "its weight .* found 4.5"),
    (one(weight=math.nan), "its weight .* found nan"),
    (one(weight=-math.inf), "its weight .* found -inf"),
    (one(weight="heavy"), "its weight .* found 'heavy'"),
    (one(weight=True), "its weight .* found True"),
    (one(weight=-1), "no object is wanted, .* give at least one a weight above 0"),
    (one(strokes=[[[200, 300], [10, 20]]]), 'object 0 "dog": its ink .* wholly outside the canvas of 100 x 80'),
    (one(bbox=[-20, -20, -5, -5]), "its bbox .* wholly outside"),
    (one(bbox=[30, 0, 10, 10]), "needs x0 < x1 and y0 < y1"),
    (one(bbox=[0, 0, 10, math.nan]), "four finite numbers"),
    (one(bbox=[0, 0, 10]), "four finite numbers"),
    (one(strokes=[[[0, math.nan], [0, 1]]]), "stroke 0 has x = nan at point 1"),
    (one(strokes=[[[0, 1], [0, math.inf]]]), "stroke 0 has y = inf at point 1"),
    (one(strokes=[[[0, 1], [0]]]), "stroke 0 is no"),
    (one(strokes=[[["a"], [0]]]), "stroke 0 is no"),
    (one(strokes=[[[0, 1], [0, 1], [0, 1]]]), r"stroke 0 has to be .* found shape \(3, 2\)"),
    (one(strokes="ink"), "strokes have to be a list, found str"),
    (one(strokes=[[[10**400], [0]]]), "stroke 0 is no"),
    (one(label=7), "label has to be text, found int"),
    (one(label="a\x00b"), "control characters"),
    (one(label="a" * 201), "201 characters"),
    (one(colour="red"), "object 0: unknown key 'colour'; known are strokes, label, bbox, weight"),
    ({**one(), "size": 3}, "the sketch: unknown key 'size'; known are width, height, objects"),
    ({"width": 10, "height": 10}, 'the key "objects" is missing'),
    ({**one(), "objects": [5]}, "object 0 has to be an object .* found int"),
    ({**one(), "objects": {}}, '"objects" has to be a list, found dict'),
    ({**one(), "width": 0}, "width has to be a whole number of pixels, 1 to 65536; found 0"),
    ({**one(), "height": -5}, "height .* found -5"),
    ({**one(), "width": 10**9}, "width .* found 1000000000"),
    ({**one(), "width": math.nan}, "width .* found nan"),
    ({**one(), "width": "wide"}, "width .* found 'wide'"),
    ({**one(), "objects": one()["objects"] * (MAX_OBJECTS + 1)}, "33 objects; keep to 32"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said_with_its_place(data: dict[str, Any], message: str):
    with pytest.raises(SketchError, match=message):
        Sketch.from_dict(data)
    with pytest.raises(SketchError, match=f"^my.json: .*{message}"):
        Sketch.from_bytes(json.dumps(data).encode(), name="my.json")


def test_an_object_is_strokes_or_a_word_or_both():
    word = SketchObject((), "dog", (0, 0, 50, 40), weight=-0.5)
    assert (word.strokes, word.box, word.weight) == ((), (0, 0, 50, 40), -0.5)
    assert word.to_dict() == {"label": "dog", "bbox": [0, 0, 50, 40], "weight": -0.5}
    assert SketchObject(SQUARE).to_dict() == {"strokes": SQUARE}
    left_out = Sketch.from_dict({"width": 9, "height": 9, "objects": [{"label": "dog", "bbox": [0, 0, 5, 5]}]})
    assert left_out.objects == (SketchObject(strokes=[[[], []]], label="dog", bbox=(0, 0, 5, 5)),)


def test_without_strokes_a_sketch_keeps_its_layout():
    line = SketchObject([[[0, 100], [40, 40]]], "sea", weight=2)
    drawn = Sketch(100, 80, (SketchObject(SQUARE, "dog"), line, SketchObject(SQUARE, "cat", (-9, 3, 30, 90), -1)))
    words = drawn.without_strokes()
    assert all(item.strokes == () for item in words.objects)
    assert [(o.label, o.weight) for o in words.objects] == [("dog", 1), ("sea", 2), ("cat", -1)]
    np.testing.assert_allclose(words.boxes, drawn.boxes, atol=1e-6)
    with pytest.raises(SketchError, match="object 1: it has no label to stand for its strokes; give it one"):
        Sketch(100, 80, (line, SketchObject(SQUARE))).without_strokes()


def test_a_million_points_are_refused():
    with pytest.raises(SketchError, match="1000000 points"):
        SketchObject([np.zeros((2, 1_000_000))])
    half = SketchObject([np.zeros((2, MAX_POINTS // 2 + 1))])
    with pytest.raises(SketchError, match="simplify its strokes to 100000"):
        Sketch(10, 10, (half, half))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (bytes(range(128, 136)) + b"\x01\x02", "no sketch that can be read"),
        (b"Dear diary", "no sketch that can be read"),
        (b'{"width": 10,', "no valid JSON: .* at line 1, column"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply|no valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[1, 2]", "is a JSON list"),
        (b" " * 10 + b"{}", '"width" is missing'),
    ],
)
def test_bytes_that_are_no_sketch(data: bytes, message: str):
    with pytest.raises(SketchError, match=message):
        Sketch.from_bytes(data)


def test_files_that_are_no_sketch(tmp_path: Path):
    with pytest.raises(SketchError, match="no such file"):
        Sketch.open(tmp_path / "nothing.json")
    with pytest.raises(SketchError, match="is a directory"):
        Sketch.open(tmp_path)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SketchError, match=r"huge\.json: has 67108865 bytes, and 67108864 is the limit"):
        Sketch.open(huge)
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(SketchError, match="no regular file"):
        Sketch.open(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SketchError, match="loop"):
        Sketch.open(loop)


def test_the_reader_is_picked_by_content(tmp_path: Path):
    sketch = Sketch.from_dict(one())
    for suffix in (".json", ".svg", ".png"):
        sketch.save(tmp_path / f"a{suffix}")
        (tmp_path / f"a{suffix}").rename(tmp_path / "a.txt")
        assert Sketch.open(tmp_path / "a.txt").objects[0].label == "dog"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 2}, 'object 0 "dog": a PNG cannot hold its weight of 2; save it as .json or .svg'),
        ({"strokes": [], "bbox": [0, 0, 9, 9]}, 'object 0 "dog": a PNG cannot hold a word without strokes; save it as'),
    ],
)
def test_what_a_png_cannot_hold_is_named(tmp_path: Path, change: dict[str, Any], message: str):
    sketch = Sketch.from_dict(one(**change))
    with pytest.raises(SketchError, match=message):
        sketch.save(tmp_path / "a.png")
    for suffix in (".json", ".svg"):
        sketch.save(tmp_path / f"a{suffix}")
        assert Sketch.open(tmp_path / f"a{suffix}") == sketch


def test_saving_where_one_cannot_leaves_the_old_file(tmp_path: Path):
    sketch = Sketch.from_dict(one())
    with pytest.raises(SketchError, match=r'cannot write "\.gif"; use one of \.json, \.svg, \.png'):
        sketch.save(tmp_path / "a.gif")
    with pytest.raises(SketchError, match="cannot be written"):
        sketch.save(tmp_path / "missing" / "a.json")
    path = tmp_path / "a.png"
    sketch.save(path)
    before = path.read_bytes()
    hidden = Sketch(100, 80, (sketch.objects[0], sketch.objects[0]))
    with pytest.raises(SketchError):
        hidden.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_render_draws_each_object_in_its_colour():
    line = SketchObject([[[0, 100], [40, 40]]])
    sketch = Sketch(100, 80, (SketchObject(SQUARE, "größer"), line))
    assert sketch.render().size == (100, 80)
    assert sketch.render(400).size == (400, 320)
    image = sketch.render((300, 300), background=Image.new("RGB", (7, 9), (0, 0, 50)))
    assert image.size == (300, 300)
    assert image.mode == "RGB"
    assert image.getpixel((299, 5)) == (0, 0, 50)
    assert {image.getpixel((60, 225)), image.getpixel((250, 150))} == {(214, 39, 40), (31, 98, 200)}
    assert Sketch(60_000, 3, (SketchObject([[[1, 2], [1, 2]]]),)).render().size == (1024, 1)


def test_render_shows_words_and_what_is_not_wanted():
    word = {"label": "dog", "bbox": [20, 20, 380, 280]}

    def red(**changes: Any) -> np.ndarray:
        objects = ({**word, **changes}, {"label": "a", "bbox": [390, 290, 400, 300]})
        pixels = np.asarray(Sketch.from_dict({"width": 400, "height": 300, "objects": objects}).render())
        return (pixels == (214, 39, 40)).all(axis=2)

    wanted, unwanted = red(), red(weight=-1)
    assert wanted[140:160, 190:210].mean() > 0.3  # the word, on its colour, in the middle
    assert wanted[18:23, 22:378].any(axis=0).all()  # the box's upper edge
    assert 0.3 < unwanted[18:23, 22:378].any(axis=0).mean() < 0.8  # dashed
    assert wanted[30:120, 40:120].sum() == 0 < unwanted[30:120, 40:120].sum()  # and crossed out


@pytest.mark.parametrize(
    ("label", "weight", "text"),
    [("dog", 1, "dog"), ("dog", -1, "not dog"), (None, 2, "3 x2"), ("dog", -0.5, "not dog x0.5")],
)
def test_captions(label: str | None, weight: float, text: str):
    assert caption(SketchObject(SQUARE, label, weight=weight), 3) == text


def test_render_draws_ink_however_far_it_leaves_the_canvas() -> None:
    far = Sketch(200, 100, (SketchObject([[[1, 1e308], [2, -1e308]], [[-1e308, 100], [50, 50]]]),))
    assert far.render().size == (200, 100)  # without a warning of an overflow, which would be an error here
