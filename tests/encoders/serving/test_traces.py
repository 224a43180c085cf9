"""What the service's spans say of its calls and its batches, on a real server; and the client's of its attempts."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from encoders import tracing
from encoders.request import current, request
from encoders.serving.aio_client import AsyncRemoteEncoder
from encoders.serving.client import RemoteEncoder
from encoders.serving.encoder_pb2_grpc import EncoderStub
from tests.encoders.serving.servicer import square
from tests.encoders.serving.serving import Held, channel, images, keyed, photo, refused, served
from tests.encoders.serving.stage import on_a_loop, until

SERVICE = "compsketch.v1.Encoder"
BATCH = [("forward batch", []), ("forward wait", [])]
PHOTO = [("decode", [("decode wait", [])]), ("forward", BATCH)]


@on_a_loop
async def test_a_batch_of_two_calls_is_part_of_one_and_linked_to_the_other(toy_encoder, spans):
    held = Held(toy_encoder)
    async with served(held) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        held.close()
        calls = [asyncio.ensure_future(stub.EncodeImages(images(photo(0))))]
        await until(held.begun.is_set)  # the next two wait for this one, together
        calls += [asyncio.ensure_future(stub.EncodeImages(images(photo(quarter)))) for quarter in (1, 2)]
        engine = next(iter(server.models)).engine
        await until(lambda: len(engine._forward._waiting[next(iter(engine._forward._waiting))]) == 2)
        held.open()
        await asyncio.gather(*calls)
    alone, second, third = spans.named(f"{SERVICE}/EncodeImages")
    assert spans.tree(alone.context.span_id) == PHOTO
    assert [batch.attributes["compsketch.items"] for batch in spans.named("forward batch")] == [1, 2]
    (one, both), forwards = spans.named("forward batch"), spans.named("forward")
    assert one.links == ()
    (link,) = both.links
    forward = {span.context.span_id: span for span in forwards}
    served_by_it = {forward[both.parent.span_id].parent.span_id, forward[link.context.span_id].parent.span_id}
    assert served_by_it == {second.context.span_id, third.context.span_id}
    assert {span.kind for span in (alone, second, third)} == {SpanKind.SERVER}


@on_a_loop
async def test_a_stream_has_a_span_and_its_batches_but_none_a_photo(toy_encoder, spans):
    with tracing.span("theirs"):
        carried = tuple(tracing.injected())
    async with served(toy_encoder) as server, channel(server) as opened:
        requests = iter([keyed(*(photo(number % 4) for number in range(8)))])
        async for _ in EncoderStub(opened).StreamImages(requests, metadata=(*carried, ("x-request-id", "r-1"))):
            pass
    ((name, ((stream, below),)),) = spans.tree()
    assert (name, stream) == ("theirs", f"{SERVICE}/StreamImages")
    assert all(one == ("forward batch", []) for one in below)
    assert sum(batch.attributes["compsketch.rows"] for batch in spans.named("forward batch")) == 8
    assert {span.attributes.get("compsketch.request_id") for span in spans.all} == {None, "r-1"}


@on_a_loop
async def test_a_call_that_is_refused_says_its_status_and_no_secret(toy_encoder, spans, tmp_path):
    (tmp_path / "tokens").write_text(f"ingest {'a' * 32}\n")
    async with served(toy_encoder, token_file=tmp_path / "tokens") as server, channel(server) as opened:
        await refused(EncoderStub(opened).EncodeImages(images(), metadata=(("authorization", "Bearer sesame"),)))
    (call,) = spans.all
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "UNAUTHENTICATED")
    assert call.attributes["rpc.response.status_code"] == call.attributes["error.type"] == "UNAUTHENTICATED"
    assert "sesame" not in spans.everything()


@on_a_loop
async def test_what_the_networks_log_bears_the_id_of_the_call(toy, caplog):
    class Talkative(toy.ToyEncoder):
        def encode_images(self, images):
            logging.getLogger("encoders.toy").info("encoding under %s", current())
            return super().encode_images(images)

    async with served(Talkative()) as server, channel(server) as opened:
        with caplog.at_level("INFO", logger="encoders"):
            await EncoderStub(opened).EncodeImages(images(photo(0)), metadata=(("x-request-id", "r-9"),))
    assert "encoding under r-9" in caplog.messages


# --- clients ---


def test_each_attempt_is_a_span_of_one_request(service, spans) -> None:
    with RemoteEncoder.open(service.address) as encoder:
        spans.clear()
        service.failures.append((grpc.StatusCode.UNAVAILABLE, "at /home/me", ()))
        encoder.encode_images([square()])
    first, second = spans.all
    assert [span.attributes.get("error.type") for span in (first, second)] == ["UNAVAILABLE", None]
    assert first.attributes["compsketch.request_id"] == second.attributes["compsketch.request_id"]
    assert "/home" not in spans.everything()


@pytest.mark.parametrize("photos", [1, 20])  # one message, and a stream
def test_clients_of_threads_and_of_loops_carry_id_and_trace(service, spans, monkeypatch, photos) -> None:
    seen: list[dict[str, str]] = []
    enter = service._enter
    monkeypatch.setattr(
        service, "_enter", lambda *told: (seen.append(dict(told[1].invocation_metadata())), enter(*told))
    )

    async def awaited() -> None:
        async with await AsyncRemoteEncoder.open(service.address) as encoder:
            await encoder.encode_images([square()] * photos)

    with request("r-1"), tracing.span("outer"):
        with RemoteEncoder.open(service.address) as encoder:
            encoder.encode_images([square()] * photos)
        asyncio.run(awaited())
    assert {told["x-request-id"] for told in seen} == {"r-1"}
    (outer,) = spans.named("outer")
    assert {told["traceparent"].split("-")[1] for told in seen} == {f"{outer.context.trace_id:032x}"}
