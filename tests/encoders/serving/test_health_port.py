"""Health on a port of its own: a probe that speaks no TLS and has no certificate hears of one that asks for both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import trustme

from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2 as pb
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.probe import status
from encoders.serving.tls import Tls
from tests.encoders.serving.serving import refused, served


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """A server's certificate, and an authority that clients have to come from."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return Tls(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")


def test_a_probe_hears_of_a_server_that_asks_clients_for_certificates(toy_encoder, tls: Tls) -> None:
    async def ask() -> tuple[str, str]:
        async with served(toy_encoder, tls=tls, health_port=0) as server:
            return await asyncio.to_thread(status, server.health_port), await asyncio.to_thread(status, server.port)

    with_its_port, without = asyncio.run(ask())
    assert with_its_port == "SERVING"
    assert without.startswith("UNAVAILABLE")


def test_health_is_all_that_is_told_there(toy_encoder) -> None:
    async def ask() -> grpc.StatusCode:
        async with (
            served(toy_encoder, health_port=0) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel,
        ):
            return (await refused(EncoderStub(channel).GetModels(pb.GetModelsRequest()))).code()

    assert asyncio.run(ask()) is grpc.StatusCode.UNIMPLEMENTED


def test_a_port_that_is_taken_is_named_with_its_flag(toy_encoder) -> None:
    async def ask() -> None:
        async with served(toy_encoder) as one, served(toy_encoder, health_port=one.port):
            raise AssertionError("two servers at one port")

    with pytest.raises(CompsketchError, match="choose another --health-port"):
        asyncio.run(ask())
