"""Ingesting into a real server: several workers at once, a connection that is lost, SIGTERM, large messages."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, IngestError
from compsketch_milvus.ingest import IngestProgress
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.retry import Backoff
from compsketch_milvus.sources import iterate
from tests.integration.noise import photo
from tests.integration.toy_program import ENVIRONMENT, command
from tests.integration.wire import Wire

PHOTOS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small photos, no two alike, and one file that is none."""
    path = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        (path / f"{index:04}.png").write_bytes(photo(index))
    (path / "none.png").write_bytes(b"no photo")
    return path


@pytest.fixture
def name(milvus_server: str) -> Iterator[str]:
    """A collection of the test's own, dropped at the end."""
    name = f"c_ingest_{uuid.uuid4().hex[:8]}"
    yield name
    SketchCollection.open(name, None, uri=milvus_server, create=False).drop()


def start(uri: str, name: str, folder: Path, *flags: object) -> subprocess.Popen[str]:
    arguments = ["ingest", folder, "--uri", uri, "--collection", name, "--batch-size", 8, "--json", *flags]
    return subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(worker: subprocess.Popen[str]) -> tuple[int, dict]:
    """Exit status and JSON of a worker, whose stderr shows no traceback."""
    out, err = worker.communicate(timeout=180)
    assert "Traceback" not in err
    return worker.returncode, json.loads(out.splitlines()[-1])


def await_batches(worker: subprocess.Popen[str], count: int) -> None:
    assert worker.stdout is not None
    for _ in range(count):
        assert worker.stdout.readline() == "encoding\n"


def test_what_is_written_is_seen_by_the_next_run_and_by_another_worker_at_once(
    milvus_server, name, folder, toy_encoder
) -> None:
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        summary = collection.ingest(folder)
        assert (summary.read, summary.indexed, summary.skipped, summary.failures) == (PHOTOS + 1, PHOTOS, 0, 1)
        with SketchCollection.open(name, toy_encoder, uri=milvus_server) as another:
            assert another.ingest(folder).skipped == PHOTOS
            collection.upsert([PhotoVector("fresh", "fresh.png", 1, 1, np.eye(1, 16, dtype=np.float32)[0])])
            assert another.existing(["fresh"]) == {"fresh"}


def test_three_workers_make_one_collection_and_share_the_photos(milvus_server, name, folder, toy_encoder, tmp_path):
    """All at once, from nothing: one creates the collection, the others open it."""
    rejects = tmp_path / "rejects.jsonl"
    workers = [start(milvus_server, name, folder, "--shard", f"{i}/3", "--rejects", rejects) for i in (1, 2, 3)]
    answers = [ended(worker) for worker in workers]
    assert sorted(status for status, _ in answers) == [0, 0, 1]  # one of them has the file that is no photo
    assert sum(answer["read"] for _, answer in answers) == PHOTOS + 1
    assert sum(answer["indexed"] for _, answer in answers) == PHOTOS
    assert sum(answer["skipped"] for _, answer in answers) == 0
    assert [Path(json.loads(line)["source"]).name for line in rejects.read_text().splitlines()] == ["none.png"]
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        assert collection.count() == PHOTOS
        ids = [record.id for record in iterate(folder) if not record.source.endswith("none.png")]
        assert collection.existing(ids) == set(ids)


def test_three_workers_without_shards_store_each_photo_once(milvus_server, name, folder, toy_encoder) -> None:
    workers = [start(milvus_server, name, folder) for _ in range(3)]
    for status, answer in map(ended, workers):
        assert (status, answer["read"], answer["indexed"] + answer["skipped"]) == (1, PHOTOS + 1, PHOTOS)
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        assert collection.count() == PHOTOS


def test_sigterm_drains_and_the_next_run_goes_on(milvus_server, name, folder, toy_encoder) -> None:
    worker = start(milvus_server, name, folder)
    await_batches(worker, 3)
    worker.send_signal(signal.SIGTERM)
    _, answer = ended(worker)
    assert answer["drained"]
    assert 0 < answer["indexed"] < PHOTOS
    assert answer["read"] == answer["indexed"] + answer["skipped"] + len(answer["failed"])
    assert worker.returncode == (1 if answer["failed"] else 0)
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        assert collection.count() == answer["indexed"]
        again = collection.ingest(folder)
        assert (again.indexed, again.skipped) == (PHOTOS - answer["indexed"], answer["indexed"])


def test_a_connection_that_is_lost_is_waited_for(milvus_server, name, folder, toy_encoder) -> None:
    said: list[str] = []
    cut = threading.Event()

    def progress(now: IngestProgress) -> None:
        said.append(now.status)
        if now.indexed >= 40 and not cut.is_set():
            cut.set()
            wire.cut()
            threading.Timer(3, wire.mend).start()

    with Wire(milvus_server) as wire, SketchCollection.open(name, toy_encoder, uri=wire.uri) as collection:
        summary = collection.ingest(folder, batch_size=8, progress=progress)
        assert (summary.read, summary.indexed, summary.failures) == (PHOTOS + 1, PHOTOS, 1)
        assert cut.is_set()
        assert any("trying again" in status and "no Milvus answers" in status for status in said)
        assert collection.count() == PHOTOS


def test_a_server_that_stays_away_ends_it_with_its_counts(milvus_server, name, folder, toy_encoder) -> None:
    def progress(now: IngestProgress) -> None:
        if now.indexed >= 40 and not now.status:
            wire.cut()

    with Wire(milvus_server) as wire, SketchCollection.open(name, toy_encoder, uri=wire.uri) as collection:
        with pytest.raises(IngestError, match=r"no Milvus answers .*tried .*run the same ingest again") as caught:
            collection.ingest(folder, batch_size=8, progress=progress, backoff=Backoff(deadline=3))
        summary = caught.value.summary
        assert 40 <= summary.indexed == summary.read - summary.failures < PHOTOS
        assert summary.abandoned > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_may_leave_at_once_while_the_server_is_away(milvus_server, name, folder, number) -> None:
    with Wire(milvus_server) as wire:
        worker = start(wire.uri, name, folder)
        await_batches(worker, 3)
        wire.cut()
        time.sleep(1)
        started = time.monotonic()
        worker.send_signal(number)
        if number == signal.SIGTERM:
            time.sleep(1)  # the first lets it finish
            worker.send_signal(number)
        status, answer = ended(worker)
        assert time.monotonic() - started < 5
        assert (status, answer["error"].split(" after ")[0]) == (130, "interrupted")


def test_rows_of_90_megabytes_are_more_than_one_message(milvus_server, name, toy_encoder) -> None:
    vector, text = np.eye(1, 16, dtype=np.float32)[0], "x" * 60_000
    rows = [PhotoVector(f"p{index}", f"{index}.png", 1, 1, vector, {"note": text}) for index in range(1500)]
    with SketchCollection.open(name, toy_encoder, uri=milvus_server) as collection:
        assert collection.upsert(rows) == 1500
        assert collection.count() == 1500
        with pytest.raises(CollectionError, match="photo 'long': its fields take 70011 bytes"):
            collection.upsert([PhotoVector("long", "long.png", 1, 1, vector, {"note": "x" * 70_000})])
