"""The server around the service: health, tokens, addresses, sizes, logs, and its end."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2 as pb
from encoders.serving.channel import OPTIONS
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.lanes import Lane
from encoders.serving.limits import CallLimits
from encoders.serving.logs import json_log
from encoders.serving.server import PING_MS, SERVICE, ServeOptions, Server
from encoders.serving.tls import Tls
from tests.encoders.serving.serving import (
    CORNER,
    Held,
    channel,
    faults,
    images,
    keyed,
    photo,
    refused,
    served,
    sketches,
)
from tests.encoders.serving.stage import on_a_loop, until

StatusCode = grpc.StatusCode
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(opened: grpc.aio.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(opened).Check(request)).status


class Told:
    """What a watcher of health has been told, the last last."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        self.all: list[int] = []
        self._call = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        self.done = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for answer in self._call:
            self.all.append(answer.status)


# --- health ---


@on_a_loop
async def test_it_listens_at_once_and_serves_when_it_is_warm(toy_encoder):
    held = Held(toy_encoder)
    held.close()
    server = Server([held], ServeOptions(port=0, metrics_port=0, decode_workers=1))
    starting = asyncio.ensure_future(server.start())
    await until(held.begun.is_set)
    async with channel(server) as opened:
        assert await health(opened) == NOT_SERVING
        error = await refused(EncoderStub(opened).EncodeImages(images(photo(0))))
        assert (error.code(), "is starting" in error.details()) == (StatusCode.UNAVAILABLE, True)
        held.open()
        await starting
        assert [await health(opened), await health(opened, SERVICE)] == [SERVING] * 2
        assert faults((await EncoderStub(opened).EncodeImages(images(photo(0)))).vectors) == [""]
    await server.close()


@on_a_loop
async def test_a_model_that_stops_encoding_is_not_serving_until_it_is_mended(toy):
    class Fragile(toy.ToyEncoder):
        broken = False

        def encode_images(self, images):
            if self.broken:
                raise RuntimeError("out of memory")
            return super().encode_images(images)

    fragile, well = Fragile(), toy.TurnedEncoder()
    async with served(well, fragile) as server, channel(server) as opened:
        told = Told(opened)
        await until(lambda: told.all == [SERVING])
        fragile.broken = True
        answer = await EncoderStub(opened).EncodeImages(images(photo(0), model="toy"))
        assert faults(answer.vectors) == ["REASON_INTERNAL"]
        await until(lambda: told.all == [SERVING, NOT_SERVING])
        assert await health(opened) == NOT_SERVING
        fragile.broken = False
        await until(lambda: told.all == [SERVING, NOT_SERVING, SERVING])
        told.done.cancel()


@on_a_loop
async def test_an_encoder_that_cannot_encode_does_not_start(toy):
    class Broken(toy.ToyEncoder):
        def encode_sketches(self, sketches, *, words=False):
            raise RuntimeError("no such operator")

    server = Server([Broken()], ServeOptions(port=0, metrics_port=0, decode_workers=1))
    with pytest.raises(RuntimeError, match="no such operator"):
        await server.start()


# --- who may call ---

ONE, OTHER = "one-token-0123456789", "other-token-0123456"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@on_a_loop
async def test_only_tokens_of_the_file_are_let_in_and_health_needs_none(toy_encoder, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"ingest {ONE}\nsearch {OTHER}\n")
    async with served(toy_encoder, token_file=file, reflection=True) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        for call in (
            stub.GetModels(pb.GetModelsRequest()),
            stub.GetModels(pb.GetModelsRequest(), metadata=bearer(ONE[:-1])),
            stub.StreamImages(iter([keyed(photo(0))])).read(),
            opened.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(iter([b""])).read(),
        ):
            error = await refused(call)
            assert error.code() == StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer TOKEN" in error.details()
        for token in (ONE, OTHER):
            assert len((await stub.GetModels(pb.GetModelsRequest(), metadata=bearer(token))).models) == 1
        assert await health(opened) == SERVING


