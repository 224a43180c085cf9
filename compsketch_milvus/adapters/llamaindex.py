"""LlamaIndex: a retriever that is asked with a sketch, and a multi-modal embedding.

retriever = SketchRetriever(SketchCollection.open("photos", connect()), limit=10)
nodes = retriever.retrieve("two-dogs.json")  # or the stroke JSON itself
"""

from __future__ import annotations

import asyncio
from typing import Any

from compsketch_milvus.adapters import Found, Searchable, facts
from compsketch_milvus.encoder import Encoder
from compsketch_milvus.functions import SketchEmbeddingFunction, sketch_of

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.embeddings import MultiModalEmbedding
    from llama_index.core.schema import ImageNode, ImageType, NodeWithScore, QueryBundle
except ModuleNotFoundError as error:
    raise ImportError(
        f"the LlamaIndex adapter needs {error.name}, which is not installed: "
        'pip install "compsketch-milvus[llamaindex]"'
    ) from error

__all__ = ["SketchEmbedding", "SketchRetriever"]


class SketchRetriever(BaseRetriever):
    """Photos for a sketch, as ImageNodes with their scores.

    A node's id is the photo's, or the row's; its metadata are id, source, score, distance, fields and, where it is
    known, confidence.

    Args:
        photos: an open SketchCollection, or what `attach` gives.
        limit: number of nodes.
        filter: Milvus' filter expression.
        content: name of the field that is a node's text; "" for none.
        **options: further arguments of its `search`, such as `threshold`, or `output_fields` where it is attached.
    """

    def __init__(
        self, photos: Searchable, limit: int = 20, filter: str = "", *, content: str = "", **options: Any
    ) -> None:
        super().__init__()
        self._photos, self._limit, self._filter, self._content, self._options = photos, limit, filter, content, options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._photos.search(sketch_of(query_bundle.query_str), self._limit, self._filter, **self._options)
        return [NodeWithScore(node=self._node(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Found) -> ImageNode:
        place = {"image_url" if "://" in hit.source else "image_path": hit.source}
        text = str(hit.fields.get(self._content, "")) if self._content else ""
        return ImageNode(id_=str(hit.id), text=text, metadata=facts(hit), **place)


class SketchEmbedding(MultiModalEmbedding):
    """An embedding of photos, and of sketches in place of texts: stroke JSON, SVG, or a path.

    Args:
        encoder: an open encoder; None opens the one that `connect()` gives.
        **settings: LlamaIndex' own, such as `embed_batch_size`.
    """

    _function: SketchEmbeddingFunction = PrivateAttr()

    def __init__(self, encoder: Encoder | None = None, **settings: Any) -> None:
        function = SketchEmbeddingFunction(encoder)
        super().__init__(**{"model_name": function.encoder.name, **settings})
        self._function = function

    @classmethod
    def class_name(cls) -> str:
        """Its name in LlamaIndex' records."""
        return "SketchEmbedding"

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        images = [image if isinstance(image, str) else image.read() for image in img_file_paths]
        return [vector.tolist() for vector in self._function.encode_documents(images)]

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._function.encode_queries([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_query_embedding(text)
