"""Milvus' own index, measured: a temporary collection of vectors, searched through IVF_PQ and deleted again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.index import IndexChoice, ServerFacts, choose
from compsketch_milvus.probing import await_index, probe
from compsketch_milvus.rows import MESSAGE_BYTES, MESSAGE_ROWS
from compsketch_milvus.server import connect_server, guard, public_uri, pymilvus

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["MilvusIndex"]

TYPE = "IVF_PQ"
LONG = 600  # seconds for what moves data
BUILDING = 3600  # seconds for an index
QUERIES = 64  # searched in one call
LEAST_ROWS = 1024  # Milvus leaves a smaller segment without an index and searches it exactly


class MilvusIndex:
    """IVF_PQ of a Milvus server, as `encoders.evaluation` ranks through an index.

    Args:
        uri: a server's address; Milvus Lite has no IVF_PQ.
        token: token or user:password.
        db_name: Milvus database, or None for the server's default one.
    """

    def __init__(self, uri: str, *, token: str | None = None, db_name: str | None = None) -> None:
        self.uri, self._token, self._db_name = uri, token, db_name
        with self._client() as client, guard("ask for the version", uri):
            self.facts: ServerFacts = probe(client, uri)
        choose(self.facts, TYPE)  # refused before anything is encoded

    def describe(self, rows: int, dim: int) -> dict[str, Any]:
        """Kind and parameters for so many photos and vectors of such a length."""
        choice = self._choice(rows, dim)
        return {"kind": f"Milvus {self.facts.version} {TYPE}", **choice.params, **choice.search_params}

    def search(self, queries: np.ndarray, gallery: np.ndarray, depth: int) -> np.ndarray:
        """Rankings (Q, min(depth, G)) int64 of the queries (Q, d) against the gallery (G, d); -1 where one ends.

        Raises:
            CollectionError: too few photos for Milvus to index them.
            ServerError: Milvus cannot be reached or refuses, or does not finish the index.
        """
        rows, dim = gallery.shape
        if rows < LEAST_ROWS:
            raise CollectionError(
                f"{rows} photos: Milvus indexes {LEAST_ROWS} and more, and searches fewer exactly; add photos, such as "
                "--extra-gallery, or leave out --index-uri"
            )
        choice, depth = self._choice(rows, dim), min(depth, rows)
        found = np.full((len(queries), depth), -1, np.int64)
        with self._client() as client, self._collection(client, dim) as name:
            self._fill(client, name, gallery)
            self._build(client, name, choice, rows)
            for start in range(0, len(queries), QUERIES):
                block = [query.astype(np.float32) for query in queries[start : start + QUERIES]]
                parameters = {"metric_type": "L2", "params": choice.search_params}
                with guard("search", self.uri):
                    answers = client.search(name, data=block, limit=depth, search_params=parameters, timeout=LONG)
                for row, hits in enumerate(answers, start):
                    found[row, : len(hits)] = [hit["id"] for hit in hits]
        return found

    def _choice(self, rows: int, dim: int) -> IndexChoice:
        return choose(ServerFacts(self.facts.kind, self.facts.version, rows=rows, dim=dim), TYPE)

    @contextmanager
    def _client(self) -> Iterator[MilvusClient]:
        client = connect_server(self.uri, token=self._token, db_name=self._db_name)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def _collection(self, client: MilvusClient, dim: int) -> Iterator[str]:
        """A collection of a name that is nobody's, dropped at the end whatever happens."""
        name, kinds = f"compsketch_evaluation_{uuid.uuid4().hex}", pymilvus().DataType
        with guard("create a temporary collection", self.uri):
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", kinds.INT64, is_primary=True)
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
            client.create_collection(name, schema=schema, consistency_level="Strong", timeout=LONG)
        try:
            yield name
        finally:
            with guard("drop the temporary collection", self.uri):
                client.drop_collection(name, timeout=LONG)

    def _fill(self, client: MilvusClient, name: str, gallery: np.ndarray) -> None:
        step = max(1, min(MESSAGE_ROWS, MESSAGE_BYTES // (4 * gallery.shape[1])))
        for start in range(0, len(gallery), step):
            rows = [
                {"id": place, "vector": vector.astype(np.float32)}
                for place, vector in enumerate(gallery[start : start + step], start)
            ]
            with guard("store vectors", self.uri):
                client.insert(name, rows, timeout=LONG)
        with guard("flush", self.uri):  # what is not flushed is searched exactly
            client.flush(name, timeout=LONG)

    def _build(self, client: MilvusClient, name: str, choice: IndexChoice, rows: int) -> None:
        """Build the index and load it, once it holds every row: before, Milvus would search the rest exactly."""
        wanted = client.prepare_index_params()
        wanted.add_index("vector", choice.type, "vector", metric_type="L2", params=dict(choice.params))
        with guard(f"build the index {choice.type}", self.uri):
            client.create_index(name, wanted, sync=False, timeout=LONG)
        with guard("describe the index", self.uri):
            state = await_index(lambda: client.describe_index(name, "vector", timeout=LONG), BUILDING, rows)
        if int(state["indexed_rows"]) < rows:
            raise ServerError(
                f"{public_uri(self.uri)}: the index {choice.type} has {state['indexed_rows']} of {rows} rows "
                f"(state {state['state']}); does the server have what it needs for this type?"
            )
        with guard("load the collection", self.uri):
            client.load_collection(name, timeout=LONG)
