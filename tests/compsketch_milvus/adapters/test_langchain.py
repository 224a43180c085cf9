"""The LangChain adapter with LangChain itself."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from compsketch_milvus.adapters.langchain import SketchEmbeddings, SketchRetriever
from compsketch_milvus.errors import CollectionError
from encoders.errors import ImageError, SketchError
from encoders.sketch import Sketch


def test_documents_of_a_collection(gallery, photos, strokes) -> None:
    retriever = SketchRetriever(photos=gallery, limit=2)
    assert isinstance(retriever, BaseRetriever)
    first, second = retriever.invoke(strokes)
    hit = gallery.search(Sketch.from_dict(json.loads(strokes)), limit=1)[0]
    assert (first.page_content, first.id) == (str((photos / "left.png").resolve()), hit.id)
    assert first.metadata == {
        "id": hit.id, "source": hit.source, "score": hit.score, "distance": hit.distance, "fields": hit.fields
    }  # fmt: skip
    assert second.metadata["score"] <= first.metadata["score"]


def test_a_sketch_in_any_form_also_asynchronously_and_in_a_chain(gallery, sketch, strokes) -> None:
    retriever = SketchRetriever(photos=gallery, limit=1)
    expected = retriever.invoke(strokes)
    for query in (str(sketch), json.loads(strokes), Sketch.open(sketch)):
        assert retriever.invoke(query) == expected
    assert asyncio.run(retriever.ainvoke(strokes)) == expected
    chain = retriever | RunnableLambda(lambda documents: documents[0].metadata["source"])
    assert chain.invoke(strokes) == expected[0].page_content
    assert retriever.batch([strokes, strokes]) == [expected, expected]


def test_documents_of_an_applications_rows(shop, strokes) -> None:
    retriever = SketchRetriever(photos=shop, filter="sku < 4", content="title", options={"output_fields": ["title"]})
    documents = retriever.invoke(strokes)
    assert len(documents) == 3
    assert (documents[0].page_content, documents[0].id) == ("the left one", str(documents[0].metadata["id"]))
    assert isinstance(documents[0].metadata["id"], int)
    assert documents[0].metadata["fields"] == {"title": "the left one"}


def test_confidence_is_passed_on(gallery, strokes, judging_encoder, monkeypatch) -> None:
    monkeypatch.setattr(gallery, "_encoder", judging_encoder)
    best = SketchRetriever(photos=gallery, limit=1).invoke(strokes)[0]
    assert 0 < best.metadata["confidence"] < 1
    assert SketchRetriever(photos=gallery, options={"min_confidence": 1.0}).invoke(strokes) == []


def test_mistakes_come_through_as_they_are(gallery, strokes) -> None:
    with pytest.raises(SketchError, match=r"nowhere\.json"):
        SketchRetriever(photos=gallery).invoke("nowhere.json")
    with pytest.raises(CollectionError, match="limit 0"):
        SketchRetriever(photos=gallery, limit=0).invoke(strokes)


def test_embeddings_in_a_vector_store_of_langchains(toy_encoder, photos, sketch, strokes) -> None:
    embeddings = SketchEmbeddings(toy_encoder, batch_size=3)
    assert isinstance(embeddings, Embeddings)
    files = sorted(map(str, photos.iterdir()))
    store = InMemoryVectorStore(embeddings)
    store.add_texts(files)
    assert store.similarity_search(strokes, k=1)[0].page_content == str(photos / "left.png")
    assert np.allclose(embeddings.embed_query(str(sketch)), embeddings.embed_query(strokes))
    assert asyncio.run(embeddings.aembed_documents(files)) == embeddings.embed_documents(files)
    assert embeddings.embed_documents([]) == []
    with pytest.raises(ImageError, match=r"document 1: .*nowhere\.jpg"):
        embeddings.embed_documents([files[0], "nowhere.jpg"])
