"""mSBIR's three stages: what is drawn, what is shared, and going on in the middle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.data.manifest import Box, Drawing, Facts, Photo, write_photos, write_sketches
from encoders.errors import DataError
from encoders.objects import ObjectConfig
from encoders.training import msbir, objects
from encoders.training.data import read_training_set
from encoders.training.log import read_log
from encoders.training.loop import Work, generator
from encoders.training.msbir import Config, PhotoDraw, Steps
from encoders.training.objects import SketchDraw
from encoders.training.sources import load_objects

SIZES = ObjectConfig(dim=16, hidden=0, sketch_size=32, crop_size=32, share_late=True)
CONFIG = Config("tiny", SIZES, pretrained=False, photos=40, epochs=(1, 1, 1), batch=8)


@pytest.fixture(scope="module")
def work(data_folder, tmp_path_factory) -> Work:
    return Work(data_folder, tmp_path_factory.mktemp("msbir"), threads=1)


@pytest.fixture(scope="module")
def result(work) -> Path:
    return msbir.train(CONFIG, work)


@pytest.fixture(scope="module")
def drawn(data_folder) -> tuple[SketchDraw, PhotoDraw]:
    data = read_training_set(data_folder)
    photos = PhotoDraw(data)
    return SketchDraw(data, photos.classes, 3.0), photos


@pytest.mark.parametrize("matched", [0.0, 1.0])
def test_a_sketch_and_its_photo_are_of_one_class_as_often_as_asked(drawn, matched):
    batch = Steps(*drawn, replace(CONFIG, batch=64), matched, (2, 0))[0]
    assert batch.pictures.shape == (64, 32, 32)
    assert batch.photos.shape == (64, 32, 32, 3)
    same = (batch.sketch_classes == batch.photo_classes).float().mean()
    assert float(same) == 1 if matched else float(same) < 0.6  # every sketched class has photos here


def test_a_batch_is_decided_by_its_place(drawn):
    one, same, other = (Steps(*drawn, CONFIG, 0.5, place)[3] for place in ((2, 0), (2, 0), (3, 0)))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.photos, other.photos)


def test_the_drawn_photo_shows_the_class(drawn, data_folder):
    """Plain rectangles of one colour a class: the crop's middle has the class's colour."""
    data, (_, photos) = read_training_set(data_folder), drawn
    rng, cat = generator(0), data.number["cat"]
    for _ in range(5):
        crop = photos.choose(cat, rng)
        assert photos.classes[crop] == cat
        assert photos.pixels(crop, 32, rng).shape == (32, 32, 3)
    kettle = photos.choose(data.number["kettle"], rng)
    assert photos.classes[kettle] == data.number["kettle"]  # a labelled photo, as a whole
    red = np.mean(
        [photos.pixels(photos.choose(cat, rng), 32, rng)[12:20, 12:20].mean((0, 1)) for _ in range(30)], axis=0
    )
    assert red[0] > red[1] + 30  # most crops are hidden by no other object
    assert red[0] > red[2] + 30


@pytest.mark.parametrize("stage", [objects, msbir])
def test_photos_without_an_object_to_cut_out_are_refused(stage, tmp_path):
    """Boxes of two thousandths of their photo, and no labelled photos."""
    box = Box("Cat", 0.1, 0.1, 0.12, 0.2, word="cat")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    photos = [Photo("a.jpg", 40, 30, "train", (box,)), Photo("b.jpg", 40, 30, "validation", (box,))]
    write_photos(tmp_path / "photos.parquet", photos, Facts("photos", "test", "nowhere"))
    sketches = [Drawing("cat", str(i), (np.array([[0, 1], [0, 1]], np.float32),)) for i in range(30)]
    write_sketches(tmp_path / "sketches.parquet", sketches, Facts("sketches", "test", "nowhere"))
    config = CONFIG if stage is msbir else objects.Config(objects=replace(SIZES, share_late=False), pretrained=False)
    said = "no object to cut out of 1 photos: none of 1 boxes covers over 1% of its photo, and no labels.json has 5"
    with pytest.raises(DataError, match=said):
        stage.train(config, Work(tmp_path, tmp_path / "out", threads=1))


def test_sketches_that_are_all_held_out_are_refused(data_folder):
    data = read_training_set(data_folder)
    none = replace(data, sketches=data.sketches.select(np.zeros(len(data.sketches.words))))
    with pytest.raises(DataError, match="no sketches to train on: the few there are, are all held out; add more"):
        SketchDraw(none, np.array([0]), 3.0)


def test_the_result_shares_the_late_weights_and_no_others(result):
    model, _ = load_objects(result)
    assert model.config == SIZES
    for own, other in zip(model.late_layers("sketch"), model.late_layers("photo"), strict=True):
        assert all(a is b for a, b in zip(own.parameters(), other.parameters(), strict=True))
    stored = torch.load(result, weights_only=True)["weights"]
    early = [name for name in stored if name.startswith("sketch_trunk.early.conv_stem")]
    assert early
    for name in early:
        assert not torch.equal(stored[name], stored[name.replace("sketch", "photo", 1)])
    statistics = "sketch_trunk.head.bn2.running_mean"
    assert not torch.equal(stored[statistics], stored[statistics.replace("sketch", "photo", 1)])


def test_each_stage_logs_its_own_terms(work, result):
    terms = [set(read_log(work.out / f"msbir-{stage}.jsonl")[1]) - {"epoch", "step", "rate"} for stage in (1, 2, 3)]
    both = {"loss", "sketches", "photos"}
    assert terms == [both, both | {"contrastive"}, both | {"triplet"}]


def test_resumed_in_the_second_stage_it_is_the_run(work, result, tmp_path, killed_after):
    again = replace(work, out=tmp_path, minutes=0.0)
    steps = sum("step" in line for line in read_log(work.out / "msbir-1.jsonl"))
    assert steps == 2  # the first and the last of 5
    with killed_after(5 + 2):
        msbir.train(CONFIG, again)
    assert (tmp_path / "msbir-2-checkpoint.pt").exists()
    assert not (tmp_path / "objects.pt").exists()
    torch.rand(7)
    ours = torch.load(msbir.train(CONFIG, again), weights_only=True)["weights"]
    theirs = torch.load(result, weights_only=True)["weights"]
    assert [name for name, value in theirs.items() if not torch.equal(value, ours[name])] == []
