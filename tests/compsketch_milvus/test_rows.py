"""Photos put into a collection, looked up and deleted, on real Milvus Lite files: each once, exactly, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import batches
from tests.compsketch_milvus.processes import run_python


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
