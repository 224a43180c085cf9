"""The index of a collection's vectors: made, built again when asked or when it pays, waited for, and described.

On a server an index is built in the background, one a segment; a segment is searched row by row until it has its own.
Building another index takes the collection away from its readers for as long as that lasts, so that on a server it
is never done unasked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.consequences import consequences
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.identity import PROPERTY, Identity
from compsketch_milvus.index import (
    GPU_TYPES,
    LITE_TYPES,
    PQ_LOSES,
    SERVER_TYPES,
    IndexChoice,
    ServerFacts,
    choose,
    loses,
    only_searches,
    pays,
)
from compsketch_milvus.probing import ask_gpu, await_index, probe
from compsketch_milvus.server import WAIT, DiskFullError, remove_index_files

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["adopt", "build", "chosen", "load", "optimize", "reindex", "report"]

LOADING = 600  # seconds
BUILDING = 3600  # seconds for an index that somebody waits for
FOREIGN = "made by another program"
_log = logging.getLogger(__name__)


def _informed(collection: SketchCollection, want: str, anew: bool) -> ServerFacts:
    """The facts for a choice: whether the server builds GPU indexes is asked where it matters and is not known."""
    facts = collection.facts
    known = probe(collection.client, collection.uri) if anew else facts
    matters = known.gpu == "unknown" if want.lower() == "auto" else known.gpu != "yes" and want.upper() in GPU_TYPES
    gpu, reason = known.gpu, known.gpu_reason
    if facts.kind != "lite" and matters:
        gpu, reason = ask_gpu(collection.client, collection.uri, collection.gpu_wait)
    if gpu == "unknown" != facts.gpu:  # a question that failed leaves what was known
        return facts
    return replace(facts, gpu=gpu, gpu_reason=reason)


def chosen(
    collection: SketchCollection, want: str, params: Mapping[str, Any], rows: int, *, anew: bool = False
) -> IndexChoice:
    """`choose` for so many rows, with what the server says of itself, and the choice said aloud.

    Args:
        collection: whose `facts` are brought up to date.
        want: "auto", or an index type.
        params: that replace the defaults.
        rows: how many.
        anew: whether to ask the server again what it told before.
    """
    collection.facts = replace(_informed(collection, want, anew), rows=rows)
    return _said(collection, choose(collection.facts, want, params), want)


def _said(collection: SketchCollection, choice: IndexChoice, want: str) -> IndexChoice:
    missed = want.lower() not in ("auto", choice.type.lower())
    worse = loses(choice.type, collection.facts)
    level = logging.WARNING if missed or worse else logging.INFO
    shown = json.dumps({**choice.params, **choice.search_params})
    reason = f"{choice.reason}; {PQ_LOSES}" if worse and PQ_LOSES not in choice.reason else choice.reason
    _log.log(level, "collection %r: index %s %s: %s", collection.name, choice.type, shown, reason)
    return choice


def adopt(collection: SketchCollection, want: str, params: Mapping[str, Any]) -> None:
    """Take the index that a collection has; build one where it has none, or not the one that is asked for by name."""
    state, noted = _state(collection), collection.identity.index
    if state and state.get("metric_type", "L2") != "L2":
        raise CollectionError(
            f"collection {collection.name!r} is indexed by {state['metric_type']}, not L2; drop the index"
        )
    facts = collection.facts
    known = facts.gpu != "unknown"
    gpu = (facts.gpu, facts.gpu_reason) if known else (noted.get("gpu", "unknown"), noted.get("gpu_reason", ""))
    collection.facts = replace(facts, dim=collection.dim, gpu=gpu[0], gpu_reason=gpu[1])
    if not state:  # as after a crash between making a collection, or dropping its index, and building one
        asked = (want, params) if want.lower() != "auto" or params else (noted["want"], noted.get("given", {}))
        _rebuild(collection, chosen(collection, asked[0], asked[1], _stored_rows(collection)), *asked)
        return
    collection.index = _in_use(collection, state)
    same = want.lower() in ("auto", noted["want"], collection.index.type.lower())
    now = {**collection.index.params, **collection.index.search_params}
    if not (same and (dict(params) in ({}, noted.get("given")) or params.items() <= now.items())):
        # What is not named stays: parameters alone are for the type that was asked for.
        reindex(collection, noted["want"] if want.lower() == "auto" else want, params)


def reindex(collection: SketchCollection, want: str, params: Mapping[str, Any], wait: int = BUILDING) -> None:
    """Choose an index for the rows that are there now, and build it where it is another one than that in use.

    With "auto" also the server is asked again, and the index stays where building it anew does not pay. It stays, too,
    for parameters that only tell how to search it. Either way it is waited for.
    """
    load(collection)
    old, auto, rows = collection.index, want.lower() == "auto", collection.count()
    ours = collection.identity.index["want"] == "auto" and old.reason != FOREIGN
    named = want.upper() == old.type and old.reason != FOREIGN
    stays = named or (auto and ours and not _outgrown(collection, rows))
    if params and stays and only_searches(old.type, params):
        known = {**old.params, **old.search_params}
        given = {name: value for name, value in collection.identity.index.get("given", {}).items() if name in known}
        tuned = choose(collection.facts, old.type, {**known, **params})
        collection.index = _said(collection, replace(tuned, reason=old.reason), want)
        _note(collection, collection.index, want, {**given, **params})
        _settle(collection, wait)
        return
    new = chosen(collection, want, params, rows, anew=auto)
    kept = (old.type, old.params) == (new.type, new.params)
    if kept or (ours and auto and not params and not pays(old, new)):
        _note(collection, new if kept else old, want, params)
        collection.index = new if kept else old
        _settle(collection, wait)
    else:
        _rebuild(collection, new, want, params, wait, old)


def load(collection: SketchCollection) -> None:
    """Load a collection; where Milvus Lite finds an index file damaged, it builds the index again."""
    try:
        collection.call("load the collection", "load_collection", timeout=LOADING)
    except DiskFullError:
        raise
    except ServerError as error:
        # A program killed, or a disk full, while Milvus Lite wrote an index file leaves half of one.
        if collection.facts.kind != "lite" or not remove_index_files(Path(collection.uri), collection.name):
            raise
        _log.warning("collection %r: an index file is damaged (%s); building the index again", collection.name, error)
        collection.call("load the collection", "load_collection", timeout=BUILDING)


def optimize(collection: SketchCollection, wait: int) -> None:
    """Build an index again that its collection has outgrown, if the choice was left to us, and wait until it is built.

    A GPU index of which the server builds nothing in that time becomes its counterpart on the CPU.
    """
    fresh = _outgrown(collection)
    if fresh:
        _said(collection, fresh, "auto")
        _rebuild(collection, fresh, "auto", {}, wait, collection.index)
    else:
        _settle(collection, wait)


def report(collection: SketchCollection, rows: int) -> dict[str, Any]:
    """The index as a JSON object.

    `indexed_rows` counts those in segments of fewer than 1024 rows, too, which Milvus searches row by row.
    """
    state, index = _state(collection), collection.index
    pending = int(state.get("pending_index_rows", 0))
    fresh = _outgrown(collection, rows)
    advice = f"{rows} rows would get {fresh.type} {fresh.params}: run `compsketch index auto`" if fresh else ""
    if loses(index.type, collection.facts):
        advice = f"{PQ_LOSES}: run `compsketch index auto`"
    if state.get("state") == "Failed":
        advice = "the server could not build it; see its log, or choose another: `compsketch index TYPE`"
    return {
        "type": index.type,
        "params": index.params,
        "search_params": index.search_params,
        "reason": index.reason,
        "consequences": index.consequences.report(rows, collection.dim),
        "state": "InProgress" if pending and state["state"] == "Finished" else str(state.get("state", "missing")),
        "indexed_rows": int(state.get("indexed_rows", 0)),
        "pending_rows": pending,
        "advice": advice,
    }


def build(collection: SketchCollection, choice: IndexChoice) -> None:
    """Ask for an index. Milvus Lite has built it when this returns, a server builds it in the background."""
    wanted = collection.client.prepare_index_params()
    # pymilvus sends parameters flat, and Milvus Lite reads only those under "params".
    params = {"params": choice.params} if collection.facts.kind == "lite" else choice.params
    wanted.add_index("vector", choice.type, "vector", metric_type="L2", params=dict(params))
    waits: dict[str, Any] = {"timeout": BUILDING, "sync": False}
    collection.call(f"build the index {choice.type}", "create_index", index_params=wanted, **waits)
    collection.index = choice


def _rebuild(
    collection: SketchCollection,
    choice: IndexChoice,
    want: str,
    params: Mapping[str, Any],
    wait: int = BUILDING,
    old: IndexChoice | None = None,
) -> None:
    """Replace the `old` index, or build the first, and load the collection. A server's refusal leaves the old one."""
    before = collection.identity.index
    _note(collection, choice, want, params)
    if old:
        collection.call("release the collection", "release_collection")
        collection.call("drop the index", "drop_index", index_name="vector")
    try:
        build(collection, choice)
    except ServerError:
        if old:
            collection.identity = replace(collection.identity, index=before)
            _keep(collection)
            build(collection, old)
            load(collection)
        raise
    _settle(collection, wait)
    load(collection)


