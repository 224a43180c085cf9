"""`compsketch web`: where it listens, what it refuses, how it ends."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from compsketch_milvus.web.listening import listen
from tests.web.serving import drawing, fill, judging_encoder

SECRET = "a secret that is long enough"
PROGRAM = """
import sys
from compsketch_milvus import encoder
from compsketch_milvus.cli import main
from tests.web.serving import judging_encoder
encoder.connect = lambda spec=None, **_: judging_encoder()
main()
"""


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """A Milvus Lite file with three photos, which no process has open."""
    from milvus_lite.server_manager import server_manager_instance

    uri = fill(tmp_path, judging_encoder(), count=3)
    server_manager_instance.release_server(uri)
    return uri


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """A certificate for localhost and its key, and what trusts it."""
    authority = trustme.CA()
    own, trusting = authority.issue_cert("localhost", "127.0.0.1"), ssl.create_default_context()
    authority.configure_trust(trusting)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(cert)
    own.private_key_pem.write_to_path(key)
    return cert, key, trusting


@pytest.fixture
def serve(tmp_path: Path):
    """Start the program with arguments; gives the process, and what it printed once it listened."""
    started = []

    def start(*arguments: object) -> tuple[subprocess.Popen, dict]:
        command = [sys.executable, "-c", PROGRAM, "web", "--port", "0", "--json", "--cache", tmp_path / "cache"]
        process = subprocess.Popen(
            [*map(str, command), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        started.append(process)
        return process, json.loads(process.stdout.readline() or json.dumps({"error": process.stderr.read()}))

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_serves_the_page_until_it_is_told_to_end(serve, photos, end, status) -> None:
    process, told = serve("--uri", photos)
    assert (told["collection"], told["login"]) == ("photos", False)
    assert told["url"].startswith("http://127.0.0.1:")
    with httpx.Client(base_url=told["url"], headers={"X-Compsketch": "1"}) as browser:
        assert browser.get("/healthz").json() == {"status": "ok"}
        hits = browser.post("/api/search", json={"sketch": drawing([0.1, 0.1, 0.4, 0.4])}).json()["hits"]
        assert len(hits) == 3
        assert "server" not in browser.get("/").headers
    process.send_signal(end)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert "Traceback" not in err


def test_with_a_secret_and_tls_others_may_reach_it(serve, photos, secret, pair) -> None:
    cert, key, trusting = pair
    more = ["--host", "0.0.0.0", "--token-file", secret, "--tls-cert", cert, "--tls-key", key]
    _, told = serve("--uri", photos, *more)
    assert told["login"] is True
    address = f"https://localhost:{httpx.URL(told['url']).port}"
    with httpx.Client(base_url=address, headers={"X-Compsketch": "1"}, verify=trusting) as browser:
        assert browser.get("/api/words").status_code == 401
        entered = browser.post("/api/login", json={"token": SECRET})
        assert entered.headers["set-cookie"].startswith("__Host-compsketch=")
        assert browser.get("/api/words").status_code == 200


def test_a_milvus_that_is_away_is_waited_for(serve) -> None:
    _, told = serve("--uri", "http://127.0.0.1:1")
    with httpx.Client(base_url=told["url"]) as browser:
        assert browser.get("/").status_code == 200
        assert browser.get("/healthz", timeout=30).status_code == 503


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("other machines could search without a login; give --token-file", ["--host", "0.0.0.0"]),
        ("other machines could search without a login", ["--host", "::"]),
        ("--tls-cert and --tls-key go together", ["--tls-cert", "cert.pem"]),
        ("no certificate with its key", ["--tls-cert", "cert.pem", "--tls-key", "key.pem"]),
        ("cannot be read as the secret .* openssl rand", ["--token-file", "missing"]),
        ("there is no such Milvus Lite file", []),
    ],
)
def test_what_it_refuses(program, words, arguments) -> None:
    program.refused(words, "web", *arguments)


def test_a_secret_that_could_be_guessed_or_overheard_is_refused(program, tmp_path, secret) -> None:
    short = tmp_path / "short"
    short.write_text("hunter2")
    program.refused("a secret of 7 letters could be guessed", "web", "--token-file", short)
    program.refused("sent in the clear; give --tls-cert", "web", "--host", "0.0.0.0", "--token-file", secret)


def test_a_port_that_is_taken_is_named(program) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        program.refused(f"127.0.0.1:{port}: cannot listen there .* give another --port", "web", "--port", port)
