"""Each thing that can be wrong is found by name, with a way out, and does not hide what else is wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from pymilvus import MilvusException

from compsketch_milvus.cli import run
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.doctor import State, diagnose, machine
from compsketch_milvus.doctor import milvus as of_milvus


@pytest.fixture(autouse=True)
def toy(monkeypatch, toy_encoder):
    """The encoder that everybody gets who asks for one by name."""
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda spec=None, **how: toy_encoder)
    return toy_encoder


def found(**flags) -> dict[str, tuple[str, str]]:
    """State, and all the words, of each check."""
    return {check.name: (check.state.value, f"{check.message} | {check.remedy}") for check in diagnose(**flags)}


def test_all_is_well_with_a_collection_in_a_file(collection, photo_vectors, lite, toy_encoder) -> None:
    collection.upsert(photo_vectors)
    collection.flush()
    checks = {check.name: check for check in diagnose(uri=lite)}
    assert set(checks) == {
        *("settings", "extras", "bundle", "encoder", "disk", "version"),
        *("collection", "fingerprint", "index", "loaded"),
    }
    assert {check.state for check in checks.values()} == {State.OK}
    assert checks["bundle"].message == f"toy, 16-D, fingerprint {toy_encoder.fingerprint}"
    assert checks["fingerprint"].message == f"the collection's is the encoder's, {toy_encoder.fingerprint}"
    assert "'photos', some 60 photos, made by encoder 'toy'" in checks["collection"].message
    assert checks["index"].message.startswith("FLAT, Finished")


def test_nothing_is_made_where_nothing_is(tmp_path) -> None:
    path = tmp_path / "folder" / "photos.db"
    checks = found(uri=str(path))
    assert checks["milvus"] == ("ok", f"Milvus Lite; there is no file {path} yet, the first ingest makes it | ")
    assert checks["collection"][0] == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_a_collection_that_is_not_there_yet(collection, lite) -> None:
    state, words = found(uri=lite, collection="others")["collection"]
    assert state == "warning"
    assert "has no collection 'others' yet | make it: compsketch ingest" in words


def test_a_collection_of_another_encoder(collection, lite, toy_encoder) -> None:
    toy_encoder.fingerprint = "toy-1111111111111111"
    checks = found(uri=lite)
    assert checks["fingerprint"][0] == "failed"
    assert "toy-0000000000000000" in checks["fingerprint"][1]
    assert checks["index"][0] == "ok"  # and the others are checked all the same


def test_a_collection_that_is_not_ours(collection, lite) -> None:
    collection.client.create_collection("theirs", dimension=4)
    state, words = found(uri=lite, collection="theirs")["collection"]
    assert state == "failed"
    assert "'theirs' was not made by compsketch" in words


def test_a_file_that_another_program_has_open(tmp_path) -> None:
    path = tmp_path / "photos.db"
    code = f"from pymilvus import MilvusClient; c = MilvusClient({str(path)!r}); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        other.stdout.readline()
        state, words = found(uri=str(path))["milvus"]
        other.communicate(b"\n")
    assert state == "failed"
    assert "another process has this Milvus Lite file open" in words


@pytest.mark.parametrize("line", ["MILVUS_TOKEN=hunter2", "export MILVUS_SOURCE_TOKEN = hunter2"])
def test_a_settings_file_with_a_secret_that_others_can_read(line, monkeypatch, tmp_path) -> None:
    file = tmp_path / "config.env"
    file.write_text(f"{line}\n")
    file.chmod(0o644)
    monkeypatch.setattr(machine, "config_file", lambda: file)
    checks = found(uri=str(tmp_path / "photos.db"))
    assert checks["settings file"] == (
        "warning",
        f"{file} holds a secret, and others can read it | chmod 600 {file}",
    )
    file.chmod(0o600)
    assert "settings file" not in found(uri=str(tmp_path / "photos.db"))


def test_settings_that_are_no_good_leave_out_what_needs_them(monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_DEVISE", "cpu")
    checks = found()
    assert checks["settings"][0] == "failed"
    assert "did you mean COMPSKETCH_DEVICE?" in checks["settings"][1]
    assert [checks[name][0] for name in ("encoder", "milvus", "collection")] == ["skipped"] * 3
    assert checks["extras"][0] == "ok"


def test_a_variable_of_milvus_that_is_nearly_one(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MILVUS_PASSWRD", "hunter2")
    monkeypatch.setenv("MILVUS_HOME", "/opt/milvus")  # of some other program
    near = [check for check in diagnose(uri=str(tmp_path / "photos.db")) if check.state is State.WARNING]
    assert [(check.message, check.remedy) for check in near] == [
        ("MILVUS_PASSWRD is set and nobody reads it", "did you mean MILVUS_PASSWORD?")
    ]


def test_an_encoder_that_gives_no_numbers(monkeypatch, toy_encoder, tmp_path) -> None:
    monkeypatch.setattr(toy_encoder, "encode_images", lambda images: np.full((1, 16), np.nan, np.float32))
    state, words = found(uri=str(tmp_path / "photos.db"))["encoder"]
    assert state == "failed"
    assert "is the bundle damaged?" in words


def test_no_bundle_of_that_name(monkeypatch, tmp_path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("compsketch_milvus.settings.config_file", lambda: tmp_path / "config.env")
    checks = found(uri=str(tmp_path / "photos.db"), encoder="no-such-bundle")
    assert checks["encoder"][0] == "failed"
    assert "no-such-bundle" in checks["encoder"][1]
    assert checks["disk"][0] == "ok"


@pytest.mark.parametrize(("free", "state"), [(3 << 30, "ok"), (1 << 30, "warning"), (1 << 20, "failed")])
def test_room_on_the_disk(monkeypatch, tmp_path, free, state) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert found(uri=str(tmp_path / "photos.db"))["disk"][0] == state


def test_extras_that_are_missing_are_named_with_what_they_are_for(monkeypatch, tmp_path) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise machine.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(machine.metadata, "version", version)
    state, words = found(uri=str(tmp_path / "photos.db"))["extras"]
    assert state == "ok"
    assert "encoders is not, for encoding photos and sketches on this machine" in words
    assert 'pip install "compsketch-milvus[encoders' in words


def test_an_address_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        checks = found(uri=f"http://root:hunter2@127.0.0.1:{bound.getsockname()[1]}")
    assert checks["address"][0] == "failed"
    assert "nothing listens at this port; is it running" in checks["address"][1]
    assert [checks[name][0] for name in ("login", "collection")] == ["skipped"] * 2
    assert "hunter2" not in str(checks)


@pytest.mark.parametrize("uri", ["http://milvus.example:99999", "http://[::1"])
def test_an_address_that_is_none(uri) -> None:
    checks = found(uri=uri)
    assert (checks.get("disk"), checks["address"][0], checks["login"][0]) == (None, "failed", "skipped")
    assert "is no address of Milvus" in checks["address"][1]


def test_a_certificate_that_soon_expires(monkeypatch) -> None:
    def in_days(days: float):
        monkeypatch.setattr(
            of_milvus, "shake_hands", lambda place, tls: datetime.now(timezone.utc) + timedelta(days=days)
        )
        settings = SimpleNamespace(ca_pem_path=None, client_pem_path=None, client_key_path=None, server_name=None)
        return of_milvus._checked_tls(of_milvus.Place("milvus.example", 19530, True), settings)

    assert in_days(400.5).state is State.OK
    soon = in_days(9.5)
    assert (soon.state, soon.remedy) == (State.WARNING, "give the server a new one before that")
    assert "9 days" in soon.message


class Server:
    """What `diagnose` asks a server, with answers to choose."""

    def __init__(
        self,
        version: str = "v2.6.4",
        ahead: float = 0.0,
        databases: tuple[str, ...] = ("default",),
        collections: tuple[str, ...] = ("photos",),
    ) -> None:
        self.version, self.ahead, self.databases, self.collections = version, ahead, databases, collections

    def get_server_version(self, timeout: int) -> str:
        return self.version

    def list_databases(self, timeout: int) -> list[str]:
        return list(self.databases)

    def list_collections(self, timeout: int) -> list[str]:
        return list(self.collections)

    def has_collection(self, name: str, timeout: int) -> bool:
        return False

    def _get_connection(self) -> Server:
        return self

    def alloc_timestamp(self, timeout: int) -> int:
        return int((datetime.now().timestamp() + self.ahead) * 1000) << 18

    def close(self) -> None: ...


@pytest.fixture
def answers(monkeypatch):
    """Checks a server that gives the answers named, at an address where something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def check(**facts) -> dict[str, tuple[str, str]]:
            monkeypatch.setattr(of_milvus, "connect_server", lambda uri, **how: Server(**facts))
            return found(uri=f"http://127.0.0.1:{listening.getsockname()[1]}")

        yield check


