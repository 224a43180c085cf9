"""Servers asked whether they build GPU indexes: each kind of answer, and what is left of the question."""

from __future__ import annotations

import time

import pytest
from pymilvus import MilvusException

from compsketch_milvus.probing import ask_gpu, await_index, probe
from tests.compsketch_milvus.fake_server import FakeServer

URI = "http://milvus:19530"


@pytest.mark.parametrize(
    ("version", "gpu", "answer", "reason"),
    [
        ("v2.6.4", "builds", "yes", "the server built one"),
        (
            "v2.6.4", "refuses", "no",
            "the server refuses one: invalid parameter[expected=valid index][actual=invalid index type: GPU_IVF_PQ]",
        ),
        ("v2.4.5", "fails", "no", "the server cannot build one: no CUDA-capable device is detected"),
        ("v2.3.5", "never", "no", "the server accepts one and had built none of its 2048 rows after 1 s"),
    ],
)  # fmt: skip
def test_each_kind_of_server(version, gpu, answer, reason) -> None:
    server = FakeServer(version, gpu)
    assert ask_gpu(server, URI, wait=1) == (answer, reason)
    assert (server.asked, server.collections) == (1, {})  # the temporary collection is gone


def test_only_a_server_that_never_builds_takes_the_whole_wait() -> None:
    start = time.monotonic()
    ask_gpu(FakeServer(gpu="builds"), URI, wait=30)
    ask_gpu(FakeServer(gpu="fails"), URI, wait=30)
    assert time.monotonic() - start < 5


def test_a_server_that_takes_no_temporary_collection_stays_unknown() -> None:
    server = FakeServer(gpu="builds")
    server.full = True
    answer, reason = ask_gpu(server, URI)
    assert answer == "unknown"
    assert reason == (
        "could not be asked: http://milvus:19530: Milvus has reached a limit and could not create a temporary "
        "collection: exceeded the limit number of collections; drop or release collections that nobody needs, or give "
        "the server more"
    )


def test_the_temporary_collection_is_dropped_after_an_interruption(monkeypatch) -> None:
    server = FakeServer(gpu="builds")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask_gpu(server, URI)
    assert server.collections == {}


def test_a_temporary_collection_that_is_made_too_late_is_dropped(monkeypatch) -> None:
    server = FakeServer(gpu="builds")
    create = server.create_collection

    def slow(name, **arguments):
        create(name, **arguments)
        raise MilvusException(1, "Deadline Exceeded")

    monkeypatch.setattr(server, "create_collection", slow)
    assert ask_gpu(server, URI)[0] == "unknown"
    assert (server.asked, server.collections) == (1, {})


def test_what_cannot_be_dropped_is_named(monkeypatch, caplog) -> None:
    server = FakeServer(gpu="builds")

    def refused(*_, **__):
        raise MilvusException(1, "not now")

    monkeypatch.setattr(server, "drop_collection", refused)
    assert ask_gpu(server, URI)[0] == "yes"
    (left,) = server.collections
    assert f"the temporary collection {left} may be left behind" in caplog.text


@pytest.mark.parametrize(
    ("version", "uri", "kind", "gpu"),
    [
        ("v2.6.4", URI, "server", "unknown"),
        ("v2.3.5-lite", URI, "server", "no"),  # PyPI's wheel
        ("milvus_lite-3.2.2", "/photos.db", "lite", "no"),
        ("v2.4.0", "./photos.db", "lite", "no"),
    ],
)
def test_what_the_version_says(version, uri, kind, gpu) -> None:
    facts = probe(FakeServer(version), uri)
    assert (facts.kind, facts.version, facts.gpu) == (kind, version.removeprefix("milvus_lite-"), gpu)
    assert bool(facts.gpu_reason) == (gpu == "no")


def test_waiting_goes_on_where_an_index_is_finished_and_rows_are_pending() -> None:
    states = iter(
        [
            {"state": "Finished", "indexed_rows": 0, "pending_index_rows": 2000},
            {"state": "InProgress", "indexed_rows": 0, "pending_index_rows": 2000},
            {"state": "Finished", "indexed_rows": 2000, "pending_index_rows": 0},
        ]
    )
    assert await_index(lambda: next(states), wait=30)["indexed_rows"] == 2000


def test_waiting_ends_with_the_last_answer() -> None:
    building = {"state": "InProgress", "indexed_rows": 0, "pending_index_rows": 2000}
    start = time.monotonic()
    assert await_index(lambda: building, wait=1) == building
    assert 1 <= time.monotonic() - start < 3
