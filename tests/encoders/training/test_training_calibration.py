"""Calibrating: the toy encoder on photos where its scores tell all, and a bundle that stays what it was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from encoders.bundle import Bundle
from encoders.calibration import Calibration
from encoders.data.manifest import Box, Facts, Photo, iter_photos, write_photos
from encoders.errors import BundleError, DataError
from encoders.evaluation.compositions import split_sketches
from encoders.evaluation.data import read_annotations, read_class_map, read_sketches
from encoders.indexing import IndexingConfig
from encoders.local import LocalEncoder, Networks
from encoders.objects import ObjectConfig
from encoders.projection import Projection
from encoders.spatial import SpatialConfig
from encoders.training.calibration import SHOWN, calibrate, read_data, train

PHOTOS = 90
CONFIG = {
    "name": "tiny",
    "objects": asdict(ObjectConfig(dim=8, hidden=16, sketch_size=32, crop_size=32)),
    "indexing": asdict(IndexingConfig(image_size=32, hidden=8, channels=4)),
    "spatial": asdict(SpatialConfig(channels=8, widths=(8, 8), out_channels=4)),
    "vocabulary": ["cat", "dog"],
    "dim": 16,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ninety photos of a dark dog in one of nine places, each of which it shares with nine others."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "dogs" / "images").mkdir(parents=True)
    images, boxes = [], []
    for i in range(PHOTOS):
        x, y, file = i % 3 * 20, i // 3 % 3 * 10, f"dog{i}.png"
        picture = Image.new("RGB", (80, 40), "white")
        ImageDraw.Draw(picture).rectangle((x, y, x + 39, y + 19), fill="black")
        picture.save(folder / "dogs" / "images" / file)
        images.append({"file": file, "width": 80, "height": 40})
        boxes.append({"image": file, "class": "dog", "bbox": [x, y, x + 40, y + 20]})
    (folder / "dogs" / "annotations.json").write_text(json.dumps({"images": images, "boxes": boxes}))
    lines = [{"word": "dog", "key_id": f"dog{i}", "drawing": [[[0, 9, i], [0, 5, 9]]]} for i in range(60)]
    (folder / "sketches.ndjson").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Networks that have learned nothing."""
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(49 * 4, 16)))[0].T.astype(np.float32)
    folder = tmp_path_factory.mktemp("bundle")
    projection = Projection(matrix, np.zeros(16, np.float32))
    Bundle(CONFIG, {**Networks(CONFIG).to_tensors(), **projection.to_tensors()}).save(folder)
    return folder


def test_scores_that_tell_all_become_probabilities_near_0_and_1(data, toy_encoder):
    said = []
    found = calibrate(
        toy_encoder, [(read_annotations(data / "dogs" / "annotations.json"), data / "dogs" / "images")],
        read_sketches(data / "sketches.ndjson"), read_class_map(), seeds=(0, 1),
        progress=lambda stage, done, total: said.append((stage, done, total)),
    )  # fmt: skip
    assert (found.tau, found.photos) == (0.5, PHOTOS)
    assert set(found.groups) == {"strokes/1", "strokes+words/1", "words/1"}
    for name, one in found.groups.items():
        # Two queries a photo; relevant are the ten photos with their dog in the same place.
        assert (one.pairs, one.relevant) == (2 * PHOTOS * PHOTOS, 2 * PHOTOS * 10)
        right, next_to_it = one.apply([1.0, 0.5])
        assert right > 0.95 > 0.05 > next_to_it
        assert found.reliability[name]["all"].ece < 0.01
        assert sum(found.reliability[name]["all"].counts) == one.pairs
        assert sum(found.reliability[name][f"best {SHOWN}"].counts) == 2 * PHOTOS * SHOWN
    assert said[-1][1] == said[-1][2]


def test_a_bundle_gets_its_calibration_and_stays_the_same(data, bundle):
    before = Bundle.load(bundle)
    assert LocalEncoder(before).calibration is None
    assert train(bundle, data, runtime="torch") == bundle
    after = Bundle.load(bundle)
    assert after.fingerprint == before.fingerprint
    assert {name for name in after.tensors if not np.array_equal(after.tensors[name], before.tensors[name])} == set()
    kept = dict(after.config)
    assert LocalEncoder(after).calibration == Calibration.from_dict(kept.pop("calibration"))
    assert kept == before.config


@pytest.fixture
def manifest(tmp_path) -> Path:
    """Dogs of a set's own splits, a photo each, and sketches of them."""
    box = Box("Dog", 0.1, 0.1, 0.6, 0.6, word="dog")
    photos = [Photo(f"{split}.jpg", 10, 10, split, (box,)) for split in ("train", "validation", "test")]
    photos.append(Photo("labelled.jpg", 10, 10, "validation", (), label="dog"))
    write_photos(tmp_path / "photos.parquet", photos, Facts("photos", "test", "nowhere"))
    lines = [{"word": "dog", "key_id": f"dog{i}", "drawing": [[[0, 9], [0, 5]]]} for i in range(60)]
    (tmp_path / "dogs.ndjson").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_neither_training_nor_test_photos_are_calibrated_on(manifest):
    ((photos, images),), sketches = read_data(manifest)
    assert (photos.files, images) == (("validation.jpg",), manifest / "images")
    assert split_sketches(sketches.key_ids).all()


def test_of_many_photos_some_are_taken_evenly(data):
    ((photos, _),), _ = read_data(data)
    ((some, _),), _ = read_data(data, 3)
    count = len(photos.files)
    assert some.files == tuple(photos.files[i * count // 3] for i in range(3))


def test_without_photos_to_validate_with_nothing_is_calibrated(manifest):
    rest = [photo for photo in iter_photos(manifest / "photos.parquet") if photo.split != "validation"]
    write_photos(manifest / "photos.parquet", rest, Facts("photos", "test", "nowhere"))
    with pytest.raises(DataError, match=r"no photos with boxes to calibrate on: .* add photos of a split validation"):
        read_data(manifest)


def test_what_is_missing_is_named(data, bundle, tmp_path):
    with pytest.raises(DataError, match=r"has no sketches"):
        train(bundle, tmp_path)
    (tmp_path / "sketches.ndjson").touch()
    with pytest.raises(DataError, match=r"has no photos"):
        train(bundle, tmp_path)
    with pytest.raises(BundleError, match=r"has no config\.json"):
        train(tmp_path, data)


def test_a_damaged_calibration_is_refused_when_the_bundle_is_opened(bundle, tmp_path):
    sound = Bundle.load(bundle)
    Bundle({**sound.config, "calibration": {"groups": 3}}, sound.tensors).save(tmp_path)
    with pytest.raises(BundleError, match=r"calibration cannot be read"):
        LocalEncoder.open(str(tmp_path))
