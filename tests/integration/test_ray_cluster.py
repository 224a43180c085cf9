"""Ingest on a Ray cluster of two machines (of processes), one of them killed in the middle: each photo, and once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compsketch_milvus import cluster
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.sources import iterate
from tests.integration.conftest import docker_answers
from tests.integration.noise import photo
from tests.integration.toy_program import REPOSITORY
from tests.toy import ToyEncoder

pytest.importorskip("ray", reason='pip install "compsketch-milvus[ray]"')
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

PHOTOS, BATCH, KILLED_AT = 600, 8, 150
STORE = {"object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster of one machine, to which others can be added."""
    from ray.cluster_utils import Cluster

    noticed = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}  # not after 15 seconds
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": noticed, **STORE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small photos, no two alike, and one that is none."""
    path = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        (path / f"{index:04}.png").write_bytes(photo(index))
    (path / "bad.png").write_text("no photo")
    return path


@pytest.fixture
def name(milvus_server: str) -> Iterator[str]:
    """A collection of this test's own, empty, dropped at the end."""
    name = f"ray_{uuid.uuid4().hex[:8]}"
    SketchCollection.open(name, ToyEncoder(), uri=milvus_server, gpu_wait=1).close()
    yield name
    SketchCollection.open(name, None, uri=milvus_server, create=False).drop()


def test_a_machine_that_is_lost_loses_and_doubles_nothing(machines, folder, name, milvus_server, tmp_path) -> None:
    traces = tmp_path / "nodes"
    traces.mkdir()

    class Traced(ToyEncoder):
        """Leaves a file for the machine that it encodes on."""

        def encode_images(self, images):
            import ray

            (traces / ray.get_runtime_context().get_node_id()).touch()
            return super().encode_images(images)

    other = machines.add_node(num_cpus=2, **STORE)
    machines.wait_for_nodes()
    killed = []

    def progress(now) -> None:
        if now.indexed >= KILLED_AT and not killed:
            killed.append(now.indexed)
            machines.remove_node(other, allow_graceful=False)

    where = {"uri": milvus_server, "collection": name, "encoder": Traced, "batch_size": BATCH}
    told: list[str] = []
    heard = {"progress": progress, "started": told.append, "rejects": tmp_path / "bad.jsonl"}
    summary = cluster.ingest(folder, address=machines.address, **where, **heard)
    assert told[0].startswith("Ray on 2 machines: 4 CPUs")
    assert killed[0] < PHOTOS, "it was killed at work"
    assert other.node_id in {trace.name for trace in traces.iterdir()}, "and had worked"
    assert (summary.read, summary.indexed + summary.skipped, summary.failures) == (PHOTOS + 1, PHOTOS, 1)
    assert (tmp_path / "bad.jsonl").read_text().count("\n") == 1
    with SketchCollection.open(name, ToyEncoder(), uri=milvus_server) as collection:
        assert collection.count() == PHOTOS, "a photo that is there twice counts twice"
        expected = {record.id: record.source for record in iterate(folder) if record.path.name != "bad.png"}
        assert {one: row["source"] for one, row in collection.stored(expected, ["source"]).items()} == expected


def test_a_bulk_import_by_a_cluster_is_counted_once_it_is_in(machines, folder, name, milvus_server, tmp_path) -> None:
    if os.environ.get("MILVUS_TEST_URI") or docker_answers():
        pytest.skip("the server does not see this machine's files: bulk import from a folder needs `make milvus`")
    where = {"uri": milvus_server, "collection": name, "encoder": ToyEncoder, "staging": str(tmp_path / "staging")}
    seen: list[int] = []
    summary = cluster.ingest(folder, address=machines.address, **where, progress=lambda now: seen.append(now.indexed))
    assert (summary.read, summary.indexed, summary.failures) == (PHOTOS + 1, PHOTOS, 1)
    assert set(seen) == {0, PHOTOS}, "one part, and none of its photos counted before"
    assert [path for path in (tmp_path / "staging").rglob("*") if path.is_file()] == []
    with SketchCollection.open(name, ToyEncoder(), uri=milvus_server) as collection:
        assert collection.count() == PHOTOS
