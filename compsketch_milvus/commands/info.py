"""`compsketch info` and `compsketch index`: what a collection is, and by which index it is searched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Json, Name, Token, Uri, open_collection
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.terminal import FAILURES, command, emit, table

__all__ = ["IndexParams", "IndexType", "index", "index_parameters", "info"]

IndexType = Annotated[
    str,
    typer.Option("--index", metavar="TYPE", help="Index to build, such as GPU_IVF_PQ or HNSW; auto: the server's best"),
]
IndexParams = Annotated[
    str | None,
    typer.Option("--index-params", metavar="JSON", help='Its parameters, such as \'{"nlist": 1600, "nprobe": 64}\''),
]


@command
def info(
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    as_json: Json = False,
) -> None:
    """Describe a collection: photos, vector length, encoder, server, index, why it is that one and what it costs."""
    with open_collection(uri, collection, token, encoder, encodes=encoder is not None) as photos:
        facts = photos.info()
    emit(facts, as_json, lambda: _print_facts(facts))


@command
def index(
    kind: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Build this one; auto chooses for the photos there are now")
    ] = None,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    index_params: IndexParams = None,
    wait: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Wait this long for it to be built")] = 3600,
    as_json: Json = False,
) -> int:
    """Show a collection's index and what it costs, or build another one; until that is there nobody can search.

    `auto` asks the server again what it can build, and builds only what pays.
    """
    params = index_parameters(index_params)
    with open_collection(uri, collection, token, encodes=False) as photos:
        if kind is not None or params:
            photos.reindex(kind or photos.index.type, params, wait=wait)
        facts = photos.info()
    answer = {"collection": facts["collection"], "count": facts["count"], **facts["index"]}
    emit(answer, as_json, lambda: _print_facts(answer))
    return FAILURES if answer["state"] == "Failed" else 0


def index_parameters(text: str | None) -> dict[str, Any]:
    """The parameters that a JSON object names.

    Raises:
        CollectionError: it is no JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CollectionError(f"--index-params {text!r}: it has to be a JSON object, such as '{{\"nlist\": 1600}}'")
    return found


def _print_facts(facts: Mapping[str, Any]) -> None:
    table(["", ""], _flat(facts))


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Rows of a table; parameters stay together, as they are given to --index-params."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and not name.endswith("params"):
            yield from _flat(value, f"{before}{name} ")
        elif value not in ("", None):
            yield f"{before}{name}", json.dumps(value) if isinstance(value, Mapping) else value
