"""`compsketch attach` and `search-attached`, beside a shop's collection on Milvus Lite."""

from __future__ import annotations

import json
import math
import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from compsketch_milvus.attached import AttachedHit, AttachedResult
from compsketch_milvus.commands.attach import _search_json


@pytest.fixture
def shop(photos: Path, tmp_path: Path) -> dict[str, int]:
    """A collection `products` with one row a photo, in the file that the program uses; the key by the photo's name."""
    names = sorted(path.stem for path in photos.iterdir())
    with closing(MilvusClient(str(tmp_path / "photos.db"))) as client:
        schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("sku", DataType.INT64, is_primary=True)
        schema.add_field("photo", DataType.VARCHAR, max_length=4096)
        schema.add_field("text", DataType.FLOAT_VECTOR, dim=2)
        index = client.prepare_index_params()
        index.add_index("text", "FLAT", metric_type="L2")
        client.create_collection("products", schema=schema, index_params=index)
        rows = [
            {"sku": 7 + place, "photo": str(photos / f"{name}.png"), "text": [0, place], "price": 10 * place}
            for place, name in enumerate(names)
        ]
        client.insert("products", rows)
    return {name: 7 + place for place, name in enumerate(names)}


def change(tmp_path: Path, method: str, **arguments: object) -> None:
    with closing(MilvusClient(str(tmp_path / "photos.db"))) as client:
        getattr(client, method)("products", **arguments)


def test_attach_then_search(program, shop, sketch, photos) -> None:
    done = program.json("attach", "products", "--field", "photo")
    assert {name: done[name] for name in ("collection", "into", "read", "indexed", "skipped", "failed", "pruned")} == {
        "collection": "products", "into": "products_sketch", "read": 4, "indexed": 4, "skipped": 0, "failed": [],
        "pruned": 0,
    }  # fmt: skip
    found = program.json("search-attached", "products", sketch, "--limit", 2, "--fields", "price, text")
    best = found["hits"][0]
    assert (best["rank"], best["id"], best["source"]) == (1, shop["left"], str(photos / "left.png"))
    assert best["fields"] == {"price": 10 * (shop["left"] - 7), "text": [0.0, shop["left"] - 7.0]}
    assert (len(found["hits"]), found["gone"]) == (2, 0)
    dear = program.json("search-attached", "products", sketch, "--filter", "price >= 20")
    assert len(dear["hits"]) == 2

    assert program("attach", "products") == 0
    assert program.out.startswith("0 indexed, 4 skipped, 0 failed, 0 pruned in ")
    assert program("search-attached", "products", sketch, "--limit", 1, "--fields", "price") == 0
    heading, hit = program.out.splitlines()
    assert heading.split() == ["#", "score", "id", "price"]
    assert hit.split() == ["1", "1.000", str(shop["left"]), str(10 * (shop["left"] - 7))]


def test_a_number_that_json_lacks_is_null() -> None:
    hit = AttachedHit(7, 0.5, 1.0, {"weight": math.nan, "vector": np.array([1.5], np.float32), "raw": b"x"})
    (shown,) = _search_json("products", AttachedResult([hit], 0, {}))["hits"]
    assert shown["fields"] == {"weight": None, "vector": [1.5], "raw": "b'x'"}


def test_rows_that_are_gone_are_told_of_until_they_are_pruned(program, shop, sketch, tmp_path) -> None:
    program("attach", "products", "--field", "photo")
    change(tmp_path, "delete", ids=[shop["left"]])
    assert program("search-attached", "products", sketch) == 0
    assert "1 better photos are left out" in program.err
    assert program.json("attach", "products", "--prune")["pruned"] == 1
    assert program.json("search-attached", "products", sketch)["gone"] == 0


def test_rows_that_fail_are_listed_and_kept_in_a_file(program, shop, photos, tmp_path) -> None:
    (photos / "left.png").write_text("I am no photo")
    file = tmp_path / "rejects.jsonl"
    done = program.json("attach", "products", "--field", "photo", "--rejects", file, status=1)
    assert (done["indexed"], [Path(failure["source"]).name for failure in done["failed"]]) == (3, ["left.png"])
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["id"], line["fields"]["key"]) for line in kept] == [(str(shop["left"]), shop["left"])]
    assert program("attach", "products") == 1
    assert "failed: " in program.err


def test_sigterm_drains_and_ctrl_c_breaks_off_and_both_are_resumed(program, shop, toy_encoder, monkeypatch) -> None:
    encode = toy_encoder.encode_images

    def asked_to_end(images):
        if toy_encoder.batches == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", asked_to_end)
    done = program.json("attach", "products", "--field", "photo", "--batch-size", 1)
    assert done["read"] == done["indexed"] >= 1
    assert done["drained"] or done["indexed"] == 4

    def interrupted(images):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_encoder, "encode_images", interrupted)
    stopped = program.json("attach", "products", "--force", status=130)
    assert "interrupted after" in stopped["error"]
    monkeypatch.setattr(toy_encoder, "encode_images", encode)
    last = program.json("attach", "products")
    assert last["indexed"] + last["skipped"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attach", "products"], "nothing is attached to collection 'products' yet.*--field"),
        (["attach", "nothing", "--field", "photo"], "'nothing' does not exist.*products"),
        (["attach", "products", "--field", "text"], "FLOAT_VECTOR"),
        (["attach", "products", "--field", "photo", "--kind", "jpeg"], "kind 'jpeg'"),
        (["attach", "products", "--field", "photo", "--into", "products"], "was not made by compsketch"),
        (["attach", "products", "--field", "photo", "--into", "no name"], "'no name'"),
        (["attach", "products", "--field", "photo", "--in-place", "sketch", "--yes"], "Milvus Lite cannot add a field"),
        (["attach", "products", "--field", "photo", "--in-place", "sketch", "--prune"], "nothing to --prune"),
    ],
)
def test_mistakes_are_one_line(program, shop, arguments, words) -> None:
    program.refused(words, *arguments)


def test_mistakes_in_a_search_are_one_line(program, shop, sketch, tmp_path) -> None:
    program.refused("nothing is attached", "search-attached", "products", sketch)
    program("attach", "products", "--field", "photo")
    program.refused("limit", "search-attached", "products", sketch, "--limit", 0)
    program.refused("filter 'price >' was refused", "search-attached", "products", sketch, "--filter", "price >")
    program.refused(r"nowhere\.json", "search-attached", "products", tmp_path / "nowhere.json")
