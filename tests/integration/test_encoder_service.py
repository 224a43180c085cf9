"""The encoder's service where it hurts: noise, clients that leave or do not read, killed workers, its end in a rush."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.encoder_pb2_grpc import EncoderStub
from tests.encoders.serving.serving import (
    CORNER,
    answers,
    channel,
    faults,
    images,
    keyed,
    photo,
    refused,
    rows,
    served,
    sketches,
)
from tests.encoders.serving.stage import on_a_loop, until
from tests.integration.serve_program import Serving, serving

StatusCode = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
REQUESTS = 1000
MEBIBYTE = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path) as running:
        yield running


@asynccontextmanager
async def connected(server: Serving, **more: int) -> AsyncIterator[EncoderStub]:
    """A stub of a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), *more.items()]
    async with grpc.aio.insecure_channel(server.address, options=options) as opened:
        yield EncoderStub(opened)


# --- noise ---


def noise(rng: random.Random, valid: list[bytes]) -> bytes:
    """Random bytes, or a valid message that was cut, flipped, doubled or filled up."""
    whole = bytearray(rng.choice(valid))
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return bytes(whole[: rng.randrange(len(whole) + 1)])
    if kind == 2:
        for _ in range(rng.randrange(1, 20)):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
        return bytes(whole)
    if kind == 3:
        place = rng.randrange(len(whole))
        return bytes(whole[:place]) + rng.randbytes(rng.randrange(100)) + bytes(whole[place:])
    return bytes(whole + rng.choice(valid))


def valid_messages() -> dict[str, list[bytes]]:
    stroke, vector = wire.sketch_message(CORNER), wire.pack(np.ones((1, 16)))
    files = [photo(0, form=form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
    drawn = [pb.Sketch(json='{"width": 9, "height": 9, "objects": [{"strokes": [[[1, 2], [3, 4]]]}]}'), stroke]
    messages = {
        "GetModels": [pb.GetModelsRequest()],
        "EncodeImages": [images(file, model="toy", lane=1, precision=2) for file in files] + [images(*files)],
        "EncodeSketches": [pb.EncodeSketchesRequest(sketches=[one]) for one in drawn] + [sketches(CORNER, words=True)],
        "Project": [pb.ProjectRequest(features=vector)],
        "Explain": [pb.ExplainRequest(sketch=one, vectors=vector) for one in drawn],
        "StreamImages": [keyed(*files, lane=2), keyed(*files)],
        "StreamSketches": [
            pb.StreamSketchesRequest(sketches=[pb.KeyedSketch(key=key, sketch=one)]) for key, one in enumerate(drawn)
        ],
    }
    return {name: [one.SerializeToString() or b"\n" for one in some] for name, some in messages.items()}


def outcome(opened: grpc.Channel, method: str, sent: list[bytes]) -> str:
    """How a call of these bytes ended. For a stream that ends early grpc.aio's own client would say INTERNAL."""
    path = f"/compsketch.v1.Encoder/{method}"
    try:
        if method.startswith("Stream"):
            answers = list(opened.stream_stream(path)(iter(sent), timeout=60))
        else:
            answers = [opened.unary_unary(path)(sent[0], timeout=60)]
    except grpc.RpcError as error:
        return str(error.code().name)
    assert not any(b"an error of this server" in answer for answer in answers)
    return "OK"


@on_a_loop
async def test_a_thousand_requests_of_noise_leave_it_as_it_was(judging_encoder):
    rng, valid = random.Random(5), valid_messages()
    ended: Counter[str] = Counter()
    async with served(judging_encoder) as server, channel(server) as opened:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as other:
            for _ in range(0, REQUESTS, 20):  # some at a time
                methods = [rng.choice(sorted(valid)) for _ in range(20)]
                sent = [[noise(rng, valid[method]) for _ in range(rng.randrange(1, 4))] for method in methods]
                calls = [asyncio.to_thread(outcome, other, *one) for one in zip(methods, sent, strict=True)]
                ended.update(await asyncio.gather(*calls))
        assert sum(ended.values()) == REQUESTS
        assert set(ended) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}, ended
        assert min(ended["OK"], ended["INVALID_ARGUMENT"]) > 50  # it was neither all noise nor none
        health = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest())
        assert health.status == SERVING
        answer = await EncoderStub(opened).EncodeImages(images(photo(0)))
    np.testing.assert_array_equal(rows(answer.vectors), judging_encoder.encode_images([photo(0)]))


