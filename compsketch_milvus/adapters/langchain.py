"""LangChain: a retriever that is asked with a sketch, and embeddings for its vector stores.

retriever = SketchRetriever(photos=SketchCollection.open("photos", connect()), limit=10)
documents = retriever.invoke("two-dogs.json")  # or the stroke JSON itself
"""

from __future__ import annotations

from typing import Any

from compsketch_milvus.adapters import facts
from compsketch_milvus.encoder import Encoder
from compsketch_milvus.functions import SketchEmbeddingFunction, sketch_of

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field
except ModuleNotFoundError as error:
    raise ImportError(
        f'the LangChain adapter needs {error.name}, which is not installed: pip install "compsketch-milvus[langchain]"'
    ) from error

__all__ = ["SketchEmbeddings", "SketchRetriever"]


class SketchRetriever(BaseRetriever):
    """Photos for a sketch, as Documents.

    A Document's id is the photo's, or the row's; its content is the photo's path or URL, or one of the row's fields;
    its metadata are id, source, score, distance, fields and, where it is known, confidence.

    Args:
        photos: an open SketchCollection, or what `attach` gives.
        limit: number of Documents.
        filter: Milvus' filter expression.
        content: name of the field that is a Document's content; "" for the photo's path or URL.
        options: further arguments of its `search`, such as `threshold`, or `output_fields` where it is attached.
    """

    photos: Any
    limit: int = 20
    filter: str = ""
    content: str = ""
    options: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(self, query: Any, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        hits = self.photos.search(sketch_of(query), self.limit, self.filter, **self.options)
        return [
            Document(
                page_content=str(hit.fields.get(self.content, "")) if self.content else hit.source,
                metadata=facts(hit),
                id=str(hit.id),
            )
            for hit in hits
        ]


class SketchEmbeddings(Embeddings):
    """Embeddings whose documents are paths of photos, and whose queries are sketches: stroke JSON, SVG, or a path.

    Args:
        encoder: an open encoder; None opens the one that `connect()` gives.
        batch_size: how many photos are encoded at once.
    """

    def __init__(self, encoder: Encoder | None = None, *, batch_size: int = 32) -> None:
        self._function = SketchEmbeddingFunction(encoder, batch_size=batch_size)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Paths of photos to unit vectors.

        Raises:
            ImageError: one of them cannot be read.
        """
        return [vector.tolist() for vector in self._function.encode_documents(texts)]

    def embed_query(self, text: str) -> list[float]:
        """A sketch to a unit vector.

        Raises:
            SketchError: it cannot be read.
        """
        vector: list[float] = self._function.encode_queries([text])[0].tolist()
        return vector
