"""Commands and collections with an encoder that is served elsewhere: nothing but the address is different."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme

from compsketch_milvus.cli import run
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import Encoder, connect
from compsketch_milvus.errors import IngestError, ServerError, SettingsError
from compsketch_milvus.features import FeatureStore
from compsketch_milvus.ingest import ingest
from compsketch_milvus.retry import Backoff
from encoders.serving.client import RemoteEncoder
from encoders.sketch import Sketch
from tests.compsketch_milvus.conftest import LEFT
from tests.encoders.serving.servicer import Service

AWAY = (grpc.StatusCode.UNAVAILABLE, "starting", ())
SECRET = "open-sesame"


@pytest.fixture
def remote(service) -> Iterator[RemoteEncoder]:
    with RemoteEncoder.open(service.address, timeout=0.2) as encoder:
        yield encoder


@pytest.fixture
def sketch(tmp_path) -> str:
    (tmp_path / "left.json").write_text(json.dumps(LEFT))
    return str(tmp_path / "left.json")


def found(capsys, *arguments: str) -> dict:
    """What a command prints with --json, having ended well."""
    status = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


# --- connect ---


def test_the_argument_the_environment_and_the_file(service, monkeypatch, tmp_path) -> None:
    with connect(service.address) as encoder:
        assert isinstance(encoder, Encoder)
        assert encoder.fingerprint == service.encoder.fingerprint
    service.token = SECRET
    monkeypatch.setenv("COMPSKETCH_ENCODER", service.address)
    monkeypatch.setenv("COMPSKETCH_ENCODER_TOKEN", SECRET)
    with connect() as encoder:
        assert encoder.encode_images([np.zeros((32, 32, 3), np.uint8)]).shape == (1, 16)
    monkeypatch.delenv("COMPSKETCH_ENCODER_TOKEN")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.env").write_text(f"COMPSKETCH_ENCODER_TOKEN={SECRET}\n")
    with connect() as encoder:
        assert encoder.name == "toy"


def test_certificates_of_the_environment(toy_encoder, monkeypatch, tmp_path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost")
    pair = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    service = Service(toy_encoder)
    service.start(credentials=grpc.ssl_server_credentials([pair]))
    try:
        monkeypatch.setenv("COMPSKETCH_ENCODER_CA_PEM_PATH", str(tmp_path / "ca.pem"))
        with connect(f"grpcs://localhost:{service.port}") as encoder:
            assert encoder.name == "toy"
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CA_PEM_PATH": "/nowhere.pem"}, "COMPSKETCH_ENCODER_CA_PEM_PATH: '/nowhere.pem' cannot be read"),
        ({"CLIENT_PEM_PATH": "/c"}, "set both .*_ENCODER_CLIENT_PEM_PATH and COMPSKETCH_ENCODER_CLIENT_KEY_PATH"),
        ({"TOKENS": "x"}, "COMPSKETCH_ENCODER_TOKENS in the environment .* did you mean COMPSKETCH_ENCODER_TOKEN"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(monkeypatch, variables, message) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"COMPSKETCH_ENCODER_{name}", value)
    with pytest.raises(SettingsError, match=message):
        connect("grpcs://localhost:1")


# --- commands ---


def test_ingest_search_explain_info(service, pictures, lite, sketch, capsys) -> None:
    where = ["--uri", lite, "--encoder", service.address]
    assert found(capsys, "ingest", *pictures, *where)["indexed"] == 4
    hits = found(capsys, "search", sketch, *where, "--explain")["hits"]
    assert {Path(hit["source"]).name for hit in hits[:2]} == {"0.png", "1.png"}
    assert 0 < hits[0]["confidence"] < 1
    facts = found(capsys, "info", *where)
    assert facts["count"] == 4
    assert facts["encoder"] == {"name": "toy", "fingerprint": service.encoder.fingerprint}
    assert service.calls["Explain"] == 1


def test_a_service_that_is_away_is_one_line(lite, sketch, capsys) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"grpc://127.0.0.1:{bound.getsockname()[1]}"
        assert run(["search", sketch, "--uri", lite, "--encoder", address]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: encoder service {address} cannot be reached")
    assert err.count("\n") == 1
    assert not out


def test_doctor_checks_every_server(service, toy, lite, capsys) -> None:
    other = Service(toy.JudgingEncoder())
    other.start()
    both = f"grpc://127.0.0.1:{service.port},127.0.0.1:{other.port}"
    checks = found(capsys, "doctor", "--uri", lite, "--encoder", both)["checks"]
    assert [check["message"] for check in checks if check["name"] == "service"] == [
        f"{service.address} answers", f"{other.address} answers",
    ]  # fmt: skip
    assert f"encodes on cpu at {both}" in next(check["message"] for check in checks if check["name"] == "encoder")
    other.stop()
    assert run(["doctor", "--uri", lite, "--encoder", both, "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    states = [(check["state"], check["message"]) for check in checks if check["name"] == "service"]
    assert states[0] == ("ok", f"{service.address} answers")
    assert states[1][0] == "failed"
    assert f"{other.address} cannot be reached" in states[1][1]


@pytest.mark.parametrize("command", [["info"], ["doctor"], ["doctor", "--json"]])
def test_no_command_prints_the_token(service, lite, command, monkeypatch, capsys, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    service.token = "another"
    monkeypatch.setenv("COMPSKETCH_ENCODER_TOKEN", SECRET)
    assert run([*command, "--uri", lite, "--encoder", service.address]) in (1, 2)
    out, err = capsys.readouterr()
    assert "refuses the login" in out + err
    assert SECRET not in out + err + caplog.text


# --- ingest ---


def quickly(deadline: float = 20) -> Backoff:
    return Backoff(first=0.02, ceiling=0.1, deadline=deadline)


def test_an_ingest_waits_for_a_service_that_is_away(service, remote, pictures, open_collection) -> None:
    """For longer than the client itself tries; no photo fails for it, and the progress says what is waited for."""
    said: list[str] = []
    with open_collection(encoder=remote) as photos:
        port = service.stop()
        back = threading.Timer(1.0, service.start, [port])
        back.start()
        summary = ingest(photos, pictures, backoff=quickly(), progress=lambda progress: said.append(progress.status))
        back.join()
    assert (summary.indexed, summary.failures) == (4, 0)
    assert any("trying again: encoder service" in one for one in said)


def test_a_service_that_stays_away_stops_it(service, remote, pictures, open_collection) -> None:
    with open_collection(encoder=remote) as photos:
        service.failures.extend([AWAY] * 10_000)
        with pytest.raises(IngestError, match=r"encoder service .* cannot be reached .*run the same ingest") as stopped:
            ingest(photos, pictures, backoff=quickly(deadline=0.5))
    assert isinstance(stopped.value.__cause__, ServerError)
    assert stopped.value.summary.failures == 0


def test_a_service_that_changes_its_encoder_stops_it(service, remote, pictures, open_collection) -> None:
    with open_collection(encoder=remote) as photos:
        service.encoder.fingerprint = "toy-2222222222222222"
        with pytest.raises(
            IngestError, match=r"does not serve encoder 'toy' .*with which this client began"
        ) as stopped:
            ingest(photos, pictures, backoff=quickly())
        assert stopped.value.summary.failures == 0


def test_several_batches_are_under_way(service, remote, pictures, open_collection, monkeypatch) -> None:
    """The service answers none until it has as many as the client says are worth sending."""
    together = threading.Barrier(remote.concurrency)
    embed = service.encoder.embed_images

    def meet(images, *, project=False):
        together.wait(20)
        return embed(images, project=project)

    monkeypatch.setattr(service.encoder, "embed_images", meet)
    remote._timeout = 20
    with open_collection(encoder=remote) as photos:
        assert ingest(photos, pictures, batch_size=1).indexed == 4 == remote.concurrency


def test_features_are_kept(service, remote, pictures, open_collection, tmp_path) -> None:
    with open_collection(encoder=remote) as photos:
        store = FeatureStore(tmp_path / "features", remote)
        assert ingest(photos, pictures, keep_features=store).indexed == 4
    assert service.calls["Project"] == 1


def test_a_collection_of_the_served_bundle_is_one_of_the_local_one(remote, judging_encoder, pictures, lite) -> None:
    with SketchCollection.open("photos", remote, uri=lite) as photos:
        photos.ingest(pictures)
        there = photos.search(Sketch.from_dict(LEFT))
    with SketchCollection.open("photos", judging_encoder, uri=lite) as photos:
        here = photos.search(Sketch.from_dict(LEFT))
    assert there == here
