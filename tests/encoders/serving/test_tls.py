"""TLS of a real server: who is let in, certificates renewed under way, files that are not what they have to be."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import grpc
import pytest
import trustme

from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2 as pb
from encoders.serving import files
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.tls import Tls
from tests.encoders.serving.serving import images, photo, refused, served
from tests.encoders.serving.stage import on_a_loop


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def pem(tmp_path, authority):
    """Paths of the server's certificate and key."""
    return write(authority.issue_cert("localhost"), tmp_path)


def write(issued: trustme.LeafCert, folder, name: str = "server"):
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    key.write_bytes(issued.private_key_pem.bytes())
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return cert, key


@asynccontextmanager
async def secured(server, authority, client=None):
    """A stub of a connection of its own, which trusts an authority and shows a client's certificate."""
    shown = {}
    if client is not None:
        chain = b"".join(blob.bytes() for blob in client.cert_chain_pems)
        shown = {"private_key": client.private_key_pem.bytes(), "certificate_chain": chain}
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), **shown)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials, options=options) as opened:
        yield EncoderStub(opened)


@on_a_loop
async def test_a_client_that_trusts_the_authority_is_let_in_and_others_are_not(toy_encoder, authority, pem):
    async with served(toy_encoder, tls=Tls(*pem)) as server:
        async with secured(server, authority) as stub:
            assert len((await stub.EncodeImages(images(photo(0)))).vectors) == 1
        async with secured(server, trustme.CA()) as stub:
            assert (await refused(stub.GetModels(pb.GetModelsRequest()))).code() == grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(f"localhost:{server.port}") as opened:
            error = await refused(EncoderStub(opened).GetModels(pb.GetModelsRequest()))
            assert error.code() == grpc.StatusCode.UNAVAILABLE


@on_a_loop
async def test_mutual_tls_lets_in_whom_the_authority_knows_by_name(toy_encoder, authority, pem, tmp_path, caplog):
    clients = trustme.CA()
    (tmp_path / "clients.crt").write_bytes(clients.cert_pem.bytes())
    tls = Tls(*pem, tmp_path / "clients.crt")
    with caplog.at_level(logging.INFO, logger="encoders"):
        async with served(toy_encoder, tls=tls) as server:
            async with secured(server, authority, clients.issue_cert("ingest.example", common_name="ingest")) as stub:
                await stub.GetModels(pb.GetModelsRequest())
            async with secured(server, authority, clients.issue_cert("search.example")) as stub:
                await stub.GetModels(pb.GetModelsRequest())
            for stranger in (None, trustme.CA().issue_cert("stranger.example")):
                async with secured(server, authority, stranger) as stub:
                    error = await refused(stub.GetModels(pb.GetModelsRequest()))
                    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert [record.fields["client"] for record in caplog.records if record.message == "call"] == [
        "ingest",
        "search.example",
    ]


@on_a_loop
async def test_a_renewed_certificate_is_shown_to_the_next_connection(
    toy_encoder, authority, pem, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "EVERY", 0.0)
    async with served(toy_encoder, tls=Tls(*pem)) as server:
        async with secured(server, authority) as stub:
            await stub.GetModels(pb.GetModelsRequest())
        renewed = trustme.CA()
        issued = renewed.issue_cert("localhost")
        pem[1].write_bytes(issued.private_key_pem.bytes())  # the key alone does not fit: the old pair stays
        async with secured(server, authority) as stub:
            await stub.GetModels(pb.GetModelsRequest())
        write(issued, tmp_path)
        async with secured(server, renewed) as stub:
            await stub.GetModels(pb.GetModelsRequest())
        async with secured(server, authority) as stub:
            await refused(stub.GetModels(pb.GetModelsRequest()))


def test_wrong_files_are_named_before_anything_is_served(authority, pem, tmp_path):
    cert, key = pem
    other = write(authority.issue_cert("localhost"), tmp_path, "other")
    damaged = tmp_path / "damaged.crt"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    for tls, says in (
        (Tls(tmp_path / "none", key), "--tls-cert: .*none' cannot be read .No such file"),
        (Tls(key, cert), "--tls-cert: .*server.key' is no PEM file with a certificate in it"),
        (Tls(cert, cert), "--tls-key: .*server.crt' is no PEM file with a private key in it"),
        (Tls(cert, other[1]), "--tls-key: .*other.key' is not the key of the certificate"),
        (Tls(damaged, key), "or one of the two is damaged"),
        (Tls(cert, key, damaged), "--tls-client-ca: .*damaged.crt' holds a damaged certificate"),
        (Tls(cert, key, tmp_path), "--tls-client-ca: .* cannot be read .Is a directory"),
    ):
        with pytest.raises(CompsketchError, match=says):
            tls.credentials()
