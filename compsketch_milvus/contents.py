"""The steps by which photos get into a collection, out of it, and are looked up and counted in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.filters import filter_arguments
from compsketch_milvus.paging import among
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import batches, check_id
from compsketch_milvus.steps import Call, Steps, Work

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["LONG", "count", "look_up", "remove", "store"]

LONG = 600  # seconds for what moves data
WRITE = 120  # seconds for one message of rows; one that is not answered by then may be stored all the same
IDS_A_CALL = 1000
PLACED_SINCE = (2, 4)  # milvus-io/milvus pull request 30772: upserted rows get into their partition


def store(collection: SketchCollection, records: Iterable[PhotoVector]) -> Steps[int]:
    """Store photos in messages; returns how many rows were written.

    Milvus 2.3 puts an upserted row into a partition that has nothing to do with its key, where no filter by the key
    finds it, and an inserted one into the right one. So there a message is deleted and inserted.
    """
    written = 0
    facts = collection.facts
    misplaces = facts.kind == "server" and collection.partition_key is not None and facts.release < PLACED_SINCE
    messages = batches(records, collection.dim, collection.partition_key)
    while rows := (yield Work(lambda: next(messages, None))):
        if misplaces:
            yield Call(
                "replace photos", "delete", {"filter": among("id", (row["id"] for row in rows)), "timeout": WRITE}
            )
        yield Call("store photos", "insert" if misplaces else "upsert", {"data": rows, "timeout": WRITE})
        written += len(rows)
    return written


def remove(
    collection: SketchCollection, ids: Sequence[str] | None, filter: str | None, params: Mapping[str, Any] | None
) -> Steps[int]:
    """Delete photos by id or by filter; returns how many there were."""
    if (ids is None) == (not filter):
        raise CollectionError("delete needs either ids or a filter, such as 'width < 200'")
    if ids is not None and params:
        raise CollectionError(f"delete: {next(iter(params))!r} is a parameter of a filter, and ids were given")
    if ids is None:
        chosen = filter_arguments(filter or "", params, collection.facts)
        found = yield from count(collection, filter or "", params)
        if found:
            yield Call("delete photos", "delete", {**chosen, "timeout": LONG}, filter or "")
        return found
    there = yield from look_up(collection, ids, ())
    for chunk in _chunks(sorted(there)):
        yield Call("delete photos", "delete", {"filter": among("id", chunk), "timeout": LONG})
    return len(there)


def count(
    collection: SketchCollection, filter: str, params: Mapping[str, Any] | None = None, *, consistency: str = "Strong"
) -> Steps[int]:
    """The number of photos that pass a filter."""
    chosen = filter_arguments(filter, params, collection.facts)
    more: dict[str, Any] = {"output_fields": ["count(*)"], "consistency_level": consistency}
    answer = yield Call("count photos", "query", {**chosen, **more}, filter)
    return int(answer[0]["count(*)"])


def look_up(
    collection: SketchCollection, ids: Iterable[str], fields: Sequence[str]
) -> Steps[dict[str, dict[str, Any]]]:
    """By id, those of the named fields that a photo has; also of photos that others just wrote."""
    found: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(dict.fromkeys(ids)):
        for one in chunk:
            check_id(one)
        asked = {"filter": among("id", chunk), "output_fields": ["id", *fields], "consistency_level": "Strong"}
        for row in (yield Call("look up photos", "query", asked)):
            found[row["id"]] = {name: row[name] for name in fields if name in row}
    return found


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, IDS_A_CALL)):
        yield chunk
