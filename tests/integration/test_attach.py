"""Sketch search beside an application's own collection on a real server: all of it, and nothing of theirs altered."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from compsketch_milvus import attach, attached
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.inplace import attach_in_place
from encoders.sketch import Sketch

pytestmark = pytest.mark.xdist_group("milvus")

LEFT = Sketch.from_dict(
    {"width": 32, "height": 32, "objects": [{"strokes": [[[0, 7, 7, 0, 0], [0, 0, 31, 31, 0]]]}]}
)  # fmt: skip
COUNT = 700  # rows: more than two pages


@pytest.fixture
def client(milvus_server: str) -> Iterator[MilvusClient]:
    with closing(MilvusClient(milvus_server)) as opened:
        yield opened


@pytest.fixture
def make(client: MilvusClient) -> Iterator[Callable[..., str]]:
    """An application's collection, indexed, loaded and filled; it and what is attached to it are dropped at the end."""
    made = []

    def make(key: DataType, rows: list[dict[str, Any]], **options: Any) -> str:
        name = f"f_shop_{uuid.uuid4().hex[:12]}"
        schema = client.create_schema(auto_id=False, enable_dynamic_field=True, description="ours")
        schema.add_field("key", key, is_primary=True, **options)
        schema.add_field("photo", DataType.VARCHAR, max_length=65535)
        schema.add_field("price", DataType.INT64)
        schema.add_field("meta", DataType.JSON)
        schema.add_field("text", DataType.FLOAT_VECTOR, dim=8)
        index = client.prepare_index_params()
        index.add_index("text", "HNSW", "by_text", metric_type="IP", params={"M": 8, "efConstruction": 64})
        client.create_collection(name, schema=schema, index_params=index, consistency_level="Bounded")
        made.append(name)
        vectors = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float32)
        client.insert(name, [{**row, "text": vector} for row, vector in zip(rows, vectors, strict=True)])
        return name

    yield make
    for name in made:
        for one in (name, f"{name}_sketch"):
            client.drop_collection(one)


def state(client: MilvusClient, name: str) -> str:
    """Schema, index, load state and rows of a collection, as text."""
    rows = client.query(name, filter="price >= 0", output_fields=["*"], limit=COUNT + 9, consistency_level="Strong")
    facts = [client.describe_collection(name), client.describe_index(name, "by_text"), client.list_indexes(name)]
    parts = [client.list_partitions(name), client.get_load_state(name)]
    return "\n".join(map(str, [*facts, *parts, *sorted(repr(sorted(row.items(), key=str)) for row in rows)]))


def test_whole_numbers_as_keys(client, make, pictures, milvus_server, toy_encoder, monkeypatch) -> None:
    keys = [*range(COUNT - 2), 2**53 + 1, 2**62 + 1]
    rows = [
        {"key": key, "photo": pictures[place % 4], "price": place, "meta": {"lang": "de"}, "title": f"t{place}"}
        for place, key in enumerate(keys)
    ]
    name = make(DataType.INT64, rows)
    before = state(client, name)
    with attach(name, toy_encoder, field="photo", uri=milvus_server) as search:
        done = search.index()  # at once: rows of this very moment are seen
        assert (done.read, done.indexed, done.failed) == (COUNT, COUNT, [])
        assert search.side.count() == COUNT

        found = search.search(LEFT, limit=5, output_fields=["title", "price"])
        assert len(found) == 5
        assert all(hit.fields == {"title": f"t{hit.id}", "price": hit.id} for hit in found)
        assert all(hit.fields["price"] % 4 == 0 for hit in found)  # those of the first photo
        for resolved in (2000, 100):  # keys first; photos first
            monkeypatch.setattr(attached, "RESOLVED", resolved)
            dear = search.search(LEFT, 9, f"price >= {COUNT - 8}", output_fields=["price"])
            assert sorted(hit.fields["price"] for hit in dear) == list(range(COUNT - 8, COUNT))
            assert [hit.fields["price"] % 4 for hit in dear][:2] == [0, 0]
            assert {hit.id for hit in dear} >= {2**53 + 1, 2**62 + 1}
            wide = search.search(LEFT, 300, "price >= 300", output_fields=["price"])
            assert len({hit.id for hit in wide}) == 300
            assert [hit.fields["price"] % 4 for hit in wide][:100] == [0] * 100
        assert state(client, name) == before

    client.delete(name, ids=keys[:4])
    client.upsert(name, [{"key": 9, "photo": pictures[0], "price": 9, "meta": {}, "text": [0.0] * 8}])
    with attach(name, toy_encoder, uri=milvus_server) as search:
        done = search.index()
        assert (done.read, done.indexed, done.skipped) == (COUNT - 4, 1, COUNT - 5)
        best = search.search(LEFT, limit=200)
        assert not {hit.id for hit in best} & {0, 1, 2, 3}
        assert search.prune() == 4
        assert (search.side.count(), search.search(LEFT, limit=200).gone) == (COUNT - 4, 0)


def test_texts_as_keys_and_bytes_as_images(client, make, pictures, milvus_server, toy_encoder) -> None:
    encoded = [base64.b64encode(Path(picture).read_bytes()).decode() for picture in pictures]
    odd = ['say "hi"', "it's", "back\\slash", "two\nlines", "tab\t", "Straße", "猫", "x" * 300, " ", "a%b"]
    keys = [*odd, *(f"k{number:04}" for number in range(300))]
    rows = [
        {"key": key, "photo": "", "price": place, "meta": {"image": encoded[place % 4]}, "png": encoded[place % 4]}
        for place, key in enumerate(keys)
    ]
    name = make(DataType.VARCHAR, rows, max_length=500)
    before = state(client, name)
    for field in ('meta["image"]', "png"):
        into = f"{name}_sketch" if field == "png" else f"{name}_inner"
        try:
            with attach(name, toy_encoder, field=field, kind="bytes", into=into, uri=milvus_server) as search:
                assert search.index().indexed == len(keys)
                assert search.index().skipped == len(keys)
                found = search.search(LEFT, limit=len(keys), output_fields=["price"])
                assert {hit.id: hit.fields["price"] for hit in found} == {key: n for n, key in enumerate(keys)}
                some = search.search(LEFT, filter=f"key in {json.dumps(odd[:3])}")
                assert {hit.id for hit in some} == set(odd[:3])
        finally:
            client.drop_collection(into)
    assert state(client, name) == before


def test_what_cannot_be_done_is_said_before_anything_is_made(client, make, milvus_server, toy_encoder) -> None:
    name = make(DataType.INT64, [{"key": 1, "photo": "", "price": 1, "meta": {}}])
    with pytest.raises(CollectionError, match="is of type FLOAT_VECTOR"):
        attach(name, toy_encoder, field="text", uri=milvus_server)
    described = client.describe_collection(name)
    if client.get_server_version().startswith("v2.3"):
        with pytest.raises(CollectionError, match=r"cannot add a field to a collection, 2\.6 and later can"):
            attach_in_place(name, toy_encoder, vector="sketch", field="photo", agreed=True, uri=milvus_server)
        assert client.describe_collection(name) == described
    client.release_collection(name)
    with pytest.raises(CollectionError, match="is not loaded"):
        attach(name, toy_encoder, field="photo", uri=milvus_server)
    assert [one for one in client.list_collections() if one.startswith(name)] == [name]
