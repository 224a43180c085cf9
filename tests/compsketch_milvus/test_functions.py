"""The embedding function, called as an application that uses pymilvus.model calls one."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus import CompsketchError, SketchEmbeddingFunction
from compsketch_milvus.errors import CompsketchError as Base
from encoders.sketch import Sketch, SketchObject

STROKES = {"width": 100, "height": 100, "objects": [{"label": "dog", "strokes": [[[0, 45], [0, 45]]]}]}


@pytest.fixture
def function(toy_encoder) -> SketchEmbeddingFunction:
    return SketchEmbeddingFunction(toy_encoder, batch_size=2)


def test_shapes(function) -> None:
    assert function.dim == 16
    found = function.encode_queries([STROKES, STROKES])
    assert [(row.shape, row.dtype) for row in found] == [((16,), np.float32)] * 2


def test_a_sketch_its_dictionary_and_its_file_are_the_same(function, tmp_path) -> None:
    path = tmp_path / "ä b.json"
    path.write_text(json.dumps(STROKES), encoding="utf-8")
    sketch = Sketch(100, 100, (SketchObject([[[0, 45], [0, 45]]], label="dog"),))
    rows = function.encode_queries([sketch, STROKES, path, str(path)])
    assert all(np.array_equal(row, rows[0]) for row in rows)
    for one in (sketch, STROKES, path, str(path)):  # a single one is a list of one
        assert np.array_equal(function.encode_queries(one)[0], rows[0])


def test_photos_in_batches(function, toy_encoder, tmp_path) -> None:
    image = Image.new("RGB", (40, 30), (10, 200, 30))
    path, encoded = tmp_path / "a.png", io.BytesIO()
    image.save(path)
    image.save(encoded, "PNG")
    pixels = np.asarray(image)
    rows = function.encode_documents([image, path, str(path), encoded.getvalue(), pixels])
    assert toy_encoder.batches == 3
    assert len(rows) == 5
    assert all(np.allclose(row, rows[0]) for row in rows)
    for one in (image, path, str(path), encoded.getvalue(), pixels):
        assert np.allclose(function(one)[0], rows[0])


def test_nothing_in_nothing_out(function) -> None:
    assert function.encode_queries([]) == []
    assert function.encode_documents([]) == []


def test_mistakes(function, toy_encoder, tmp_path) -> None:
    with pytest.raises(CompsketchError):
        function.encode_queries([{"width": 100}])
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(CompsketchError, match=r"text\.jpg"):
        function.encode_documents([tmp_path / "text.jpg"])
    with pytest.raises(Base, match="batch_size 0"):
        SketchEmbeddingFunction(toy_encoder, batch_size=0)
