"""What workers are given: the settings of who starts the ingest, and no secret that Ray could show."""

from __future__ import annotations

import asyncio
import os
import pickle

import pytest
from pydantic import SecretStr

from compsketch_milvus.cluster.actors import Gate
from compsketch_milvus.cluster.setup import Environment, Opening
from compsketch_milvus.settings import load_settings
from encoders import tracing
from encoders.request import current, request


def test_a_workers_settings_are_those_of_who_starts_it(monkeypatch):
    monkeypatch.setenv("MILVUS_USER", "me")
    monkeypatch.setenv("MILVUS_PASSWORD", "hush")
    monkeypatch.setenv("COMPSKETCH_ENCODER_TOKEN", "quiet")
    given = load_settings(uri="http://there:19530", collection="mine")
    environment = Environment.of(given)
    monkeypatch.setenv("COMPSKETCH_DEVICE", "cuda")  # the worker's own
    with monkeypatch.context() as patch:
        for name in (*environment.variables, "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)  # which puts them back afterwards
        patch.setenv("OMP_NUM_THREADS", "1")  # Ray's
        environment.enter()
        found = load_settings()
        assert "OMP_NUM_THREADS" not in os.environ
    assert found.token.get_secret_value() == "me:hush"
    assert found.encoder_token.get_secret_value() == "quiet"
    assert (found.uri, found.collection, found.device) == ("http://there:19530", "mine", None)


@pytest.mark.parametrize(
    ("threads", "encoders", "cpus", "expected"),
    [(None, 1, 16, None), (None, 2, 2, "1"), (None, 3, 16, "5"), (None, 4, 2, "1"), ("7", 2, 16, "7")],
)
def test_encoders_of_one_machine_share_its_processors(threads, encoders, cpus, expected):
    """Each with threads for all of them would hinder the others; who has set OMP_NUM_THREADS knows better."""
    assert Environment({}, threads).shared(encoders, cpus) == Environment({}, expected)


def test_a_worker_works_for_the_request_and_below_the_span_of_who_starts_it(spans):
    with request("run-7"), tracing.span("compsketch ingest"):
        environment = Environment.of(load_settings())
    with pickle.loads(pickle.dumps(environment)).part("decode"):
        assert current() == "run-7"
    assert spans.tree() == [("compsketch ingest", [("ingest decode", [])])]
    assert {span.attributes["compsketch.request_id"] for span in spans.all} == {"run-7"}


def test_where_nobody_listens_a_worker_has_the_request_alone():
    with request("run-8"):
        environment = Environment.of(load_settings())
    assert (environment.traced, environment.carrier) == (False, ())
    with environment.part("write"):
        assert current() == "run-8"


@pytest.mark.parametrize(
    "given",
    [
        Environment({"MILVUS_TOKEN": "hush"}),
        Opening("photos", "http://me:hush@there:19530", SecretStr("hush"), None),
    ],
)
def test_no_secret_is_shown_and_all_travel(given):
    assert "hush" not in repr(given)
    assert pickle.loads(pickle.dumps(given)) == given


def test_the_gate_holds_a_shard_back_until_photos_have_ended():
    async def main() -> None:
        gate = Gate(window=100)
        assert await gate.enter(1, 100)
        waiting = asyncio.create_task(gate.enter(1, 130))
        await gate.leave(2, 50)
        await asyncio.sleep(0)
        assert not waiting.done(), "another shard's photos make no room"
        await gate.leave(1, 30)
        assert await waiting
        assert await gate.enter(1, 60), "a reader that is started anew finds the way free"

    asyncio.run(main())


def test_a_stopped_gate_lets_nobody_in_and_nobody_wait():
    async def main() -> None:
        gate = Gate(window=10)
        waiting = asyncio.create_task(gate.enter(1, 20))
        await asyncio.sleep(0)
        await gate.stop()
        assert not await waiting
        assert not await gate.enter(2, 1)
        assert await gate.stopped()

    asyncio.run(main())


def test_the_gate_knows_who_waits_for_what():
    async def main() -> None:
        gate = Gate(window=10)
        await gate.say("one", "")
        await gate.say("two", "trying again: no Milvus answers")
        assert await gate.waits() == "trying again: no Milvus answers"
        await gate.say("two", "")
        assert await gate.waits() == ""

    asyncio.run(main())
