"""Photos in a collection of our own, and the rows of an application's that we are attached to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pymilvus import DataType, MilvusClient

from compsketch_milvus.attached import Attached, attach
from compsketch_milvus.collection import SketchCollection


@pytest.fixture
def gallery(collection: SketchCollection, photos: Path) -> SketchCollection:
    """Four photos; `left.png` is the one that the sketch finds."""
    assert collection.ingest(photos).indexed == 4
    return collection


@pytest.fixture
def shop(lite: str, toy_encoder, photos: Path) -> Iterator[Attached]:
    """A shop's rows 1 to 4 for the same photos, each with a title and a price."""
    with closing(MilvusClient(lite)) as client:
        schema = client.create_schema(auto_id=False)
        schema.add_field("sku", DataType.INT64, is_primary=True)
        schema.add_field("photo", DataType.VARCHAR, max_length=4096)
        schema.add_field("title", DataType.VARCHAR, max_length=99)
        schema.add_field("text", DataType.FLOAT_VECTOR, dim=2)
        index = client.prepare_index_params()
        index.add_index("text", "FLAT", metric_type="L2")
        client.create_collection("products", schema=schema, index_params=index)
        files = sorted(photos.iterdir())
        client.insert(
            "products",
            [
                {"sku": number, "photo": str(file), "title": f"the {file.stem} one", "text": [0, 1]}
                for number, file in enumerate(files, 1)
            ],
        )
    with attach("products", toy_encoder, field="photo", uri=lite) as opened:
        assert opened.index().indexed == 4
        yield opened


@pytest.fixture
def strokes(sketch: Path) -> str:
    """The sketch as text."""
    text = sketch.read_text()
    assert json.loads(text)["objects"]
    return text
