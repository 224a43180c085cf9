"""docker-compose.yml starts a Milvus that the adapter speaks to; skipped where no docker daemon answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus import SketchCollection
from compsketch_milvus.records import PhotoVector

ROOT = Path(__file__).parents[2]


def _daemon() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0


pytestmark = pytest.mark.skipif(not _daemon(), reason="no docker daemon answers on this machine")


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def milvus(docker_ip: str, docker_services) -> str:
    uri = f"http://{docker_ip}:{docker_services.port_for('milvus', 19530)}"
    docker_services.wait_until_responsive(timeout=240, pause=2, check=lambda: _answers(uri))
    return uri


def _answers(uri: str) -> bool:
    from pymilvus import MilvusClient

    try:
        MilvusClient(uri, timeout=5).get_server_version()
    except Exception:  # whatever a server that is still starting makes pymilvus raise
        return False
    return True


def test_a_collection_on_the_composed_server_finds_what_was_upserted(milvus: str, toy_encoder) -> None:
    vectors = np.eye(toy_encoder.dim, dtype=np.float32)
    with SketchCollection.open("compose_test", toy_encoder, uri=milvus) as photos:
        photos.upsert(PhotoVector(f"{i}", f"photo-{i}", 1, 1, vector) for i, vector in enumerate(vectors))
        photos.flush()
        assert photos.count() == len(vectors)
        assert photos.search_vector(vectors[3], limit=1)[0].id == "3"
