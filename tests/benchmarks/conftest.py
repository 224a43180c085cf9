"""The servers of tests/integration, and vectors as real photos and sketches have them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.integration.conftest import milvus_program, milvus_server, restartable_server

if TYPE_CHECKING:
    from encoders.evaluation.tables.study import Study

__all__ = ["milvus_program", "milvus_server", "restartable_server"]

DATA = Path(os.environ.get("DATA", Path(__file__).parents[3] / "shared" / "data"))
NEAR = 0.5  # of the distance to the nearest other photo: how far a made-up photo lies from the real one it is made of


@dataclass(frozen=True)
class Space:
    """What the shipped bundle makes of real photos and sketches.

    Attributes:
        photos: (n, d) unit vectors of photos.
        queries: (Q, d) unit vectors of sketches of several objects each.
    """

    photos: np.ndarray
    queries: np.ndarray

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """(count, d) unit vectors: each a real photo's, moved by noise with the spectrum that real ones have."""
        rng = np.random.default_rng(seed)
        axes, scales = self._spectrum
        rows = np.empty((count, self.photos.shape[1]), np.float32)
        for start in range(0, count, 10_000):
            part = rows[start : start + 10_000]
            noise = (rng.normal(size=part.shape).astype(np.float32) * scales) @ axes
            part[:] = self.photos[rng.integers(len(self.photos), size=len(part))] + noise
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return rows

    @property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal axes (d, d), and the noise's deviation along each (d,)."""
        _, singular, axes = np.linalg.svd(self.photos - self.photos.mean(axis=0), full_matrices=False)
        some = self.photos[:1000]
        cosines = some @ self.photos.T
        cosines[np.arange(len(some)), np.arange(len(some))] = -1
        gap = float(np.sqrt(2 - 2 * cosines.max(axis=1)).mean())
        scales = singular / np.linalg.norm(singular) * NEAR * gap
        return axes.astype(np.float32), scales.astype(np.float32)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The photos and held-out sketches under DATA, with the shipped bundle.

    WORK is a folder that keeps what takes long from one run to the next; LIMIT takes fewer queries.
    """
    if not DATA.is_dir():
        pytest.skip(f"no photos and sketches at {DATA}: set DATA to a folder as `compsketch train` takes it")
    from encoders.bundle import Bundle, find
    from encoders.evaluation.tables.study import Study
    from encoders.local import LocalEncoder

    bundle = Bundle.load(find("default"))
    work = Path(os.environ.get("WORK", tmp_path_factory.mktemp("work")))
    return Study(DATA, work, bundle, LocalEncoder(bundle), limit=int(os.environ.get("LIMIT", "0")) or None)


@pytest.fixture(scope="session")
def space(study: Study) -> Space:
    """Of all photos and held-out sketches under DATA."""
    project = study.encoder.projection.apply
    return Space(project(study.embedded(study.whole.paths)), project(study.queries))
