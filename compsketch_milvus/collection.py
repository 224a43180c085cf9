"""A collection of photos in Milvus: its schema, the encoder it belongs to, and the ways in and out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.identity import PROPERTY, Identity
from compsketch_milvus.index import IndexChoice, ServerFacts, choose, probe
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import batches, check_id
from compsketch_milvus.server import (
    WAIT,
    DiskFullError,
    connect_server,
    guard,
    lite_path,
    public_uri,
    pymilvus,
    remove_index_files,
)
from compsketch_milvus.settings import COLLECTION_NAME, load_settings

if TYPE_CHECKING:
    import numpy as np
    from pymilvus import MilvusClient

    from compsketch_milvus.encoder import Encoder, ImageLike
    from compsketch_milvus.ingest import IngestSummary
    from compsketch_milvus.search import Hit
    from encoders.explain import Explanation
    from encoders.sketch import Sketch

__all__ = ["SketchCollection"]

LONG = 600  # seconds for what moves data
IDS_A_CALL = 1000
_log = logging.getLogger(__name__)


class SketchCollection:
    """Photos as vectors, searched with sketches. Made by `open`; a context manager.

    Attributes:
        name: of the collection.
        client: the open MilvusClient.
        uri: where it is, without credentials.
        facts: what is known of the server.
        index: the index in use, and why.
    """

    def __init__(self, name: str, encoder: Encoder | None, client: MilvusClient, uri: str, facts: ServerFacts) -> None:
        self.name, self.client, self.uri, self.facts = name, client, public_uri(uri), facts
        self._encoder = encoder
        self._unusable: str | None = None

    @classmethod
    def open(
        cls,
        name: str,
        encoder: Encoder | None,
        *,
        uri: str | None = None,
        token: str | None = None,
        db_name: str | None = None,
        create: bool = True,
        index: str = "auto",
        index_params: Mapping[str, Any] | None = None,
        attached: Mapping[str, Any] | None = None,
    ) -> SketchCollection:
        """Open a collection, or make it.

        Args:
            name: letters, digits and underscores.
            encoder: what its vectors are made with; None is enough for `info`, `count` and `delete`.
            uri: Milvus' address or a Milvus Lite file; None takes MILVUS_URI, else a file in the user's data folder.
            token: token or user:password; None takes MILVUS_TOKEN.
            db_name: database; None takes MILVUS_DB_NAME, else the default one.
            create: make the collection where there is none.
            index: "auto", or an index type; naming one that the collection does not have rebuilds its index.
            index_params: parameters for building that replace the defaults.
            attached: of a new collection that stands beside another one, what it belongs to.

        Raises:
            FingerprintError: the collection was made by another encoder.
            CollectionError: there is none and `create` is False, it was not made here, or name or index do not fit.
            ServerError: Milvus cannot be reached or refuses; a Milvus Lite file that another process has open.
        """
        if not COLLECTION_NAME.fullmatch(name):
            raise CollectionError(
                f"collection name {name!r}: use letters, digits and underscores, at most 255, no digit in front"
            )
        settings = load_settings(uri=uri, token=token, db_name=db_name)
        secret = settings.token.get_secret_value() if settings.token else None
        path = lite_path(settings.uri)
        if path is not None and not path.exists() and (encoder is None or not create):
            raise CollectionError(f"{settings.uri}: there is no such Milvus Lite file; ingest photos first")
        address = settings.uri if path is None else str(path)
        client = connect_server(settings.uri, token=secret, db_name=settings.db_name)
        try:
            with guard("connect", address):
                facts = probe(client, address)
            opened = cls(name, encoder, client, address, facts)
            opened._prepare(create, index, dict(index_params or {}), dict(attached) if attached else None)
        except BaseException:
            client.close()
            raise
        return opened

    @property
    def encoder(self) -> Encoder:
        """The encoder it was opened with.

        Raises:
            CollectionError: it was opened without one.
        """
        if self._encoder is None:
            raise CollectionError(f"collection {self.name!r} was opened without an encoder; open it with one to search")
        return self._encoder

    def call(self, doing: str, method: str, *, expression: str = "", **arguments: Any) -> Any:
        """Call a method of the MilvusClient on this collection, with this package's errors.

        Args:
            doing: the verb for an error's message.
            method: name of the MilvusClient's method.
            expression: the user's filter, where one is sent, for an error's message.
            **arguments: for the method; `timeout` is set where it is missing.
        """
        if self._unusable:
            raise ServerError(self._unusable)
        arguments = {"timeout": WAIT, **arguments}
        try:
            with guard(doing, self.uri, expression=expression):
                return getattr(self.client, method)(self.name, **arguments)
        except DiskFullError as error:
            # After a flush that failed, Milvus Lite shows none of the rows until the file is opened again.
            self._unusable = str(error)
            raise

    # --- making and opening ---

    def _prepare(self, create: bool, index: str, params: dict[str, Any], attached: dict[str, Any] | None) -> None:
        if self.call("look up the collection", "has_collection"):
            described = self.call("describe the collection", "describe_collection")
            self._identity = Identity.read(described, self.name)
            if self._encoder is not None:
                self._identity.check(self._encoder, self.name)
            self.facts = replace(self.facts, dim=self.dim)
            self._prepare_index(index, params)
        else:
            self._create(create, index, params, attached)
        self._load()

    def _load(self) -> None:
        try:
            self.call("load the collection", "load_collection", timeout=LONG)
        except DiskFullError:
            raise
        except ServerError as error:
            # A program killed, or a disk full, while Milvus Lite wrote an index file leaves half of one.
            if self.facts.kind != "lite" or not remove_index_files(Path(self.uri), self.name):
                raise
            _log.warning("collection %r: an index file is damaged (%s); building the index again", self.name, error)
            self.call("load the collection", "load_collection", timeout=6 * LONG)

    def _create(self, create: bool, index: str, params: dict[str, Any], attached: dict[str, Any] | None) -> None:
        if not create or self._encoder is None:
            with guard("list the collections", self.uri):
                there = ", ".join(sorted(self.client.list_collections(timeout=WAIT))) or "none"
            raise CollectionError(f"collection {self.name!r} does not exist at {self.uri}; there: {there}")
        encoder, kinds = self._encoder, pymilvus().DataType
        self.facts = replace(self.facts, dim=encoder.dim)
        choice = choose(self.facts, index, params)  # refused before anything is made
        noted = Identity.noted(choice, index)
        self._identity = Identity(encoder.name, encoder.fingerprint, encoder.dim, noted, attached=attached)
        kept = self._identity.to_json()
        with guard("create the collection", self.uri):
            schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True, description=kept)
            schema.add_field("id", kinds.VARCHAR, max_length=64, is_primary=True)
            schema.add_field("source", kinds.VARCHAR, max_length=4096)
            schema.add_field("width", kinds.INT64)
            schema.add_field("height", kinds.INT64)
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=encoder.dim)
        # Session: a search sees what this process wrote before it.
        more = {"schema": schema, "properties": {PROPERTY: kept}, "consistency_level": "Session"}
        self.call("create the collection", "create_collection", timeout=LONG, **more)
        self._build(choice)

    # --- the index ---

    def _prepare_index(self, index: str, params: dict[str, Any]) -> None:
        state = self._index_state()
        noted = self._identity.index
        if state and state.get("metric_type", "L2") != "L2":
            raise CollectionError(
                f"collection {self.name!r} is indexed by {state['metric_type']}, not L2; drop the index"
            )
        if state and state["index_type"] == noted["type"]:
            self.index = replace(choose(self.facts, noted["type"], noted["params"]), reason=noted["reason"])
        elif state:
            self.index = replace(choose(self.facts, state["index_type"]), reason="made by another program")
        if state and index.lower() == "auto" and not params:
            return
        wanted = choose(replace(self.facts, rows=self._rows()), index, params)
        if not state or (wanted.type, wanted.params) != (self.index.type, self.index.params):
            self._note(wanted, index)
            self._rebuild(wanted, bool(state))

    def _rows(self) -> int:
        """Rows as the server's statistics have them: good enough for choosing, and works before loading."""
        return int(self.call("count", "get_collection_stats")["row_count"])

    def _index_state(self) -> dict[str, Any]:
        """What the server says of the vector's index; empty where there is none."""
        if "vector" not in self.call("list the indexes", "list_indexes", field_name="vector"):
            return {}
        return dict(self.call("describe the index", "describe_index", index_name="vector") or {})

    def _build(self, choice: IndexChoice) -> None:
        wanted = self.client.prepare_index_params()
        # pymilvus sends parameters flat, and Milvus Lite reads only those under "params".
        params = {"params": choice.params} if self.facts.kind == "lite" else choice.params
        wanted.add_index("vector", choice.type, "vector", metric_type="L2", params=dict(params))
        # Milvus Lite has built it when the call returns; pymilvus would sleep half a second before it asks.
        waits: dict[str, Any] = {"timeout": 6 * LONG, "sync": self.facts.kind != "lite"}
        self.call(f"build the index {choice.type}", "create_index", index_params=wanted, **waits)
        self.index = choice

    def _rebuild(self, choice: IndexChoice, drop: bool) -> None:
        _log.info("collection %r: building index %s (%s)", self.name, choice.type, choice.reason)
        self.call("release the collection", "release_collection")
        if drop:
            self.call("drop the index", "drop_index", index_name="vector")
        self._build(choice)

    def _note(self, choice: IndexChoice, want: str) -> None:
        self._identity = replace(self._identity, index=Identity.noted(choice, want))
        kept = {PROPERTY: self._identity.to_json()}
        self.call("keep the index's parameters", "alter_collection_properties", properties=kept)

    def optimize(self) -> IndexChoice:
        """Give a collection that has outgrown exact search, and whose index was left to us, an approximate index.

        Returns:
            The index in use afterwards; its `reason` says why.
        """
        if self._identity.index["want"] == "auto" and self.index.type == "FLAT":
            choice = choose(replace(self.facts, rows=self.count()))
            if choice.type != "FLAT":
                self._note(choice, "auto")
                self._rebuild(choice, True)
                self.call("load the collection", "load_collection", timeout=6 * LONG)
        return self.index

    # --- rows in and out ---

    def upsert(self, records: Iterable[PhotoVector]) -> int:
        """Store photos; one whose id is there already is replaced.

        The photos are taken from `records` as they are sent, in messages of at most 32 MB. An error leaves the
        messages before it stored. On Milvus Lite, call `flush` after many: a search is slow until then.

        Returns:
            How many rows were written; an id given twice in one message counts once, and the last one stays.

        Raises:
            CollectionError: a record that does not fit, by its id.
            ServerError: Milvus cannot be reached, or its disk is full.
        """
        written = 0
        for rows in batches(records, self.dim):
            self.call("store photos", "upsert", data=rows, timeout=LONG)
            written += len(rows)
        return written

    def delete(self, ids: Sequence[str] | None = None, filter: str | None = None) -> int:
        """Delete photos by id or by a filter expression; returns how many there were.

        Raises:
            CollectionError: neither or both of `ids` and `filter` are given, or Milvus refuses the filter.
        """
        if (ids is None) == (not filter):
            raise CollectionError("delete needs either ids or a filter, such as 'width < 200'")
        if ids is None:
            found = self.count(filter or "")
            if found:
                self.call("delete photos", "delete", expression=filter or "", filter=filter, timeout=LONG)
            return found
        there = sorted(self.existing(ids))
        for chunk in _chunks(there):
            self.call("delete photos", "delete", ids=chunk, timeout=LONG)
        return len(there)

    def count(self, filter: str = "") -> int:
        """The exact number of photos, or of those that pass a filter expression."""
        more: dict[str, Any] = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        return int(self.call("count photos", "query", expression=filter, filter=filter, **more)[0]["count(*)"])

    def existing(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that are in the collection."""
        return set(self.stored(ids, ()))

    def stored(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is kept of photos: by id, those of the named fields that the photo has."""
        found: dict[str, dict[str, Any]] = {}
        for chunk in _chunks(dict.fromkeys(ids)):
            for one in chunk:
                check_id(one)
            expression = f"id in {json.dumps(chunk, ensure_ascii=False)}"
            for row in self.call("look up photos", "query", filter=expression, output_fields=["id", *fields]):
                found[row["id"]] = {name: row[name] for name in fields if name in row}
        return found

    def flush(self) -> None:
        """Write everything out, and change the index where the collection has outgrown it."""
        self.call("flush", "flush", timeout=LONG)
        self.optimize()

    def ingest(self, source: Any, **options: Any) -> IngestSummary:
        """Index the photos of a folder, glob or manifest; see `compsketch_milvus.ingest.ingest`."""
        from compsketch_milvus.ingest import ingest

        return ingest(self, source, **options)

    # --- searching ---

    def search(self, sketch: Sketch, limit: int = 20, filter: str = "", **options: Any) -> list[Hit]:
        """The photos that hold a sketch's objects in its layout, best first; see `compsketch_milvus.search.search`."""
        from compsketch_milvus.search import search

        return search(self, sketch, limit, filter, **options).hits

    def explain(self, hit: Hit, sketch: Sketch, *, words: bool = False) -> Explanation:
        """What each object adds to a hit's score, and in which cells; see `compsketch_milvus.explain.explain`."""
        from compsketch_milvus.explain import explain

        return explain(self, [hit], sketch, words=words)[0]

    def search_vector(self, vector: np.ndarray, limit: int = 20, filter: str = "") -> list[Hit]:
        """The photos nearest to a (dim,) vector of unit length that this collection's encoder made."""
        from compsketch_milvus.search import search_vectors

        return search_vectors(self, vector, limit, filter)[0].hits

    def search_image(self, image: ImageLike, limit: int = 20, filter: str = "") -> list[Hit]:
        """More like this: the photos nearest to a photo."""
        from compsketch_milvus.search import search_image

        return search_image(self, image, limit, filter).hits

    # --- the rest ---

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._identity.dim

    @property
    def attached(self) -> dict[str, Any] | None:
        """What it belongs to, where it stands beside another collection."""
        return self._identity.attached

    def info(self) -> dict[str, Any]:
        """The collection in one JSON object: name, count, dim, encoder, index and server."""
        state = self._index_state()
        index = {"type": self.index.type, "params": self.index.params, "reason": self.index.reason}
        return {
            "collection": self.name,
            "count": self.count(),
            "dim": self.dim,
            "encoder": {"name": self._identity.encoder, "fingerprint": self._identity.fingerprint},
            "index": {**index, "state": str(state.get("state", "missing"))},
            "server": {"kind": self.facts.kind, "version": self.facts.version, "uri": self.uri},
        }

    def drop(self) -> None:
        """Delete the collection with all its photos, and close."""
        self.call("drop the collection", "drop_collection", timeout=LONG)
        self.close()

    def close(self) -> None:
        """Close the connection. Milvus Lite keeps its file locked until this process ends."""
        if self._unusable is None:
            self._unusable = f"collection {self.name!r} is closed; open it again"
        self.client.close()

    def __enter__(self) -> SketchCollection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, IDS_A_CALL)):
        yield chunk
