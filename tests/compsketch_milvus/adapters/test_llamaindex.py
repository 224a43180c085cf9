"""The LlamaIndex adapter with LlamaIndex itself."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle

from compsketch_milvus.adapters.llamaindex import SketchEmbedding, SketchRetriever
from compsketch_milvus.errors import CollectionError
from encoders.errors import ImageError, SketchError
from encoders.sketch import Sketch


def test_nodes_of_a_collection(gallery, photos, strokes) -> None:
    retriever = SketchRetriever(gallery, limit=2)
    assert isinstance(retriever, BaseRetriever)
    first, second = retriever.retrieve(strokes)
    hit = gallery.search(Sketch.from_dict(json.loads(strokes)), limit=1)[0]
    assert isinstance(first, NodeWithScore)
    assert isinstance(first.node, ImageNode)
    assert (first.score, first.node.node_id) == (hit.score, hit.id)
    assert (first.node.image_path, first.node.text) == (str((photos / "left.png").resolve()), "")
    assert first.node.resolve_image() == first.node.image_path
    assert first.node.metadata == {
        "id": hit.id, "source": hit.source, "score": hit.score, "distance": hit.distance, "fields": hit.fields
    }  # fmt: skip
    assert second.score <= first.score


def test_a_path_is_a_query_too_also_asynchronously(gallery, sketch, strokes) -> None:
    retriever = SketchRetriever(gallery, limit=1)
    expected = retriever.retrieve(strokes)
    assert retriever.retrieve(QueryBundle(str(sketch))) == expected
    assert asyncio.run(retriever.aretrieve(strokes)) == expected


def test_nodes_of_an_applications_rows(shop, strokes) -> None:
    retriever = SketchRetriever(shop, filter="sku < 4", content="title", output_fields=["title"])
    nodes = retriever.retrieve(strokes)
    assert len(nodes) == 3
    best = nodes[0].node
    assert (best.text, best.node_id) == ("the left one", str(best.metadata["id"]))
    assert best.metadata["fields"] == {"title": "the left one"}


def test_a_url_is_a_url(strokes) -> None:
    class Collection:
        def search(self, sketch, limit, filter):
            from compsketch_milvus.attached import AttachedHit

            return [AttachedHit(7, 0.5, 1.0, source="https://photos.example/a.jpg")]

    node = SketchRetriever(Collection()).retrieve(strokes)[0].node
    assert (node.image_url, node.image_path) == ("https://photos.example/a.jpg", None)


def test_mistakes_come_through_as_they_are(gallery, strokes) -> None:
    with pytest.raises(SketchError, match=r"nowhere\.json"):
        SketchRetriever(gallery).retrieve("nowhere.json")
    with pytest.raises(CollectionError, match="limit 0"):
        SketchRetriever(gallery, limit=0).retrieve(strokes)


def test_a_multi_modal_embedding(toy_encoder, photos: Path, sketch, strokes) -> None:
    embedding = SketchEmbedding(toy_encoder, embed_batch_size=3)
    assert isinstance(embedding, MultiModalEmbedding)
    assert embedding.model_name == "toy"
    files = sorted(map(str, photos.iterdir()))
    rows = embedding.get_image_embedding_batch(files)
    assert toy_encoder.batches == 2
    query = embedding.get_query_embedding(strokes)
    assert files[int(np.argmax(np.array(rows) @ query))] == str(photos / "left.png")
    assert embedding.get_image_embedding(io.BytesIO(Path(files[0]).read_bytes())) == rows[0]
    assert asyncio.run(embedding.aget_image_embedding(files[0])) == rows[0]
    assert asyncio.run(embedding.aget_query_embedding(str(sketch))) == query
    assert embedding.get_text_embedding(strokes) == query
    assert embedding.class_name() == "SketchEmbedding"
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        embedding.get_image_embedding("nowhere.jpg")
