"""encoders/serving/probe.py: a container's health check."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from encoders.serving.probe import main, status


@pytest.fixture
def served() -> Iterator[tuple[health.HealthServicer, int]]:
    """A server's health and its port."""
    servicer = health.HealthServicer()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, port
        server.stop(None).wait()


def test_a_server_that_serves_is_healthy(served: tuple[health.HealthServicer, int], capsys) -> None:
    servicer, port = served
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert status(port) == "SERVING"
    assert main([str(port)]) == 0
    assert capsys.readouterr().err == ""


def test_one_that_does_not_is_not_and_says_so(served: tuple[health.HealthServicer, int], capsys) -> None:
    servicer, port = served
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert main([str(port)]) == 1
    assert capsys.readouterr().err == "NOT_SERVING\n"


def test_nor_is_one_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert status(port).startswith("UNAVAILABLE")
