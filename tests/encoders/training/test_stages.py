"""The three stages on a folder of generated photos and sketches, and going on after an interruption."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.bundle import Bundle
from encoders.errors import DataError
from encoders.indexing import IndexingConfig
from encoders.local import LocalEncoder
from encoders.objects import ObjectConfig
from encoders.sketch import Sketch, SketchObject
from encoders.training import objects, projection, spatial
from encoders.training.asking import AskConfig
from encoders.training.checkpoints import digest
from encoders.training.data import read_training_set
from encoders.training.log import read_log
from encoders.training.loop import Work
from encoders.training.sources import load_objects
from encoders.training.views import ViewConfig

C, D, DIM = 16, 8, 16
TWO_EPOCHS = (
    objects.Cycle((objects.Phase(1, 32, edges=4),)),
    objects.Cycle((objects.Phase(1, 32, 0.5),), rate=0.5, photo_class_weight=8.0),
)


def stage1() -> objects.Config:
    sizes = ObjectConfig(dim=C, hidden=32, sketch_size=32, crop_size=32)
    return objects.Config("tiny", sizes, cycles=TWO_EPOCHS, batch=16, photo_batch=32)


def stage2() -> spatial.Config:
    return spatial.Config(
        recipe="tiny",
        indexing=IndexingConfig(image_size=64, hidden=16, channels=D),
        widths=(16, 16),
        views=ViewConfig(crops=1, scenes=8),
        asking=AskConfig(strengths=(1.0,)),
        epochs=2,
        epoch_views=64,
        batch=16,
    )


def stage3() -> projection.Config:
    return projection.Config("tiny", name="tiny", dim=DIM, m=4)


@pytest.fixture(scope="session")
def work(data_folder, tmp_path_factory) -> Work:
    """Where the stages run, one after another."""
    return Work(data_folder, tmp_path_factory.mktemp("tiny"), threads=1)


@pytest.fixture(scope="session")
def first(work) -> Path:
    """Stage 1's result, ``objects.pt``."""
    return objects.train(stage1(), work)


@pytest.fixture(scope="session")
def second(work, first) -> Path:
    """Stage 2's result, ``spatial.pt``."""
    return spatial.train(stage2(), work)


@pytest.fixture(scope="session")
def bundle(work, second) -> Path:
    """Stage 3's result, a bundle."""
    return projection.train(stage3(), stage2(), work)


def assert_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = (torch.load(path, weights_only=True)["weights"] for path in (one, other))
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def beside(work: Work, out: Path, *patterns: str) -> Work:
    """A second run elsewhere, which finds what the first computed before its steps; it checkpoints every step."""
    for pattern in patterns:
        for path in work.out.glob(pattern):
            shutil.copy(path, out)
    return replace(work, out=out, minutes=0.0)


def test_stage_1_resumed_is_stage_1_uninterrupted(work, first, tmp_path, killed_after):
    again = beside(work, tmp_path, "crops-*.npz")
    with killed_after(4):
        objects.train(stage1(), again)
    assert not (tmp_path / "objects.pt").exists()
    torch.rand(7)  # another process has another state
    assert_equal_weights(objects.train(stage1(), again), first)
    steps = [(line["epoch"], line["step"]) for line in read_log(tmp_path / "objects.jsonl") if "step" in line]
    assert steps == [(1, 1), (1, 6), (2, 1), (2, 6)]  # it did go on, in the middle of the first epoch


def test_stage_2_resumed_is_stage_2_uninterrupted(work, second, tmp_path, killed_after):
    again = beside(work, tmp_path, "objects.pt", "views-*", "sketches-*")
    with killed_after(4):
        spatial.train(stage2(), again)
    torch.rand(7)
    assert_equal_weights(spatial.train(stage2(), again), second)
    steps = [(line["epoch"], line["step"]) for line in read_log(tmp_path / "spatial.jsonl") if "step" in line]
    assert steps == [(1, 1), (1, 4), (2, 1), (2, 4)]  # from the second epoch's start


def test_stage_1_learns_the_sketches_and_keeps_the_photo_trunk(first, data_folder):
    model, vocabulary = load_objects(first)
    assert vocabulary == read_training_set(data_folder).vocabulary
    imagenet = objects.ObjectEncoder(model.config, 1, pretrained=True)
    frozen = model.photo_trunk.state_dict()
    assert all(torch.equal(frozen[name], tensor) for name, tensor in imagenet.photo_trunk.state_dict().items())
    learned = zip(model.sketch_trunk.parameters(), imagenet.sketch_trunk.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in learned)


