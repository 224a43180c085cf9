"""Ingesters killed in the middle (SIGKILL), again and again: each photo ends up in the collection, and once."""

from __future__ import annotations

import json
import random
import subprocess
import uuid
from pathlib import Path

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.sources import iterate
from tests.integration.noise import photo
from tests.integration.toy_program import ENVIRONMENT, command

KILLS, PHOTOS, BATCH = 20, 1200, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small photos, no two alike."""
    path = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        (path / f"{index:04}.png").write_bytes(photo(index))
    return path


@pytest.fixture
def name(milvus_server) -> str:
    """A collection of this test's own, dropped at the end."""
    name = f"killed_{uuid.uuid4().hex[:8]}"
    yield name
    SketchCollection.open(name, None, uri=milvus_server, create=False).drop()


def kill_after(batches: int, arguments: list[str]) -> int:
    """Start an ingest and kill it at the given batch; how many batches it began."""
    with subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        begun = 0
        for line in running.stdout:
            begun += line == "encoding\n"
            if begun >= batches:
                break
        running.kill()
    return begun


def test_twenty_kills_lose_and_double_nothing(folder, name, milvus_server, toy_encoder) -> None:
    rng = random.Random(11)
    arguments = ["ingest", folder, "--uri", milvus_server, "--collection", name, "--batch-size", BATCH, "--json"]
    begun = [kill_after(rng.randint(1, 12), arguments) for _ in range(KILLS)]
    assert all(begun), "each was killed at work, none while it started"

    done = subprocess.run(command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["failed"] == []
    assert answer["indexed"] + answer["skipped"] == PHOTOS
    assert answer["skipped"] > 0, "what the killed ones had written was not written again"
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        assert collection.count() == PHOTOS, "a photo that is there twice counts twice"
        expected = {record.id: record.source for record in iterate(folder)}
        stored = collection.stored(expected, ["source"])
        assert {one: row["source"] for one, row in stored.items()} == expected
        some = folder / "0123.png"
        vector = toy_encoder.encode_images([some])[0]
        assert collection.search_vector(vector, 1)[0].source == str(some)
