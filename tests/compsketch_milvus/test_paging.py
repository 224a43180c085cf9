"""Reading every row of a collection, on Milvus Lite; tests/integration/test_attach.py does it on a server."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from pymilvus import DataType, MilvusClient

from compsketch_milvus.paging import among, literal, pages

ODD = ['say "hi"', "it's", "back\\slash", "tab\there", "two\nlines", "r\rn", "100 %", "{id}", "Straße", "猫", " "]


@pytest.fixture
def client(lite: str) -> Iterator[MilvusClient]:
    opened = MilvusClient(lite)
    yield opened
    opened.close()


def filled(client: MilvusClient, keys: list) -> None:
    schema = client.create_schema(auto_id=False)
    if isinstance(keys[0], int):
        schema.add_field("key", DataType.INT64, is_primary=True)
    else:
        schema.add_field("key", DataType.VARCHAR, max_length=99, is_primary=True)
    schema.add_field("place", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vector", "FLAT", metric_type="L2")
    client.create_collection("things", schema=schema, index_params=index)
    client.insert("things", [{"key": key, "place": place, "vector": [0, 1]} for place, key in enumerate(keys)])


def reader(client: MilvusClient):
    def call(doing: str, method: str, *, expression: str = "", **arguments):
        return getattr(client, method)("things", **arguments)

    return call


@pytest.mark.parametrize("size", [1, 4, 100])
def test_every_row_once_whatever_its_key(client: MilvusClient, size: int) -> None:
    keys = [*ODD, *(f"k{number:03}" for number in range(12))]
    random.Random(0).shuffle(keys)
    filled(client, keys)
    found = [page for page in pages(reader(client), "key", ["place"], size=size)]
    assert all(0 < len(page) <= size for page in found)
    assert {row["key"]: row["place"] for page in found for row in page} == {key: n for n, key in enumerate(keys)}
    assert sum(map(len, found)) == len(keys)


def test_numbers_come_in_order_also_those_that_a_float_cannot_hold(client: MilvusClient) -> None:
    keys = [-(2**63) + 1, -3, 0, 5, 2**53 + 1, 2**62, 2**63 - 2]
    filled(client, random.Random(1).sample(keys, len(keys)))
    assert [row["key"] for page in pages(reader(client), "key", [], size=2) for row in page] == keys


def test_only_what_passes_a_filter(client: MilvusClient) -> None:
    filled(client, list(range(20)))
    found = [
        row["key"] for page in pages(reader(client), "key", [], filter="key > 3 or place == 1", size=5) for row in page
    ]
    assert found == [1, *range(4, 20)]
    assert list(pages(reader(client), "key", [], filter="key > 99")) == []


def test_an_expression_finds_the_keys_that_it_names(client: MilvusClient) -> None:
    filled(client, ODD)
    for key in ODD:
        assert [row["key"] for row in client.query("things", filter=among("key", [key]), output_fields=["key"])] == [
            key
        ]
    assert among("id", [1, "a"]) == 'id in [1, "a"]'
    assert literal(-5) == "-5"
