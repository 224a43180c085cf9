"""The embedding function, called as an application that uses pymilvus.model calls one."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus import CompsketchError, SketchEmbeddingFunction
from compsketch_milvus.errors import CompsketchError as Base
from encoders.errors import ImageError, SketchError
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


def test_the_text_of_a_sketch_is_one_too(function) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"><path d="M0 0L45 45"/></svg>'
    expected, drawn = function.encode_queries([STROKES, svg])
    assert np.array_equal(function.encode_queries(" " + json.dumps(STROKES))[0], expected)
    assert drawn.shape == (16,)


def test_nothing_in_nothing_out(function) -> None:
    assert function.encode_queries([]) == []
    assert function.encode_documents([]) == []
    assert function(iter([])) == []


def test_an_iterator_is_read_a_batch_at_a_time(function, toy_encoder) -> None:
    seen = []

    def photos():
        for number in range(5):
            seen.append((number, toy_encoder.batches))
            yield Image.new("RGB", (8, 8), (40 * number, 0, 0))

    assert len(function(photos())) == 5
    assert seen == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]
    assert len(function.encode_queries(STROKES for _ in range(5))) == 5


def test_mistakes(function, toy_encoder, tmp_path) -> None:
    with pytest.raises(SketchError, match="query 3: "):
        function.encode_queries([STROKES, STROKES, STROKES, {"width": 100}])
    with pytest.raises(SketchError, match="query 0: a int is no sketch"):
        function.encode_queries([7])
    with pytest.raises(SketchError, match=r"query 0: nowhere\.json"):
        function.encode_queries("nowhere.json")
    with pytest.raises(CompsketchError, match="a int cannot be encoded"):
        function.encode_documents(7)
    (tmp_path / "text.jpg").write_text("hello")
    good = Image.new("RGB", (8, 8))
    with pytest.raises(ImageError, match=r"document 3: .*text\.jpg"):
        function.encode_documents([good, good, good, tmp_path / "text.jpg"])
    with pytest.raises(ImageError, match="document 1: "):
        function.encode_documents([good, b"no photo"])


def test_a_fault_of_the_encoder_is_no_documents(function, toy_encoder, monkeypatch) -> None:
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(toy_encoder, "encode_images", broken)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        function([Image.new("RGB", (8, 8))])


def test_a_batch_size_of_nothing(toy_encoder) -> None:
    with pytest.raises(Base, match="batch_size 0"):
        SketchEmbeddingFunction(toy_encoder, batch_size=0)
