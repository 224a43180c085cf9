"""A projection fitted on what a collection holds: which photos, read from where, and what of those not found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.features import FeatureStore
from compsketch_milvus.fitting import fit_projection, sample_features
from compsketch_milvus.ingest import ingest
from compsketch_milvus.shard import Shard
from compsketch_milvus.tally import Failure
from encoders.bundle import Bundle
from encoders.projection import Projection, fit

COUNT, F = 300, 64


@pytest.fixture
def photos(noise) -> Path:
    return noise(COUNT)


@pytest.fixture
def bundle() -> Bundle:
    """Of the toy on a grid of 8 x 8, with a projection that has seen nothing."""
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(F, 16)))[0].T.astype(np.float32)
    config = {"name": "toy", "dim": 16, "calibration": {}, "metrics": {"map": 0.5}}
    return Bundle(config, Projection(matrix, np.zeros(16, np.float32)).to_tensors())


@pytest.fixture
def encoder(toy, bundle):
    return toy.BundledEncoder(bundle)


@pytest.fixture
def collection(open_collection, encoder, photos) -> SketchCollection:
    opened = open_collection("photos", encoder)
    ingest(opened, photos, batch_size=100)
    return opened


def test_all_photos_are_read_anew_where_they_are_fewer_than_samples(collection, encoder, photos) -> None:
    said = []
    sample = sample_features(collection, 1000, progress=lambda *now: said.append(now))
    assert (sample.rows, sample.kept, sample.unread) == (COUNT, 0, [])
    expected = encoder.embed_images(sorted(photos.iterdir()))
    assert np.allclose(np.sort(sample.features, axis=0), np.sort(expected, axis=0), rtol=1e-3)
    assert said[-1] == ("photos", COUNT, COUNT)


def test_a_sample_is_drawn_by_its_seed_from_all_of_the_collection(collection) -> None:
    first, same, other = (sample_features(collection, 100, seed=seed).features for seed in (1, 1, 2))
    assert first.shape == (100, F)
    assert np.array_equal(first, same)
    shared = {row.tobytes() for row in first} & {row.tobytes() for row in other}
    assert 10 < len(shared) < 60  # a third, by chance


def test_photos_that_cannot_be_read_any_more_are_named_and_left_out(collection, photos) -> None:
    (photos / "007.png").unlink()
    (photos / "123.png").write_bytes(b"no photo")
    sample = sample_features(collection, COUNT)
    assert len(sample.features) == COUNT - 2
    assert sorted(failure.source for failure in sample.unread) == [str(photos / "007.png"), str(photos / "123.png")]
    assert all(isinstance(one, Failure) and one.reason and one.source not in one.reason for one in sample.unread)


def test_kept_features_are_used_if_they_are_of_the_photo_as_it_is(collection, encoder, photos, tmp_path) -> None:
    store = FeatureStore(tmp_path / "kept", encoder)
    ingest(collection, photos, keep_features=store)
    Image.new("RGB", (8, 8), "black").save(photos / "000.png")
    ingest(collection, photos)
    (photos / "001.png").unlink()  # its features are kept
    encoder.images = 0
    sample = sample_features(collection, COUNT, features=tmp_path / "kept")
    assert (len(sample.features), sample.kept, sample.unread) == (COUNT, COUNT - 1, [])
    assert encoder.images == 1
    assert np.allclose(sample.features[-1], 255)  # how dark it is


def test_how_many_workers_kept_the_features_makes_no_difference(collection, bundle, encoder, photos, tmp_path) -> None:
    alone, third = (FeatureStore(tmp_path / name, encoder) for name in ("one", "three"))
    ingest(collection, photos, keep_features=alone, batch_size=100)
    for number in (3, 1, 2):
        ingest(collection, photos, keep_features=third, batch_size=7, shard=Shard(number, 3))
    assert len(alone.parts()) == 3 < len(third.parts())
    one, other = (
        Projection.from_tensors(fit_projection(collection, bundle, dim=8, m=4, features=store.folder).bundle.tensors)
        for store in (alone, third)
    )
    vectors = encoder.embed_images(sorted(photos.iterdir()))
    cosines, others = (made @ made.T for made in (one.apply(vectors), other.apply(vectors)))
    assert np.abs(cosines - others).max() < 2e-3  # of which rounding to half precision is the most


def test_the_bundle_has_the_projection_of_the_sample_and_says_so(collection, bundle) -> None:
    fitted = fit_projection(collection, bundle, samples=280, dim=8, m=4, seed=5)
    sample = sample_features(collection, 280, seed=5).features
    vectors = Projection.from_tensors(fitted.bundle.tensors).apply(sample)
    assert np.abs(vectors - fit(sample, 8, 4, 5).apply(sample)).max() < 2e-3
    told = fitted.bundle.config["projection"]
    assert told.pop("fitted_on").keys() == {"collection", "rows", "photos", "date"}
    assert told == {"version": 2, "replaces": bundle.fingerprint, "m": 4, "seed": 5}
    assert fitted.dropped == ["calibration", "metrics"]
    assert fitted.bundle.networks == bundle.networks


def test_too_few_photos_are_too_few(collection, bundle, photos) -> None:
    for path in sorted(photos.iterdir())[:60]:
        path.unlink()
    with pytest.raises(CompsketchError, match=r"'photos', 240 photos, and 60 more could not be read: OPQ has 240"):
        fit_projection(collection, bundle, dim=8, m=4)


def test_an_encoder_without_features_is_refused(open_collection, toy_encoder) -> None:
    class Service:
        name, fingerprint, dim = toy_encoder.name, toy_encoder.fingerprint, toy_encoder.dim

    with pytest.raises(CompsketchError, match="encoder 'toy' gives no features to fit on"):
        sample_features(open_collection("photos", Service()), 300)
