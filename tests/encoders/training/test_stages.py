"""The three stages on a folder of generated photos and sketches, and going on after an interruption."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from encoders.bundle import Bundle
from encoders.indexing import IndexingBranch, IndexingConfig
from encoders.local import LocalEncoder
from encoders.objects import ObjectConfig
from encoders.sketch import Sketch, SketchObject
from encoders.training import objects, projection, spatial
from encoders.training.asking import AskConfig, load_objects
from encoders.training.data import read_training_set
from encoders.training.loop import read_log
from encoders.training.views import ViewConfig

C, D, DIM = 16, 8, 16


def stage1(data: Path, out: Path) -> objects.Config:
    sizes = ObjectConfig(dim=C, hidden=32, sketch_size=32, crop_size=32)
    return objects.Config(data, out, sizes, phases=((1, 32, 1.0), (1, 32, 0.5)), batch=16, photo_batch=32, threads=1)


def stage2(data: Path, first: Path, out: Path) -> spatial.Config:
    return spatial.Config(
        data=data,
        objects=first,
        out=out,
        indexing=IndexingConfig(image_size=64, hidden=16, channels=D),
        widths=(16, 16),
        views=ViewConfig(crops=1, scenes=8),
        asking=AskConfig(versions=1),
        epochs=2,
        epoch_views=64,
        batch=16,
        threads=1,
    )


def stage3(second: spatial.Config, result: Path, out: Path) -> projection.Config:
    return projection.Config(
        data=second.data,
        objects=second.objects,
        spatial=result,
        out=out,
        stage2=second,
        name="tiny",
        dim=DIM,
        m=4,
        threads=1,
    )


@pytest.fixture(scope="session")
def first(data_folder, tmp_path_factory) -> Path:
    """Stage 1's result, ``objects.pt``."""
    return objects.train(stage1(data_folder, tmp_path_factory.mktemp("stage1")))


@pytest.fixture(scope="session")
def second(data_folder, first, tmp_path_factory) -> tuple[spatial.Config, Path]:
    """Stage 2's configuration and its result, ``spatial.pt``."""
    config = stage2(data_folder, first, tmp_path_factory.mktemp("stage2"))
    return config, spatial.train(config)


@pytest.fixture(scope="session")
def bundle(second, tmp_path_factory) -> Path:
    """Stage 3's result, a bundle."""
    return projection.train(stage3(*second, tmp_path_factory.mktemp("stage3") / "tiny"))


class Killed(BaseException):
    """What an interrupt is to a run."""


@contextmanager
def killed_after_an_epoch(stage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let ``stage`` die as soon as its first epoch's checkpoint is written."""
    save = stage.save_state

    def save_and_die(*args, **parts):
        save(*args, **parts)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_state", save_and_die)
        yield


def assert_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = (torch.load(path, weights_only=True)["weights"] for path in (one, other))
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def test_stage_1_resumed_is_stage_1_uninterrupted(data_folder, first, tmp_path, monkeypatch):
    for name in ("crops.npz", "crops-held-out.npz"):  # what it computes before the first epoch
        shutil.copy(first.parent / name, tmp_path)
    config = stage1(data_folder, tmp_path)
    with killed_after_an_epoch(objects, monkeypatch), pytest.raises(Killed):
        objects.train(config)
    assert not (tmp_path / "objects.pt").exists()
    torch.rand(7)  # another process has another state
    assert_equal_weights(objects.train(config), first)
    lines = read_log(tmp_path / "objects.jsonl")
    assert [line["epoch"] for line in lines if "epoch" in line] == [2]  # it did go on, not start again


def test_stage_2_resumed_is_stage_2_uninterrupted(second, tmp_path, monkeypatch):
    config, result = second
    for name in ("views.npy", "views.npz", "views-held-out.npy", "views-held-out.npz", "sketches.npy"):
        shutil.copy(config.out / name, tmp_path)
    config = replace(config, out=tmp_path)
    with killed_after_an_epoch(spatial, monkeypatch), pytest.raises(Killed):
        spatial.train(config)
    torch.rand(7)
    assert_equal_weights(spatial.train(config), result)
    lines = read_log(tmp_path / "spatial.jsonl")
    assert [line["epoch"] for line in lines if "epoch" in line] == [2]  # it did go on, not start again


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
    stored = np.load(first.parent / "crops-held-out.npz")
    cats = np.flatnonzero(stored["classes"] == unseen.vocabulary.index("cat"))[:4]
    figures = objects.measure(model, unseen, objects.Crops(stored["features"][cats], stored["classes"][cats]))
    assert figures["map"] == 1
    assert figures["p10"] == pytest.approx(0.4)


def test_a_folder_of_photos_with_boxes_alone_adds_none_to_the_projection():
    branch = IndexingBranch(IndexingConfig(image_size=64, channels=D))
    assert projection.embed_photos(branch, [], threads=1).shape == (0, 49 * D)


def test_stage_2_learns_all_but_the_frozen_layers(second):
    config, result = second
    weights = torch.load(result, weights_only=True)["weights"]
    torch.manual_seed(config.seed)
    start = spatial.Model(config, C, classes=5).state_dict()
    same = {name for name, tensor in start.items() if torch.equal(tensor, weights[name])}
    assert {name for name in start if name.startswith("image.frozen.")} <= same
    assert not {name for name in same if name.endswith("weight") and not name.startswith("image.frozen.")}


def test_the_bundle_opens_and_is_what_was_trained(bundle, first, second, data_folder):
    encoder = LocalEncoder.open(str(bundle), device="cpu")
    assert (encoder.name, encoder.dim, encoder.image_size) == ("tiny", DIM, 64)
    assert encoder.vocabulary == ["cat", "dog", "kettle", "motorbike", "person"]
    stored, objects_, image = Bundle.load(bundle), *(torch.load(path, weights_only=True) for path in (first, second[1]))
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


def test_the_bundle_says_how_it_was_trained(bundle, second):
    training = Bundle.load(bundle).config["training"]
    assert list(training) == ["objects", "spatial", "projection"]
    assert training["spatial"][0]["config"]["batch"] == 16
    assert training["projection"][0]["config"]["data"] == second[0].data.name  # no path of this machine
    assert [line["epoch"] for line in training["projection"][1:]] == [1]
    assert all(0 <= line["map"] <= 1 for line in training["projection"][1:])
