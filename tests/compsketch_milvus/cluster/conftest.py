"""One Ray of two processors for a module's tests, and photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.cluster.session import _ray
from tests.compsketch_milvus.processes import REPOSITORY

pytest.importorskip("ray", reason='pip install "compsketch-milvus[ray]"')


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray in this process, which ingests join; its workers find the tests' modules.

    It must not outlive them: its processes are this one's children, and other tests look what children are left.
    """
    ray = _ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        ray.init(num_cpus=2, object_store_memory=150 * 2**20, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty photos, no two alike."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder
