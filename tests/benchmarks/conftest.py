"""The servers of tests/integration, and vectors as real photos and sketches have them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.space import Space
from tests.integration.conftest import milvus_program, milvus_server, restartable_server

if TYPE_CHECKING:
    from encoders.evaluation.tables.study import Study

__all__ = ["milvus_program", "milvus_server", "restartable_server"]

DATA = Path(os.environ.get("DATA", Path(__file__).parents[3] / "shared" / "data"))


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