@on_a_loop
async def test_a_huge_message_is_refused_unread(server):
    memory = psutil.Process(server.process.pid).memory_info
    async with connected(server) as stub:
        await stub.EncodeImages(images(photo(0)))
        before = memory().rss
        for _ in range(2):
            error = await refused(stub.EncodeImages(images(bytes(65 * MEBIBYTE))))
            assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert faults((await stub.EncodeImages(images(photo(0)))).vectors) == [""]
        assert memory().rss - before < 40 * MEBIBYTE


# --- clients that go away, or do not read ---


@on_a_loop
async def test_one_stream_of_four_is_cancelled_and_three_get_all_they_asked_for(server, toy_encoder):
    async def forty() -> AsyncIterator[pb.StreamImagesRequest]:
        for key in range(40):
            yield keyed(photo(key % 4), start=key)

    async with connected(server) as stub:
        calls = [stub.StreamImages(forty()) for _ in range(4)]
        await calls[0].read()
        calls[0].cancel()
        found = await asyncio.gather(*map(answers, calls[1:]))
    expected = toy_encoder.encode_images([photo(key % 4) for key in range(40)])
    for one in found:
        np.testing.assert_array_equal(rows(one[key] for key in range(40)), expected)


@on_a_loop
async def test_a_client_that_does_not_read_is_not_read_from_and_takes_no_memory(server):
    """It sends until flow control stops it; others are served meanwhile, and what it sent is answered when it reads."""
    memory = psutil.Process(server.process.pid).memory_info
    before, sent, large = memory().rss, 0, photo(1, size=(400, 300), form="BMP")  # 360 KB
    small = {"grpc.http2.bdp_probe": 0}  # the window for what is not read stays at 64 KB
    async with connected(server, **small) as lazy, connected(server) as stub:
        call = lazy.StreamImages()
        held_up = False
        while not held_up:
            writing = asyncio.ensure_future(call.write(keyed(*[photo(1)] * 100, large, start=sent)))
            done, _ = await asyncio.wait({writing}, timeout=5.0)
            held_up = not done
            sent += 101
            assert sent < 100_000
        assert memory().rss - before < 100 * MEBIBYTE
        assert faults((await stub.EncodeImages(images(photo(0)))).vectors) == [""]
        reading = asyncio.ensure_future(answers(call))
        await writing
        await call.done_writing()
        found = await reading
    assert sorted(found) == list(range(sent))
    assert set(faults(found.values())) == {""}


@on_a_loop
async def test_a_call_that_comes_too_late_is_not_worked_on(server):
    """The toy takes 50 ms a batch, and a batch has 32 rows: 320 take half a second."""
    async with connected(server) as stub, connected(server) as other:
        bulk = asyncio.ensure_future(answers(stub.StreamImages(iter([keyed(*[photo(0)] * 250)]))))
        late = await refused(other.EncodeImages(images(*[photo(1)] * 250), timeout=0.02))
        # Once it knows how long a photo takes, it may say at once that so many would hardly be in time.
        assert late.code() in (StatusCode.DEADLINE_EXCEEDED, StatusCode.RESOURCE_EXHAUSTED)
        assert len(await bulk) == 250
    assert server.end() == 0
    calls = {line["method"]: line for line in server.lines if line["event"] == "call"}
    assert calls["StreamImages"]["rows"] == 250
    assert calls.get("EncodeImages", {"rows": 0})["rows"] == 0  # or it never came as far as the log


# --- killed workers ---


