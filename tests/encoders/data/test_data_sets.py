"""The paper's sets, built from Open Images' CSVs and TU-Berlin's names, and read by training and evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from encoders.data import openimages as reader
from encoders.data.build import build_photos, build_sketches
from encoders.data.manifest import Drawing, Facts, Photo, iter_photos, read_facts, write_photos
from encoders.data.report import Report
from encoders.data.sets import AS_THEY_ARE, build_queries, build_sets
from encoders.errors import DataError
from encoders.evaluation.compare import evaluate
from encoders.evaluation.compositions import compositions, read_queries
from encoders.evaluation.data import read_annotations, read_sketches
from encoders.training.data import read_training_set

CODES = {"/m/0bt9lr": "Dog", "/m/01yrx": "Cat", "/m/07dm6": "Tiger", "/m/0c_jw": "Furniture"}
TEST = 24


def boxes_of(rng, image, most):
    """1 to ``most`` boxes of 40 to 60 % of each side."""
    for _ in range(rng.integers(1, most + 1)):
        x0, y0 = rng.uniform(0, 0.4, 2).round(3)
        wide, high = rng.uniform(0.4, 0.6, 2).round(3)
        code = rng.choice(list(CODES)[:3])
        yield f"{image},xclick,{code},1,{x0},{x0 + wide:.3f},{y0},{y0 + high:.3f},0,0,0,0,0"


@pytest.fixture
def built(openimages, tmp_path):
    """Manifests of 12 training, 4 validation and 26 test photos, and of dogs, cats and few tigers."""
    rng = np.random.default_rng(0)
    for split, count, first in (("train", 12, 0), ("validation", 4, 100), ("test", TEST, 200)):
        images = [f"{first + number:016x}" for number in range(count)]
        openimages.boxes(split, *(row for image in images for row in boxes_of(rng, image, 4)))
        openimages.photos(*images)
    names = "".join(f"{code},{name}\n" for code, name in CODES.items())
    (openimages.csv / "class-descriptions-boxable.csv").write_text(names)
    report = Report()
    photos = reader.read(openimages.csv, reader.SPLITS, report, images=openimages.images)
    data = tmp_path / "data"
    build_photos(
        "openimages", photos, report, data / "photos.parquet", source=[openimages.csv], images=openimages.images
    )
    assert (report.photos, report.failed.counts) == (12 + 4 + TEST, {})
    sketches = [
        Drawing(word, f"{word}/{number}", (rng.uniform(0, 255, (2, 6)),))
        for word in ("cat", "dog")
        for number in range(20)
    ]
    build_sketches("tuberlin", sketches, Report(), data / "sketches.parquet", source=[tmp_path])
    return data


def test_the_sets_are_what_the_paper_says(built, tmp_path):
    out = tmp_path / "sets"
    made = build_sets(built / "photos.parquet", built / "sketches.parquet", out, large=15, small=5, stock=7)
    assert sorted(made) == sorted(path.name for path in out.iterdir())
    assert {photo.split for photo in iter_photos(out / "trainval.parquet")} == {"train", "validation"}
    assert {photo.split for photo in iter_photos(out / "test.parquet")} == {"test"}
    words = {box.word for name in ("trainval", "test") for p in iter_photos(out / f"{name}.parquet") for box in p.boxes}
    assert words == {"cat", "dog"}
    (tigers,) = made["test.parquet"]["dropped_classes"]
    assert (tigers["class"], tigers["reason"]) == ("Tiger", "no sketches of 'tiger'")
    only_tigers = [p for p in iter_photos(built / "photos.parquet") if {box.word for box in p.boxes} == {"tiger"}]
    left = sum(item["count"] for name in ("trainval", "test") for item in made[f"{name}.parquet"]["left_out"])
    assert left == len(only_tigers) > 0
    assert [made[f"{name}.parquet"]["queries"] for name in ("test-lq", "test-sq", "stock")] == [15, 5, 7]
    assert made["stock.parquet"]["by_objects"] == {"1": 2, "2": 2, "3": 3}

    def queries(name):
        table = read_queries(out / f"{name}.parquet", photos, sketches)
        return {photos.files[query.photo_index]: (query.classes, query.sketch_indices) for query in table}

    photos, sketches = read_annotations(out / "test.parquet"), read_sketches(built / "sketches.parquet")
    assert queries("test-sq").items() < queries("test-lq").items(), "the small set is a part of the large one"
    assert read_facts(out / "test-lq.parquet") == Facts("queries", "queries", "test.parquet sketches.parquet", seed=0)
    facts = read_facts(out / "test.parquet")
    assert (out / facts.images).resolve() == (tmp_path / "images").resolve()
    assert facts.class_map == read_facts(built / "photos.parquet").class_map != ""


def test_the_same_seed_gives_the_same_bytes(built, tmp_path):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        build_sets(
            built / "photos.parquet", built / "sketches.parquet", tmp_path / out, seed=seed, large=9, small=4, stock=3
        )
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    changed = {
        path.name
        for path in (tmp_path / "a").iterdir()
        if path.read_bytes() != (tmp_path / "c" / path.name).read_bytes()
    }
    assert changed == {"test-lq.parquet", "test-sq.parquet", "stock.parquet"}


def test_queries_are_those_that_evaluation_makes_itself(built, tmp_path):
    path = tmp_path / "q.parquet"
    made = build_queries(
        built / "photos.parquet", built / "sketches.parquet", path, n=6, seed=2, split="test", objects=(1, 2)
    )
    photos, sketches = read_annotations(built / "photos.parquet"), read_sketches(built / "sketches.parquet")
    asked = [index for index, split in enumerate(photos.splits) if split == "test"]
    expected = compositions(photos, sketches, AS_THEY_ARE, n=6, seed=2, objects=(1, 2), photos=asked)
    assert [query.sketch for query in read_queries(path, photos, sketches)] == [query.sketch for query in expected]
    assert made["queries"] == sum(made["by_objects"].values()) == 6
    assert sum(made["by_class"].values()) == sum(int(n) * count for n, count in made["by_objects"].items())


def test_what_the_sets_cannot_be_built_from_is_named(built, tmp_path):
    photos, sketches = built / "photos.parquet", built / "sketches.parquet"
    with pytest.raises(DataError, match="the small set of 9 queries is to be a part of the large one of 3"):
        build_sets(photos, sketches, tmp_path / "out", large=3, small=9)
    with pytest.raises(
        DataError, match=r"photos have 3 box\(es\) that can be drawn.*to balance 100 queries; ask for fewer"
    ):
        build_sets(photos, sketches, tmp_path / "out")
    with pytest.raises(DataError, match=r"has no photo of split 'val'; its splits: test, train, validation"):
        build_queries(photos, sketches, tmp_path / "q.parquet", split="val")
    plain = tmp_path / "plain.parquet"
    write_photos(plain, [Photo("a.jpg", 9, 9, "", ())], Facts("photos", "coco", "a"))
    with pytest.raises(DataError, match=r"plain\.parquet has no photo of a split train, validation or test"):
        build_sets(plain, sketches, tmp_path / "out")
    with pytest.raises(DataError, match=r"photos\.parquet holds photos, where a manifest of sketches was expected"):
        build_sets(photos, photos, tmp_path / "out")


def test_without_test_photos_there_are_no_queries(built, tmp_path):
    kept = [photo for photo in iter_photos(built / "photos.parquet") if photo.split == "train"]
    write_photos(built / "train.parquet", kept, read_facts(built / "photos.parquet"))
    made = build_sets(built / "train.parquet", built / "sketches.parquet", tmp_path / "out")
    assert list(made) == ["trainval.parquet"]


# --- what reads them ---


def test_training_takes_the_folder_and_the_sets_own_split(built, tmp_path):
    training, held_out = read_training_set(built), read_training_set(built, held_out=True)
    split = {photo.file: photo.split for photo in iter_photos(built / "photos.parquet")}
    assert [split[path.name] for path in training.photos] == ["train"] * 12
    assert [split[path.name] for path in held_out.photos] == ["validation"] * 4  # test photos are for neither
    assert all(path.is_file() for path in (*training.photos, *held_out.photos))
    assert training.vocabulary == held_out.vocabulary == ["cat", "dog", "tiger"]
    assert {type(word) for word in training.vocabulary} == {str}, "a checkpoint holds plain strings"
    assert {type(word) for words in training.words for word in words} == {str}
    first = next(photo for photo in iter_photos(built / "photos.parquet") if photo.file == training.photos[0].name)
    np.testing.assert_allclose(training.boxes[0], [box[1:5] for box in first.boxes], atol=1e-6)
    assert training.words[0] == [box.word for box in first.boxes]
    assert len(training.sketches.words) + len(held_out.sketches.words) == 40
    build_queries(built / "photos.parquet", built / "sketches.parquet", built / "queries.parquet")
    assert read_training_set(built).photos == training.photos, "queries are not trained on"


def test_manifests_stand_beside_the_older_forms(built):
    images = [{"file": "0000000000000000.jpg", "width": 40, "height": 20}]
    boxes = [{"image": "0000000000000000.jpg", "class": "motorcycle", "bbox": [0, 0, 20, 20]}]
    (built / "more").mkdir()
    (built / "more" / "annotations.json").write_text(json.dumps({"images": images, "boxes": boxes}))
    (built / "more" / "cat.ndjson").write_text("")
    sizes = [len(read_training_set(built, held_out=held_out).photos) for held_out in (False, True)]
    assert sum(sizes) == 12 + 4 + 1
    assert "motorbike" in read_training_set(built).vocabulary


def test_labelled_photos_of_a_manifest_are_labelled_photos(built):
    rows = [Photo(f"dog/{number}.jpg", 9, 9, "", (), "dog") for number in range(20)]
    write_photos(built / "sketchy.parquet", rows, Facts("photos", "sketchy", "a", images="../photo"))
    training, held_out = read_training_set(built), read_training_set(built, held_out=True)
    assert set(training.labels) == {"dog"}
    assert {path.parent for path in training.labelled} == {built / "../photo/dog"}
    assert len(training.labelled) + len(held_out.labelled) == 20


def test_evaluation_takes_them(built, tmp_path, toy_encoder):
    sketches, out = built / "sketches.parquet", tmp_path / "sets"
    build_sets(built / "photos.parquet", sketches, out, large=8, small=4, stock=0)
    found = evaluate(toy_encoder, out / "test.parquet", tmp_path / "images", sketches, methods=["ssbir", "random"])
    gallery = read_annotations(out / "test.parquet")
    assert found["gallery"] == found["queries"] == len(gallery.files) <= TEST
    assert found["classes_left_out"] == []
    stored = evaluate(
        toy_encoder, out / "test.parquet", tmp_path / "images", sketches, methods=["random"],
        queries_path=out / "test-lq.parquet",
    )  # fmt: skip
    made = evaluate(toy_encoder, out / "test.parquet", tmp_path / "images", sketches, methods=["random"], limit=8)
    assert stored["queries"] == 8
    assert stored["methods"] == made["methods"], "a stored query is the one that evaluation makes of the same seed"
