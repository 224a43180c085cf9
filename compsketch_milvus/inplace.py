"""Sketch search inside an application's own collection: a vector field that is added to it, where its server can.

Unlike `attached`, this alters what is somebody else's, and so nothing happens before `alterations` was agreed to.
Milvus adds fields from 2.6 on, and vector fields from a later 2.6 or 3.0 on; it says so itself where it cannot.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.attached import AttachedHit, AttachedResult, encoded, judged, remembered
from compsketch_milvus.encoder import Encoder, connect
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.identity import Identity
from compsketch_milvus.imagefield import ImageField
from compsketch_milvus.index import IndexChoice, ServerFacts, choose
from compsketch_milvus.owner import Owner
from compsketch_milvus.paging import Key
from compsketch_milvus.ranking import ranked
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.server import WAIT, connect_server, guard, lite_path, pymilvus
from compsketch_milvus.settings import load_settings
from compsketch_milvus.terms import RERANK, Terms
from encoders import tracing
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from compsketch_milvus.tally import IngestSummary

__all__ = ["InPlace", "alterations", "attach_in_place"]

LEAST = (2, 6)
LONG = 600  # seconds for what moves data


def alterations(collection: str, vector: str, dim: int) -> list[str]:
    """What is done to a collection, a sentence each."""
    return [
        f"collection {collection!r} gets a field {vector!r} (FLOAT_VECTOR of {dim}, nullable), whose description "
        "names the encoder, and an index on it",
        f"collection {collection!r} gets a field {_digest(vector)!r} (VARCHAR, nullable), to see what has changed",
        "each row with an image is written anew with those two fields: what an application changes in a row in that "
        "moment can be lost, so let none write meanwhile",
    ]


def attach_in_place(
    name: str,
    encoder: Encoder | None = None,
    *,
    vector: str,
    field: str | None = None,
    kind: str | None = None,
    root: str | Path | None = None,
    agreed: bool = False,
    allow_private: bool = False,
    uri: str | None = None,
    token: str | None = None,
    db_name: str | None = None,
) -> InPlace:
    """Open sketch search in a vector field of an application's collection, adding the field the first time.

    Args:
        name: the owner's collection; it has to be loaded.
        encoder: what makes the vectors; None opens the one that `connect()` gives.
        vector: name of the vector field.
        field: as for `attach`, as are `kind`, `root`, `allow_private`, `uri`, `token` and `db_name`.
        agreed: whether the collection may be altered, as `alterations` lists it.

    Raises:
        CollectionError: the server cannot add fields, the field is to be added and that was not agreed to, or it is
            there and was not made here.
        FingerprintError: the vectors that are there were made by another encoder.
        ServerError: Milvus cannot be reached or refuses.
    """
    settings = load_settings(uri=uri, token=token, db_name=db_name)
    if lite_path(settings.uri) is not None:
        raise CollectionError("Milvus Lite cannot add a field to a collection; leave out --in-place")
    secret = settings.token.get_secret_value() if settings.token else None
    with ExitStack() as failing:
        client = connect_server(settings.uri, token=secret, db_name=settings.db_name)
        failing.callback(client.close)
        with guard("ask for the version", settings.uri):
            facts = ServerFacts("server", str(client.get_server_version(timeout=WAIT)))
        if facts.release < LEAST:
            raise CollectionError(
                f"Milvus {facts.version} cannot add a field to a collection, 2.6 and later can; leave out --in-place, "
                "and the vectors go to a collection beside it"
            )
        owner = Owner.open(client, settings.uri, name)
        opened = encoder or connect()
        facts = replace(facts, dim=opened.dim, rows=owner.count())
        if vector not in owner.columns:
            given = {"field": field, "kind": kind or "auto", "root": str(Path(root).absolute()) if root else None}
            owner = _add_vector(owner, opened, vector, facts, given, agreed)
        column = next(column for column in owner.described["fields"] if column["name"] == vector)
        identity = Identity.read(column, name)
        identity.check(opened, name, name)
        choice = choose(facts, identity.index["type"])
        owner = _complete(owner, vector, choice, agreed)
        images = remembered(owner, identity.attached or {}, allow_private)
        failing.pop_all()
    return InPlace(owner, opened, vector, images, choice)


def _add_vector(
    owner: Owner, encoder: Encoder, vector: str, facts: ServerFacts, given: dict[str, Any], agreed: bool
) -> Owner:
    """The collection with the vector field: first, as a server that cannot add one then has altered nothing."""
    if given["field"] is None:
        raise CollectionError(
            f"collection {owner.name!r} has no field {vector!r}; say with --field where its images are"
        )
    ImageField(owner, owner.field(given["field"]), given["kind"])
    if not agreed:
        listed = "; ".join(alterations(owner.name, vector, encoder.dim))
        raise CollectionError(f"nothing was altered yet. With --yes: {listed}")
    attached = {**given, "collection": owner.name, "key": owner.key, "vector": vector}
    noted = Identity.noted(choose(facts), "auto", {}, facts)
    identity = Identity(encoder.name, encoder.fingerprint, encoder.dim, noted, attached=attached)
    more: dict[str, Any] = {"dim": encoder.dim, "desc": identity.to_json(), "nullable": True}
    kind = pymilvus().DataType.FLOAT_VECTOR
    owner.call("add a vector field", "add_collection_field", field_name=vector, data_type=kind, **more)
    return Owner.open(owner.client, owner.uri, owner.name)


def _complete(owner: Owner, vector: str, choice: IndexChoice, agreed: bool) -> Owner:
    """The collection with the rest, which is missing too where an earlier attempt broke off."""
    indexed = vector in owner.call("list the indexes", "list_indexes", field_name=vector)
    if indexed and _digest(vector) in owner.columns:
        return owner
    if not agreed:
        raise CollectionError(f"field {vector!r} of collection {owner.name!r} lacks its index; --yes makes it")
    if _digest(vector) not in owner.columns:
        more: dict[str, Any] = {"max_length": 32, "nullable": True}
        kind = pymilvus().DataType.VARCHAR
        owner.call("add a field", "add_collection_field", field_name=_digest(vector), data_type=kind, **more)
    if not indexed:
        params = owner.client.prepare_index_params()
        params.add_index(vector, choice.type, vector, metric_type="L2", params=dict(choice.params))
        owner.call(f"build the index {choice.type}", "create_index", index_params=params, timeout=6 * LONG)
    owner.call("load the new fields", "refresh_load", timeout=LONG)
    return Owner.open(owner.client, owner.uri, owner.name)


def _digest(vector: str) -> str:
    return f"{vector}_digest"


class InPlace:
    """Sketch search in a field of an owner's collection. Made by `attach_in_place`; a context manager.

    To `ingest` it is a collection: ids are the rows' keys, of which those of one question are remembered.
    """

    def __init__(self, owner: Owner, encoder: Encoder, vector: str, images: ImageField, index: IndexChoice) -> None:
        self.owner, self.encoder, self.vector, self.images, self._index = owner, encoder, vector, images, index
        self.client: MilvusClient = owner.client
        self._keys: dict[str, Key] = {}

    @property
    def place(self) -> str:
        """Where the vectors are."""
        return f"{self.owner.name}.{self.vector}"

    # --- what ingest asks of a collection ---

    def stored(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Key and digest of those rows that have a vector."""
        digest = _digest(self.vector)
        keys = {self._keys[one]: one for one in ids}
        rows = self.owner.rows(keys, [digest], consistency_level="Strong")
        for one in ids:  # only now: a server that was away is asked again
            self._keys.pop(one, None)
        return {keys[key]: {"key": key, "digest": row.get(digest)} for key, row in rows.items()}

    def upsert(self, records: Sequence[PhotoVector]) -> int:
        """Write vectors into rows that are there; the other fields of a row stay."""
        digest = _digest(self.vector)
        there = self.owner.rows([record.fields["key"] for record in records], consistency_level="Strong")
        rows = [
            {self.owner.key: one.fields["key"], self.vector: one.vector, digest: one.fields["digest"]}
            for one in records
            if one.fields["key"] in there  # not to bring back what has just been deleted
        ]
        if rows:
            self.owner.call("store vectors", "upsert", data=rows, partial_update=True, timeout=LONG)
        return len(rows)

    def flush(self) -> None:
        """Left to the owner."""

    # --- the same as Attached ---

    def index(self, *, force: bool = False, **options: Any) -> IngestSummary:
        """Index the images of all rows; as `Attached.index`."""
        from compsketch_milvus.ingest import ingest

        return ingest(self, self._records(remember=not force), force=force, **options)

    def _records(self, *, remember: bool) -> Iterator[ImageRecord]:
        for record in self.images.records():
            facts = {name: value for name, value in record.fields.items() if name != "key"}
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
            if remember and record.error is None:
                self._keys[record.id] = record.fields["key"]
            yield replace(record, fields={"key": record.fields["key"], "digest": digest})

    @tracing.operation("search_in_place")
    def search(
        self,
        sketch: Sketch,
        limit: int = 20,
        filter: str = "",
        *,
        output_fields: Sequence[str] = (),
        words: bool = False,
        threshold: float | None = None,
        min_confidence: float | None = None,
    ) -> AttachedResult:
        """Find the rows whose photos hold a sketch's objects in its layout; as `Attached.search`."""
        Terms(limit, filter, threshold=threshold)  # or it says what does not fit
        start = time.perf_counter()
        query = encoded(self.encoder, sketch, words)
        took = time.perf_counter() - start
        answer = self.owner.call(
            "search",
            "search",
            expression=filter,
            data=[query],
            filter=filter,
            limit=max(limit, RERANK),
            anns_field=self.vector,
            output_fields=list(dict.fromkeys([self.vector, *output_fields])),
            search_params={"metric_type": "L2", "params": dict(self._index.search_params)},
        )
        found = [
            {"id": _key(row, self.owner.key), "vector": row["entity"][self.vector], "row": row} for row in answer[0]
        ]
        best = ranked(found, query)
        hits = []
        for place in range(min(limit, len(best))):
            entity = best.rows[place]["row"]["entity"]
            fields = {name: value for name, value in entity.items() if name in output_fields or "*" in output_fields}
            distance = float(best.squares[place]) ** 0.5
            hits.append(AttachedHit(best.rows[place]["id"], 1 - distance**2 / 2, distance, fields))
        hits = [hit for hit in hits if threshold is None or hit.score >= threshold]
        hits = judged(hits, self.encoder, sketch, words, min_confidence)
        return AttachedResult(hits, 0, {"encode": took, "search": time.perf_counter() - start - took})

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def __enter__(self) -> InPlace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(row: dict[str, Any], name: str) -> Key:
    """A hit's primary key, which pymilvus gives under its own name or as `id`."""
    key: Key = row[name] if name in row else row["id"]
    return key
