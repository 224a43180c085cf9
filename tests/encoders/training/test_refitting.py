"""A projection fitted anew: the networks stay, the space and its fingerprint change, old measurements are left out."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.bundle import Bundle
from encoders.errors import CompsketchError
from encoders.projection import Projection, fit
from encoders.training.refitting import refit

F, DIM = 40, 16
CONFIG = {
    "name": "tiny",
    "dim": DIM,
    "indexing": {"channels": 2},
    "training": {"spatial": [{"loss": 1.0}], "projection": [{"map": 0.5}]},
    "metrics": {"map": 0.5},
    "calibration": {"groups": {}},
}
ON = {"collection": "photos", "rows": 400}


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(400, F)) * np.linspace(2, 0.5, F) + 1).astype(np.float16)


@pytest.fixture(scope="module")
def old() -> Bundle:
    matrix = np.linalg.qr(np.random.default_rng(1).normal(size=(F, DIM)))[0].T.astype(np.float32)
    own = {"image.reduce.weight": np.ones((2, 3), np.float16)}
    return Bundle(CONFIG, {**own, **Projection(matrix, np.zeros(DIM, np.float32)).to_tensors()})


def test_networks_stay_and_the_projection_is_of_the_sample(old, sample):
    new = refit(old, sample, ON, dim=8, m=4, seed=3)
    assert new.networks == old.networks
    assert new.fingerprint != old.fingerprint
    assert np.array_equal(new.tensors["image.reduce.weight"], old.tensors["image.reduce.weight"])
    expected = fit(sample, 8, 4, 3)
    assert np.allclose(Projection.from_tensors(new.tensors).apply(sample), expected.apply(sample), atol=1e-3)
    assert new.config["dim"] == 8


def test_the_config_says_where_it_comes_from_and_leaves_out_what_was_measured(old, sample):
    first = refit(old, sample, ON, m=4)
    assert first.config == {
        "name": "tiny",
        "dim": DIM,
        "indexing": {"channels": 2},
        "training": {"spatial": [{"loss": 1.0}]},
        "projection": {"version": 2, "replaces": old.fingerprint, "m": 4, "seed": 0, "fitted_on": ON},
    }
    second = refit(first, sample[:300], ON, m=4)
    assert (second.config["projection"]["version"], second.config["projection"]["replaces"]) == (3, first.fingerprint)


def test_where_it_comes_from_is_no_part_of_the_fingerprint(old, sample):
    told = refit(old, sample, ON, m=4)
    assert refit(old, sample, {"collection": "others"}, m=4).fingerprint == told.fingerprint


def test_it_is_saved_and_loaded_like_any_bundle(old, sample, tmp_path):
    pytest.importorskip("safetensors")
    new = refit(old, sample, ON, m=4)
    new.save(tmp_path)
    assert Bundle.load(tmp_path).fingerprint == new.fingerprint
    assert Bundle.load(tmp_path).networks == old.networks


def test_features_of_other_networks_are_refused(old, sample):
    with pytest.raises(CompsketchError, match=r"shape \(400, 39\): the bundle's networks give \(N, 40\)"):
        refit(old, sample[:, 1:], ON)
    with pytest.raises(CompsketchError, match="255 embeddings to fit on: give at least 256"):
        refit(old, sample[:255], ON, m=4)
