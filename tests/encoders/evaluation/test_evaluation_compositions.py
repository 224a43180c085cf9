"""Queries made from photos' boxes, and the split by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.data.manifest import Facts, write_queries
from encoders.errors import DataError
from encoders.evaluation.compositions import (
    compositions,
    fill_box,
    held_out_photos,
    query_row,
    read_queries,
    split_photos,
    split_sketches,
    validation_photos,
)
from encoders.evaluation.data import Annotations, ClassMap, SketchSet

CLASS_MAP = ClassMap({"tv": "television", "dog": "dog", "cat": "cat"}, {"person": "no sketches"})


def annotations(photos):
    """From ``{file: [(class, box in 100ths of the photo)]}``, each photo 400 x 200."""
    rows = [(index, name, box) for index, boxes in enumerate(photos.values()) for name, box in boxes]
    scale = np.array([400, 200, 400, 200]) / 100
    return Annotations(
        tuple(photos),
        np.tile([400, 200], (len(photos), 1)),
        np.array([row[2] for row in rows], float).reshape(-1, 4) * scale,
        np.array([row[0] for row in rows], int),
        tuple(row[1] for row in rows),
    )


def sketch_set(words=("television", "dog", "cat"), each=5):
    rng = np.random.default_rng(0)
    names = [word for word in words for _ in range(each)]
    drawings = tuple((rng.random((2, 7)).astype(np.float32) * 255,) for _ in names)
    return SketchSet(tuple(names), drawings, tuple(str(1000 + i) for i in range(len(names))))


PHOTOS = {
    "a.jpg": [("dog", (0, 0, 50, 50)), ("person", (0, 0, 100, 100)), ("tv", (10, 10, 100, 100))],
    "b.jpg": [("dog", (0, 0, 10, 19.9))],  # under 2 %: too small
    "c.jpg": [("cat", (0, 0, 20, 20)), ("yak", (0, 0, 90, 90))],
    "d.jpg": [],
}


def test_a_query_has_its_photos_layout():
    sketches = sketch_set()
    found = compositions(annotations(PHOTOS), sketches, CLASS_MAP, objects=(2,))
    assert [query.photo_index for query in found] == [0]  # only a.jpg has two
    query = found[0]
    assert query.classes == ("tv", "dog")  # largest first; no person, no yak
    np.testing.assert_allclose(query.boxes, [[0.1, 0.1, 1, 1], [0, 0, 0.5, 0.5]])
    assert (query.sketch.width, query.sketch.height) == (400, 200)
    assert [thing.label for thing in query.sketch.objects] == ["television", "dog"]
    np.testing.assert_allclose(query.sketch.boxes, query.boxes, atol=1e-6)
    for thing, index in zip(query.sketch.objects, query.sketch_indices, strict=True):
        assert sketches.words[index] == thing.label
        ink = np.concatenate(thing.strokes, axis=1)
        np.testing.assert_allclose([*ink.min(axis=1), *ink.max(axis=1)], thing.bbox, atol=1e-3)


def test_one_query_a_photo_that_has_a_box_to_draw():
    found = compositions(annotations(PHOTOS), sketch_set(), CLASS_MAP)
    assert [query.photo_index for query in found] == [0, 2]
    assert found[1].classes == ("cat",)
    assert [q.photo_index for q in compositions(annotations(PHOTOS), sketch_set(), CLASS_MAP, photos=[2, 3])] == [2]


def many():
    rng = np.random.default_rng(1)
    photos = {}
    for i in range(60):
        boxes = [(str(name), (0, 0, *rng.integers(20, 101, 2))) for name in rng.choice(["dog", "cat", "tv"], 3)]
        photos[f"{i}.jpg"] = boxes
    return photos


def summary(found, files):
    return {
        files[q.photo_index]: (q.classes, q.boxes.tolist(), [s.tolist() for o in q.sketch.objects for s in o.strokes])
        for q in found
    }


def test_only_the_seed_and_the_names_decide():
    photos = many()
    whole = annotations(photos)
    first = summary(compositions(whole, sketch_set(), CLASS_MAP, seed=3), whole.files)
    assert summary(compositions(whole, sketch_set(), CLASS_MAP, seed=3), whole.files) == first
    assert summary(compositions(whole, sketch_set(), CLASS_MAP, seed=4), whole.files) != first
    turned = annotations(dict(reversed(photos.items())))
    assert summary(compositions(turned, sketch_set(), CLASS_MAP, seed=3), turned.files) == first
    ten = summary(compositions(whole, sketch_set(), CLASS_MAP, n=10, seed=3), whole.files)
    assert len(ten) == 10
    assert ten.items() <= first.items()
    assert ten.keys() != set(list(photos)[:10])  # a sample, not the head of the file


def test_counts_of_objects_are_drawn_evenly():
    found = compositions(annotations(many()), sketch_set(), CLASS_MAP)
    counts = np.bincount([len(query.classes) for query in found], minlength=4)
    assert len(found) == 60
    assert (counts[1:] >= 10).all(), counts


def test_random_boxes_are_not_only_the_largest():
    whole = annotations(many())
    largest = compositions(whole, sketch_set(), CLASS_MAP, objects=(1,))
    drawn = compositions(whole, sketch_set(), CLASS_MAP, objects=(1,), pick="random")
    same = [np.array_equal(a.boxes, b.boxes) for a, b in zip(largest, drawn, strict=True)]
    assert 10 < sum(same) < 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (0,)}, "objects is"),
        ({"objects": (3,)}, r"none of 4 photos has 3 box\(es\) over 2%.*sketches: cat, dog, television"),
        ({"pick": "smallest"}, "expected 'largest' or 'random'"),
        ({"n": 0}, "n is 0"),
        ({"photos": [4]}, "photo 4 is not among the 4"),
        ({"photos": [1, 3]}, "none of 2 photos"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(DataError, match=message):
        compositions(annotations(PHOTOS), sketch_set(), CLASS_MAP, **options)


def test_without_sketches_of_the_classes():
    with pytest.raises(DataError, match=r"sketches: anvil; classes: cat, dog, person, tv, yak"):
        compositions(annotations(PHOTOS), sketch_set(("anvil",)), CLASS_MAP)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fill_box_fills_the_box_and_never_leaves_it(seed):
    rng = np.random.default_rng(seed)
    drawing = [rng.normal(size=(2, n)) * 300 for n in rng.integers(2, 6, 3)]
    low, high = rng.random(2) * 100, 100 + rng.random(2) * 500
    filled = np.concatenate(fill_box(drawing, [*low, *high]), axis=1)
    np.testing.assert_allclose(filled.min(axis=1), low, rtol=1e-5)
    np.testing.assert_allclose(filled.max(axis=1), high, rtol=1e-5)


def test_a_straight_line_lies_in_the_middle():
    (line,) = fill_box([np.array([[0, 255], [7, 7]])], (10, 20, 30, 60))
    assert line.tolist() == [[10, 30], [40, 40]]
    (dot,) = fill_box([np.array([[3], [7]])], (10, 20, 30, 60))
    assert dot.tolist() == [[20], [40]]


def test_the_split_goes_by_name_alone():
    names = [f"{i:012d}.jpg" for i in range(5000)]
    held = split_photos(names)
    assert abs(held.mean() - 0.12) < 0.02
    order = np.random.default_rng(0).permutation(5000)
    np.testing.assert_array_equal(split_photos([names[i] for i in order]), held[order])
    np.testing.assert_array_equal(split_photos([f"else/where/{name}" for name in names]), held)
    assert (split_photos(names, seed=1) != held).any()
    assert (split_photos(names, 0.3) | ~held).all()  # a larger part holds the smaller one
    assert abs(split_sketches(names).mean() - 0.1) < 0.02
    assert not split_sketches(names, 0.0).any()
    with pytest.raises(DataError, match=r"held_out is 1\.5"):
        split_sketches(names, 1.5)


def test_the_split_is_the_same_for_ever():
    # Bundles are trained on one side of it: a change here makes their figures worthless.
    files = [f"{i:012d}.jpg" for i in range(40)]
    assert np.flatnonzero(split_photos(files)).tolist() == [11, 22, 29]
    assert np.flatnonzero(split_sketches([str(i) for i in range(40)])).tolist() == [3, 6, 18]


# --- balanced over numbers of objects, and kept in a manifest ---


def counts_of(found):
    return np.bincount([len(query.classes) for query in found])[1:].tolist()


def test_balanced_queries_have_as_many_of_each_number_of_objects():
    whole = annotations(many())
    assert counts_of(compositions(whole, sketch_set(), CLASS_MAP, n=10, balanced=True)) == [3, 3, 4]  # 100: 33, 33, 34
    assert counts_of(compositions(whole, sketch_set(), CLASS_MAP, n=11, balanced=True)) == [3, 4, 4]
    assert counts_of(compositions(whole, sketch_set(), CLASS_MAP, n=9, objects=(3, 2), balanced=True)) == [0, 4, 5]
    assert counts_of(compositions(whole, sketch_set(), CLASS_MAP, balanced=True)) == [20, 20, 20]


def test_balanced_queries_are_the_seeds_whatever_the_order_of_the_photos():
    photos = many()
    whole, turned = annotations(photos), annotations(dict(reversed(photos.items())))
    first = summary(compositions(whole, sketch_set(), CLASS_MAP, n=10, seed=3, balanced=True), whole.files)
    assert summary(compositions(turned, sketch_set(), CLASS_MAP, n=10, seed=3, balanced=True), turned.files) == first
    assert summary(compositions(whole, sketch_set(), CLASS_MAP, n=10, seed=4, balanced=True), whole.files) != first


def test_too_few_photos_to_balance():
    with pytest.raises(
        DataError, match=r"1 photos have 2 box\(es\) that can be drawn.*2 are needed to balance 3 queries"
    ):
        compositions(annotations(PHOTOS), sketch_set(), CLASS_MAP, n=3, objects=(1, 2), balanced=True)


def stored(path, found, whole, sketches):
    rows = [query_row(query, whole, sketches) for query in found]
    write_queries(path, rows, Facts("queries", "queries", "photos sketches", seed=3))
    return path


def test_stored_queries_come_back_as_they_were(tmp_path):
    whole, sketches = annotations(many()), sketch_set()
    for options in ({}, {"pick": "random"}, {"n": 10, "balanced": True}):
        found = compositions(whole, sketches, CLASS_MAP, seed=3, **options)
        again = read_queries(stored(tmp_path / "q.parquet", found, whole, sketches), whole, sketches)
        assert len(again) == len(found)
        for one, other in zip(again, found, strict=True):
            assert one.sketch == other.sketch
            np.testing.assert_array_equal(one.boxes, other.boxes)
            assert (one.photo_index, one.classes, one.rows) == (other.photo_index, other.classes, other.rows)
            assert one.sketch_indices == other.sketch_indices


def test_stored_queries_find_their_photos_and_sketches_among_others(tmp_path):
    photos, sketches = many(), sketch_set()
    whole = annotations(photos)
    found = compositions(whole, sketches, CLASS_MAP, n=5, seed=3)
    path = stored(tmp_path / "q.parquet", found, whole, sketches)
    turned = annotations({"more.jpg": [], **dict(reversed(photos.items()))})
    more = SketchSet.join([SketchSet(("yak",), sketches.drawings[:1], ("yak-1",)), sketches])
    assert summary(read_queries(path, turned, more), turned.files) == summary(found, whole.files)


def test_stored_queries_whose_photos_or_sketches_are_others(tmp_path):
    photos, sketches = many(), sketch_set()
    whole = annotations(photos)
    path = stored(tmp_path / "q.parquet", compositions(whole, sketches, CLASS_MAP, objects=(1,)), whole, sketches)
    with pytest.raises(DataError, match=r"q\.parquet: photo 0\.jpg is not among the 4; name the queries' own"):
        read_queries(path, annotations(PHOTOS), sketches)
    with pytest.raises(DataError, match=r"q\.parquet: sketch 10\d\d is not among the 1; name the queries' own"):
        read_queries(path, whole, sketches.select(np.arange(15) == 14))
    moved = annotations({file: [(name, (0, 0, 99, 99)) for name, _ in boxes] for file, boxes in photos.items()})
    with pytest.raises(DataError, match=r"the boxes of 0\.jpg are others than were asked for; build it again"):
        read_queries(path, moved, sketches)
    with pytest.raises(DataError, match=r"the boxes of 0\.jpg are others"):
        read_queries(path, annotations(dict.fromkeys(photos, ())), sketches)


def test_a_sets_own_split_says_what_is_held_out():
    files = [f"{i:012d}.jpg" for i in range(40)]  # the hash holds out 11, 22 and 29
    splits = ["train"] * 12 + ["validation", "test"] + [""] * 26
    found = replace(annotations(dict.fromkeys(files, ())), splits=tuple(splits))
    assert np.flatnonzero(held_out_photos(found)).tolist() == [12, 13, 22, 29]
    assert np.flatnonzero(held_out_photos(replace(found, splits=()))).tolist() == [11, 22, 29]
    kept = found.select(np.arange(40) % 2 == 0)
    assert np.flatnonzero(held_out_photos(kept)).tolist() == [6, 11]
    joined = type(found).join([replace(found, splits=()), found])
    assert np.flatnonzero(held_out_photos(joined)).tolist() == [11, 22, 29, 52, 53, 62, 69]
    assert np.flatnonzero(validation_photos(found)).tolist() == [12, 22, 29], "a set's own test photos are for neither"
