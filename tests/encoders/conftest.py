"""A small bundle, opened and as torch modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import Bundle
from encoders.local import LocalEncoder, Networks
from encoders.projection import Projection
from tests.encoders.tiny import CONFIG, DIM, D, calibrated


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(49 * D, DIM)))[0].T
    projection = Projection(matrix.astype(np.float32), rng.normal(0, 0.02, DIM).astype(np.float32))
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    Bundle(CONFIG, {**calibrated().to_tensors(), **projection.to_tensors()}).save(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tiny_bundle) -> LocalEncoder:
    """In float32, so that it can be compared to the last digits; `test_runtimes.py` compares the runtimes."""
    return LocalEncoder(Bundle.load(tiny_bundle), device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def plain(tiny_bundle) -> tuple[Networks, Projection]:
    """What the bundle holds, as torch modules."""
    bundle = Bundle.load(tiny_bundle)
    networks = Networks(bundle.config)
    own = {name: tensor for name, tensor in bundle.tensors.items() if not name.startswith("projection.")}
    networks.load_tensors(own, "tiny")
    return networks.eval().requires_grad_(False), Projection.from_tensors(bundle.tensors)
