"""A collection made: its schema, what it remembers of its making, and its first index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compsketch_milvus import indexing
from compsketch_milvus.contents import LONG
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.identity import PROPERTY, Identity
from compsketch_milvus.index import choose
from compsketch_milvus.rows import PARTITION_KEY_BYTES
from compsketch_milvus.server import WAIT, guard, pymilvus

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["create", "exists", "missing"]


def exists(collection: SketchCollection) -> bool:
    """Whether Milvus has a collection, or an alias, of its name."""
    return bool(collection.call("look up the collection", "has_collection"))


def missing(collection: SketchCollection) -> CollectionError:
    """What to raise where there is none and none is to be made; it lists those that are there."""
    with guard("list the collections", collection.uri):
        there = ", ".join(sorted(collection.client.list_collections(timeout=WAIT))) or "none"
    return CollectionError(f"collection {collection.name!r} does not exist at {collection.uri}; there: {there}")


def create(collection: SketchCollection, want: str, params: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Make the collection, with an index that is empty; one that another worker makes meanwhile is left as it is.

    Args:
        collection: with its encoder.
        want: "auto", or an index type.
        params: that replace the index's defaults.
        kept: what else it is to remember: `attached` and `partition_key`.

    Raises:
        CollectionError: no such index type or parameter; nothing was made.
        ServerError: Milvus refuses.
    """
    encoder = collection.encoder
    collection.facts = replace(collection.facts, dim=encoder.dim)
    choose(collection.facts, want, params)  # what is misspelt costs no question to the server
    choice = indexing.chosen(collection, want, params, rows=0)
    if exists(collection):  # now: asking the server for a GPU took its time
        return
    noted = Identity.noted(choice, want, params, collection.facts)
    identity = Identity(encoder.name, encoder.fingerprint, encoder.dim, noted, **kept)
    # Session: a search sees what this process wrote before it.
    more: dict[str, Any] = {"properties": {PROPERTY: identity.to_json()}, "consistency_level": "Session"}
    try:
        schema = _schema(collection, identity)
        collection.call("create the collection", "create_collection", timeout=LONG, schema=schema, **more)
    except ServerError:
        if not exists(collection):
            raise
    else:
        indexing.build(collection, choice)


def _schema(collection: SketchCollection, identity: Identity) -> Any:
    kinds, client = pymilvus().DataType, collection.client
    with guard("create the collection", collection.uri):
        schema = client.create_schema(auto_id=False, enable_dynamic_field=True, description=identity.to_json())
        schema.add_field("id", kinds.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("source", kinds.VARCHAR, max_length=4096)
        schema.add_field("width", kinds.INT64)
        schema.add_field("height", kinds.INT64)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=identity.dim)
        if (key := identity.partition_key) is not None:
            schema.add_field(key, kinds.VARCHAR, max_length=PARTITION_KEY_BYTES, is_partition_key=True)
    return schema
