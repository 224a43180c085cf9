"""What a program that was ended in the middle leaves behind: rows that are still there, and a file that still opens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus.errors import ServerError
from compsketch_milvus.server import remove_index_files

REPOSITORY = Path(__file__).parents[2]

# The real command line with the toy encoder, which takes its time, so that a signal finds it at work.
PROGRAM = """
    import time
    from compsketch_milvus import encoder
    from compsketch_milvus.cli import main
    from toy import ToyEncoder

    class Slow(ToyEncoder):
        def encode_images(self, images):
            print("encoding", flush=True)
            time.sleep(1.0)
            return super().encode_images(images)

    encoder.connect = lambda spec=None, **options: Slow()
    main()
"""


def index_files(lite: str) -> list[Path]:
    return sorted(Path(lite).glob("collections/photos/partitions/*/indexes/*.idx"))


@pytest.mark.parametrize("left", [b"", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_half_an_index_file_costs_no_photo(open_collection, photo_vectors, lite, left, caplog) -> None:
    from milvus_lite.server_manager import server_manager_instance

    with open_collection() as collection:
        collection.upsert(photo_vectors)
        collection.flush()
    server_manager_instance.release_server(lite)
    damaged = index_files(lite)
    assert damaged
    for file in damaged:
        file.write_bytes(left)  # as a kill or a full disk leaves it

    with open_collection() as again:
        assert again.count() == 60
        assert again.search_vector(photo_vectors[3].vector, 1)[0].id == "p03"
    assert "an index file is damaged" in caplog.text
    assert "building the index again" in caplog.text


def test_rows_that_cannot_be_read_are_an_error(open_collection, photo_vectors, lite) -> None:
    from milvus_lite.server_manager import server_manager_instance

    with open_collection() as collection:
        collection.upsert(photo_vectors)
        collection.flush()
    server_manager_instance.release_server(lite)
    for file in Path(lite).glob("collections/photos/partitions/*/data/*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ServerError, match=r"photos\.db"):
        open_collection()


def test_only_this_collections_index_files_go(tmp_path) -> None:
    for name in ("photos", "photos2"):
        folder = tmp_path / "x.db" / "collections" / name / "partitions" / "_default"
        for file in ("indexes/a.vector.flat.idx", "data/a.parquet"):
            (folder / file).parent.mkdir(parents=True)
            (folder / file).write_bytes(b"x")
    assert remove_index_files(tmp_path / "x.db", "photos") == 1
    left = sorted(file.relative_to(tmp_path / "x.db").as_posix() for file in (tmp_path / "x.db").rglob("a.*"))
    assert [name.split("/")[1] + "/" + name.split("/")[-1] for name in left] == [
        "photos/a.parquet", "photos2/a.parquet", "photos2/a.vector.flat.idx",
    ]  # fmt: skip


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (32, 32), (20 * index, 90, 20)).save(folder / f"{index}.png")
    return folder


@contextmanager
def ingesting(folder: Path, *, batches: int) -> Iterator[subprocess.Popen[str]]:
    """A `compsketch ingest` of two photos a batch, which takes a second each, at the start of its last of `batches`."""
    with subprocess.Popen(
        command(folder), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for _ in range(batches):
            assert running.stdout.readline() == "encoding\n"
        yield running
        running.kill()


def command(folder: Path) -> list[str]:
    flags = ["ingest", str(folder), "--uri", str(folder.parent / "p.db"), "--batch-size", "2", "--json"]
    return [sys.executable, "-c", textwrap.dedent(PROGRAM), *flags]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}


def ended(running: subprocess.Popen[str], status: int) -> dict:
    """The JSON of a program that ended with a status, and without a traceback."""
    out, err = running.communicate(timeout=60)
    assert running.returncode == status, err
    assert "Traceback" not in err
    return json.loads(out.splitlines()[-1])


def finish(folder: Path) -> dict:
    """Run the same ingest again, to its end."""
    again = subprocess.run(command(folder), env=environment(), capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(again.stdout.splitlines()[-1])
    assert (answer["failed"], answer["read"], answer["drained"]) == ([], 12, False)
    assert answer["indexed"] + answer["skipped"] == 12
    return answer


def test_ctrl_c_ends_an_ingest_in_words_and_the_next_goes_on(photos) -> None:
    with ingesting(photos, batches=3) as running:  # the first batch has had a second to reach the collection
        running.send_signal(signal.SIGINT)
        assert ended(running, 130)["error"].startswith("interrupted after")
    assert finish(photos)["skipped"] >= 2


def test_sigterm_lets_it_finish_what_is_decoded_and_the_next_goes_on(photos) -> None:
    with ingesting(photos, batches=1) as running:
        running.send_signal(signal.SIGTERM)
        answer = ended(running, 0)
    assert answer["drained"]
    assert answer["next"] == "run the same ingest again, it goes on from there"
    assert 2 <= answer["indexed"] == answer["read"] < 12
    assert answer["skipped"] == len(answer["failed"]) == 0
    assert finish(photos)["skipped"] == answer["indexed"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(photos, second) -> None:
    with ingesting(photos, batches=1) as running:
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None
        assert running.stdout.readline() == "encoding\n"  # still at work
        running.send_signal(second)
        assert ended(running, 130)["error"].startswith("interrupted after")
    finish(photos)
