"""The formats, and every mistake in them by name."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from encoders.errors import DataError
from encoders.evaluation.data import (
    Annotations,
    read_annotations,
    read_class_map,
    read_labels,
    read_photos,
    read_sketches,
)

COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
# The words of Quick, Draw! that go by another name in COCO; its others are spelled alike.
OTHER_WORDS = {
    *("motorbike", "television", "house plant", "tennis racquet", "teddy-bear", "soccer ball", "table", "sailboat"),
    *("wine bottle", "remote control", "purse"),
}


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def example():
    return {
        "images": [{"file": "a.jpg", "width": 200, "height": 100}, {"file": "b.jpg", "width": 50, "height": 50}],
        "boxes": [
            {"image": "b.jpg", "class": "cat", "bbox": [0, 0, 50, 50]},
            {"image": "a.jpg", "class": "dog", "bbox": [20, 10, 120, 60]},
            {"image": "b.jpg", "class": "dog", "bbox": [10, 10, 20, 20]},
        ],
    }


def test_annotations(tmp_path):
    found = read_annotations(write(tmp_path / "a.json", example()))
    assert found.files == ("a.jpg", "b.jpg")
    assert found.classes == ("cat", "dog", "dog")
    assert found.photos.tolist() == [1, 0, 1]
    assert found.sizes.tolist() == [[200, 100], [50, 50]]
    np.testing.assert_allclose(found.normalised[1], [0.1, 0.1, 0.6, 0.6])
    assert [rows.tolist() for rows in found.by_photo] == [[1], [0, 2]]


def test_select_and_join_keep_boxes_with_their_photos(tmp_path):
    whole = read_annotations(write(tmp_path / "a.json", example()))
    second = whole.select(np.array([False, True]))
    assert (second.files, second.classes, second.photos.tolist()) == (("b.jpg",), ("cat", "dog"), [0, 0])
    joined = Annotations.join([second, whole])
    assert joined.files == ("b.jpg", "a.jpg", "b.jpg")
    assert joined.photos.tolist() == [0, 0, 2, 1, 2]
    np.testing.assert_array_equal(joined.boxes[2:], whole.boxes)


def test_boxes_are_cut_to_the_photo_within_rounding(tmp_path):
    data = example()
    data["boxes"] = [{"image": "b.jpg", "class": "cat", "bbox": [-0.5, 0, 50.4, 51]}]
    assert read_annotations(write(tmp_path / "a.json", data)).boxes.tolist() == [[0, 0, 50, 50]]


def change(where, key, value):
    def apply(data):
        data[where][0][key] = value
        return data

    return apply


def drop(where, key):
    def apply(data):
        del (data[where][0] if key else data)[key or where]
        return data

    return apply


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (drop("images", ""), "has no 'images'; it has 'boxes'"),
        (drop("images", "width"), "image 0 has no 'width'"),
        (drop("boxes", "class"), "box 0 has no 'class'; it has 'image', 'bbox'"),
        (change("boxes", "image", "c.jpg"), r"box 0: its image 'c.jpg' is not among the 2; add"),
        (change("boxes", "bbox", [30, 30, 20, 40]), "cat in b.jpg.*inside out"),
        (change("boxes", "bbox", [0, 0, 50, 400]), r"outside its photo of \[50\.0, 50\.0\]; expected"),
        (change("boxes", "bbox", [0, 0, 50]), "not 4 finite numbers"),
        (change("boxes", "bbox", [0, 0, 50, float("nan")]), "not 4 finite numbers"),
        (change("boxes", "bbox", [0, 0, 50, "x"]), "is not 4 numbers"),
        (change("images", "file", "b.jpg"), "'b.jpg' is listed twice"),
        (change("images", "width", 0), "width and height are"),
        (lambda data: {**data, "boxes": {}}, "expected a list under 'boxes'"),
        (lambda data: {**data, "images": ["a.jpg"]}, "image 0 is not a JSON object"),
        (lambda data: [], "is not a JSON object"),
    ],
)
def test_broken_annotations(tmp_path, broken, message):
    path = write(tmp_path / "broken.json", broken(example()))
    with pytest.raises(DataError, match=message) as error:
        read_annotations(path)
    assert "broken.json" in str(error.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match=r"no file .*none\.json"):
        read_annotations(tmp_path / "none.json")
    with pytest.raises(DataError, match="no file"):
        read_sketches(tmp_path)
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(DataError, match=r"text\.json is not JSON"):
        read_labels(tmp_path / "text.json")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(DataError, match=r"cut\.gz cannot be read"):
        read_sketches(tmp_path / "cut.gz")


def test_labels(tmp_path):
    path = write(tmp_path / "labels.json", [{"file": "a.jpg", "class": "cup", "width": 3}, {"file": "b", "class": "x"}])
    found = read_labels(path)
    assert (found.files, found.classes) == (("a.jpg", "b"), ("cup", "x"))
    photos = read_photos(path)  # by content: a list has no boxes
    assert (photos.files, len(photos.boxes), photos.by_photo[1].tolist()) == (("a.jpg", "b"), 0, [])
    assert read_photos(write(tmp_path / "a.json", example())).classes == ("cat", "dog", "dog")
    with pytest.raises(DataError, match="entry 0 has no 'class'; it has 'file'"):
        read_labels(write(path, [{"file": "a"}]))


def lines(*entries):
    return "\n".join(json.dumps(entry) for entry in entries).encode()


CAT = {"word": "cat", "key_id": "9", "drawing": [[[0, 255], [0, 10]], [[5], [5]]]}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_sketches(tmp_path, pack):
    path = tmp_path / "sketches"  # gzip is told by its content, not by its name
    raw = {"word": "dog", "key_id": "5", "drawing": [[[0, 1], [0, 1], [0, 99]]]}
    path.write_bytes(pack(lines(CAT, raw, {**CAT, "key_id": "10"}) + b"\n\n"))
    found = read_sketches(path)
    assert found.words == ("cat", "dog", "cat")
    assert {word: rows.tolist() for word, rows in found.by_class.items()} == {"cat": [2, 0], "dog": [1]}
    assert [stroke.tolist() for stroke in found.drawings[0]] == [[[0, 255], [0, 10]], [[5], [5]]]
    assert found.drawings[1][0].shape == (2, 2)  # the raw files' times are no ink
    assert found.select(np.array([False, True, True])).words == ("dog", "cat")
    with pytest.raises(DataError, match="no sketches of 'yak' among 2 classes"):
        found.of("yak")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "holds no sketches"),
        (b"{", "line 1 is not JSON"),
        (lines(CAT, {"word": "cat", "key_id": "1"}), "line 2 has no 'drawing'; it has 'word', 'key_id'"),
        (lines({**CAT, "drawing": []}), r"line 1 \(cat\): expected strokes"),
        (lines({**CAT, "drawing": [[[], []]]}), "expected strokes"),
        (lines({**CAT, "drawing": [[[1, 2], [1]]]}), "a stroke is not"),
        (lines({**CAT, "drawing": [[[1], ["x"]]]}), "a stroke is not"),
        (lines({**CAT, "drawing": [[[1], [float("nan")]]]}), "finite"),
        (lines({**CAT, "drawing": 3}), "a stroke is not"),
    ],
)
def test_broken_sketches(tmp_path, text, message):
    path = tmp_path / "broken.ndjson"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        read_sketches(path)


def test_the_default_class_map_settles_every_class_of_coco():
    class_map = read_class_map()
    names = {name.strip() for name in COCO.split(",")}
    assert len(names) == 80
    assert names <= set(class_map.words) | set(class_map.left_out)
    assert all(class_map.left_out.values()), "each class left out says why"
    assert set(class_map.words.values()) - names == OTHER_WORDS
    assert class_map.word("person") is None
    assert class_map.word("tv") == class_map.word("tvmonitor") == "television"
    assert class_map.word("dog") == "dog"
    assert class_map.word("castle") == "castle", "a class in neither list stands for itself"


def test_what_is_left_out_keeps_its_name_unless_something_else_is_drawn_by_it():
    class_map = read_class_map()
    assert class_map.own_word("tv", {"mouse"}) == "television"
    assert class_map.own_word("person", {"mouse"}) == "person"
    assert class_map.own_word("mouse", {"mouse"}) is None, "a computer mouse, where the animal is drawn"
    assert class_map.own_word("mouse", {"cat"}) == "mouse"


def test_broken_class_maps(tmp_path):
    with pytest.raises(DataError, match="has no 'left_out'"):
        read_class_map(write(tmp_path / "map.json", {"words": {}}))
    with pytest.raises(DataError, match="'words' is not an object of strings"):
        read_class_map(write(tmp_path / "map.json", {"words": {"tv": 1}, "left_out": {}}))
    with pytest.raises(DataError, match="'tv' is both in"):
        read_class_map(write(tmp_path / "map.json", {"words": {"tv": "television"}, "left_out": {"tv": "no"}}))
