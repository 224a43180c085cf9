"""What Prometheus is told by a real server, and how memory of GPUs is told."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from encoders.serving import scraping
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.lanes import Lane
from encoders.serving.limits import CallLimits
from encoders.serving.metrics import Metrics
from tests.encoders.serving.serving import CORNER, Held, channel, images, keyed, photo, refused, served, sketches
from tests.encoders.serving.stage import on_a_loop, until

MODEL = {"model": "toy", "fingerprint": "toy-0000000000000000"}


class Told:
    """Every sample of one look at the metrics, but for the labels of the model."""

    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name, frozenset(sample.labels.items() - MODEL.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._samples.get((f"compsketch_encoder_{name}", frozenset(labels.items())))


async def scraped(server) -> Told:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
            return answer.read().decode()

    return Told(await asyncio.to_thread(read))


@on_a_loop
async def test_rows_calls_batches_and_rejects_are_counted(toy_encoder):
    limits = CallLimits(image_bytes=5000)
    async with served(toy_encoder, limits=limits) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        before = await scraped(server)
        assert (
            before("rejects_total", reason="busy", lane="bulk") == 0
        )  # there from the start: a rate needs a beginning
        assert before("queue_depth", lane="interactive") == 0
        await stub.EncodeImages(images(photo(0), photo(1), b"bad", bytes(5001)))
        await stub.EncodeSketches(sketches(CORNER))
        await refused(stub.EncodeImages(images(model="nobody")))
        async for _ in stub.StreamImages(iter([keyed(photo(0), photo(1), photo(2))])):
            pass
        now = await scraped(server)
    assert now("rows_total", kind="photo", lane="interactive") == 2
    assert now("rows_total", kind="sketch", lane="interactive") == 1
    assert now("rows_total", kind="photo", lane="bulk") == 3
    assert now("rejects_total", reason="invalid", lane="interactive") == 1
    assert now("rejects_total", reason="too_large", lane="interactive") == 1
    assert now("calls_total", method="EncodeImages", code="OK") == 1
    assert now("calls_total", method="EncodeImages", code="NOT_FOUND") == 1
    assert now("calls_total", method="StreamImages", code="OK") == 1
    assert now("call_seconds_count", method="EncodeImages") == 2
    assert now("healthy") == 1
    ran = now("batch_rows_sum", lane="interactive") - (before("batch_rows_sum", lane="interactive") or 0)
    assert ran == 3  # two photos and a sketch
    for stage in ("decode_wait", "decode", "forward_wait", "forward"):
        assert now("seconds_count", stage=stage, lane="bulk") > (before("seconds_count", stage=stage, lane="bulk") or 0)


@on_a_loop
async def test_what_waits_is_told_by_lane_and_what_is_refused_by_reason(toy_encoder):
    held = Held(toy_encoder)
    async with served(held, queue=2) as server, channel(server) as opened:
        stub = EncoderStub(opened)
        held.close()
        first = stub.EncodeImages(images(photo(0), photo(1)))
        await until(held.begun.is_set)
        await refused(stub.EncodeImages(images(photo(2))))
        now = await scraped(server)
        assert now("queue_depth", lane="interactive") == 2
        assert now("queue_depth", lane="bulk") == 0
        assert now("rejects_total", reason="busy", lane="interactive") == 1
        held.open()
        await first
        assert (await scraped(server))("queue_depth", lane="interactive") == 0


@on_a_loop
async def test_an_item_given_up_at_its_deadline_is_told(toy_encoder):
    metrics = Metrics()
    metrics.model("toy", "f").expired(Lane.BULK)
    assert (
        metrics.registry.get_sample_value(
            "compsketch_encoder_rejects_total",
            {"model": "toy", "fingerprint": "f", "reason": "expired", "lane": "bulk"},
        )
        == 1
    )
    async with served(toy_encoder) as server, channel(server) as opened:
        await EncoderStub(opened).EncodeImages(images(photo(0)), timeout=30)
        assert (await scraped(server))("rejects_total", reason="expired", lane="interactive") == 0


def test_memory_of_gpus_is_told_where_there_are_any(monkeypatch):
    cuda = SimpleNamespace(mem_get_info=lambda device: (3 << 30, 8 << 30))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    metrics = Metrics()
    metrics.watch_memory(["cpu", "cuda:0", "cuda:0"])
    for kind, value in (("used", 5 << 30), ("total", 8 << 30)):
        labels = {"device": "cuda:0", "kind": kind}
        assert metrics.registry.get_sample_value("compsketch_encoder_gpu_memory_bytes", labels) == value


def test_without_a_gpu_nothing_is_told_of_its_memory():
    metrics = Metrics()
    metrics.watch_memory(["cpu"])
    assert "gpu_memory" not in str([family.name for family in metrics.registry.collect()])


def test_the_port_is_given_back():
    with scraping.scraped(Metrics().registry, "127.0.0.1", 0) as port:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
