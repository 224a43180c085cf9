"""Bulk import into the real server that runs on this machine: it reads the files from the folder they are written to.

That is Milvus 2.3, whose jobs are gRPC's. A server in a container reads a bucket; its jobs, REST's, were not run.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.bulk import CollectionFacts, ImportJobError, Part, Parts, import_parts
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources import iterate
from tests.integration.conftest import docker_answers
from tests.integration.noise import photo
from tests.integration.toy_program import ENVIRONMENT, command

ROWS, PHOTOS = 5000, 120


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> str:
    """The address of a server that sees this machine's files."""
    if os.environ.get("MILVUS_TEST_URI") or docker_answers():
        pytest.skip("the server does not see this machine's files: bulk import from a folder needs `make milvus`")
    return request.getfixturevalue("milvus_server")


@pytest.fixture
def name(server) -> Iterator[str]:
    """A collection of the test's own, dropped at the end."""
    name = f"bulk_{uuid.uuid4().hex[:8]}"
    yield name
    SketchCollection.open(name, None, uri=server, create=False).drop()


def rows(number: int) -> list[PhotoVector]:
    vectors = np.random.default_rng(number).normal(size=(number, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        PhotoVector(f"p{i}", f"/Fotos/Käthe/{i}.jpg", 640, 480, vector, {"shop": f"s{i % 7}", "mtime": i})
        for i, vector in enumerate(vectors)
    ]


def test_five_thousand_rows_are_imported_and_found(server, name, toy_encoder, tmp_path) -> None:
    photos = rows(ROWS)
    with SketchCollection.open(name, toy_encoder, uri=server, partition_key="shop", index="FLAT") as collection:
        collection.upsert(photos[:10])
        parts = Parts(CollectionFacts.of(collection), str(tmp_path), worker="all")
        for first in range(0, ROWS, 32):
            parts.add(photos[first : first + 32])
        whole = parts.close()
        imported = import_parts(collection, whole, wait=120)
        assert (imported.rows, imported.upserted, len(imported.jobs)) == (ROWS - 10, 10, 1)
        assert collection.count() == ROWS
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

        hits = collection.search_vector(photos[777].vector, limit=3, filter="shop == 's0'")  # 777 is in s0
        assert hits[0].id == "p777"
        kept = {"mtime": 4999, "width": 640, "source": "/Fotos/Käthe/4999.jpg"}
        assert collection.stored(["p4999"], list(kept)) == {"p4999": kept}
        assert [collection.count(f"shop == 's{i}'") for i in range(7)] == [715, 715, 714, 714, 714, 714, 714]


def test_a_job_that_fails_says_why_and_leaves_its_file(server, name, toy_encoder, tmp_path) -> None:
    with SketchCollection.open(name, toy_encoder, uri=server) as collection:
        parts = Parts(CollectionFacts.of(collection), str(tmp_path), worker="all")
        parts.add(rows(5))
        [part] = parts.close()

        class Unseen(Part):
            path = "/nowhere/1.parquet"  # as where the server is on another machine

        unseen = Unseen(part.where, part.name, part.rows, part.bytes)
        with pytest.raises(ImportJobError, match=r"import job \d+ failed: .*no such file.*/nowhere/1.parquet is kept"):
            import_parts(collection, [unseen], wait=60)
        assert Path(part.path).exists()
        assert collection.count() == 0


def test_killed_before_and_in_its_job_nothing_is_lost_or_doubled(server, name, toy_encoder, tmp_path) -> None:
    folder, staging = tmp_path / "photos", tmp_path / "staging"
    folder.mkdir()
    for index in range(PHOTOS):
        (folder / f"{index:03}.png").write_bytes(photo(index))
    flags = ["--uri", server, "--collection", name, "--via", "bulk", "--staging", staging, "--json", "--batch-size", 60]
    ingest = command("ingest", folder, *flags)

    with subprocess.Popen(ingest, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 60
        while not list(staging.rglob("*.parquet")):
            assert running.poll() is None
            assert time.monotonic() < deadline
        running.kill()
    [part] = staging.rglob("*.parquet")

    with subprocess.Popen(
        ingest, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert any("import job" in line for line in running.stderr)
        running.kill()

    done = subprocess.run(ingest, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["indexed"] + answer["skipped"] == PHOTOS
    assert not part.exists()
    ids = [record.id for record in iterate(folder)]
    with SketchCollection.open(name, toy_encoder, uri=server, create=False) as collection:
        assert collection.existing(ids) == set(ids)
        assert collection.count() == PHOTOS