def _settle(collection: SketchCollection, wait: int) -> None:
    """Wait for an index, and say what became of it. That of Milvus Lite is there already."""
    state, choice = await_index(lambda: _state(collection), wait), collection.index
    if not state:
        _log.warning("collection %r: another program has dropped its index; open it again", collection.name)
        return
    failed, pending = state["state"] == "Failed", int(state.get("pending_index_rows", 0))
    if choice.type in GPU_TYPES and (failed or (pending and not state["indexed_rows"])):
        reason = "the server failed to build it" if failed else f"the server built nothing of it in {wait} s"
        collection.facts = replace(collection.facts, gpu="no", gpu_reason=reason)
        noted = collection.identity.index
        again = {**choice.params, **noted.get("given", {})}
        instead = _said(collection, choose(collection.facts, choice.type, again), choice.type)
        _rebuild(collection, instead, noted["want"], noted.get("given", {}), wait, choice)
    elif failed:
        _log.warning("collection %r: the server failed to build its index; see the server's log", collection.name)
    elif pending:
        _log.warning(
            "collection %r: after %d s its index has %d rows and lacks %d, which are searched row by row; the server "
            "goes on building", collection.name, wait, state["indexed_rows"], pending,
        )  # fmt: skip


def _outgrown(collection: SketchCollection, rows: int | None = None) -> IndexChoice | None:
    """What the rows that are there now would get, if that is ours to choose and worth building."""
    noted, old = collection.identity.index, collection.index
    if noted["want"] != "auto" or noted.get("given") or old.reason == FOREIGN:
        return None
    new = choose(replace(collection.facts, rows=collection.count() if rows is None else rows))
    return new if pays(old, new) else None


