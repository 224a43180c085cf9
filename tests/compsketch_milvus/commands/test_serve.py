"""`compsketch serve`: what it says, how it ends, and what it refuses before it starts."""

from __future__ import annotations

import importlib.util
import signal

import grpc
import pytest

from compsketch_milvus.commands import serve
from encoders.serving import encoder_pb2 as pb
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.limits import CallLimits
from tests.integration.serve_program import serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_serves_and_ends_well(tmp_path, number):
    with serving(tmp_path) as server:
        assert server.told["host"] == "127.0.0.1"
        assert server.told["metrics_port"] > 0
        model = {"name": "toy", "fingerprint": "toy-0000000000000000", "dim": 16, "device": "cpu"}
        assert server.told["models"] == [model]
        with grpc.insecure_channel(server.address) as channel:
            told = EncoderStub(channel).GetModels(pb.GetModelsRequest(), metadata=(("x-request-id", "r-1"),))
        assert told.models[0].fingerprint == model["fingerprint"]
        assert server.end(number) == 0
    events = [line["event"] for line in server.lines]
    assert events == ["serving", "call", "draining", "stopped"]
    assert server.lines[1]["request_id"] == "r-1"


def test_for_people_it_is_one_line(program, monkeypatch):
    class Engine:
        class encoder:
            dim, device = 16, "cpu"

    class Model:
        name, fingerprint, engine = "toy", "toy-0", Engine

    class Running:
        class options:
            host, tls = "127.0.0.1", None

        port, metrics_port, health_port, models = 50051, 9464, None, (Model,)

    async def at_once(encoders, options, ready):
        ready(Running)

    monkeypatch.setattr("encoders.serving.server.serve", at_once)
    assert program("serve", database=False) == 0
    assert program.out == "serving toy (toy-0, cpu) at grpc://127.0.0.1:50051; metrics at port 9464\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines: it needs --tls-cert"),
        (("--tls-cert", "server.crt"), "TLS needs both --tls-cert and --tls-key"),
        (("--tls-client-ca", "ca.crt"), "TLS needs both --tls-cert and --tls-key"),
        (("--tls-cert", "nowhere.crt", "--tls-key", "nowhere.key"), "--tls-cert: 'nowhere.crt' cannot be read"),
        (("--token-file", "nowhere"), "token file 'nowhere' cannot be read"),
    ],
)
def test_a_mistake_is_one_line_before_an_encoder_is_loaded(program, monkeypatch, flags, says):
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda *_: pytest.fail("an encoder was loaded"))
    program.refused(says, "serve", "--port", "0", "--metrics-port", "0", *flags, database=False)


def test_the_shortest_queue_holds_the_largest_call(program):
    assert CallLimits().items == serve.LARGEST_CALL
    assert program("serve", "--queue", "255", database=False) == 2
    assert "'--queue': Input should be greater than or equal to 256" in program.err


@pytest.mark.parametrize("missing", serve.EXTRA)
def test_without_the_extra_it_names_it(program, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == missing else find(name))
    says = rf'serve needs {missing}, which is not installed: pip install "compsketch-milvus\[serve\]"'
    program.refused(says, "serve", database=False)
