"""Sketch search beside somebody else's collection, on Milvus Lite."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from unittest.mock import ANY

import numpy as np
import pytest
from PIL import Image
from pymilvus import DataType, MilvusClient

from compsketch_milvus import attached
from compsketch_milvus.attached import AttachedHit, attach
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, FingerprintError, IngestError
from compsketch_milvus.imagefield import row_id
from compsketch_milvus.records import PhotoVector
from encoders.sketch import Sketch

LEFT = {"width": 32, "height": 32, "objects": [{"strokes": [[[0, 7, 7, 0, 0], [0, 0, 31, 31, 0]]]}]}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 0.png to 7.png: the n-th dark in column n of eight."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        pixels = np.full((64, 64, 3), 255, np.uint8)
        pixels[:, 8 * number : 8 * number + 8] = 0
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def client(lite: str) -> Iterator[MilvusClient]:
    opened = MilvusClient(lite)
    yield opened
    opened.close()


@pytest.fixture
def shop(client: MilvusClient, pictures: Path) -> MilvusClient:
    """A shop's `products`: INT64 keys 100 to 107, paths of photos, a price, and a vector of its own."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("sku", DataType.INT64, is_primary=True)
    schema.add_field("photo", DataType.VARCHAR, max_length=65535)
    schema.add_field("meta", DataType.JSON)
    schema.add_field("price", DataType.INT64)
    schema.add_field("text", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("text", "FLAT", metric_type="IP")
    client.create_collection("products", schema=schema, index_params=index)
    client.insert("products", [product(number, pictures / f"{number}.png") for number in range(8)])
    return client


def product(number: int, photo: Path | str) -> dict:
    return {
        "sku": 100 + number,
        "photo": str(photo),
        "meta": {"photo": str(photo), "lang": "de"},
        "price": 10 * number,
        "text": [0.5, number],
        "title": f"product {number}",
    }


@pytest.fixture
def attach_(lite: str, toy_encoder) -> Iterator[Callable[..., attached.Attached]]:
    opened = []

    def attach_(name: str = "products", encoder=toy_encoder, **options) -> attached.Attached:
        opened.append(attach(name, encoder, uri=lite, **options))
        return opened[-1]

    yield attach_
    for one in opened:
        one.close()


@pytest.fixture
def sketch() -> Sketch:
    """Dark on the left, like 0.png and 1.png, which are alike to the toy."""
    return Sketch.from_dict(LEFT)


def counts(summary) -> tuple[int, int, int]:
    assert summary.read == summary.indexed + summary.skipped + len(summary.failed)
    return summary.indexed, summary.skipped, len(summary.failed)


def keys(result) -> list:
    return [hit.id for hit in result]


# --- indexing ---


def test_hits_carry_the_owners_key_and_fields(shop, attach_, sketch, pictures) -> None:
    search = attach_(field="photo")
    assert counts(search.index()) == (8, 0, 0)
    found = search.search(sketch, limit=2, output_fields=["title", "price"])
    assert found.hits == [
        AttachedHit(100 + place, ANY, ANY, {"title": f"product {place}", "price": 10 * place}, ANY)
        for place in range(2)
    ]
    assert [hit.source for hit in found] == [str(pictures.resolve() / f"{place}.png") for place in range(2)]
    assert [hit.score for hit in found] == pytest.approx([1, 1], abs=1e-3)
    assert [hit.score for hit in found] == pytest.approx([1 - hit.distance**2 / 2 for hit in found])
    assert (found.gone, set(found.seconds)) == (0, {"encode", "search"})
    assert search.search(sketch, limit=1).hits[0].fields == {}


def test_the_owners_collection_stays_as_it_is(shop, attach_, sketch) -> None:
    def state() -> str:
        rows = shop.query("products", filter="sku >= 0", output_fields=["*"])
        facts = [shop.describe_collection("products"), shop.describe_index("products", "text"), sorted(map(str, rows))]
        return str([facts, shop.list_indexes("products"), shop.get_load_state("products")])

    before = state()
    search = attach_(field="photo")
    search.index()
    search.search(sketch, filter="price > 10")
    search.prune()
    assert state() == before


def test_a_second_run_encodes_what_is_new_or_changed(shop, attach_, toy_encoder, pictures) -> None:
    attach_(field="photo").index()
    shop.insert("products", [product(8, pictures / "0.png")])
    shop.upsert("products", [product(1, pictures / "7.png")])
    Image.new("L", (8, 8)).save(pictures / "2.png")  # another file of the same name
    toy_encoder.images = 0
    again = attach_()  # field and kind are remembered
    assert counts(again.index()) == (3, 6, 0)
    assert toy_encoder.images == 3
    assert counts(again.index(force=True)) == (9, 0, 0)


def test_it_goes_on_where_it_was_interrupted(shop, attach_, toy_encoder, monkeypatch) -> None:
    encode = toy_encoder.encode_images

    def interrupted(images):
        if toy_encoder.batches == 2:
            raise KeyboardInterrupt
        return encode(images)

    search = attach_(field="photo")
    monkeypatch.setattr(toy_encoder, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.index(batch_size=2)
    monkeypatch.setattr(toy_encoder, "encode_images", encode)
    written = search.side.count()
    assert counts(search.index()) == (8 - written, written, 0)


def test_rows_without_a_usable_image_are_listed_and_the_others_go_on(shop, attach_, pictures) -> None:
    (pictures / "text.png").write_text("I am no photo")
    bad = ["", "relative.png", "/nowhere/x.png", str(pictures / "text.png")]
    shop.insert("products", [product(20 + number, value) for number, value in enumerate(bad)])
    summary = attach_(field="photo").index()
    assert counts(summary) == (8, 0, 4)
    reasons = {failure.source: failure.reason for failure in summary.failed}
    assert "field photo is empty" in reasons["products/120"]
    assert "'relative.png' is relative" in reasons["products/121"]
    assert reasons["/nowhere/x.png"]
    assert reasons[str(pictures.resolve() / "text.png")]


def test_relative_paths_are_meant_from_a_root_that_they_cannot_leave(shop, attach_, pictures) -> None:
    (pictures / "inner").mkdir()
    shop.insert("products", [product(30, "../0.png"), product(31, "../inner/../1.png"), product(32, "1.png")])
    (pictures / "inner" / "1.png").write_bytes((pictures / "1.png").read_bytes())
    summary = attach_(field="photo", root=pictures / "inner").index()
    assert (summary.indexed, len(summary.failed)) == (1, 10)  # the shop's own absolute paths lie outside, too
    assert all("leaves" in failure.reason for failure in summary.failed)


@pytest.mark.parametrize("form", ["{}", "data:image/png;base64,{}", "{}\n"])
@pytest.mark.parametrize("place", ["dynamic", "meta"])
def test_bytes_in_base64_in_a_dynamic_field_or_inside_json(shop, attach_, pictures, form, place) -> None:
    text = form.format(base64.b64encode((pictures / "3.png").read_bytes()).decode())
    row = {**product(3, ""), "dynamic": text, "meta": {"image": {"png": text}}}
    shop.upsert("products", [row])
    shop.upsert("products", [{**product(4, ""), "dynamic": "!", "meta": {"image": {"png": "!"}}}])
    summary = attach_(field="dynamic" if place == "dynamic" else 'meta["image"]["png"]', kind="bytes").index()
    assert counts(summary) == (1, 0, 7)
    reasons = {failure.source: failure.reason for failure in summary.failed}
    assert "is not base64" in reasons["products/104"]


@pytest.fixture
def web(pictures) -> Iterator[str]:
    """The address of a web server on this machine that gives out the pictures."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(pictures))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_urls_are_read_by_the_rules_of_other_sources(shop, attach_, web, sketch) -> None:
    for number in range(8):
        shop.upsert("products", [{**product(number, ""), "url": f"{web}/{number}.png"}])
    refused = attach_(field="url").index()
    assert counts(refused) == (0, 0, 8)
    assert all("private address" in failure.reason for failure in refused.failed)
    allowed = attach_(allow_private=True)
    assert counts(allowed.index()) == (8, 0, 0)
    assert counts(allowed.index()) == (0, 8, 0)
    assert {hit.source for hit in allowed.search(sketch, limit=2)} == {f"{web}/0.png", f"{web}/1.png"}
    shop.upsert("products", [{**product(3, ""), "url": f"{web}/nothing.png"}, {**product(4, ""), "url": "ftp://x/y"}])
    again = allowed.index()
    assert counts(again) == (0, 6, 2)
    assert {failure.source for failure in again.failed} == {f"{web}/nothing.png", "ftp://x/y"}


def test_auto_tells_data_uris_from_paths(shop, attach_, pictures) -> None:
    text = "data:image/png;base64," + base64.b64encode((pictures / "3.png").read_bytes()).decode()
    shop.upsert("products", [product(5, text)])
    assert counts(attach_(field='meta["photo"]').index()) == (8, 0, 0)


def test_text_keys_of_any_kind(client, attach_, pictures, sketch) -> None:
    odd = ['say "hi"', "it's", "back\\slash", "two\nlines", "Straße", "x" * 300, "sha256-x", " "]
    schema = client.create_schema(auto_id=False)
    schema.add_field("name", DataType.VARCHAR, max_length=500, is_primary=True)
    schema.add_field("photo", DataType.VARCHAR, max_length=500)
    schema.add_field("text", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("text", "FLAT", metric_type="L2")
    client.create_collection("things", schema=schema, index_params=index)
    photos = [str(pictures / f"{number}.png") for number in range(8)]
    client.insert(
        "things", [{"name": key, "photo": photo, "text": [0, 1]} for key, photo in zip(odd, photos, strict=True)]
    )
    search = attach_("things", field="photo")
    assert counts(search.index()) == (8, 0, 0)
    assert counts(search.index()) == (0, 8, 0)
    found = search.search(sketch, limit=8, output_fields=["photo"])
    assert {hit.id: hit.fields["photo"] for hit in found} == dict(zip(odd, photos, strict=True))
    assert set(keys(search.search(sketch, filter=f"name in {json.dumps(odd[:3])}"))) == set(odd[:3])
    client.delete("things", ids=odd[4:6])
    assert search.prune() == 2


def test_ids_are_keys_as_text_where_they_can_be() -> None:
    assert [row_id(key) for key in (7, -(2**63), "a b", "Straße")] == ["7", "-9223372036854775808", "a b", "Straße"]
    hashed = [row_id(key) for key in ("x" * 65, "tab\t", "", "sha256-x", row_id("x" * 65))]
    assert len(set(hashed)) == 5
    assert all(one.startswith("sha256-") and len(one) == 64 for one in hashed)


# --- searching ---


@pytest.fixture
def many(client: MilvusClient, attach_, toy_encoder) -> attached.Attached:
    """Three hundred rows of random vectors, put beside the owner's without photos; odd keys are `odd`."""
    schema = client.create_schema(auto_id=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("photo", DataType.VARCHAR, max_length=10)
    schema.add_field("odd", DataType.BOOL)
    schema.add_field("rank", DataType.INT64)
    schema.add_field("text", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("text", "FLAT", metric_type="L2")
    client.create_collection("many", schema=schema, index_params=index)
    vectors = np.random.default_rng(3).normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(np.argsort(-vectors[:, 0]))  # the place of each in an answer to the first axis
    client.insert(
        "many",
        [
            {"key": key, "photo": "", "odd": bool(key % 2), "rank": int(order[key]), "text": [0, 1]}
            for key in range(300)
        ],
    )
    search = attach_("many", field="photo")
    search.side.upsert(
        PhotoVector(row_id(key), "", 1, 1, vector, {"key": key, "digest": ""}) for key, vector in enumerate(vectors)
    )
    return search


AXIS = np.eye(1, 16, dtype=np.float32)[0]


def ranks(search: attached.Attached, limit: int, filter: str, **options) -> list[int]:
    found = search.search_vector(AXIS, limit, filter, output_fields=["rank"], **options)
    return [hit.fields["rank"] for hit in found]


@pytest.mark.parametrize("resolved", [1000, 40, 7])
@pytest.mark.parametrize("most", [300, 16, 2])
def test_a_filter_leaves_none_out_however_many_pass(many, monkeypatch, resolved, most) -> None:
    """Whether keys are looked up first, or photos ranked first, or too few of those pass."""
    monkeypatch.setattr(attached, "RESOLVED", resolved)
    monkeypatch.setattr(attached, "MAX_LIMIT", most)
    limit = min(most, 5)
    assert ranks(many, limit, "rank >= 0") == list(range(limit))
    assert ranks(many, limit, "rank >= 250") == list(range(250, 250 + limit))
    assert ranks(many, limit, "rank in [3, 299]") == [3, 299][:limit]
    assert ranks(many, limit, "rank > 999") == []
    assert (
        ranks(many, limit, "odd == true")
        == sorted(row["rank"] for row in many.owner.rows(range(1, 300, 2), ["rank"]).values())[:limit]
    )


def test_a_threshold_cuts_the_same_with_and_without_a_filter(many, monkeypatch) -> None:
    best = many.search_vector(AXIS, 9).hits
    least = (best[2].score + best[3].score) / 2
    assert ranks(many, 9, "", threshold=least) == [0, 1, 2]
    for resolved in (1000, 10):
        monkeypatch.setattr(attached, "RESOLVED", resolved)
        assert ranks(many, 9, "rank != 1", threshold=least) == [0, 2]


def test_an_index_that_brings_few_photos_is_not_asked_for_more(many, monkeypatch) -> None:
    """As one on a GPU brings 1024."""
    index = many.side.index
    many.side.index = replace(index, consequences=replace(index.consequences, max_hits=16))
    monkeypatch.setattr(attached, "RESOLVED", 40)
    assert ranks(many, 5, "rank >= 100") == [100, 101, 102, 103, 104]
    with pytest.raises(CollectionError, match="limit 17: index FLAT gives at most 16 photos"):
        ranks(many, 17, "rank >= 100")


def test_rows_that_are_gone_are_left_out_and_counted_and_pruned(many, client) -> None:
    best = keys(many.search_vector(AXIS, 6))
    client.delete("many", ids=[best[1], best[2], best[5]])
    found = many.search_vector(AXIS, 4)
    assert (keys(found)[:3], len(found), found.gone) == ([best[0], best[3], best[4]], 4, 3)
    assert many.search_vector(AXIS, 2).gone == 2
    assert many.search_vector(AXIS, 4, threshold=found.hits[1].score).gone == 2  # the third would be below it
    assert many.prune() == 3
    again = many.search_vector(AXIS, 4)
    assert (keys(again), again.gone) == (keys(found), 0)
    assert many.prune() == 0


def test_confidence_is_the_encoders(shop, attach_, sketch, judging_encoder) -> None:
    search = attach_(encoder=judging_encoder, field="photo")
    search.index()
    found = search.search(sketch, limit=3)
    assert all(0 < hit.confidence < 1 for hit in found)
    assert len(search.search(sketch, min_confidence=1.0)) == 0
    with pytest.raises(CollectionError, match="min_confidence 2"):
        search.search(sketch, min_confidence=2)


def test_mistakes_in_a_search(shop, attach_, sketch) -> None:
    search = attach_(field="photo")
    for limit in (0, -1, 16385, True):
        with pytest.raises(CollectionError, match="limit"):
            search.search(sketch, limit)
    with pytest.raises(CollectionError, match="filter 'price >' was refused"):
        search.search(sketch, filter="price >")
    with pytest.raises(CollectionError, match="is no Sketch"):
        search.search("a cup")  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="not calibrated"):
        search.search(sketch, min_confidence=0.5)


# --- opening ---


def test_what_it_is_attached_to_is_remembered_and_told(shop, attach_, lite, toy_encoder) -> None:
    attach_(field="photo", kind="path").index()
    facts = attach_().info()
    assert facts["collection"] == "products_sketch"
    assert facts["attached"] == {
        "collection": "products", "field": "photo", "kind": "path", "key": "sku", "root": None, "rows": 8
    }  # fmt: skip
    with SketchCollection.open("products_sketch", toy_encoder, uri=lite) as photos:  # one like any other
        assert photos.count() == 8


def test_mistakes_in_attaching(shop, attach_, toy, lite) -> None:
    with pytest.raises(CollectionError, match="nothing is attached to collection 'products' yet"):
        attach_()
    with pytest.raises(CollectionError, match=r"'nothing' does not exist.*products"):
        attach_("nothing", field="photo")
    with pytest.raises(CollectionError, match="field 'text' is of type FLOAT_VECTOR"):
        attach_(field="text")
    with pytest.raises(CollectionError, match=r"field 'a b': give a name"):
        attach_(field="a b")
    with pytest.raises(CollectionError, match="kind 'jpeg'"):
        attach_(field="photo", kind="jpeg")
    assert shop.list_collections() == ["products"]  # refused before anything is made
    attach_(field="photo")
    with pytest.raises(CollectionError, match="was attached with field 'photo', not 'meta'"):
        attach_(field="meta")
    with pytest.raises(FingerprintError):
        attach_(encoder=toy.ToyEncoder(fingerprint="toy-ffffffffffffffff"))
    with pytest.raises(CollectionError, match="'products' was not made by compsketch"):
        attach_(field="photo", into="products")
    SketchCollection.open("mine", toy.ToyEncoder(), uri=lite).close()
    with pytest.raises(CollectionError, match="'mine' holds photos of its own"):
        attach_(field="photo", into="mine")


def test_nothing_stays_open_where_the_field_is_gone(shop, attach_, monkeypatch) -> None:
    attach_(field="photo")
    kept = {"collection": "products", "field": "photo", "kind": "nothing", "key": "sku", "root": None}
    monkeypatch.setattr(SketchCollection, "attached", property(lambda self: kept))
    closed, close, close_side = [], MilvusClient.close, SketchCollection.close
    monkeypatch.setattr(MilvusClient, "close", lambda self: closed.append("client") or close(self))
    monkeypatch.setattr(SketchCollection, "close", lambda self: closed.append("side") or close_side(self))
    with pytest.raises(CollectionError, match="kind 'nothing': a field holds one of"):
        attach_()
    assert closed == ["side", "client", "client"]  # the side's own, and the owner's


def test_a_file_that_is_not_there_is_not_made(tmp_path, toy_encoder) -> None:
    with pytest.raises(CollectionError, match=r"none\.db: there is no such Milvus Lite file"):
        attach("products", toy_encoder, field="photo", uri=str(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_collection_without_dynamic_fields_has_those_of_its_schema_only(client, attach_) -> None:
    client.create_collection("plain", dimension=2, enable_dynamic_field=False)
    with pytest.raises(CollectionError, match="'plain' has no field 'photo'; it has vector"):
        attach_("plain", field="photo")


def test_a_collection_that_is_not_loaded_is_left_so(shop, attach_) -> None:
    shop.release_collection("products")
    with pytest.raises(CollectionError, match="'products' is not loaded"):
        attach_(field="photo")
    assert "NotLoad" in str(shop.get_load_state("products"))


def test_a_server_that_gives_way_is_an_ingest_error(shop, attach_, monkeypatch) -> None:
    search = attach_(field="photo")
    monkeypatch.setattr(search.side, "upsert", lambda records: 1 / 0)
    with pytest.raises(IngestError, match="it goes on from there"):
        search.index()
