"""Collections on real Milvus Lite files: made, opened with their encoder only, described and dropped."""

from __future__ import annotations

import json

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, FingerprintError
from compsketch_milvus.identity import Identity
from tests.compsketch_milvus.processes import run_python


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


def test_a_collection_that_remembers_what_is_not_known_here_is_refused(collection) -> None:
    kept = json.loads(collection.client.describe_collection("photos")["properties"]["compsketch"])
    for other in ({**kept, "tenant": 1}, {name: kept[name] for name in ("format", "fingerprint")}):
        with pytest.raises(CollectionError, match="'photos' was made by another version of compsketch-milvus"):
            Identity.read({"description": json.dumps(other)}, "photos")


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
