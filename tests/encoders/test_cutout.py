"""An object of a query that is cut out of a photo."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from encoders.calibration import group
from encoders.errors import ImageError, SketchError
from encoders.local import LocalEncoder
from encoders.sketch import Sketch, SketchObject

BOX = (10, 20, 90, 80)


def jpeg(colour: str, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, kind)
    return file.getvalue()


RED = jpeg("red")


def test_stroke_json_keeps_it_as_base64() -> None:
    sketch = Sketch(100, 100, (SketchObject(photo=RED, bbox=BOX, label="cup", weight=2),))
    told = sketch.to_dict()
    assert base64.b64decode(told["objects"][0]["photo"]) == RED
    again = Sketch.from_dict(told)
    assert again == sketch
    assert hash(again) == hash(sketch)
    assert again.objects[0].photo == RED


def test_another_photo_is_another_object() -> None:
    assert SketchObject(photo=RED, bbox=BOX) != SketchObject(photo=jpeg("blue"), bbox=BOX)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"photo": RED}, "its photo has no bbox; add it"),
        ({"photo": RED, "bbox": BOX, "strokes": [[[0, 9], [0, 9]]]}, "both strokes and a photo"),
        ({"photo": b"<svg/>", "bbox": BOX}, "bytes of a JPEG, PNG or WebP"),
        ({"photo": "no base64!", "bbox": BOX}, "base64 of a JPEG, PNG or WebP"),
        ({"photo": 7, "bbox": BOX}, "bytes of a JPEG, PNG or WebP"),
        ({"photo": RED + bytes(1 << 20), "bbox": BOX}, "1048576 is the limit; scale the cut-out down"),
        ({"photo": "A" * (1 << 21), "bbox": BOX}, "more than 1048576 bytes"),
    ],
)
def test_what_is_no_cut_out_is_refused(given: dict, why: str) -> None:
    with pytest.raises(SketchError, match=why):
        SketchObject(**given)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_only_json_holds_it(suffix: str, tmp_path) -> None:
    sketch = Sketch(100, 100, (SketchObject(photo=RED, bbox=BOX),))
    with pytest.raises(SketchError, match=r"object 0: an? \w+ sketch cannot hold its photo; save it as \.json"):
        sketch.save(tmp_path / f"one{suffix}")
    sketch.save(tmp_path / "one.json")
    assert Sketch.open(tmp_path / "one.json") == sketch


def test_it_is_drawn_in_its_box() -> None:
    pixels = np.asarray(Sketch(100, 100, (SketchObject(photo=RED, bbox=BOX),)).render(100))
    assert tuple(pixels[60, 70]) == pytest.approx((254, 0, 0), abs=3)
    assert tuple(pixels[95, 95]) == (255, 255, 255)


def test_its_vector_is_that_of_the_photo_branch() -> None:
    """f_i of the cut-out (eq. 2), remembered like a drawing's, beside objects of other kinds in their order."""
    encoder = LocalEncoder.open(runtime="torch")
    drawn = SketchObject(strokes=[[[0, 50, 50], [0, 0, 50]]])
    cut = SketchObject(photo=RED, bbox=BOX)
    word = SketchObject(label="cup", bbox=BOX)
    rows = encoder.embed_objects([cut, drawn, word, cut])
    np.testing.assert_allclose(rows[0], encoder.embed_photo_objects([RED])[0], atol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_array_equal(rows[1], encoder.embed_objects([drawn])[0])
    np.testing.assert_array_equal(rows[2], encoder.word_vector("cup"))
    assert encoder.encode_sketches([Sketch(100, 100, (cut, word))]).shape == (1, encoder.dim)
    with pytest.raises(ImageError):
        encoder.embed_objects([SketchObject(photo=RED[:40], bbox=BOX)])


def test_no_probability_is_claimed_for_it() -> None:
    assert group(Sketch(100, 100, (SketchObject(photo=RED, bbox=BOX),))) is None
