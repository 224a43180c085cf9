"""Another Milvus collection as a source: on a real server, and in a Milvus Lite file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import SourceError
from compsketch_milvus.server import pymilvus
from compsketch_milvus.sources import iterate

NAME = "d_shop"


def filled(client: Any, rows: list[dict[str, Any]], key: str = "INT64") -> None:
    """A collection as an application has it: a key, a path, a price, a JSON field, dynamic fields, its own vectors."""
    kinds = pymilvus().DataType
    if client.has_collection(NAME):
        client.drop_collection(NAME)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("sku", kinds[key], is_primary=True, **({"max_length": 64} if key == "VARCHAR" else {}))
    schema.add_field("picture", kinds.VARCHAR, max_length=1000)
    schema.add_field("width", kinds.INT64)
    schema.add_field("price", kinds.DOUBLE)
    schema.add_field("more", kinds.JSON)
    schema.add_field("v", kinds.FLOAT_VECTOR, dim=4)
    client.create_collection(NAME, schema=schema, timeout=60)
    wanted = client.prepare_index_params()
    wanted.add_index("v", "FLAT", metric_type="L2", params={})
    client.create_index(NAME, wanted, timeout=60)
    client.load_collection(NAME, timeout=60)
    for start in range(0, len(rows), 1000):
        client.insert(NAME, rows[start : start + 1000], timeout=60)


def row(sku: Any, picture: str, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "picture": picture, "width": 9, "price": 1.5, "more": {"a": 1}, "v": [0, 0, 0, 1.0], **more}


@pytest.fixture(params=["server", "lite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A client, and the beginning of the URI of its collections."""
    if request.param == "server":
        parts = urlsplit(request.getfixturevalue("milvus_server"))
        uri, token = (
            f"http://{parts.hostname}:{parts.port}",
            f"{parts.username or ''}:{parts.password or ''}".strip(":"),
        )
        monkeypatch.setenv("MILVUS_SOURCE_TOKEN", token)
        monkeypatch.setenv("MILVUS_TOKEN", token)
        address = uri.replace("http://", "milvus://")
    else:
        pytest.importorskip("milvus_lite")
        uri, token = str(tmp_path / "shop.db"), ""
        address = f"milvus+lite://{uri}"
    with closing(pymilvus().MilvusClient(uri, token=token, timeout=20)) as client:
        yield client, address
        if client.has_collection(NAME):
            client.drop_collection(NAME)
    if request.param == "lite":
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)


def test_a_field_names_the_photos_and_the_other_scalars_come_along(shop, tmp_path) -> None:
    client, address = shop
    (tmp_path / "a.jpg").write_bytes(b"ay")
    url = (tmp_path / "a.jpg").as_uri()
    filled(client, [row(7, str(tmp_path / "a.jpg"), tag="x"), row(8, url), row(9, ""), row(10, "ssh://host/a.jpg")])
    first, second, third, fourth = iterate(f"{address}/{NAME}?field=picture")
    facts = {name: first.fields[name] for name in ("bytes", "mtime")}
    assert first.path == tmp_path / "a.jpg"
    assert first.fields == {"origin_id": 7, "origin_width": 9, "price": 1.5, "tag": "x", **facts}
    assert (second.id, second.fields["origin_id"]) == (first.id, 8)
    assert third.source.endswith(f"/{NAME}!/9")
    assert third.error == "field picture holds no path; fill it in"
    assert "of no known kind" in (fourth.error or "")


def test_a_filter_and_a_dynamic_field(shop, tmp_path) -> None:
    client, address = shop
    filled(client, [row(number, "-", file=f"/p/{number}.jpg") for number in range(10)])
    found = iterate(f"{address}/{NAME}?field=file&filter=sku > 3 and sku%3C7")
    assert [(record.source, record.fields["picture"]) for record in found] == [(f"/p/{n}.jpg", "-") for n in (4, 5, 6)]
    with pytest.raises(SourceError, match="filter 'sku >' was refused by Milvus"):
        list(iterate(f"{address}/{NAME}?field=file&filter=sku >"))
    with pytest.raises(SourceError, match="names no photos; check field and filter"):
        list(iterate(f"{address}/{NAME}?field=file&filter=sku > 99"))


@pytest.mark.parametrize("key", ["INT64", "VARCHAR"])
def test_more_rows_than_a_page_come_once_each_with_keys_of_any_kind(shop, key) -> None:
    client, address = shop
    keys = [number if key == "INT64" else f'k"{number}\\' for number in range(1300)]
    filled(client, [row(one, f"/p/{number}.jpg") for number, one in enumerate(keys)], key)
    records = list(iterate(f"{address}/{NAME}?field=picture"))
    assert len(records) == 1300
    assert {record.fields["origin_id"] for record in records} == set(keys)


def test_what_is_not_there(shop) -> None:
    client, address = shop
    filled(client, [row(1, "/a.jpg")])
    with pytest.raises(SourceError, match=r"which field holds paths or URLs.*one of sku, picture, width, price"):
        list(iterate(f"{address}/{NAME}"))
    with pytest.raises(SourceError, match="there is no collection d_none; check its name and db"):
        list(iterate(f"{address}/d_none?field=picture"))
    (record,) = iterate(f"{address}/{NAME}?field=none")  # it might be a dynamic one
    assert record.error == "field none holds no path; fill it in"


def test_into_a_collection_of_the_same_server(shop, tmp_path, toy_encoder) -> None:
    client, address = shop
    for number in range(5):
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    filled(client, [row(number, str(tmp_path / f"{number}.png")) for number in range(5)])
    target = f"http://{address.partition('://')[2]}" if address.startswith("milvus:") else address.partition("://")[2]
    with SketchCollection.open("d_photos", toy_encoder, uri=target) as photos:
        try:
            summary = photos.ingest(f"{address}/{NAME}?field=picture")
            assert (summary.indexed, summary.failed) == (5, [])
            assert photos.ingest(f"{address}/{NAME}?field=picture").skipped == 5
            found = photos.call("read rows", "query", filter="origin_id == 3", output_fields=["source"])
            assert [one["source"] for one in found] == [f"{tmp_path}/3.png"]
        finally:
            photos.drop()
