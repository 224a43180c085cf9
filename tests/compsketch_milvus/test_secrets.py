"""A token or a password is in no output, no error and no log, and soon not in the list of processes either."""

from __future__ import annotations

import base64
import logging
import os
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from compsketch_milvus.cli import run
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.commands.token import blank_out
from compsketch_milvus.errors import ServerError
from compsketch_milvus.server import connect_server, public_uri
from compsketch_milvus.settings import load_settings

SECRET = "correct-horse-battery"
LOGIN = f"ada:{SECRET}"
# In the clear, and as pymilvus sends it.
FORMS = (SECRET, base64.b64encode(LOGIN.encode()).decode(), base64.b64encode(SECRET.encode()).decode())


def secrets_in(*texts: object) -> list[str]:
    return [form for form in FORMS if any(form in str(text) for text in texts)]


@pytest.fixture
def silent():
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


def test_settings_show_none(monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_USER", "ada")
    monkeypatch.setenv("MILVUS_PASSWORD", SECRET)
    settings = load_settings()
    assert settings.token.get_secret_value() == LOGIN
    assert not secrets_in(repr(settings), str(settings), settings.model_dump(), settings.model_dump_json())
    assert not secrets_in(repr(load_settings(uri=f"http://{LOGIN}@milvus.example")))


@pytest.mark.parametrize("address", ["http://{}", f"http://{LOGIN}@{{}}"])
def test_an_error_of_connecting_holds_none_down_to_its_first_cause(nobody, address, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ServerError) as refused:
        connect_server(address.format(nobody), token=LOGIN)
    assert not secrets_in(*traceback.format_exception(refused.value), repr(refused.value), caplog.text)


def test_an_address_is_shown_without_its_login() -> None:
    assert public_uri(f"https://{LOGIN}@milvus.example:19530/db?token={SECRET}") == "https://milvus.example:19530/db"


@pytest.mark.parametrize("command", [["info"], ["doctor"], ["delete", "x"], ["info", "--json"], ["doctor", "--json"]])
@pytest.mark.parametrize("given", ["flag", "environment", "address", "file"])
def test_no_command_prints_one(command, given, nobody, monkeypatch, tmp_path, capsys, caplog, toy_encoder) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda spec=None, **how: toy_encoder)
    uri = f"http://{LOGIN}@{nobody}" if given == "address" else f"http://{nobody}"
    if given == "environment":
        monkeypatch.setenv("MILVUS_TOKEN", LOGIN)
    if given == "file":
        file = tmp_path / "config.env"
        file.write_text(f"MILVUS_USER=ada\nMILVUS_PASSWORD={SECRET}\n")
        for module in ("settings", "doctor.machine"):
            monkeypatch.setattr(f"compsketch_milvus.{module}.config_file", lambda: file)
    flags = ["--token", LOGIN] if given == "flag" else []
    assert run([*command, "--uri", uri, *flags]) in (1, 2)
    out, err = capsys.readouterr()
    assert "nothing listens at this port" in out + err
    assert not secrets_in(out, err, caplog.text)


def test_info_of_an_open_collection_shows_none(lite, toy_encoder, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with SketchCollection.open("photos", toy_encoder, uri=lite, token=LOGIN) as photos:
        assert not secrets_in(photos.info(), vars(photos), caplog.text)


def test_a_misused_flag_is_refused_without_its_value(capsys, nobody) -> None:
    assert run(["info", "--uri", f"http://{LOGIN}@{nobody}:x", "--token", LOGIN]) == 2
    assert not secrets_in(*capsys.readouterr())


def test_a_token_is_read_from_standard_input(monkeypatch, capsys) -> None:
    given = {}
    monkeypatch.setattr("compsketch_milvus.doctor.diagnose", lambda **flags: given.update(flags) or iter(()))
    monkeypatch.setattr("sys.stdin", _Lines(f"{LOGIN}\n"))
    assert run(["doctor", "--token", "-"]) == 0
    assert given["token"] == LOGIN


class _Lines:
    def __init__(self, text: str) -> None:
        self.readline = lambda: text


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux tells where the arguments are")
@pytest.mark.parametrize(
    "flag",
    [
        ("--token", LOGIN),
        (f"--token={LOGIN}",),
        ("--uri", f"http://{LOGIN}@{{}}"),
        ("--uri", f"http://{SECRET}@{{}}"),  # a token
    ],
)
def test_a_flag_is_soon_gone_from_the_list_of_processes(flag, silent, tmp_path) -> None:
    arguments = [part.format(silent) for part in flag]
    uri = [] if "--uri" in flag else ["--uri", f"http://{silent}"]
    program = [sys.executable, "-c", "from compsketch_milvus.cli import main; main()", "info", *uri, *arguments]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        shown, deadline = _command_line(running.pid), time.monotonic() + 60
        while (secrets_in(shown) or "info" not in shown) and time.monotonic() < deadline:
            time.sleep(0.05)
            shown = _command_line(running.pid)
        alive = running.poll() is None
        running.kill()
        out, err = running.communicate()
    assert alive, err
    assert "*" * len(SECRET) in shown
    assert not secrets_in(shown, out, err)


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux tells where the arguments are")
def test_the_address_of_an_index_is_soon_gone_from_it_too(nobody) -> None:
    code = """
from pathlib import Path
from compsketch_milvus.cli import run
run(["evaluate", "nothing", "--index-uri", __import__("sys").argv[1]])
print(Path("/proc/self/cmdline").read_text())
"""
    program = [sys.executable, "-c", code, f"http://{LOGIN}@{nobody}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
    assert "*" * len(LOGIN) in done.stdout
    assert not secrets_in(done.stdout, done.stderr)


def test_what_is_not_among_the_arguments_is_left_alone() -> None:
    before = Path("/proc/self/cmdline").read_bytes() if Path("/proc/self/cmdline").exists() else b""
    blank_out("no argument of this process")
    after = Path("/proc/self/cmdline").read_bytes() if Path("/proc/self/cmdline").exists() else b""
    assert before == after