@on_a_loop
async def test_a_killed_decode_worker_costs_no_photo(server, toy_encoder):
    program, killed = psutil.Process(server.process.pid), []
    found: dict[int, pb.Vector] = {}
    messages = (
        keyed(*[photo(key % 4) for key in range(start, start + 10)], start=start) for start in range(0, 600, 10)
    )
    async with connected(server) as stub:
        async for message in stub.StreamImages(messages):
            found.update((one.key, one.vector) for one in message.vectors)
            if len(found) > 200 * (len(killed) + 1) and len(killed) < 2:  # each in the midst of its work
                (worker,) = program.children()
                os.kill(worker.pid, signal.SIGKILL)
                killed.append(worker.pid)
        again = await stub.EncodeImages(images(photo(0)))
    assert len(set(killed)) == 2
    assert set(faults(found.values())) == {""}
    expected = toy_encoder.encode_images([photo(key % 4) for key in range(600)])
    np.testing.assert_array_equal(rows(found[key] for key in range(600)), expected)
    assert faults(again.vectors) == [""]


# --- the end under load ---


async def ask_until_refused(server: Serving, expected: np.ndarray, begun: set[int]) -> tuple[int, str]:
    """A client that asks one thing after the other: how many right answers it got, and how it ended."""
    async with connected(server) as stub:
        for count in itertools.count():
            try:
                answer = await stub.EncodeImages(images(photo(2)))
            except grpc.aio.AioRpcError as error:
                return count, error.code().name
            np.testing.assert_array_equal(rows(answer.vectors), expected)
            begun.add(id(stub))
    raise AssertionError


def stream_until_refused(server: Serving, begun: set[int]) -> tuple[int, str]:
    """A client that streams without end: how many answers it got, and how it ended."""
    endless = (keyed(photo(key % 4), start=key) for key in itertools.count())
    got: set[int] = set()
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as opened:
        try:
            for message in EncoderStub(opened).StreamImages(endless):
                assert set(faults(one.vector for one in message.vectors)) == {""}
                got.update(one.key for one in message.vectors)
                begun.add(id(opened))
        except grpc.RpcError as error:
            return len(got), str(error.code().name)
    raise AssertionError


@on_a_loop
async def test_its_end_under_load_loses_nothing_that_was_accepted(server, toy_encoder):
    expected = toy_encoder.encode_images([photo(2)])
    begun: set[int] = set()
    try:  # the streams first: beside clients that ask without a pause they may wait for long
        streaming = [asyncio.ensure_future(asyncio.to_thread(stream_until_refused, server, begun)) for _ in range(2)]
        await until(lambda: len(begun) == 2)
        asking = [asyncio.ensure_future(ask_until_refused(server, expected, begun)) for _ in range(8)]
        await until(lambda: len(begun) == 10)
        assert await asyncio.to_thread(server.end) == 0
    finally:
        server.process.kill()  # if it has not ended, its clients' threads would not either
    asked, streamed = await asyncio.gather(*asking), await asyncio.gather(*streaming)
    assert {code for _, code in (*asked, *streamed)} == {"UNAVAILABLE"}
    assert min(count for count, _ in (*asked, *streamed)) > 0
    calls = [line for line in server.lines if line["event"] == "call"]
    well = [line for line in calls if (line["method"], line["code"]) == ("EncodeImages", "OK")]
    assert sum(count for count, _ in asked) == len(well)  # each answer that was given has come
    ended = [line for line in calls if line["method"] == "StreamImages"]
    assert sum(count for count, _ in streamed) == sum(line["rows"] for line in ended)
    assert {line["code"] for line in calls} <= {"OK", "UNAVAILABLE"}
    assert server.lines[-1]["event"] == "stopped"


@on_a_loop
async def test_a_second_signal_ends_it_at_once(server):
    """The first waits for a client that does not read what it asked for."""
    async with connected(server, **{"grpc.http2.bdp_probe": 0}) as stub:
        call = stub.StreamImages()
        held_up = False
        while not held_up:
            writing = asyncio.ensure_future(call.write(keyed(*[photo(1)] * 200)))
            done, _ = await asyncio.wait({writing}, timeout=5.0)
            held_up = not done
        server.process.send_signal(signal.SIGTERM)
        await until(lambda: '"draining"' in server.log.read_text())
        assert server.process.poll() is None
        assert await asyncio.to_thread(server.end) == 0
        writing.cancel()
        call.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert [line["event"] for line in server.lines][-2:] == ["call", "stopped"]