def test_a_server_as_it_should_be(answers) -> None:
    checks = answers()
    assert checks["version"] == ("ok", "Milvus v2.6.4 | ")
    assert [checks[name][0] for name in ("address", "tls", "login", "gpu index", "database", "clock")] == ["ok"] * 6
    assert "leftovers" not in checks


def test_what_a_killed_program_left_behind_is_named(answers) -> None:
    state, words = answers(collections=("photos", "compsketch_gpu_2", "compsketch_gpu_1"))["leftovers"]
    assert state == "warning"
    assert "temporary collections: compsketch_gpu_1, compsketch_gpu_2 | if no program is making" in words


def test_a_connection_on_which_nobody_answers_is_closed(answers, monkeypatch) -> None:
    closed = []

    def lost(self, timeout):
        raise MilvusException(2, "Fail connecting to server")

    monkeypatch.setattr(Server, "get_server_version", lost)
    monkeypatch.setattr(Server, "close", lambda self: closed.append(self))
    assert answers()["milvus"][0] == "failed"
    assert len(closed) == 1


def test_a_server_that_is_too_old(answers) -> None:
    assert answers(version="v2.2.16")["version"][0] == "failed"
    assert answers(version="nightly")["version"][0] == "warning"


def test_a_server_without_a_gpu_is_told_with_the_index_that_it_gets(answers) -> None:
    assert "it builds none on a GPU, but IVF_SQ8 on the CPU" in answers(version="v2.3.5-lite")["gpu index"][1]


