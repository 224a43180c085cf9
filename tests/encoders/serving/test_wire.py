"""Messages and what they mean: the same after a way there and back, refused where they mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.calibration import Calibration, Sigmoid
from encoders.errors import SketchError
from encoders.explain import Explanation
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.wire import WireError
from encoders.sketch import Sketch, SketchObject

coordinates = st.floats(0, 100)
strokes = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5).map(lambda points: np.array(points).T)
labels = st.text("abc é", max_size=5)
drawn = st.builds(
    SketchObject,
    st.lists(strokes, min_size=1, max_size=3).map(tuple),
    labels,
    st.none() | st.just((1.5, 2.0, 30.25, 40.0)),
    st.floats(0.1, 4),
)
named = st.builds(lambda label: SketchObject((), label, (0.0, 0.0, 10.0, 10.0)), st.sampled_from(["cat", "dog"]))
sketches = st.builds(Sketch, st.just(100), st.just(100), st.lists(drawn | named, min_size=1, max_size=4).map(tuple))


@given(sketches)
def test_a_sketch_is_the_same_on_the_other_side(sketch):
    sent = pb.Sketch.FromString(wire.sketch_message(sketch).SerializeToString())
    assert wire.sketch(sent) == sketch


@given(sketches)
def test_json_and_canvas_say_the_same(sketch):
    assert wire.sketch(pb.Sketch(json=json.dumps(sketch.to_dict()))) == wire.sketch(wire.sketch_message(sketch))


def test_a_cut_out_travels_as_it_is(pictures):
    photo = Path(pictures[0]).read_bytes()
    sketch = Sketch(100, 100, (SketchObject((), None, (0.0, 0.0, 50.0, 50.0), photo=photo),))
    assert wire.sketch(wire.sketch_message(sketch)) == sketch


def stroke(*points: tuple[float, float]) -> pb.Stroke:
    return pb.Stroke(x=[x for x, _ in points], y=[y for _, y in points])


LINE = stroke((1, 1), (9, 9))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (pb.Sketch(), "neither JSON nor a canvas"),
        (pb.Sketch(json="{"), "no valid JSON"),
        (pb.Sketch(json="[" * 100_000), "no valid"),
        (pb.Sketch(json="<svg/>"), "no valid JSON"),
        (pb.Sketch(json="1"), "no stroke JSON"),
        (pb.Sketch(json=" " * (wire.MAX_JSON + 1)), "bytes of JSON"),
        (pb.Sketch(canvas=pb.Canvas()), "width"),
        (pb.Sketch(canvas=pb.Canvas(width=9, height=9)), "empty"),
        (pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject()])), "object 0: it has no ink"),
        (
            pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[LINE])] * 33)),
            "33 objects; keep to 32",
        ),
        (
            pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[pb.Stroke()] * 100_001)])),
            "100001 strokes",
        ),
        (
            pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[LINE] * 50_001)])),
            "100002 points",
        ),
        (
            pb.Sketch(
                canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[pb.Stroke(x=[1, 2], y=[1])])])
            ),
            "two rows of one length",
        ),
        (
            pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[LINE], bbox=[1] * 9)])),
            "bbox has to be four",
        ),
        (
            pb.Sketch(canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[LINE], weight=0)])),
            "weight",
        ),
        (
            pb.Sketch(
                canvas=pb.Canvas(width=9, height=9, objects=[pb.SketchObject(strokes=[stroke((float("nan"), 1))])])
            ),
            "finite",
        ),
    ],
)
def test_what_is_no_sketch_is_refused(message, says):
    with pytest.raises(SketchError, match=says):
        wire.sketch(message)


@pytest.mark.parametrize("precision", [pb.PRECISION_UNSPECIFIED, pb.PRECISION_FLOAT32, pb.PRECISION_FLOAT16])
def test_vectors_are_the_same_on_the_other_side(precision):
    rows = np.arange(12, dtype=np.float32).reshape(3, 4) / 8  # exact in half precision
    packed = wire.pack(rows, precision)
    assert len(packed) == 12 * (2 if precision == pb.PRECISION_FLOAT16 else 4)
    there = wire.unpack(packed, 4, precision)
    assert there.dtype == np.float32
    assert there.flags.writeable
    np.testing.assert_array_equal(there, rows)


def test_vectors_are_little_endian_whatever_the_array():
    assert wire.pack(np.array([1.0], ">f8")) == b"\x00\x00\x80\x3f"
    assert wire.pack(np.arange(4.0).reshape(2, 2).T) == wire.pack(np.array([0.0, 2.0, 1.0, 3.0]))
    assert wire.unpack(b"", 4).shape == (0, 4)


def test_half_a_vector_is_refused():
    with pytest.raises(WireError, match="15 bytes are no whole number of rows of 4 float32"):
        wire.unpack(bytes(15), 4)
    with pytest.raises(WireError, match="no whole number"):
        wire.unpack(b"", 0)
    with pytest.raises(WireError, match="precision 9 is unknown"):
        wire.pack(np.zeros(1), 9)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 7e4])
def test_numbers_that_no_vector_holds_are_refused(number):
    with pytest.raises(WireError, match="not finite, or beyond 65504"):
        wire.unpack(wire.pack(np.array([[0.0, number]])), 2)


def test_photos_are_bytes_or_pixels():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(wire.image_content(wire.image_message(pixels), 2), pixels)
    assert wire.image_content(wire.image_message(b"a file"), 2) == b"a file"
    with pytest.raises(WireError, match="takes 3 x 3 x 3 RGB, 27 bytes"):
        wire.image_content(wire.image_message(pixels), 3)
    with pytest.raises(WireError, match="neither encoded bytes nor pixels"):
        wire.image_content(pb.Image(), 3)


def test_explanations_are_the_same_on_the_other_side(judging_encoder):
    rng = np.random.default_rng(0)
    one = Explanation(rng.normal(size=(2, 7, 7)), rng.normal(size=(7, 7)), 0.25)
    there = wire.explanation(wire.explanation_message(one))
    np.testing.assert_array_equal(there.objects, one.objects)
    np.testing.assert_array_equal(there.canvas, one.canvas)
    assert (there.bias, there.score) == (one.bias, one.score)
    with pytest.raises(WireError, match="no whole maps"):
        wire.explanation(pb.Explanation(objects=bytes(8), canvas=bytes(49 * 8)))
    with pytest.raises(WireError, match="no whole maps"):
        wire.explanation(pb.Explanation(objects=bytes(8)))


def test_a_model_says_what_it_has(toy_encoder, judging_encoder):
    plain, judging = wire.model_message(toy_encoder), wire.model_message(judging_encoder)
    assert (plain.name, plain.fingerprint, plain.dim, plain.image_size) == ("toy", toy_encoder.fingerprint, 16, 32)
    assert (plain.networks, plain.features, plain.explains, plain.calibration) == ("toy-networks-4", 16, False, "")
    assert judging.explains
    assert wire.calibration(plain) is None
    assert list(plain.vocabulary) == []
    toy_encoder.vocabulary = ["cat", "cup"]
    assert list(wire.model_message(toy_encoder).vocabulary) == ["cat", "cup"]
    assert wire.calibration(judging) == Calibration({"strokes/1": Sigmoid(10.0, -8.0, 100, 10)})
    judging.calibration = "{"
    with pytest.raises(WireError, match="'toy': its calibration is no JSON"):
        wire.calibration(judging)


def test_it_needs_no_torch():
    code = "import sys, encoders.serving.wire; assert not {'torch', 'pymilvus', 'compsketch_milvus'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