@on_a_loop
async def test_nothing_is_read_of_a_call_that_is_not_let_in(toy_encoder, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"ingest {ONE}\n")
    limits = CallLimits(message_bytes=100_000, image_bytes=50_000)
    async with served(toy_encoder, token_file=file, limits=limits) as server, channel(server) as opened:
        huge = images(bytes(200_000))
        error = await refused(EncoderStub(opened).EncodeImages(huge))
        assert error.code() == StatusCode.UNAUTHENTICATED
        error = await refused(EncoderStub(opened).EncodeImages(huge, metadata=bearer(ONE)))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED


@on_a_loop
async def test_a_call_without_a_message_is_refused(toy_encoder):
    async with served(toy_encoder) as server, channel(server) as opened:
        error = await refused(opened.stream_stream("/compsketch.v1.Encoder/EncodeImages")(iter([])).read())
    assert (error.code(), error.details()) == (StatusCode.INVALID_ARGUMENT, "the call has no message")


@on_a_loop
async def test_a_client_is_limited_by_the_name_of_its_token(toy_encoder, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"ingest {ONE}\nsearch {OTHER}\n")
    options = {"token_file": file, "rate": 0.01, "limits": CallLimits(items=1)}
    async with served(toy_encoder, **options) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        await stub.EncodeImages(images(photo(0)), metadata=bearer(ONE))
        error = await refused(stub.EncodeImages(images(photo(0)), metadata=bearer(ONE)))
        assert "ingest asks for more than 0.01 rows a second" in error.details()
        await stub.EncodeImages(images(photo(0)), metadata=bearer(OTHER))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "encoder.example"])
