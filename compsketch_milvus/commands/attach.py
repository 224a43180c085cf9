"""`compsketch attach` and `search-attached`: sketch search beside a collection that an application owns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.ingest import GOES_ON, Drain, ingest_json, note_failures, print_broken
from compsketch_milvus.commands.opening import EncoderSpec, Json, Token, Uri
from compsketch_milvus.errors import IngestError
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, IngestBar, command, emit, note, refuse, table

if TYPE_CHECKING:
    from compsketch_milvus.attached import Attached, AttachedResult
    from compsketch_milvus.inplace import InPlace as Altered

__all__ = ["attach", "search_attached"]

Owned = Annotated[str, typer.Argument(metavar="COLLECTION", help="The application's collection", show_default=False)]
InPlace = Annotated[
    str | None,
    typer.Option("--in-place", metavar="FIELD", help="Vectors in this field of COLLECTION itself (Milvus 2.6)"),
]
Into = Annotated[str | None, typer.Option(help="Collection for the vectors  [default: COLLECTION_sketch]")]


@command
def attach(
    collection: Owned,
    field: Annotated[
        str | None,
        typer.Option(help="Field that says where a row's image is, such as photo or 'meta[\"photo\"]'; remembered"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="What it holds: path, url, bytes (base64), or auto, by each value  [default: auto]"),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that its paths are relative to, and that none leaves")
    ] = None,
    into: Into = None,
    in_place: InPlace = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Let --in-place alter the collection")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Then remove the vectors of rows that are gone")] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let URLs lead to addresses that are not of the public internet")
    ] = False,
    uri: Uri = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Encode again what is unchanged")] = False,
    rejects: Annotated[Path | None, typer.Option(help="Append each row that failed to this .jsonl")] = None,
    as_json: Json = False,
) -> int:
    """Index the images of an application's collection, to search it with sketches; again, to add what changed.

    The collection is only read. The vectors go to another one, COLLECTION_sketch, with the rows' keys. Only --in-place
    alters it: that adds a field to it, and says before what else it does.
    """
    from compsketch_milvus.errors import CollectionError

    if in_place and (prune or into):
        raise CollectionError("--in-place keeps the vectors in the rows: there is nothing to --prune, and no --into")
    where: dict[str, Any] = {"field": field, "kind": kind, "root": root, "allow_private": allow_private}
    where |= {"vector": in_place, "agreed": yes} if in_place else {"into": into}
    with Drain() as drain, _opened(collection, uri, token, encoder, **where) as search, IngestBar() as bar:
        try:
            done = search.index(batch_size=batch_size, force=force, rejects=rejects, progress=bar, stop=drain)
            pruned = search.prune() if prune and not done.drained else 0  # type: ignore[union-attr]  # refused above
        except KeyboardInterrupt:
            refuse(f"interrupted after {bar.counts()}; {GOES_ON}", as_json)
            return INTERRUPTED
        except IngestError as error:
            print_broken(error, as_json)
            return FAILURES
        answer = {"collection": collection, "into": search.place, **ingest_json(done), "pruned": pruned}
    if not as_json:
        note_failures(done)
        if done.drained:
            note(f"stopped early, as SIGTERM asks: {GOES_ON}")
    line = "{indexed} indexed, {skipped} skipped, {} failed, {pruned} pruned in {seconds:.1f} s; vectors in {into}"
    emit(answer, as_json, lambda: typer.echo(line.format(done.failures, **answer)))
    return FAILURES if done.failed else 0


@command
def search_attached(
    collection: Owned,
    sketch: Annotated[Path, typer.Argument(help="Stroke JSON, SVG, PNG or .npz masks", show_default=False)],
    into: Into = None,
    in_place: InPlace = None,
    uri: Uri = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Number of hits")] = 20,
    filter: Annotated[str, typer.Option(help="Milvus filter over the application's fields, such as 'price < 50'")] = "",
    fields: Annotated[str, typer.Option(metavar="NAME,NAME", help="The application's fields to show; * for all")] = "",
    threshold: Annotated[float | None, typer.Option(help="Leave out hits with a lower score, -1 to 1")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave out hits less likely to be relevant, 0 to 1; needs a calibrated bundle")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Also use the objects' labels")] = False,
    as_json: Json = False,
) -> None:
    """Find the rows of an application's collection whose photos hold a sketch's objects in its layout, best first."""
    from encoders.sketch import Sketch

    query = Sketch.open(sketch)
    names = [name.strip() for name in fields.split(",") if name.strip()]
    more: dict[str, Any] = {"words": words, "threshold": threshold, "min_confidence": min_confidence}
    where: dict[str, Any] = {"vector": in_place} if in_place else {"into": into}
    with _opened(collection, uri, token, encoder, once=True, **where) as search:
        result = search.search(query, limit, filter, output_fields=names, **more)
    emit(_search_json(collection, result), as_json, lambda: _print_search(result))


def _opened(
    collection: str, uri: str | None, token: str | None, encoder: str | None, *, once: bool = False, **more: Any
) -> Attached | Altered:
    """The attachment that flags, environment and settings file name; ``once`` as for `open_collection`."""
    from compsketch_milvus.attached import attach
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.inplace import attach_in_place
    from compsketch_milvus.settings import load_settings

    settings = load_settings(encoder=encoder)
    runtime = "torch" if once and settings.runtime == "auto" else settings.runtime
    opened = connect(settings.encoder, runtime=runtime)
    return (attach_in_place if "vector" in more else attach)(collection, opened, uri=uri, token=token, **more)


def _search_json(collection: str, result: AttachedResult) -> dict[str, Any]:
    names = ("id", "score", "distance", "confidence", "source", "fields")
    hits = [{"rank": rank, **{name: getattr(hit, name) for name in names}} for rank, hit in enumerate(result.hits, 1)]
    # JSON has no NaN, which a field of theirs may hold.
    hits = json.loads(json.dumps(hits, default=_plain), parse_constant=lambda name: None)
    return {"collection": collection, "hits": hits, "gone": result.gone, "seconds": result.seconds}


def _plain(value: Any) -> Any:
    """What JSON lacks: numbers and arrays of numpy, as vectors are made of, and bytes."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _print_search(result: AttachedResult) -> None:
    """A table of hits: the primary key, and the fields that were asked for."""
    names = list(dict.fromkeys(name for hit in result for name in hit.fields))
    rows = [
        (rank, f"{hit.score:.3f}", hit.id, *(hit.fields.get(name, "") for name in names))
        for rank, hit in enumerate(result, 1)
    ]
    if rows:
        table(["#>", "score>", "id", *names], rows)
    else:
        typer.echo("no hits")
    if result.gone:
        note(
            f"{result.gone} better photos are left out, as their rows are gone; compsketch attach --prune removes them"
        )
    note(", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in result.seconds.items()))
