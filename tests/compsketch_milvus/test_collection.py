"""Collections on real Milvus Lite files: opened with their encoder only, written and read exactly, failing in words."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, FingerprintError, ServerError
from compsketch_milvus.identity import Identity
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import batches
from compsketch_milvus.server import lite_path, public_uri

REPOSITORY = Path(__file__).parents[2]


def run_python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run a piece of Python in a process of its own, with this repository to import from."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)


# --- opening ---


def test_open_makes_the_collection_and_opens_it_again(open_collection, photo_vectors) -> None:
    with open_collection() as first:
        assert first.upsert(photo_vectors) == 60
    with open_collection() as again:
        assert again.count() == 60
        assert again.search_vector(photo_vectors[3].vector, 1)[0].id == "p03"


def test_schema(collection, toy_encoder) -> None:
    fields = {field["name"]: field for field in collection.client.describe_collection("photos")["fields"]}
    assert list(fields) == ["id", "source", "width", "height", "vector"]
    assert fields["id"]["is_primary"]
    assert fields["id"]["params"] == {"max_length": 64}
    assert fields["source"]["params"] == {"max_length": 4096}
    assert fields["vector"]["params"] == {"dim": toy_encoder.dim}


def test_info(collection, photo_vectors, lite) -> None:
    collection.upsert(photo_vectors)
    assert collection.info() == {
        "collection": "photos",
        "count": 60,
        "dim": 16,
        "partition_key": None,
        "encoder": {"name": "toy", "fingerprint": "toy-0000000000000000"},
        "index": {
            "type": "FLAT",
            "params": {},
            "search_params": {},
            "reason": "Milvus Lite, 0 rows when chosen: up to 20000 an exact search is fast enough",
            "consequences": {
                "lossy": False,
                "recall": "exact",
                "bytes_per_row": 64,
                "bytes_per_segment": 0,
                "max_hits": 16384,
                "index_bytes": 3840,
                "raw_bytes": 3840,
            },
            "state": "Finished",
            "indexed_rows": 60,
            "pending_rows": 0,
            "advice": "",
        },
        "server": {"kind": "lite", "version": collection.facts.version, "uri": lite, "gpu": "no"},
    }


def test_parent_folders_are_made_and_names_may_hold_spaces_and_umlauts(tmp_path, toy_encoder) -> None:
    path = tmp_path / "mit Umlaut ä" / "new" / "meine fotos.db"
    with SketchCollection.open("photos", toy_encoder, uri=str(path)) as collection:
        assert collection.count() == 0
    assert path.exists()


def test_home_is_expanded(tmp_path, toy_encoder, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with SketchCollection.open("photos", toy_encoder, uri="~/x.db") as collection:
        assert collection.uri == str(tmp_path / "x.db")


def test_uri_comes_from_the_environment(tmp_path, toy_encoder, monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_URI", str(tmp_path / "env.db"))
    with SketchCollection.open("photos", toy_encoder):
        assert (tmp_path / "env.db").exists()


def test_a_lite_file_in_milvus_uri_does_not_break_the_import_of_pymilvus(tmp_path) -> None:
    code = "from compsketch_milvus.server import pymilvus; import os; pymilvus(); print(os.environ['MILVUS_URI'])"
    done = run_python(f"import os; os.environ['MILVUS_URI'] = 'x.db'; {code}", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("x.db\n", 0), done.stderr


def test_another_encoder_is_refused_by_both_names(open_collection, toy_encoder) -> None:
    open_collection().close()
    other = type(toy_encoder)(fingerprint="toy-ffffffffffffffff")
    other.name = "newer"
    with pytest.raises(FingerprintError) as refused:
        open_collection(encoder=other)
    assert str(refused.value) == (
        "collection 'photos' was made by encoder 'toy' (toy-0000000000000000, 16-D), not by 'newer' "
        "(toy-ffffffffffffffff, 16-D), and their vectors cannot be compared; "
        "use that encoder, or ingest again into another collection"
    )


def test_another_dimension_is_refused(open_collection, toy_encoder) -> None:
    open_collection().close()
    with pytest.raises(FingerprintError, match=r"16-D.*64-D"):
        open_collection(encoder=type(toy_encoder)(grid=8))


def test_a_collection_of_someone_else_is_refused(open_collection) -> None:
    mine = open_collection()
    mine.client.create_collection("theirs", dimension=16)
    with pytest.raises(CollectionError, match="'theirs' was not made by compsketch"):
        open_collection("theirs")


def test_a_collection_of_a_later_format_is_refused(open_collection) -> None:
    mine = open_collection()
    noted = mine.client.describe_collection("photos")["properties"]["compsketch"]
    later = noted.replace('"format": 1', '"format": 2')
    mine.client.alter_collection_properties("photos", {"compsketch": later})
    with pytest.raises(CollectionError, match="has format 2, this version reads 1"):
        open_collection()


def test_the_description_serves_where_a_server_drops_properties(collection) -> None:
    kept = collection.client.describe_collection("photos")["properties"]["compsketch"]
    assert Identity.read({"description": kept}, "photos").fingerprint == "toy-0000000000000000"


def test_missing_collection_lists_those_there(open_collection) -> None:
    open_collection("holidays")
    with pytest.raises(CollectionError, match=r"'photos' does not exist at .*; there: holidays$"):
        open_collection(create=False)


def test_a_missing_file_is_not_made_without_create(tmp_path, toy_encoder) -> None:
    with pytest.raises(CollectionError, match="no such Milvus Lite file"):
        SketchCollection.open("photos", toy_encoder, uri=str(tmp_path / "no.db"), create=False)
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize("name", ["", "a b", "1a", "ä", "a-b", "x" * 256])
def test_a_name_that_servers_refuse_is_refused(open_collection, name) -> None:
    with pytest.raises(CollectionError, match="use letters, digits and underscores"):
        open_collection(name)


def test_without_an_encoder_there_is_counting_but_no_searching(open_collection, photo_vectors) -> None:
    open_collection().upsert(photo_vectors)
    collection = open_collection(encoder=None)
    assert collection.info()["count"] == 60
    with pytest.raises(CollectionError, match="opened without an encoder"):
        collection.search_vector(photo_vectors[0].vector)


# --- addresses that do not work ---


@pytest.mark.parametrize("uri", ["photos", "ftp://host/x", "http://", "http://host:port", "photos.sqlite", ""])
def test_an_address_that_is_none(toy_encoder, uri) -> None:
    with pytest.raises((ServerError), match="is no address of Milvus"):
        SketchCollection.open("photos", toy_encoder, uri=uri)


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


# --- rows ---


def test_upsert_replaces_and_takes_an_iterator(collection, photo_vectors) -> None:
    assert collection.upsert(iter(photo_vectors)) == 60
    assert collection.upsert([replace(photo_vectors[0], width=7)]) == 1
    assert collection.count() == 60
    assert collection.stored(["p00"], ["width"]) == {"p00": {"width": 7}}
    assert collection.upsert([]) == 0


def test_an_id_twice_in_a_message_stays_once(collection, photo_vectors) -> None:
    assert collection.upsert([photo_vectors[0], replace(photo_vectors[0], width=9)]) == 1
    assert collection.stored(["p00"], ["width"]) == {"p00": {"width": 9}}


def test_what_was_written_is_seen_at_once(collection, photo_vectors) -> None:
    for record in photo_vectors[:5]:
        collection.upsert([record])
        assert collection.search_vector(record.vector, 1)[0].id == record.id


def test_rows_outlive_a_killed_process(tmp_path, toy_encoder) -> None:
    code = """
        import os, sys
        import numpy as np
        from compsketch_milvus.collection import SketchCollection
        from compsketch_milvus.records import PhotoVector
        from toy import ToyEncoder

        collection = SketchCollection.open("photos", ToyEncoder(), uri=sys.argv[1])
        collection.upsert(PhotoVector(f"p{i}", "s", 1, 1, np.eye(16, dtype=np.float32)[i % 16]) for i in range(200))
        os.kill(os.getpid(), 9)
    """
    path = str(tmp_path / "killed.db")
    run_python(code, path)
    with SketchCollection.open("photos", toy_encoder, uri=path, create=False) as collection:
        assert collection.count() == 200


def test_stored_gives_the_fields_a_photo_has(collection, photo_vectors) -> None:
    with_size = replace(photo_vectors[1], fields={"bytes": 9, "mtime": 1.5})
    collection.upsert([photo_vectors[0], with_size])
    assert collection.stored(["p00", "p01", "none"], ["bytes", "mtime", "width"]) == {
        "p00": {"width": 100},
        "p01": {"bytes": 9, "mtime": 1.5, "width": 101},
    }
    assert collection.stored([], ["width"]) == {}


def test_existing_over_many_ids_with_odd_characters(collection, photo_vectors) -> None:
    odd = ["a\"b\\c'", "ü ß", "日本", "{x}", "[1]"]
    collection.upsert([replace(photo_vectors[0], id=one) for one in odd])
    many = [f"missing {i}" for i in range(2500)]
    assert collection.existing([*many, *odd]) == set(odd)


def test_delete_counts_what_was_there(collection, photo_vectors) -> None:
    collection.upsert(photo_vectors)
    assert collection.delete(ids=["p00", "p01", "nothing"]) == 2
    assert collection.delete(ids=["p00"]) == 0
    assert collection.delete(filter="width < 110") == 8
    assert collection.delete(filter="width < 110") == 0
    assert collection.count() == 50
    assert collection.count("tag == 't0'") == 16
    with pytest.raises(CollectionError, match="either ids or a filter"):
        collection.delete()
    with pytest.raises(CollectionError, match="either ids or a filter"):
        collection.delete(["p03"], "width < 110")
    with pytest.raises(CollectionError, match=r"filter 'width' was refused by Milvus: .*bool"):
        collection.delete(filter="width")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "1 to 64 bytes"),
        ({"id": "x" * 65}, "1 to 64 bytes"),
        ({"id": "ä" * 33}, "1 to 64 bytes"),
        ({"id": "a\nb"}, "printable"),
        ({"id": 3}, "printable text"),
        ({"source": "x" * 4097}, "source has 4097 bytes"),
        ({"source": "\udcff"}, "not valid Unicode"),
        ({"width": -1}, "width -1"),
        ({"height": 1.5}, "height 1.5"),
        ({"vector": np.ones(15, np.float32)}, r"shape \(15,\)"),
        ({"vector": np.ones((1, 16), np.float32)}, r"shape \(1, 16\)"),
        ({"vector": np.full(16, np.nan, np.float32)}, "not finite"),
        ({"vector": np.full(16, np.inf, np.float32)}, "not finite"),
        ({"vector": np.ones(16, np.float32)}, "length 4, not 1"),
        ({"fields": {"vector": 1}}, r"fields \['vector'\]"),
        ({"fields": {"x": float("nan")}}, "JSON"),
        ({"fields": {"x": "ä" * 35_000}}, "its fields take 70008 bytes as JSON, at most 65536"),
        ({"fields": {"x": object()}}, "JSON"),
    ],
)
def test_a_record_that_does_not_fit_is_named_and_those_before_it_stay(
    collection, photo_vectors, change, message
) -> None:
    with pytest.raises(CollectionError, match=message):
        collection.upsert([photo_vectors[0], replace(photo_vectors[1], **change), photo_vectors[2]])
    assert collection.existing(["p00", "p01", "p02"]) == {"p00"}


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 40), max_rows=st.integers(1, 10), max_bytes=st.integers(1, 4000))
def test_batches_keep_order_and_bounds(count, max_rows, max_bytes) -> None:
    vector = np.eye(4, dtype=np.float32)[0]
    records = [PhotoVector(f"p{i}", "x" * (i * 7), 1, 1, vector) for i in range(count)]
    cut = list(batches(iter(records), 4, max_bytes=max_bytes, max_rows=max_rows))
    assert [row["id"] for rows in cut for row in rows] == [record.id for record in records]
    assert all(1 <= len(rows) <= max_rows for rows in cut)
    assert all(len(rows) == 1 or sum(272 + len(row["source"]) for row in rows) <= max_bytes for rows in cut)


def test_batches_take_no_more_than_they_send() -> None:
    vector, taken = np.eye(4, dtype=np.float32)[0], []

    def source():
        for i in range(1000):
            taken.append(i)
            yield PhotoVector(f"p{i}", "s", 1, 1, vector)

    next(batches(source(), 4, max_rows=10))
    assert len(taken) == 11


def test_public_uri_hides_credentials() -> None:
    assert public_uri("https://me:pass@host:1/db?token=x") == "https://host:1/db"
    assert public_uri("./a b.db") == "./a b.db"


def test_lite_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lite_path("x.db") == tmp_path / "x.db"
    assert lite_path("http://host:19530") is None
    assert lite_path("unix:/run/milvus.sock") is None