def _state(collection: SketchCollection) -> dict[str, Any]:
    """What the server says of the vector's index; empty where there is none."""
    if "vector" not in collection.call("list the indexes", "list_indexes", field_name="vector"):
        return {}
    return dict(collection.call("describe the index", "describe_index", index_name="vector") or {})


def _in_use(collection: SketchCollection, state: Mapping[str, Any]) -> IndexChoice:
    """The index that the server has, as a choice: ours as it was noted, or one that another program made."""
    noted, kind = collection.identity.index, state["index_type"]
    if kind not in (*LITE_TYPES, *SERVER_TYPES):
        return IndexChoice(kind, {}, {}, FOREIGN, consequences(kind, {}, collection.dim))
    facts = replace(collection.facts, gpu="yes" if kind in GPU_TYPES else collection.facts.gpu)
    if kind != noted["type"]:
        return replace(choose(facts, kind), reason=FOREIGN)
    return replace(choose(facts, kind, {**noted["params"], **noted.get("search", {})}), reason=noted["reason"])


def _stored_rows(collection: SketchCollection) -> int:
    """Rows by the server's statistics, for a collection that cannot be loaded: flushed ones, deleted ones included."""
    collection.call("flush", "flush", timeout=BUILDING)
    return int(collection.call("count", "get_collection_stats")["row_count"])


def _note(collection: SketchCollection, choice: IndexChoice, want: str, params: Mapping[str, Any]) -> None:
    noted = Identity.noted(choice, want, params, collection.facts)
    if noted != collection.identity.index:
        collection.identity = replace(collection.identity, index=noted)
        _keep(collection)


def _keep(collection: SketchCollection) -> None:
    kept = {PROPERTY: collection.identity.to_json()}
    collection.call("keep the index's parameters", "alter_collection_properties", properties=kept, timeout=WAIT)
