"""Certificates are checked before they are used, and a connection that fails says which side does not like what."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from compsketch_milvus.errors import ServerError, SettingsError
from compsketch_milvus.reach import Place, fault, knock, shake_hands
from compsketch_milvus.server import client_arguments, connect_server
from compsketch_milvus.settings import load_settings
from compsketch_milvus.tls import Tls

CA, CERTIFICATE, KEY = "MILVUS_CA_PEM_PATH", "MILVUS_CLIENT_PEM_PATH", "MILVUS_CLIENT_KEY_PATH"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, another authority's other.pem, and a client's client.pem and client.key."""
    folder = tmp_path_factory.mktemp("certificates")
    client = authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    client.private_key_pem.write_to_path(str(folder / "client.key"))
    return folder


@pytest.fixture
def listen() -> Iterator[Callable[..., Place]]:
    """Starts a server that answers each connection with a few bytes, and tells where it is."""
    with ExitStack() as stack:
        yield lambda context=None: stack.enter_context(_listener(context))


@contextmanager
def _listener(context: ssl.SSLContext | None) -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.settimeout(5)
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                with connection:
                    try:
                        connection.recv(1 << 16)
                        connection.sendall(b"x" * 16)
                    except OSError:
                        time.sleep(0.2)  # closed at once, the connection would be gone before why has arrived

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Place("127.0.0.1", server.getsockname()[1], context is not None)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def serving(certificate: trustme.LeafCert, asks: trustme.CA | None = None) -> ssl.SSLContext:
    """A server's side of TLS; one that ``asks`` wants a certificate of that authority from its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if asks is not None:
        asks.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# --- what the settings name ---


def test_pymilvus_is_given_the_files_by_the_names_it_knows(files, monkeypatch) -> None:
    assert "secure" not in client_arguments("http://somewhere:19530")
    assert client_arguments("https://somewhere:19530", token="t", db_name="d") == {
        "uri": "https://somewhere:19530",
        "token": "t",
        "db_name": "d",
        "timeout": 10,
        "secure": True,
        "dedicated": True,
    }
    monkeypatch.setenv(CA, str(files / "ca.pem"))
    monkeypatch.setenv("MILVUS_SERVER_NAME", "milvus.example")
    given = client_arguments("https://somewhere:19530")
    assert (given["server_pem_path"], given["server_name"]) == (str(files / "ca.pem"), "milvus.example")
    monkeypatch.setenv(CERTIFICATE, str(files / "client.pem"))
    monkeypatch.setenv(KEY, str(files / "client.key"))
    given = client_arguments("https://somewhere:19530")
    assert "server_pem_path" not in given  # pymilvus would leave the client's certificate out
    assert (given["ca_pem_path"], given["client_pem_path"], given["client_key_path"]) == (
        str(files / "ca.pem"),
        str(files / "client.pem"),
        str(files / "client.key"),
    )


def test_pymilvus_logs_addresses_and_so_gets_none_with_a_login() -> None:
    given = client_arguments("http://ada:hunter2@somewhere:19530/db")
    assert (given["uri"], given["token"]) == ("http://somewhere:19530/db", "ada:hunter2")
    assert client_arguments("http://ada:hunter2@somewhere:19530", token="better")["token"] == "better"


def test_certificates_for_a_connection_without_tls_are_warned_about(files, monkeypatch, caplog) -> None:
    monkeypatch.setenv(CA, str(files / "ca.pem"))
    assert "server_pem_path" not in client_arguments("http://root:hunter2@somewhere:19530")
    assert "http://somewhere:19530 is not encrypted" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({CA: "missing.pem"}, r"^MILVUS_CA_PEM_PATH: '.*missing\.pem' cannot be read \(No such file or directory\)$"),
        ({CA: "client.key"}, r"client\.key' is no PEM file with a certificate in it$"),
        ({CA: "damaged.pem"}, r"^MILVUS_CA_PEM_PATH: '.*damaged\.pem' holds a damaged certificate$"),
        ({CERTIFICATE: "client.pem"}, "go together: set both MILVUS_CLIENT_PEM_PATH and MILVUS_CLIENT_KEY_PATH"),
        ({CERTIFICATE: "client.pem", KEY: "client.key"}, "needs MILVUS_CA_PEM_PATH as well"),
        ({CA: "ca.pem", CERTIFICATE: "client.pem", KEY: "ca.pem"}, "is no PEM file with a private key in it$"),
        ({CA: "ca.pem", CERTIFICATE: "ca.pem", KEY: "client.key"}, "client.key' is not the key of the certificate"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_variable(files, monkeypatch, variables, complaint) -> None:
    (files / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for name, file in variables.items():
        monkeypatch.setenv(name, str(files / file))
    with pytest.raises(SettingsError, match=complaint):
        Tls.named(load_settings())


# --- what a socket finds ---


def test_a_handshake_tells_until_when_the_certificate_is_valid(authority, files, listen) -> None:
    until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=9)
    place = listen(serving(authority.issue_cert("127.0.0.1", not_after=until)))
    assert shake_hands(place, Tls(ca=str(files / "ca.pem"))) == until
    assert fault(place, Tls(ca=str(files / "ca.pem"))) is None


def test_a_client_shows_its_certificate(authority, files, listen) -> None:
    place = listen(serving(authority.issue_cert("127.0.0.1"), asks=authority))
    ca = str(files / "ca.pem")
    assert fault(place, Tls(ca, str(files / "client.pem"), str(files / "client.key"))) is None
    assert "the server wants a certificate of its clients; set MILVUS_CLIENT_PEM_PATH" in str(fault(place, Tls(ca)))


def test_a_client_whose_certificate_the_server_does_not_know(authority, files, listen) -> None:
    place = listen(serving(authority.issue_cert("127.0.0.1"), asks=trustme.CA()))
    tls = Tls(str(files / "ca.pem"), str(files / "client.pem"), str(files / "client.key"))
    assert "the server does not accept the certificate" in str(fault(place, tls))


def test_a_certificate_of_another_name(authority, files, listen) -> None:
    place, ca = listen(serving(authority.issue_cert("milvus.example"))), str(files / "ca.pem")
    assert str(fault(place, Tls(ca))) == (
        f"{place}: the server's certificate is not for '127.0.0.1'; set MILVUS_SERVER_NAME to the name in it"
    )
    assert fault(place, Tls(ca, name="milvus.example")) is None
    assert "is not for 'elsewhere'" in str(fault(place, Tls(ca, name="elsewhere")))


def test_a_certificate_that_nobody_vouches_for(authority, files, listen) -> None:
    place = listen(serving(authority.issue_cert("127.0.0.1")))
    assert "no public authority vouches for the server's certificate" in str(fault(place, Tls()))
    assert "other.pem' does not vouch for the server's certificate" in str(fault(place, Tls(str(files / "other.pem"))))


def test_a_certificate_that_has_expired(authority, files, listen) -> None:
    past = datetime.now(timezone.utc) - timedelta(days=1)
    place = listen(serving(authority.issue_cert("127.0.0.1", not_after=past, not_before=past - timedelta(days=1))))
    assert "the server's certificate has expired" in str(fault(place, Tls(str(files / "ca.pem"))))


def test_the_wrong_of_http_and_https(authority, listen) -> None:
    plain, secure = listen(), listen(serving(authority.issue_cert("127.0.0.1")))
    mistaken = Place(plain.host, plain.port, secure=True)
    assert (
        str(fault(mistaken, Tls())) == f"{mistaken}: this server does not speak TLS; write http:// in place of https://"
    )
    mistaken = Place(secure.host, secure.port, secure=False)
    assert str(fault(mistaken, Tls())) == f"{mistaken}: this server speaks TLS; write https:// in place of http://"
    assert fault(plain, Tls()) is None


def test_nobody_is_there(listen) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        place = Place("127.0.0.1", bound.getsockname()[1], secure=False)
        with pytest.raises(ServerError, match="no Milvus answers, nothing listens at this port") as away:
            knock(place)
    assert away.value.transient  # it may be starting
    with pytest.raises(ServerError, match=r"there is no host called 'no-such-host\.invalid'"):
        knock(Place("no-such-host.invalid", 19530, secure=False))


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("http://somewhere", Place("somewhere", 19530, False)),
        ("https://root:hunter2@somewhere/db", Place("somewhere", 443, True)),
        ("tcp://[::1]:7", Place("::1", 7, False)),
        ("unix:/run/milvus.sock", None),
    ],
)
def test_the_place_of_an_address(uri, place) -> None:
    assert Place.of(uri) == place


def test_what_the_socket_found_is_what_connecting_says(authority, listen) -> None:
    place = listen(serving(authority.issue_cert("127.0.0.1")))
    with pytest.raises(ServerError, match="no public authority vouches for the server's certificate"):
        connect_server(str(place), token="root:hunter2")
