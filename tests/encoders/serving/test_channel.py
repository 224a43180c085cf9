"""encoders/serving/channel.py: one name, several servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from encoders.serving import encoder_pb2 as pb
from encoders.serving.channel import OPTIONS
from encoders.serving.encoder_pb2_grpc import EncoderServicer, EncoderStub, add_EncoderServicer_to_server


class Named(EncoderServicer):
    """Serves a model of a name, and nothing else."""

    def __init__(self, name: str) -> None:
        self.name = name

    def GetModels(self, request: pb.GetModelsRequest, context: grpc.ServicerContext) -> pb.GetModelsResponse:
        return pb.GetModelsResponse(models=[pb.Model(name=self.name)])


@pytest.fixture
def target() -> Iterator[str]:
    """What a name that stands for two servers resolves to."""
    with ExitStack() as stack:
        ports = []
        for name in "ab":
            server = grpc.server(stack.enter_context(ThreadPoolExecutor(1)))
            add_EncoderServicer_to_server(Named(name), server)
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            server.start()
            stack.callback(lambda server=server: server.stop(None).wait())
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


def test_calls_go_to_every_server_that_a_name_stands_for(target: str) -> None:
    with grpc.insecure_channel(target, OPTIONS) as channel:
        stub = EncoderStub(channel)
        while len({stub.GetModels(pb.GetModelsRequest(), timeout=10).models[0].name for _ in range(2)}) < 2:
            pass  # until both are connected to
        answers = [stub.GetModels(pb.GetModelsRequest(), timeout=10).models[0].name for _ in range(20)]
    assert Counter(answers) == {"a": 10, "b": 10}