def test_a_clock_that_is_wrong(answers) -> None:
    state, words = answers(ahead=90)["clock"]
    assert state == "warning"
    assert "the server's clock is 90.0 s ahead | set both by NTP" in words


def test_a_database_that_is_not_there(answers, monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_DB_NAME", "mine")
    state, words = answers(databases=("default", "theirs"))["database"]
    assert state == "failed"
    assert "there is no database 'mine'; there: default, theirs | set MILVUS_DB_NAME to one of them" in words


def test_the_command_prints_a_line_a_check_and_ends_by_the_worst(capsys, tmp_path, monkeypatch) -> None:
    uri = str(tmp_path / "photos.db")
    assert run(["doctor", "--uri", uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ok", "settings"]
    assert run(["doctor", "--uri", uri, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [set(check) for check in answer["checks"]] == [{"name", "state", "message", "remedy"}] * len(
        answer["checks"]
    )
    assert answer["failed"] == 0 < answer["ok"]
    assert run(["doctor", "--uri", "http://no-such-host.invalid:19530", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] == 1
    assert "there is no host called 'no-such-host.invalid'" in str(answer["checks"])


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "locked").mkdir(0o500)
    assert found(uri=str(tmp_path / "locked" / "photos.db"))["disk"][0] == "failed"


def test_the_collection_stays_usable(collection: SketchCollection, photo_vectors, lite) -> None:
    collection.upsert(photo_vectors)
    found(uri=lite)
    assert collection.count() == len(photo_vectors)
