"""Traces and ids of what a program does with a collection: searches, ingests with their threads, commands."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections import Counter

import pytest
from opentelemetry.trace import StatusCode

from compsketch_milvus import AsyncSketchCollection
from compsketch_milvus.errors import CollectionError, IngestError
from compsketch_milvus.ingest import ingest
from encoders.request import current, request
from encoders.sketch import Sketch
from tests.compsketch_milvus.collector import collector
from tests.compsketch_milvus.conftest import LEFT

SEARCH = ("compsketch by_sketches", [("encode sketches", []), ("rerank", []), ("search photos", [])])
QUERY = ("compsketch look_up", [("query photos", [])])
STORE = ("compsketch store", [("upsert photos", [])])


def test_a_search_of_threads_and_of_a_loop(collection, lite, toy_encoder, spans) -> None:
    async def awaited() -> None:
        async with await AsyncSketchCollection.open("photos", toy_encoder, uri=lite) as photos:
            spans.clear()
            await photos.search(Sketch.from_dict(LEFT))

    asyncio.run(awaited())
    assert spans.tree() == [SEARCH]
    spans.clear()
    collection.search(Sketch.from_dict(LEFT))
    assert spans.tree() == [SEARCH]
    assert len({span.attributes["compsketch.request_id"] for span in spans.all}) == 1


def test_an_ingest_and_the_batches_of_its_threads(collection, pictures, spans) -> None:
    spans.clear()
    assert ingest(collection, pictures, batch_size=1, decoders=2).indexed == 4
    ((name, below),) = spans.tree()
    assert name == "compsketch ingest"
    counted = Counter(name for name, _ in below)
    assert (counted["encode photos"], counted["compsketch store"]) == (4, 4)
    assert QUERY in below
    assert STORE in below
    assert [span.attributes["milvus.rows"] for span in spans.named("upsert photos")] == [1] * 4
    for path in pictures:
        assert path not in spans.everything()


def test_a_batch_that_fails_marks_the_ingest(collection, pictures, spans, monkeypatch) -> None:
    def broken(images) -> None:
        raise ValueError("secret of /home/me")

    monkeypatch.setattr(collection.encoder, "encode_images", broken)
    with pytest.raises(IngestError):
        ingest(collection, pictures)
    failed = {span.name: span.attributes["error.type"] for span in spans.all if not span.status.is_ok}
    assert failed == {"compsketch ingest": "IngestError", "encode photos": "ValueError"}
    assert "secret" not in spans.everything()


def test_all_threads_of_an_ingest_work_under_its_id(collection, pictures, monkeypatch) -> None:
    seen: set[str] = set()
    encode = collection.encoder.encode_images
    monkeypatch.setattr(collection.encoder, "encode_images", lambda images: (seen.add(current()), encode(images))[1])
    with request("run-7"):
        ingest(collection, pictures, batch_size=2)
    assert seen == {"run-7"}
    ingest(collection, pictures, force=True)
    assert len(seen) == 2
    assert "" not in seen


def test_milvus_is_told_the_id_for_its_own_log(collection, monkeypatch) -> None:
    told: list[str] = []
    search = collection.client.search
    monkeypatch.setattr(
        collection.client, "search", lambda *a, **more: (told.append(more["client_request_id"]), search(*a, **more))[1]
    )
    with request("r-1"):
        collection.search(Sketch.from_dict(LEFT))
    collection.search(Sketch.from_dict(LEFT))
    assert told[0] == "r-1"
    assert re.fullmatch("[0-9a-f]{16}", told[1])


def test_a_refused_filter_is_an_error_without_the_filter(collection, spans) -> None:
    with pytest.raises(CollectionError, match="hidden-word"):
        collection.count('no such "hidden-word')
    (count,) = spans.named("compsketch count")
    assert (count.status.status_code, count.attributes["error.type"]) == (StatusCode.ERROR, "CollectionError")
    assert "hidden-word" not in spans.everything()


# --- commands ---


def test_a_command_is_one_trace_under_one_id(program, photos, sketch, spans, capsys) -> None:
    assert program("ingest", photos) == 0
    spans.clear()
    assert program("search", sketch) == 0
    ((name, below),) = spans.tree()
    assert name == "command search"
    assert SEARCH in below
    assert len({span.attributes["compsketch.request_id"] for span in spans.all}) == 1


def test_a_line_of_a_commands_log_names_its_request(program, monkeypatch) -> None:
    def warns(*_: object, **__: object) -> None:
        logging.getLogger("encoders.serving.client").warning("away")
        raise CollectionError(current())

    monkeypatch.setattr("compsketch_milvus.collection.SketchCollection.open", warns)
    assert program("info") == 2
    warning, error = program.err.splitlines()
    assert re.fullmatch("error: [0-9a-f]{16}", error)
    assert warning == f"WARNING: away (request {error.removeprefix('error: ')})"


def test_a_program_sends_its_spans_to_a_collector(tmp_path, sketch) -> None:
    code = "from compsketch_milvus.cli import main; main()"
    command = [sys.executable, "-c", code, "render", str(sketch), "--out", str(tmp_path / "seen.png")]
    with collector() as (received, environment):
        done = subprocess.run(
            command, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = received
    assert b"command render" in message
    assert b"compsketch-render" in message  # its service.name
