"""Reading a training folder: what is in it, which part it is in, and what it is called."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.data.manifest import Box, Drawing, Facts, Photo, iter_photos, write_photos, write_sketches
from encoders.errors import DataError
from encoders.evaluation.compositions import split_photos, split_sketches
from encoders.training.data import crops, read_parts, read_training_set


@pytest.fixture(scope="module")
def parts(data_folder):
    return read_training_set(data_folder), read_training_set(data_folder, held_out=True)


def test_every_photo_and_sketch_is_in_exactly_one_part(parts, data_folder):
    training, held_out = parts
    for name, expected in (
        ("photos", set((data_folder / "annotated" / "images").iterdir())),
        ("labelled", set((data_folder / "labelled" / "images").iterdir())),
        ("unlabelled", set((data_folder / "various" / "images").iterdir())),
    ):
        one, other = set(getattr(training, name)), set(getattr(held_out, name))
        assert one | other == expected, name
        assert not one & other, name
    one, other = set(training.sketches.key_ids), set(held_out.sketches.key_ids)
    assert len(one) + len(other) == len(one | other) == 120
    assert len(one) > len(other) > 0


def test_the_parts_are_those_that_evaluation_holds_out(parts):
    for part, held_out in zip(parts, (False, True), strict=True):
        for paths in (part.photos, part.labelled, part.unlabelled):
            assert (split_photos([path.name for path in paths]) == held_out).all()
        assert (split_sketches(part.sketches.key_ids) == held_out).all()


def test_both_parts_share_one_vocabulary(parts):
    training, held_out = parts
    # motorcycles are drawn as motorbikes; a person and a kettle, which nobody draws, stand for themselves
    assert training.vocabulary == held_out.vocabulary == ["cat", "dog", "kettle", "motorbike", "person"]
    for part in parts:
        assert {word for words in part.words for word in words} <= set(part.vocabulary)
        assert set(part.labels) <= set(part.vocabulary)
        assert set(part.sketches.words) <= set(part.vocabulary)


def test_a_class_left_out_does_not_train_as_what_is_drawn_by_its_name(data_folder, tmp_path):
    folder = shutil.copytree(data_folder, tmp_path / "data")
    listed = json.loads((folder / "annotated" / "annotations.json").read_text())
    sketch = {"drawing": [[[0, 9], [0, 9]]]}
    for box in listed["boxes"]:
        box["class"] = "mouse" if box["class"] == "person" else box["class"]
    (folder / "annotated" / "annotations.json").write_text(json.dumps(listed))
    (folder / "mice.ndjson").write_text(json.dumps({**sketch, "word": "mouse", "key_id": "a mouse"}) + "\n")
    training = read_training_set(folder)
    assert "mouse" in training.vocabulary
    assert not any("mouse" in words for words in training.words), "computer mice"
    assert all(len(boxes) == len(words) > 0 for boxes, words in zip(training.boxes, training.words, strict=True))


def test_photos_have_their_boxes_and_words(parts, data_folder):
    listed = json.loads((data_folder / "annotated" / "annotations.json").read_text())
    sizes = {image["file"]: (image["width"], image["height"]) for image in listed["images"]}
    drawn = {"motorcycle": "motorbike"}
    for part in parts:
        for path, boxes, words in zip(part.photos, part.boxes, part.words, strict=True):
            rows = [box for box in listed["boxes"] if box["image"] == path.name]
            expected = [np.array(box["bbox"]) / (sizes[path.name] * 2) for box in rows]
            assert np.allclose(boxes, expected)
            assert words == [drawn.get(box["class"], box["class"]) for box in rows]


def test_labelled_photos_keep_their_labels(parts, data_folder):
    named = {e["file"]: e["class"] for e in json.loads((data_folder / "labelled" / "labels.json").read_text())}
    for part in parts:
        assert part.labels == [named[path.name] for path in part.labelled]
        assert len(part.backgrounds) == 3


def test_photos_of_too_many_classes_teach_none(parts):
    training, held_out = parts
    assert {path.parent.parent.name for path in (*training.unlabelled, *held_out.unlabelled)} == {"various"}
    assert "anvil" not in training.vocabulary


def test_all_sketch_files_are_read(data_folder, tmp_path):
    (tmp_path / "annotated").symlink_to(data_folder / "annotated")
    lines = gzip.decompress((data_folder / "sketches.ndjson.gz").read_bytes()).splitlines(keepends=True)
    (tmp_path / "a.ndjson").write_bytes(b"".join(lines[:50]))
    (tmp_path / "b.ndjson").write_bytes(b"".join(lines[50:]))
    assert read_training_set(tmp_path).sketches.key_ids == read_training_set(data_folder).sketches.key_ids


def test_a_plain_sketch_file_is_read_as_a_gzipped_one(data_folder, tmp_path):
    (tmp_path / "annotated").symlink_to(data_folder / "annotated")
    plain = gzip.decompress((data_folder / "sketches.ndjson.gz").read_bytes())
    (tmp_path / "sketches.ndjson").write_bytes(plain)
    assert read_training_set(tmp_path).sketches.key_ids == read_training_set(data_folder).sketches.key_ids


def test_what_is_missing_is_named(data_folder, tmp_path):
    with pytest.raises(DataError, match=r"no sketches \(\*.ndjson, \*.ndjson.gz, \*.parquet\); give the folder that"):
        read_training_set(tmp_path)
    shutil.copy(data_folder / "sketches.ndjson.gz", tmp_path)
    with pytest.raises(DataError, match=r"has no photos \(\*/annotations.json beside images/, \*.parquet\)"):
        read_training_set(tmp_path)


@pytest.fixture
def manifests(tmp_path) -> Path:
    """Photos with boxes and labelled ones, of every split, and sketches."""
    cat, splits = Box("Cat", 0.1, 0.1, 0.6, 0.6, word="cat"), ("train", "validation", "test")
    photos = [Photo(f"{split}/cat{i}.jpg", 10, 10, split, (cat,)) for split in splits for i in range(6)]
    photos += [Photo(f"{split}/dog{i}.jpg", 10, 10, split, (), label="dog") for split in splits for i in range(6)]
    write_photos(tmp_path / "photos.parquet", photos, Facts("photos", "test", "nowhere"))
    line = (np.array([[0, 1], [0, 1]], np.float32),)
    drawings = [Drawing("cat", str(i), line) for i in range(60)]
    write_sketches(tmp_path / "sketches.parquet", drawings, Facts("sketches", "test", "nowhere"))
    return tmp_path


@pytest.mark.parametrize(("held_out", "split"), [(False, "train"), (True, "validation")])
def test_a_manifests_own_split_says_what_is_held_out_boxed_or_labelled(manifests, held_out, split):
    part = read_training_set(manifests, held_out=held_out)
    assert [path.relative_to(manifests / "images") for path in part.photos] == [
        Path(split, f"cat{i}.jpg") for i in range(6)
    ]
    assert [path.name for path in part.labelled] == [f"dog{i}.jpg" for i in range(6)]
    assert {path.parent.name for path in part.labelled} == {split}
    assert part.vocabulary == ["cat", "dog"]
    assert (split_sketches(part.sketches.key_ids) == held_out).all()


def test_a_part_without_photos_is_named(manifests):
    cat = Box("Cat", 0.1, 0.1, 0.6, 0.6, word="cat")
    few = [Photo("a.jpg", 10, 10, "train", (cat,))]
    write_photos(manifests / "photos.parquet", few, Facts("photos", "test", "nowhere"))
    assert len(read_training_set(manifests).photos) == 1
    with pytest.raises(DataError, match="has no photos with boxes to hold out, to measure on"):
        read_training_set(manifests, held_out=True)


def test_both_parts_are_read_at_once(manifests):
    training, held_out = read_parts(manifests)
    assert training.photos == read_training_set(manifests).photos
    assert held_out.photos == read_training_set(manifests, held_out=True).photos


def test_a_photo_that_several_files_list_is_read_once(manifests):
    """As a manifest lies beside the sets that were made of it."""
    training, held_out = read_parts(manifests)
    facts = Facts("photos", "test", "nowhere", images="../images")
    kept = [photo for photo in iter_photos(manifests / "photos.parquet") if photo.split != "test"]
    write_photos(manifests / "sets" / "trainval.parquet", kept, facts)
    further = replace(kept[0], file="train/another.jpg")
    write_photos(manifests / "sets" / "more.parquet", [further], facts)
    both, unseen = read_parts(manifests)
    assert [path.resolve() for path in both.photos] == [*training.photos, manifests / "images" / further.file]
    assert (both.labelled, unseen.photos) == (training.labelled, held_out.photos)


def test_a_photo_in_two_splits_is_refused(manifests):
    cat = Box("Cat", 0.1, 0.1, 0.6, 0.6, word="cat")
    moved = [Photo("test/cat0.jpg", 10, 10, "train", (cat,))]
    write_photos(manifests / "sets" / "mine.parquet", moved, Facts("photos", "test", "nowhere", images="../images"))
    said = r"cat0\.jpg: its split is test in .*photos\.parquet and train in .*mine\.parquet; take one of the two files"
    with pytest.raises(DataError, match=said):
        read_training_set(manifests)


def test_crops_are_the_boxes_with_a_margin_stretched(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    boxes = np.array([[0.2, 0.25, 0.4, 0.75], [0.0, 0.0, 1.0, 1.0]], np.float32)
    first, whole = crops(path, boxes, 16, margin=0.0)
    wider, same = crops(path, boxes, 16, margin=0.5)
    for found, (rows, columns) in ((first, (slice(15, 45), slice(20, 40))), (wider, (slice(0, 60), slice(10, 50)))):
        expected = Image.fromarray(pixels[rows, columns]).resize((16, 16), Image.Resampling.BILINEAR)
        apart = np.abs(found.astype(int) - np.asarray(expected))
        assert apart[1:-1, 1:-1].max() <= 1  # the outermost pixels also see the photo just beyond the box
    assert np.array_equal(whole, same)  # a margin ends where the photo does
    assert np.array_equal(whole, np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)))
