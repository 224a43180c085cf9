"""The parquet format: what goes in comes out, byte for byte the same; what is no manifest is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.data import manifest
from encoders.data.manifest import (
    Box,
    Drawing,
    Facts,
    Photo,
    facts_if_manifest,
    is_manifest,
    iter_photos,
    read_facts,
    schema,
    write_photos,
    write_queries,
    write_sketches,
)
from encoders.errors import DataError
from encoders.evaluation.data import ClassMap, Word, read_annotations, read_photos, read_sketches

PHOTOS = Facts("photos", "coco", "instances_val2017.json", "0123456789abcdef", images="../images")
SKETCHES = Facts("sketches", "quickdraw", "cat.ndjson", seed=3)
DOG = Box("dog", 0.25, 0.0, 1.0, 0.5, False, "dog")

numbers = st.floats(0, 1, width=32)
names = st.text('aé中 /"', min_size=1, max_size=4)
boxes = st.builds(
    lambda name, word, xs, ys, group: Box(name, xs[0], ys[0], xs[1], ys[1], group, word),
    names,
    names,
    *[st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)] * 2,
    st.booleans(),
)
photos = st.builds(
    Photo,
    names,
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(["train", "validation", "test", ""]),
    st.lists(boxes, max_size=4).map(tuple),
    st.none() | names,
)
strokes = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.floats(-1e6, 1e6, width=32), min_size=2 * n, max_size=2 * n).map(
        lambda values: np.array(values, np.float32).reshape(2, -1)
    )
)
drawings = st.builds(Drawing, names, names, st.lists(strokes, min_size=1, max_size=4).map(tuple))


@settings(max_examples=20, deadline=None)
@given(st.lists(photos, min_size=1, max_size=6), st.integers(1, 4))
def test_photos_come_back_as_they_were(tmp_path_factory, rows, group):
    path = tmp_path_factory.mktemp("photos") / "photos.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS", group)  # several row groups
        assert write_photos(path, rows, PHOTOS) == len(rows)
        assert list(iter_photos(path)) == rows
        found = read_annotations(path)
    assert found.files == tuple(photo.file for photo in rows)
    assert found.splits == tuple(photo.split for photo in rows)
    assert found.sizes.tolist() == [[photo.width, photo.height] for photo in rows]
    assert found.classes == tuple(box.word for photo in rows for box in photo.boxes)
    expected = [box[1:5] for photo in rows for box in photo.boxes]
    np.testing.assert_allclose(found.normalised, np.array(expected).reshape(-1, 4), rtol=1e-12)
    assert [rows_.size for rows_ in found.by_photo] == [len(photo.boxes) for photo in rows]


@settings(max_examples=20, deadline=None)
@given(st.lists(drawings, min_size=1, max_size=6), st.integers(1, 4))
def test_sketches_come_back_as_they_were(tmp_path_factory, rows, group):
    path = tmp_path_factory.mktemp("sketches") / "sketches.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS", group)
        write_sketches(path, rows, SKETCHES)
        found = read_sketches(path)
    assert (found.words, found.key_ids) == (tuple(d.word for d in rows), tuple(d.key_id for d in rows))
    for drawing, row in zip(found.drawings, rows, strict=True):
        assert [stroke.tolist() for stroke in drawing] == [stroke.tolist() for stroke in row.strokes]
        assert all(stroke.dtype == np.float32 for stroke in drawing)


def test_a_manifest_says_who_made_it_of_what(tmp_path):
    path = tmp_path / "a.parquet"
    write_sketches(path, [Drawing("cat", "1", (np.zeros((2, 2)),))], SKETCHES)
    assert read_facts(path) == facts_if_manifest(path) == SKETCHES
    said = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    assert (said["compsketch.builder"], said["compsketch.seed"], said["compsketch.version"]) == ("quickdraw", "3", "1")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_photos(tmp_path / name, [Photo(f"{i}.jpg", 9, 9, "train", (DOG,)) for i in range(5000)], PHOTOS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.read_metadata(tmp_path / "a").num_row_groups == 2


def test_classes_of_a_manifest_are_words_that_no_class_map_touches(tmp_path):
    path = tmp_path / "a.parquet"
    write_photos(path, [Photo("a.jpg", 9, 9, "", (DOG._replace(name="Mouse", word="mouse"),))], PHOTOS)
    found = read_annotations(path)
    computers = ClassMap({"dog": "hound"}, {"mouse": "one of a computer"})
    assert computers.word("mouse") is None
    assert computers.word(found.classes[0]) == "mouse"
    assert computers.word(found.select(np.array([True])).classes[0]) == "mouse"
    assert isinstance(found.classes[0], Word)
    assert read_photos(path).classes == ("mouse",)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.parquet"
    write_photos(path, [Photo("a.jpg", 9, 9, "", (DOG,))], PHOTOS)

    def breaking():
        yield Photo("b.jpg", 9, 9, "", (DOG,))
        raise DataError("a bad line")

    with pytest.raises(DataError, match="a bad line"):
        write_photos(path, breaking(), PHOTOS)
    with pytest.raises(DataError, match=r"a\.parquet: nothing is left to write"):
        write_photos(path, [], PHOTOS)
    assert [photo.file for photo in iter_photos(path)] == ["a.jpg"]
    assert [found.name for found in tmp_path.iterdir()] == ["a.parquet"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written"):
        write_photos(tmp_path / "file" / "a.parquet", [], PHOTOS)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    waiting = 0
    most = 0

    def counted():
        nonlocal waiting, most
        for i in range(3 * manifest.ROWS):
            waiting += 1
            most = max(most, waiting)
            yield Photo(f"{i}.jpg", 9, 9, "", (DOG,))

    class Written(pq.ParquetWriter):
        def write_table(self, table, *args, **kwargs):
            nonlocal waiting
            waiting -= len(table)
            super().write_table(table, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "ParquetWriter", Written)
        write_photos(tmp_path / "a.parquet", counted(), PHOTOS)
    assert most == manifest.ROWS


def test_what_is_no_manifest_is_refused_by_name(tmp_path):
    text, foreign = tmp_path / "text.parquet", tmp_path / "foreign.parquet"
    text.write_text("no parquet")
    pq.write_table(pa.table({"file": ["a.jpg"]}), foreign)
    assert not is_manifest(text)
    assert not is_manifest(tmp_path / "none")
    assert is_manifest(foreign)
    assert facts_if_manifest(foreign) is None
    with pytest.raises(DataError, match=r"no file .*none"):
        read_facts(tmp_path / "none")
    with pytest.raises(DataError, match=r"text\.parquet is no parquet that can be read"):
        read_facts(text)
    with pytest.raises(DataError, match=r"foreign\.parquet is parquet, but no manifest; write it with `compsketch"):
        read_annotations(foreign)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(foreign.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.parquet is no parquet"):
        read_annotations(cut)
    newer = tmp_path / "newer.parquet"
    write_sketches(newer, [Drawing("cat", "1", (np.zeros((2, 2)),))], replace(SKETCHES, version=2))
    with pytest.raises(DataError, match=r"newer\.parquet has version 2 of the format, this is 1"):
        read_sketches(newer)


def test_another_kind_is_refused_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    write_sketches(path, [Drawing("cat", "1", (np.zeros((2, 2)),))], SKETCHES)
    with pytest.raises(DataError, match=r"a\.parquet holds sketches, where a manifest of photos was expected"):
        read_annotations(path)
    write_photos(path, [Photo("a.jpg", 9, 9, "", (DOG,))], PHOTOS)
    with pytest.raises(DataError, match=r"a\.parquet holds photos, where a manifest of sketches was expected"):
        read_sketches(path)


def rewritten(path, facts, change):
    """A manifest whose rows somebody has changed by hand."""
    said = {f"compsketch.{key}": "" if value is None else str(value) for key, value in vars(facts).items()}
    rows = [change(row) for row in pq.read_table(path).to_pylist()]
    columns = pa.schema([field for field in schema(facts.kind) if field.name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, columns.with_metadata(said)), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda row: row | {"boxes": [row["boxes"][0] | {"x0": 1.5}]},
            r"a box of a\.jpg is \[1\.5, 0\.0, 1\.0, 0\.5\]",
        ),
        (lambda row: row | {"boxes": [row["boxes"][0] | {"x0": float("nan")}]}, r"a box of a\.jpg"),
        (lambda row: row | {"width": 0}, r"a\.jpg has no width and height; build the manifest again, with --images"),
        (lambda row: {key: row[key] for key in row if key != "split"}, "column 'split' is missing"),
    ],
)
def test_photos_that_somebody_changed(tmp_path, change, message):
    path = tmp_path / "photos.parquet"
    write_photos(path, [Photo("a.jpg", 9, 9, "", (DOG,))], PHOTOS)
    with pytest.raises(DataError, match=message):
        read_annotations(rewritten(path, PHOTOS, change))


@pytest.mark.parametrize(
    "drawing", [[], [[]], [[[1.0]]], [[[1.0], [1.0, 2.0]]], [[[], []]], [[[1.0], [float("nan")]]], [[[1.0]] * 3]]
)
def test_drawings_that_somebody_changed(tmp_path, drawing):
    path = tmp_path / "sketches.parquet"
    rows = [Drawing("cat", key, (np.zeros((2, 2)),)) for key in ("good", "bad")]
    write_sketches(path, rows, SKETCHES)
    rewritten(path, SKETCHES, lambda row: row | ({"drawing": drawing} if row["key_id"] == "bad" else {}))
    with pytest.raises(DataError, match=r"sketches\.parquet: sketch bad: expected strokes"):
        read_sketches(path)


def test_queries_keep_their_columns(tmp_path):
    item = {"class": "dog", "box": 0, "x0": 0.1, "y0": 0.2, "x1": 0.3, "y1": 0.4, "key_id": "7"}
    row = {"file": "a.jpg", "width": 9, "height": 8, "objects": [item]}
    write_queries(tmp_path / "q.parquet", [row], Facts("queries", "queries", "a b", seed=0))
    assert pq.read_table(tmp_path / "q.parquet").to_pylist() == [row]