def test_a_public_address_needs_tls_and_tokens_or_insecure_spelled_out(host):
    says = f"--host {host} can be reached from other machines: it needs --tls-cert and --tls-key, and --token-file"
    for half in ({}, {"token_file": "tokens"}, {"tls": Tls("cert", "key")}):
        with pytest.raises(CompsketchError, match=says):
            ServeOptions(host=host, **half)
    ServeOptions(host=host, tls=Tls("cert", "key"), token_file="tokens")
    ServeOptions(host=host, tls=Tls("cert", "key", "authorities"))
    ServeOptions(host=host, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_nothing(host):
    assert ServeOptions(host=host).host == host


# --- what it takes ---


@on_a_loop
async def test_a_huge_message_is_refused_and_the_next_is_answered(toy_encoder):
    limits = CallLimits(message_bytes=100_000, image_bytes=50_000)
    async with served(toy_encoder, limits=limits) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        error = await refused(stub.EncodeImages(images(bytes(200_000))))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        error = await refused(stub.StreamImages(iter([keyed(bytes(200_000))])).read())
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert faults((await stub.EncodeImages(images(photo(0)))).vectors) == [""]


@on_a_loop
async def test_reflection_is_off_unless_asked_for(toy_encoder):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with served(toy_encoder) as server, channel(server) as opened:
        call = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(iter([request]))
        assert (await refused(call.read())).code() == StatusCode.UNIMPLEMENTED
    async with served(toy_encoder, reflection=True) as server, channel(server) as opened:
        answer = await reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(iter([request])).read()
        assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_our_own_clients_may_ask_whether_it_is_still_there_as_often_as_they_do():
    """More often than permitted, and a server ends the connection: too_many_pings."""
    assert dict(OPTIONS)["grpc.keepalive_time_ms"] >= PING_MS


@on_a_loop
async def test_a_port_that_is_taken_is_one_clear_line(toy_encoder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for options, says in (
            (
                {"port": port},
                f"127.0.0.1:{port} cannot be had: it is taken, or not of this machine; choose another --port",
            ),
            ({"metrics_port": port}, f"metrics cannot be had at 127.0.0.1:{port} .Address already in use.; choose"),
        ):
            with pytest.raises(CompsketchError, match=says):
                async with served(toy_encoder, **options):
                    pass


def test_two_of_the_same_are_refused(toy):
    @on_a_loop
    async def run():
        with pytest.raises(CompsketchError, match="toy-0000000000000000 is named twice"):
            Server([toy.ToyEncoder(), toy.ToyEncoder()], ServeOptions())

    run()


# --- the log ---


@on_a_loop
async def test_each_call_is_one_line_of_json_that_holds_nothing_of_its_content(toy_encoder, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"ingest {ONE}\n")
    log = io.StringIO()
    with json_log(log):
        async with served(toy_encoder, token_file=file) as server, channel(server) as opened:
            stub = EncoderStub(opened)
            me = (*bearer(ONE), ("x-request-id", "abc-1"))
            await stub.EncodeSketches(sketches(CORNER, CORNER), metadata=me)
            await stub.EncodeImages(images(photo(0), b"not a photo"), metadata=me)
            await refused(stub.EncodeImages(images(model="nobody"), metadata=me))
            await refused(stub.EncodeImages(images(photo(0)), metadata=bearer(OTHER)))
            async for _ in stub.StreamImages(iter([keyed(photo(0), photo(1))]), metadata=me):
                pass
    calls = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "call"]
    told = [(line["method"], line["client"], line["rows"], line["code"]) for line in calls]
    assert told == [
        ("EncodeSketches", "ingest", 2, "OK"),
        ("EncodeImages", "ingest", 1, "OK"),
        ("EncodeImages", "ingest", 0, "NOT_FOUND"),
        ("EncodeImages", "127.0.0.1", 0, "UNAUTHENTICATED"),
        ("StreamImages", "ingest", 2, "OK"),
    ]
    assert all(line["ms"] >= 0 and line["level"] == "info" and line["time"] for line in calls)
    assert [line["request_id"] for line in calls[:3]] == ["abc-1"] * 3
    assert re.fullmatch("[0-9a-f]{16}", calls[3]["request_id"])  # nobody gave one
    for secret in (ONE, OTHER, "cat", "not a photo", "nobody"):
        assert secret not in log.getvalue()


@on_a_loop
async def test_the_log_says_how_a_call_ended_that_its_client_gave_up(toy_encoder, caplog):
    held = Held(toy_encoder)
    with caplog.at_level("INFO", logger="encoders"):
        async with served(held) as server, channel(server) as opened:
            stub = EncoderStub(opened)
            held.close()
            call = stub.EncodeImages(images(photo(0)))
            await until(held.begun.is_set)
            await refused(stub.EncodeImages(images(photo(0)), timeout=0.1))
            call.cancel()
            codes = lambda: [record.fields["code"] for record in caplog.records if record.message == "call"]  # noqa: E731
            await until(lambda: sorted(codes()) == ["CANCELLED", "DEADLINE_EXCEEDED"])
            held.open()


# --- the end ---


@on_a_loop
async def test_a_drain_answers_what_was_accepted_and_refuses_what_comes(toy_encoder):
    held = Held(toy_encoder)
    async with served(held) as server, channel(server) as opened:
        stub, told = EncoderStub(opened), Told(opened)
        await until(lambda: told.all == [SERVING])
        held.close()
        unary = asyncio.ensure_future(stub.EncodeImages(images(photo(0))))
        stream = stub.StreamImages()
        await stream.write(keyed(photo(1), photo(2)))
        await until(held.begun.is_set)
        engine = next(iter(server.models)).engine
        await until(lambda: sum(map(engine.depth, Lane)) == 3)
        draining = asyncio.ensure_future(server.drain())
        await until(lambda: told.all == [SERVING, NOT_SERVING])
        error = await refused(stub.EncodeImages(images(photo(3))))
        assert (error.code(), "another one may answer" in error.details()) == (StatusCode.UNAVAILABLE, True)
        assert not draining.done()
        held.open()
        assert faults((await unary).vectors) == [""]
        keys: list[int] = []
        while len(keys) < 2:
            keys += [one.key for one in (await stream.read()).vectors]
        assert sorted(keys) == [0, 1]
        assert (await refused(stream.read())).code() == StatusCode.UNAVAILABLE
        await draining
        await told.done  # the watcher's call has ended, too


@on_a_loop
async def test_a_drain_takes_no_longer_than_it_may(toy_encoder, caplog):
    held = Held(toy_encoder)
    async with served(held, drain=0.1) as server, channel(server) as opened:
        held.close()
        call = asyncio.ensure_future(EncoderStub(opened).EncodeImages(images(photo(0))))
        await until(held.begun.is_set)
        draining = asyncio.ensure_future(server.drain())
        assert (await refused(call)).code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
        held.open()  # the thread of the networks cannot be interrupted
        await draining
    assert "what is still under way is given up" in caplog.text
