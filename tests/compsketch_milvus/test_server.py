"""The connection to Milvus: addresses that do not work, files of others, a full disk, each told in one line."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.server import lite_path, public_uri
from tests.compsketch_milvus.processes import run_python


@pytest.mark.parametrize(
    "uri",
    [
        "photos",
        "ftp://host/x",
        "http://",
        "http://host:port",
        "http://[::1",
        "http://me:pw@[::1:19530",
        "photos.sqlite",
        "",
    ],
)
def test_an_address_that_is_none(toy_encoder, uri) -> None:
    with pytest.raises((ServerError), match="is no address of Milvus") as refused:
        SketchCollection.open("photos", toy_encoder, uri=uri)
    assert "pw" not in str(refused.value)


def test_a_file_of_something_else(tmp_path, toy_encoder) -> None:
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(ServerError, match=r"text\.db: this file was not made by this version of Milvus Lite"):
        SketchCollection.open("photos", toy_encoder, uri=str(tmp_path / "text.db"))
    assert (tmp_path / "text.db").read_text() == "hello"


def test_a_folder_of_something_else(tmp_path, toy_encoder) -> None:
    (tmp_path / "mine.db").mkdir()
    (tmp_path / "mine.db" / "letter.txt").write_text("hello")
    with pytest.raises(ServerError, match=r"mine\.db: this folder holds something else"):
        SketchCollection.open("photos", toy_encoder, uri=str(tmp_path / "mine.db"))
    assert [path.name for path in (tmp_path / "mine.db").iterdir()] == ["letter.txt"]


def test_a_folder_that_cannot_be_written(toy_encoder) -> None:
    with pytest.raises(ServerError, match=r"/proc/nowhere/x\.db: cannot be used for Milvus Lite"):
        SketchCollection.open("photos", toy_encoder, uri="/proc/nowhere/x.db")


def test_nobody_answers_and_no_secret_is_shown(toy_encoder, caplog, capfd) -> None:
    with pytest.raises(ServerError, match="no Milvus answers") as refused:
        SketchCollection.open("photos", toy_encoder, uri="http://me:hunter2@127.0.0.1:9", token="root:hunter3")
    assert str(refused.value).startswith("http://127.0.0.1:9: ")
    assert "hunter" not in str(refused.value) + caplog.text + "".join(capfd.readouterr())


def test_a_file_that_another_process_has_open(lite, toy_encoder) -> None:
    code = """
        import sys
        from pymilvus import MilvusClient
        client = MilvusClient(sys.argv[1])
        print("open", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), lite]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ServerError) as refused:
            SketchCollection.open("photos", toy_encoder, uri=lite)
        other.stdin.close()
    assert str(refused.value) == (
        f"{lite}: another process has this Milvus Lite file open, and only one can; "
        "close that program, or run a Milvus server for several at once"
    )
    with SketchCollection.open("photos", toy_encoder, uri=lite) as collection:  # free again
        assert collection.count() == 0


def test_a_full_disk(tmp_path) -> None:
    """The limit on a file's size makes writing fail as a full disk does, and takes no mount."""
    code = """
        import resource, sys
        import numpy as np
        from compsketch_milvus.collection import SketchCollection
        from compsketch_milvus.errors import ServerError
        from compsketch_milvus.records import PhotoVector
        from toy import ToyEncoder

        collection = SketchCollection.open("photos", ToyEncoder(), uri=sys.argv[1])
        vector = np.eye(16, dtype=np.float32)[0]

        def photos(number):
            return [PhotoVector(f"{number}-{i}", "s", 1, 1, vector) for i in range(500)]

        stored = collection.upsert(photos(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            for number in range(1, 20):
                stored += collection.upsert(photos(number))
        except ServerError as error:
            print(stored, error)
        for attempt in (collection.flush, collection.count):  # Milvus Lite would show no rows now
            try:
                attempt()
            except ServerError as error:
                print("again", error)
    """
    path = str(tmp_path / "full.db")
    done = run_python(code, path)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    stored, message = lines[0].split(" ", 1)
    assert message == (
        f"{path}: the disk is full, could not store photos; what was stored before is kept: "
        "free some space, open the collection again and repeat"
    )
    assert lines[1:] == [f"again {message}"] * 2
    count = "import sys; from compsketch_milvus.collection import SketchCollection as C; from toy import ToyEncoder;"
    again = run_python(count + "print(C.open('photos', ToyEncoder(), uri=sys.argv[1]).count())", path)
    assert int(again.stdout) >= int(stored) >= 500, again.stderr


def test_a_refused_call_logs_no_traceback(collection, capfd, caplog) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(CollectionError):
        collection.count("width >")
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_a_closed_collection_says_so(collection) -> None:
    collection.close()
    with pytest.raises(ServerError, match="'photos' is closed; open it again"):
        collection.count()


def test_drop(open_collection) -> None:
    open_collection().drop()
    with pytest.raises(CollectionError, match="there: none"):
        open_collection(create=False)


def test_public_uri_hides_credentials() -> None:
    assert public_uri("https://me:pass@host:1/db?token=x") == "https://host:1/db"
    assert public_uri("./a b.db") == "./a b.db"


def test_lite_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lite_path("x.db") == tmp_path / "x.db"
    assert lite_path("http://host:19530") is None
    assert lite_path("unix:/run/milvus.sock") is None
