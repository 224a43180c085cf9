"""A study of the small data folder that training is tested on, and of networks that nobody trained."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.bundle import Bundle
from encoders.evaluation.tables.study import Study
from encoders.indexing import IndexingConfig
from encoders.local import LocalEncoder, Networks
from encoders.objects import ObjectConfig
from encoders.projection import Projection
from encoders.spatial import SpatialConfig

_place = Path(__file__).parents[2] / "training" / "conftest.py"
_spec = importlib.util.spec_from_file_location("small_data", _place)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
data_folder = _module.data_folder

C, D, DIM = 16, 8, 16
CONFIG = {
    "name": "untrained",
    "objects": asdict(ObjectConfig(dim=C, hidden=32, sketch_size=32, crop_size=32)),
    "indexing": asdict(IndexingConfig(image_size=64, hidden=16, channels=D)),
    "spatial": asdict(SpatialConfig(channels=C, widths=(16, 16), out_channels=D)),
    "vocabulary": ["cat", "dog", "kettle", "motorbike", "person"],
    "dim": DIM,
}


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """Random networks and a random projection."""
    torch.manual_seed(0)
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(49 * D, DIM)))
    projection = Projection(axes.T.astype(np.float32), np.zeros(DIM, np.float32))
    return Bundle(CONFIG, {**Networks(CONFIG).to_tensors(), **projection.to_tensors()})


@pytest.fixture(scope="session")
def study(data_folder, bundle, tmp_path_factory) -> Study:
    """One for all tests: what it has embedded stays."""
    return Study(data_folder, tmp_path_factory.mktemp("work"), bundle, LocalEncoder(bundle, "cpu", "torch"))
