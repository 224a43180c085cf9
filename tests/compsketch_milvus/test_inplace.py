"""Sketch search in a vector field that is added to an application's collection.

No server here can add one: a double stands for Milvus 3.0, which holds rows and understands the few expressions that
are sent. What a real one does with the calls was not tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pymilvus import DataType, MilvusException

from compsketch_milvus import inplace
from compsketch_milvus.errors import CollectionError, CompsketchError, FingerprintError, ServerError
from compsketch_milvus.inplace import InPlace, attach_in_place
from encoders.sketch import Sketch

LEFT = {"width": 32, "height": 32, "objects": [{"strokes": [[[0, 7, 7, 0, 0], [0, 0, 31, 31, 0]]]}]}


class Milvus:
    """A client of a server with one collection, `products`, whose `calls` are those that alter it."""

    def __init__(self, rows: list[dict[str, Any]], version: str = "v3.0.2", *, vectors: bool = True) -> None:
        self.rows, self.version, self.vectors = {row["sku"]: row for row in rows}, version, vectors
        self.columns = [
            {"name": "sku", "type": DataType.INT64, "is_primary": True, "description": ""},
            {"name": "photo", "type": DataType.VARCHAR, "description": ""},
            {"name": "price", "type": DataType.INT64, "description": ""},
            {"name": "text", "type": DataType.FLOAT_VECTOR, "description": ""},
        ]
        self.indexes = ["text"]
        self.calls: list[str] = []

    def get_server_version(self, timeout: int) -> str:
        return self.version

    def has_collection(self, name: str, timeout: int) -> bool:
        return name == "products"

    def list_collections(self, timeout: int) -> list[str]:
        return ["products"]

    def describe_collection(self, name: str, timeout: int) -> dict[str, Any]:
        return {"fields": [dict(column) for column in self.columns], "enable_dynamic_field": False}

    def get_load_state(self, name: str, timeout: int) -> dict[str, str]:
        return {"state": "Loaded"}

    def list_indexes(self, name: str, field_name: str, timeout: int) -> list[str]:
        return [index for index in self.indexes if index == field_name]

    def prepare_index_params(self):
        from pymilvus.milvus_client import IndexParams

        return IndexParams()

    def add_collection_field(self, name, field_name, data_type, desc="", timeout=None, *, nullable, **more) -> None:
        assert nullable  # Milvus refuses any other
        if data_type == DataType.FLOAT_VECTOR and not self.vectors:
            raise MilvusException(1100, "not support to add vector field")
        self.calls.append(f"add {field_name} {DataType(data_type).name}")
        self.columns.append({"name": field_name, "type": data_type, "description": desc})

    def create_index(self, name: str, index_params, timeout: int) -> None:
        (one,) = index_params
        self.calls.append(f"index {one.field_name}")
        self.indexes.append(one.field_name)

    def refresh_load(self, name: str, timeout: int) -> None:
        self.calls.append("load")

    def upsert(self, name: str, data: list[dict[str, Any]], *, partial_update: bool, timeout: int, **_: Any) -> None:
        assert partial_update  # else the other fields would be lost
        for row in data:
            self.calls.append(f"upsert {row['sku']} {'+'.join(sorted(set(row) - {'sku'}))}")
            self.rows[row["sku"]].update(row)

    def query(self, name: str, filter: str, output_fields: list[str], limit: int = 0, **_: Any) -> list[dict[str, Any]]:
        if output_fields == ["count(*)"]:
            return [{"count(*)": len(self.rows)}]
        after, among = re.fullmatch(r"sku > (\d+)", filter), re.fullmatch(r"sku in \[(.*)\]", filter)
        assert after or among or not filter, filter
        keys = sorted(self.rows)
        if after:
            keys = [key for key in keys if key > int(after[1])]
        if among:
            keys = [key for key in keys if str(key) in among[1].split(", ")]
        chosen = keys[:limit] if limit else keys
        return [{field: self.rows[key].get(field) for field in output_fields} for key in chosen]

    def search(self, name: str, data, filter: str, limit: int, anns_field: str, output_fields, **_: Any):
        assert filter in ("", "price > 10")
        rows = [row for row in self.rows.values() if row.get(anns_field) is not None]
        rows = [row for row in rows if not filter or row["price"] > 10]
        hits = [
            {
                "sku": row["sku"],
                "distance": float(np.sum((row[anns_field] - data[0]) ** 2)),
                "entity": {field: row[field] for field in output_fields},
            }
            for row in rows
        ]
        return [sorted(hits, key=lambda hit: hit["distance"])[:limit]]

    def close(self) -> None:
        pass


@pytest.fixture
def milvus(pictures: list[str]) -> Milvus:
    rows = [
        {"sku": 7 + number, "photo": photo, "price": 10 * number, "text": [number]}
        for number, photo in enumerate(pictures)
    ]
    return Milvus(rows)


@pytest.fixture
def open_(milvus: Milvus, toy_encoder, monkeypatch) -> Callable[..., InPlace]:
    def open_(server: Milvus = milvus, encoder=toy_encoder, **options: Any) -> InPlace:
        monkeypatch.setattr(inplace, "connect_server", lambda uri, *, token, db_name: server)
        return attach_in_place("products", encoder, vector="sketch", uri="http://milvus:19530", **options)

    return open_


def test_the_field_is_added_and_filled_and_searched(open_, milvus, toy_encoder, spans) -> None:
    before = {key: dict(row) for key, row in milvus.rows.items()}
    with open_(field="photo", agreed=True) as search:
        assert milvus.calls == ["add sketch FLOAT_VECTOR", "add sketch_digest VARCHAR", "index sketch", "load"]
        done = search.index()
        assert (done.read, done.indexed, done.failed) == (4, 4, [])
        assert sorted(milvus.calls[4:]) == [f"upsert {key} sketch+sketch_digest" for key in (10, 7, 8, 9)]
        assert {key: {name: row[name] for name in before[key]} for key, row in milvus.rows.items()} == before
        found = search.search(Sketch.from_dict(LEFT), limit=2, output_fields=["price"])
        assert (found.hits[0].id, found.hits[0].fields, found.gone) == (7, {"price": 0}, 0)
        assert found.hits[0].score == pytest.approx(1)
        assert {hit.id for hit in search.search(Sketch.from_dict(LEFT), 9, "price > 10")} == {9, 10}
        assert [hit.id for hit in search.search(Sketch.from_dict(LEFT), threshold=0.9)] == [7]
        spans.clear()
        assert search.search(Sketch.from_dict(LEFT), 1).hits[0].fields == {}
        assert spans.tree() == [("compsketch search_in_place", [("encode sketches", []), ("search products", [])])]


def test_a_second_run_writes_what_has_changed(open_, milvus, pictures) -> None:
    with open_(field="photo", agreed=True) as search:
        search.index()
    milvus.rows[8]["photo"] = pictures[3]
    milvus.rows[20] = {"sku": 20, "photo": pictures[0], "price": 1, "text": [1]}
    Image.new("L", (8, 8)).save(pictures[0])  # another file of the same name, in two rows
    milvus.calls.clear()
    with open_() as again:  # what was said the first time is remembered, and nothing is left to agree to
        done = again.index()
        assert (done.indexed, done.skipped) == (3, 2)
        assert {call.split()[1] for call in milvus.calls} == {"7", "8", "20"}
        assert again.index(force=True).indexed == 5


def test_a_server_that_is_away_for_a_moment_is_asked_again(open_, milvus, monkeypatch) -> None:
    with open_(field="photo", agreed=True) as search:
        search.index()
        query, away = milvus.query, iter([True])

        def once_away(name, filter, **options):
            if " in " in filter and next(away, False):
                raise MilvusException(2, "Fail connecting to server")
            return query(name, filter, **options)

        monkeypatch.setattr(milvus, "query", once_away)
        done = search.index()
    assert (done.skipped, done.indexed, next(away, "was away")) == (4, 0, "was away")


def test_what_cannot_be_searched_with(open_, toy_encoder, monkeypatch) -> None:
    with open_(field="photo", agreed=True) as search:
        with pytest.raises(CollectionError, match=r"'two-dogs\.svg' is no Sketch"):
            search.search("two-dogs.svg")
        with pytest.raises(CollectionError, match="limit 0: it has to be"):
            search.search(Sketch.from_dict(LEFT), 0)
        with pytest.raises(CollectionError, match="threshold 2: it has to be a cosine"):
            search.search(Sketch.from_dict(LEFT), threshold=2)
        encode = toy_encoder.encode_sketches
        monkeypatch.setattr(toy_encoder, "encode_sketches", lambda *a, **more: np.nan * encode(*a, **more))
        with pytest.raises(CompsketchError, match="the query vector is not finite"):
            search.search(Sketch.from_dict(LEFT))


def test_a_connection_does_not_outlive_a_mistake(open_, milvus, monkeypatch) -> None:
    closed = []
    monkeypatch.setattr(milvus, "close", lambda: closed.append(True))
    open_(field="photo", agreed=True)
    milvus.columns = [column for column in milvus.columns if column["name"] != "photo"]
    with pytest.raises(CollectionError, match="has no field 'photo'"):
        open_()
    assert closed == [True]


def test_a_row_that_is_deleted_meanwhile_does_not_come_back(open_, milvus, toy_encoder, monkeypatch) -> None:
    encode = toy_encoder.encode_images

    def slow(images):
        milvus.rows.pop(8, None)
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", slow)
    with open_(field="photo", agreed=True) as search:
        search.index()
    assert sorted(milvus.rows) == [7, 9, 10]


def test_nothing_is_altered_before_that_is_agreed_to(open_, milvus) -> None:
    words = "nothing was altered yet. With --yes: .*'sketch' .FLOAT_VECTOR of 16.*sketch_digest.*can be lost"
    with pytest.raises(CollectionError, match=words):
        open_(field="photo")
    with pytest.raises(CollectionError, match="has no field 'sketch'; say with --field"):
        open_(agreed=True)
    with pytest.raises(CollectionError, match="has no field 'picture'"):
        open_(field="picture", agreed=True)
    assert milvus.calls == []


def test_what_an_earlier_attempt_left_undone_is_done(open_, milvus) -> None:
    open_(field="photo", agreed=True)
    milvus.indexes.remove("sketch")
    with pytest.raises(CollectionError, match="lacks its index"):
        open_()
    milvus.calls.clear()
    open_(agreed=True)
    assert milvus.calls == ["index sketch", "load"]


def test_servers_that_cannot(open_, milvus, toy_encoder) -> None:
    old = Milvus(list(milvus.rows.values()), "v2.3.5")
    with pytest.raises(CollectionError, match=r"Milvus v2\.3\.5 cannot add a field.*leave out --in-place"):
        open_(old, field="photo", agreed=True)
    early = Milvus(list(milvus.rows.values()), "v2.6.0", vectors=False)
    with pytest.raises(ServerError, match="refused to add a vector field: not support to add vector field"):
        open_(early, field="photo", agreed=True)
    assert old.calls == early.calls == []
    with pytest.raises(CollectionError, match="Milvus Lite cannot add a field"):
        attach_in_place("products", toy_encoder, vector="sketch", field="photo", uri="./photos.db")


def test_a_field_of_somebody_elses_and_vectors_of_another_encoder(open_, milvus, toy) -> None:
    milvus.columns.append({"name": "sketch", "type": DataType.FLOAT_VECTOR, "description": "mine"})
    with pytest.raises(CollectionError, match="was not made by compsketch"):
        open_(field="photo", agreed=True)
    milvus.columns.pop()
    open_(field="photo", agreed=True)
    with pytest.raises(FingerprintError):
        open_(encoder=toy.ToyEncoder(fingerprint="toy-ffffffffffffffff"))
