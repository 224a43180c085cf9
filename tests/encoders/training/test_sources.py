"""Where vectors come from: a stage 1's result, of sketches and crops or of names, against f_s and f_i one at a time."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.errors import DataError
from encoders.local import Networks
from encoders.objects import ObjectConfig, ObjectEncoder, normalise
from encoders.raster import raster
from encoders.semir import SemirNetworks
from encoders.spatial import SpatialConfig
from encoders.training.asking import AskConfig
from encoders.training.data import TrainingSet, read_training_set
from encoders.training.semir import save_names
from encoders.training.sources import bundle_networks, crop_vectors, load_objects, open_source, sketch_vectors
from encoders.training.vectors import Mixture

C, SIDE = 8, 32


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def data(data_folder) -> TrainingSet:
    return read_training_set(data_folder).sample(10)


@pytest.fixture(scope="module")
def unseen(data_folder) -> TrainingSet:
    return read_training_set(data_folder, held_out=True).sample(10)


@pytest.fixture(scope="module")
def model(data) -> ObjectEncoder:
    torch.manual_seed(0)
    config = ObjectConfig(dim=C, hidden=16, sketch_size=SIDE, crop_size=SIDE)
    return ObjectEncoder(config, len(data.vocabulary), pretrained=True).eval()


@pytest.fixture(scope="module")
def objects(model, data, tmp_path_factory) -> Path:
    """As stage 1 leaves it."""
    path = tmp_path_factory.mktemp("first") / "objects.pt"
    torch.save({"objects": asdict(model.config), "vocabulary": data.vocabulary, "weights": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Crops are computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def names(data, tmp_path_factory) -> Path:
    """As a sentence model of C dimensions would leave it."""
    path = tmp_path_factory.mktemp("names") / "names.pt"
    vectors = torch.nn.functional.normalize(torch.randn(len(data.vocabulary), C), dim=1)
    save_names(path, data.vocabulary, vectors, "toy")
    return path


@torch.no_grad()
def slow_f_s(model: ObjectEncoder, strokes: list[np.ndarray]) -> np.ndarray:
    picture = torch.from_numpy(raster(strokes, SIDE, model.config.line_width)[None].copy())
    spec = model.sketch_trunk.spec
    return model.f_s(normalise(picture, spec.mean, spec.std))[0].numpy()


def test_objects_paint_with_every_version_of_every_sketch(objects, data, unseen, tmp_path):
    config = AskConfig(Mixture(sketch=1, name=0, both=0), strengths=(0.5, 1.5))
    source = open_source(objects, data, unseen, config, tmp_path, seed=0)
    sketches = source.training.sketches
    count = len(data.sketches.words)
    assert (source.channels, source.vocabulary) == (C, data.vocabulary)
    assert sketches.vectors.shape == (2 * count, C)
    assert np.allclose(np.linalg.norm(sketches.vectors, axis=1), 1, atol=1e-3)
    for row, word in enumerate(data.sketches.words * 2):
        assert row in sketches.by_class[data.number[word]]
    assert source.drawable.tolist() == [word in data.sketches.words for word in data.vocabulary]
    assert source.measured.tolist() == [word in unseen.sketches.words for word in data.vocabulary]
    assert source.training.crops is None  # nothing asks for them

    (cache,) = tmp_path.glob("sketches-*.npy")
    written = cache.stat().st_mtime_ns
    again = open_source(objects, data, unseen, config, tmp_path, seed=0)
    assert np.array_equal(again.training.sketches.vectors, sketches.vectors)
    assert cache.stat().st_mtime_ns == written
    other = open_source(objects, data, unseen, AskConfig(strengths=(0.5, 1.0)), tmp_path, seed=0)
    assert np.array_equal(other.training.sketches.vectors[:count], sketches.vectors[:count])
    assert not np.array_equal(other.training.sketches.vectors[count:], sketches.vectors[count:])


def test_what_is_varied_more_is_farther_from_the_sketch_as_it_is(model, data):
    drawings = data.sketches.drawings
    plain = sketch_vectors(model, drawings, None)
    near, far = (sketch_vectors(model, drawings, np.random.default_rng(0), strength) for strength in (0.3, 2.0))
    assert 1 - (far * plain).sum(axis=1).mean() > 1.5 * (1 - (near * plain).sum(axis=1).mean())


def test_what_is_measured_with_are_unseen_sketches_as_they_are(objects, model, data, unseen, tmp_path):
    source = open_source(objects, data, unseen, AskConfig(strengths=(1.0,)), tmp_path, seed=0)
    for row in (0, 5, 9):
        assert source.held_out.vectors[row] @ slow_f_s(model, unseen.sketches.drawings[row]) > 0.999


@torch.no_grad()
def test_a_crops_vector_is_f_i_of_the_object_cut_out_of_its_photo(model, data, cache):
    found = crop_vectors(model, data, cache)
    spec, start = model.photo_trunk.spec, 0
    for path, boxes in zip(data.photos[:4], data.boxes, strict=False):
        photo = Image.open(path).convert("RGB")
        for number, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start):
            dx, dy = 0.05 * (x1 - x0), 0.05 * (y1 - y0)
            corners = [max(0, x0 - dx), max(0, y0 - dy), min(1, x1 + dx), min(1, y1 + dy)]
            place = [side * scale for side, scale in zip(corners, [photo.width, photo.height] * 2, strict=True)]
            picture = np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=tuple(place)))
            expected = model.f_i(normalise(torch.from_numpy(picture[None].copy()), spec.mean, spec.std))[0].numpy()
            assert found.vectors[found.row[number]] @ expected > 0.995  # the trunk runs in half precision
        start += len(boxes)
    labelled = sum(len(boxes) for boxes in data.boxes) + 3
    photo = np.asarray(Image.open(data.labelled[3]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    expected = model.f_i(normalise(torch.from_numpy(photo[None].copy()), spec.mean, spec.std))[0].numpy()
    assert found.vectors[found.row[labelled]] @ expected > 0.995


def test_crops_come_with_a_share_of_the_mixture(objects, data, unseen, cache):
    alone = AskConfig(Mixture(sketch=0, name=0, both=0, crop=1), strengths=(1.0,))
    source = open_source(objects, data, unseen, alone, cache, seed=0)
    numbers = np.arange(4)
    kinds = np.array([data.number[word] for words in data.words for word in words])[:4]
    crops, drawn = source.training.crops, source.training.draw(kinds, numbers, np.random.default_rng(0))
    assert np.allclose(drawn, crops.vectors[crops.row[numbers]], atol=1e-6)


def test_names_paint_with_themselves_and_nothing_else(names, data, unseen, tmp_path):
    source = open_source(names, data, unseen, AskConfig(), tmp_path, seed=0)
    vectors = torch.load(names, weights_only=True)["names"].numpy()
    kinds, crops = np.array([2, 0, 4]), np.array([7, 8, 9])
    assert source.channels == C
    for painted in (source.training, source.held_out):
        assert np.array_equal(painted.draw(kinds, crops, np.random.default_rng(0)), vectors[kinds])
    assert source.drawable.tolist() == [word in data.sketches.words for word in data.vocabulary]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["objects", "names"])
def test_a_stage_1_of_other_classes_is_refused(first, data, unseen, tmp_path, request):
    path = request.getfixturevalue(first)
    renamed = replace(data, vocabulary=[*data.vocabulary[:-1], "yacht"])
    with pytest.raises(DataError, match=f"{path.name} was trained on other classes than --data has"):
        open_source(path, renamed, unseen, AskConfig(), tmp_path, seed=0)


@pytest.mark.parametrize("content", ["damaged", "foreign", "of another size"])
def test_a_result_that_is_none_is_named(content, objects, data, unseen, tmp_path):
    path = tmp_path / "objects.pt"
    whole = torch.load(objects, weights_only=True)
    if content == "damaged":
        path.write_bytes(objects.read_bytes()[:1000])
    elif content == "foreign":
        torch.save({"state": whole["weights"]}, path)
    else:
        torch.save({**whole, "objects": {**whole["objects"], "hidden": 3}}, path)
    said = r"objects\.pt is damaged, or no file of a stage of training: delete it and run the stage"
    with pytest.raises(DataError, match=said):
        open_source(path, data, unseen, AskConfig(), tmp_path, seed=0)
    with pytest.raises(DataError, match=said):
        load_objects(path)
    with pytest.raises(DataError, match=said):
        bundle_networks(path, {})


def test_a_bundle_has_the_networks_of_its_stage_1(objects, names, data):
    rest = {
        "vocabulary": data.vocabulary,
        "indexing": {"image_size": 64, "hidden": 8, "channels": 4},
        "spatial": asdict(SpatialConfig(channels=C, widths=(8, 8), out_channels=4)),
    }
    config, networks = bundle_networks(objects, rest)
    assert isinstance(networks, Networks)
    assert config == {**rest, "objects": asdict(networks.objects.config)}
    stored = load_objects(objects)[0].state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in networks.objects.state_dict().items())
    config, networks = bundle_networks(names, rest)
    assert isinstance(networks, SemirNetworks)
    assert config == {**rest, "words": {"model": "toy", "channels": C}}
    assert torch.equal(networks.words, torch.load(names, weights_only=True)["names"])
