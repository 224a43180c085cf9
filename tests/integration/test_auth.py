"""A Milvus that asks for a login, and Milvus that speak TLS: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import trustme

from compsketch_milvus import SketchCollection
from compsketch_milvus.cli import run
from compsketch_milvus.errors import CollectionError, CompsketchError, ServerError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.server import LoginError, connect_server
from tests.integration.standalone import Standalone

pytestmark = pytest.mark.xdist_group("auth")  # these servers are for these tests; one process starts them once
CA, CERTIFICATE, KEY = "MILVUS_CA_PEM_PATH", "MILVUS_CLIENT_PEM_PATH", "MILVUS_CLIENT_KEY_PATH"
PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_encoder) -> None:
    """No settings of whoever runs the tests, and the toy for an encoder."""
    monkeypatch.setattr("compsketch_milvus.settings.config_file", lambda: tmp_path / "config.env")
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda spec=None, **how: toy_encoder)


@pytest.fixture(scope="module")
def ada(auth_server: Standalone) -> str:
    """A user who may do next to nothing, and her password."""
    with closing(connect_server(auth_server.uri, token=auth_server.token)) as client:
        client.create_user("ada", PASSWORD)
    return f"ada:{PASSWORD}"


@pytest.fixture
def photos(auth_server: Standalone, toy_encoder) -> Iterator[SketchCollection]:
    """A collection of sixteen photos behind the login."""
    vectors = np.eye(toy_encoder.dim, dtype=np.float32)
    with SketchCollection.open("auth_test", toy_encoder, uri=auth_server.uri, token=auth_server.token) as collection:
        collection.upsert(PhotoVector(f"{i}", f"photo-{i}", 1, 1, vector) for i, vector in enumerate(vectors))
        yield collection
        collection.drop()


def forms(login: str) -> tuple[str, ...]:
    """A password, and as pymilvus sends it."""
    password = login.partition(":")[2]
    return password, base64.b64encode(login.encode()).decode(), base64.b64encode(password.encode()).decode()


# --- the login ---


def test_with_the_login_everything_works(photos, auth_server, monkeypatch) -> None:
    assert photos.search_vector(np.eye(16, dtype=np.float32)[3], limit=1)[0].id == "3"
    user, _, password = auth_server.token.partition(":")
    monkeypatch.setenv("MILVUS_USER", user)
    monkeypatch.setenv("MILVUS_PASSWORD", password)
    with SketchCollection.open("auth_test", None, uri=auth_server.uri, create=False) as again:
        assert again.count() == 16


@pytest.mark.parametrize("token", [None, "root:wrong-password", "nobody:wrong-password", "wrong-key"])
def test_without_it_that_is_said_and_not_that_nobody_answers(auth_server, token) -> None:
    with pytest.raises(LoginError, match="Milvus does not accept the login") as refused:
        SketchCollection.open("auth_test", None, uri=auth_server.uri, token=token)
    assert not refused.value.transient
    assert "is it running" not in str(refused.value)


def test_a_user_without_the_right_is_told_what_for(auth_server, ada, toy_encoder) -> None:
    with pytest.raises(LoginError, match="has no right to create the collection"):
        SketchCollection.open("auth_of_ada", toy_encoder, uri=auth_server.uri, token=ada)


def test_no_failing_call_says_the_password(photos, auth_server, ada, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    root = auth_server.token
    calls: list[tuple[str, Callable[[], object], type[CompsketchError]]] = [
        (root, lambda: photos.count("no such (filter"), CollectionError),
        (root, lambda: photos.call("do", "drop_index", index_name="vector"), ServerError),  # it is loaded
        (ada, lambda: SketchCollection.open("auth_of_ada", None, uri=auth_server.uri, token=ada), CompsketchError),
        ("ada:" + 2 * PASSWORD, lambda: connect_server(auth_server.uri, token="ada:" + 2 * PASSWORD), LoginError),
    ]
    for login, call, kind in calls:
        with pytest.raises(kind) as refused:
            call()
        said = [*traceback.format_exception(refused.value), repr(refused.value), caplog.text]
        assert not [form for form in forms(login)[:2] if any(form in text for text in said) and form != "Milvus"]


@pytest.mark.parametrize("command", ["info", "doctor"])
def test_commands_work_behind_the_login_and_never_print_it(photos, auth_server, ada, command, capsys, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    flags = ["--uri", auth_server.uri, "--collection", "auth_test", "--json", "--token"]
    assert run([command, *flags, auth_server.token]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert auth_server.token not in str(answer)
    assert run([command, *flags, f"ada:not-{PASSWORD}"]) != 0
    out, err = capsys.readouterr()
    assert "does not accept the login" in out
    assert not [form for form in forms(f"ada:not-{PASSWORD}") if form in out + err + caplog.text]


def test_the_doctor_sees_the_login_the_version_the_clock_and_the_index(photos, auth_server, capsys) -> None:
    flags = ["--uri", auth_server.uri, "--collection", "auth_test", "--token", auth_server.token]
    assert run(["doctor", *flags, "--json"]) == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    for name in ("address", "tls", "login", "version", "database", "clock", "collection", "fingerprint", "loaded"):
        assert found[name]["state"] == "ok", found[name]
    assert found["version"]["message"].startswith("Milvus v2.")
    assert found["clock"]["message"].startswith("the server's clock is 0.")


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, another authority's other.pem, and certificates and keys of a server and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name, certificate in {
        "server": authority.issue_cert("127.0.0.1", "milvus.example"),
        "client": authority.issue_cert("client@example.org"),
    }.items():
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


@pytest.fixture(scope="module")
def tls_server(milvus_program, files, tmp_path_factory) -> Iterator[Callable[[int], Standalone]]:
    """Starts a server of a TLS mode: 1, or 2 that asks its clients for a certificate."""
    with ExitStack() as stack:
        servers: dict[int, Standalone] = {}

        def of_mode(mode: int) -> Standalone:
            if mode not in servers:
                folder = tmp_path_factory.mktemp("tls") / "milvus"
                servers[mode] = Standalone(milvus_program, folder, tls=files, tls_mode=mode)
                stack.callback(servers[mode].kill)
                servers[mode].start()
            return servers[mode]

        yield of_mode


@pytest.fixture
def named(files, monkeypatch) -> Callable[..., None]:
    """Names files of the folder in the environment."""

    def name(**variables: str) -> None:
        for variable, file in variables.items():
            monkeypatch.setenv(variable, str(files / file))

    return name


def test_a_collection_over_tls(tls_server, named, toy_encoder) -> None:
    named(**{CA: "ca.pem"})
    with SketchCollection.open("tls_test", toy_encoder, uri=tls_server(1).uri) as photos:
        photos.upsert([PhotoVector("1", "photo", 1, 1, np.eye(16, dtype=np.float32)[0])])
        assert photos.count() == 1
        photos.drop()


def test_a_client_that_shows_a_certificate(tls_server, named) -> None:
    named(**{CA: "ca.pem", CERTIFICATE: "client.pem", KEY: "client.key"})
    with closing(connect_server(tls_server(2).uri)) as client:
        assert client.list_collections() == []


def test_a_client_that_shows_none_where_one_is_asked_for(tls_server, named) -> None:
    named(**{CA: "ca.pem"})
    with pytest.raises(ServerError, match="the server wants a certificate of its clients; set MILVUS_CLIENT_PEM_PATH"):
        connect_server(tls_server(2).uri)


def test_a_server_that_nobody_vouches_for(tls_server, named) -> None:
    with pytest.raises(ServerError, match="no public authority vouches for the server's certificate"):
        connect_server(tls_server(1).uri, token="root:secret")
    named(**{CA: "other.pem"})
    with pytest.raises(ServerError, match=r"other\.pem' does not vouch for the server's certificate"):
        connect_server(tls_server(1).uri, token="root:secret")


def test_a_server_of_another_name(tls_server, named, monkeypatch) -> None:
    named(**{CA: "ca.pem"})
    monkeypatch.setenv("MILVUS_SERVER_NAME", "elsewhere.example")
    with pytest.raises(ServerError, match=r"is not for 'elsewhere\.example'; set MILVUS_SERVER_NAME"):
        connect_server(tls_server(1).uri)
    monkeypatch.setenv("MILVUS_SERVER_NAME", "milvus.example")
    connect_server(tls_server(1).uri).close()


def test_http_where_the_server_speaks_tls_and_the_other_way_round(tls_server, auth_server, named) -> None:
    with pytest.raises(ServerError, match="this server speaks TLS; write https://"):
        connect_server(tls_server(1).uri.replace("https", "http"))
    with pytest.raises(ServerError, match="this server does not speak TLS; write http://"):
        connect_server(auth_server.uri.replace("http", "https"))


def test_the_doctor_reads_the_certificate(tls_server, named, capsys) -> None:
    named(**{CA: "ca.pem"})
    assert run(["doctor", "--uri", tls_server(1).uri, "--json"]) == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["tls"]["state"] == "ok"
    assert found["tls"]["message"].startswith("the server's certificate is valid until")