def test_few_held_out_crops_are_measured_too(first, data_folder):
    """Of fewer than ten results the missing ones count as wrong."""
    model, _ = load_objects(first)
    unseen = read_training_set(data_folder, held_out=True)
    crops = objects.crop_features(unseen, model, first.parent, threads=1)
    cats = np.flatnonzero(crops.classes == unseen.vocabulary.index("cat"))[:4]
    few = objects.Crops(crops.features[cats], crops.classes[cats], crops.numbers[cats])
    figures = objects.measure(model, unseen, few)
    assert figures["map"] == 1
    assert figures["p10"] == pytest.approx(0.4)


def test_what_there_is_nothing_to_measure_on_has_no_figure(first, data_folder):
    """Else it would be NaN, which is no JSON."""
    model, _ = load_objects(first)
    unseen = read_training_set(data_folder, held_out=True)
    crops = objects.crop_features(unseen, model, first.parent, threads=1)
    none = objects.Crops(crops.features[:0], crops.classes[:0], crops.numbers[:0])
    assert set(objects.measure(model, unseen, none)) == {"sketch_accuracy"}
    undrawn = replace(unseen, sketches=unseen.sketches.select(np.zeros(len(unseen.sketches.words))))
    assert set(objects.measure(model, undrawn, crops)) == {"crop_accuracy"}


def test_stage_2_learns_all_but_the_frozen_layers(second):
    weights = torch.load(second, weights_only=True)["weights"]
    torch.manual_seed(stage2().seed)
    start = spatial.Model(stage2(), C, classes=5).state_dict()
    same = {name for name, tensor in start.items() if torch.equal(tensor, weights[name])}
    assert {name for name in start if name.startswith("image.frozen.")} <= same
    assert not {name for name in same if name.endswith("weight") and not name.startswith("image.frozen.")}


def test_the_bundle_opens_and_is_what_was_trained(bundle, first, second, data_folder):
    encoder = LocalEncoder.open(str(bundle), device="cpu")
    assert (encoder.name, encoder.dim, encoder.image_size) == ("tiny", DIM, 64)
    assert encoder.vocabulary == ["cat", "dog", "kettle", "motorbike", "person"]
    stored, objects_, image = Bundle.load(bundle), *(torch.load(path, weights_only=True) for path in (first, second))
    for name, tensor in objects_["weights"].items():
        if tensor.is_floating_point():
            assert np.allclose(stored.tensors[f"objects.{name}"], tensor.numpy(), rtol=1e-3, atol=1e-6), name
    for name, tensor in image["weights"].items():
        if tensor.is_floating_point() and name.startswith("image."):
            assert np.allclose(stored.tensors[name], tensor.numpy(), rtol=1e-3, atol=1e-6), name
    rows = stored.tensors["projection.matrix"].astype(np.float64)
    assert np.allclose(rows @ rows.T, np.eye(DIM), atol=5e-3)  # half precision
    photos = read_training_set(data_folder, held_out=True).photos[:4]
    drawn = Sketch(60, 60, (SketchObject(([[5, 30, 55, 5], [50, 5, 50, 50]],), label="cat"),))
    for vectors in (encoder.encode_images(photos), encoder.encode_sketches([drawn] * 4, words=True)):
        assert vectors.shape == (4, DIM)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_bundle_says_how_it_was_trained(bundle):
    training = Bundle.load(bundle).config["training"]
    assert list(training) == ["objects", "spatial", "projection"]
    assert training["spatial"][0]["config"]["batch"] == 16
    assert training["projection"][0]["config"]["recipe"] == "tiny"
    assert not [line for stage in training.values() for line in stage if "step" in line]  # epochs alone
    assert [line["epoch"] for line in training["projection"][1:]] == [1]
    assert all(0 <= line["map"] <= 1 for line in training["projection"][1:])


def test_a_stage_refuses_the_results_of_another_configuration(work, second):
    with pytest.raises(DataError, match=r"spatial\.pt was made by another configuration \(batch 16, not 8\)"):
        projection.train(stage3(), replace(stage2(), batch=8), work)


def test_caches_are_of_a_configuration(work, second, data_folder):
    """One that sees other photos, or through another part of the trunk, has a cache of its own."""
    stored = {path.name for path in work.out.glob("views-*.npz")}
    assert len(stored) == 2  # to train on, and held out
    data = read_training_set(data_folder)
    for indexing in (IndexingConfig(image_size=64, trained=2), IndexingConfig(image_size=96)):
        branch = spatial.Model(replace(stage2(), indexing=indexing), C, classes=5).image
        assert f"views-{digest(branch.frozen, indexing.image_size, stage2().views, 0, data)}.npz" not in stored
