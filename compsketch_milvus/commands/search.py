"""`compsketch search`: from a file with a sketch to a table of photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Filter, Json, Name, Token, Uri, open_collection
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.terminal import command, emit, note, table
from compsketch_milvus.terms import CONSISTENCY, RERANK, Terms

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.search import SearchResult
    from encoders.explain import Explanation
    from encoders.sketch import Sketch

__all__ = ["Params", "SketchFile", "parameters", "search"]

SketchFile = Annotated[Path, typer.Argument(help="Stroke JSON, SVG, PNG or .npz masks", show_default=False)]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="NAME=JSON", help="A value for {NAME} in --filter, such as 'tags=[\"sea\"]'; may be repeated"
    ),
]


@command
def search(
    sketch: SketchFile,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Number of hits")] = 20,
    filter: Filter = "",
    param: Params = None,
    threshold: Annotated[float | None, typer.Option(help="Leave out hits with a lower score, -1 to 1")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave out hits less likely to be relevant, 0 to 1; needs a calibrated bundle")
    ] = None,
    group_by: Annotated[str | None, typer.Option(help="Show few photos with the same value of this field")] = None,
    group_size: Annotated[int, typer.Option(help="How many, with --group-by")] = 1,
    hide_duplicates: Annotated[
        float | None, typer.Option(help="Leave out photos this like a better hit, over 0 to 1, such as 0.98")
    ] = None,
    rerank: Annotated[
        int, typer.Option(help="Photos ranked by their stored vectors where the index is lossy; 0: its own distances")
    ] = RERANK,
    consistency: Annotated[
        str | None, typer.Option(help=f"What a server has to see: {', '.join(CONSISTENCY)}  [default: Bounded]")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Also use the objects' labels")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each object adds to a score, and where")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet to this PNG or JPEG")] = None,
    as_json: Json = False,
) -> None:
    """Find the photos that hold a sketch's objects in its layout, best first."""
    from compsketch_milvus import explain as why
    from compsketch_milvus.search import by_sketches
    from compsketch_milvus.sheet import check_place, contact_sheet, save
    from encoders.sketch import Sketch

    query, values = Sketch.open(sketch), parameters(param)
    level = None if consistency is None else consistency.capitalize()
    terms = Terms(limit, filter, values, threshold, rerank, level, group_by, group_size, hide_duplicates)
    if sheet is not None:
        check_place(sheet)
    with open_collection(uri, collection, token, encoder, once=True) as photos:
        if explain:
            why.check_explains(photos)
        result = photos.carry_out(by_sketches(photos, [query], terms, words=words, min_confidence=min_confidence))[0]
        parts = why.explain(photos, result.hits, query, words=words) if explain else []
        answer = _json(result, parts) | {"encoder": _identity(photos), "collection": photos.name}
    if sheet is not None:
        save(contact_sheet(query, result.hits, title=sketch.name, explanations=parts), sheet)
    emit(answer, as_json, lambda: _print(query, result, parts, min_confidence))


def parameters(given: list[str] | None) -> dict[str, Any]:
    """The values of a filter's names, from the form NAME=JSON.

    Raises:
        CollectionError: another form, or a name given twice.
    """
    values: dict[str, Any] = {}
    for one in given or ():
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise CollectionError(f"--param {one!r}: it has to be NAME=JSON, such as 'least=640'")
        if name in values:
            raise CollectionError(f"--param {one!r}: {name!r} is given twice; for several values give a list")
        try:
            values[name] = json.loads(text)
        except ValueError:
            hint = json.dumps(f"{name}={json.dumps(text, ensure_ascii=False)}", ensure_ascii=False)
            raise CollectionError(
                f"--param {one!r}: after {name}= there has to be JSON, a text in double quotes: --param {hint}"
            ) from None
    return values


def _json(result: SearchResult, parts: list[Explanation]) -> dict[str, Any]:
    names = ("id", "source", "score", "distance", "confidence", "fields", "duplicates")
    hits = [{"rank": rank, **{name: getattr(hit, name) for name in names}} for rank, hit in enumerate(result.hits, 1)]
    for hit, explanation in zip(hits, parts, strict=False):  # none, unless asked for
        hit["explanation"] = explanation.to_dict()
    return {"hits": hits, "best_confidence": result.best, "short": result.short, "seconds": result.seconds}


def _identity(photos: SketchCollection) -> dict[str, str]:
    return {"name": photos.encoder.name, "fingerprint": photos.encoder.fingerprint}


def _print(query: Sketch, result: SearchResult, parts: list[Explanation], least: float | None) -> None:
    """A table of hits, with columns for what is known: how likely they are relevant, what each object adds."""
    columns: dict[str, list[str]] = {
        "#>": [str(rank) for rank in range(1, len(result.hits) + 1)],
        "score>": [f"{hit.score:.3f}" for hit in result.hits],
    }
    if result.best is not None:
        columns["likely>"] = [f"{hit.confidence:.0%}" for hit in result.hits]
    for index, item in enumerate(query.objects if parts else ()):
        columns[f"{index} {item.label or 'object'}>"] = [f"{one.totals[index]:+.3f}" for one in parts]
    if any(hit.duplicates for hit in result.hits):
        columns["like it>"] = [str(len(hit.duplicates)) for hit in result.hits]
    columns["source"] = [hit.source for hit in result.hits]
    if result.hits:
        table(list(columns), list(zip(*columns.values(), strict=True)))
    elif result.best is not None:
        typer.echo(f"no good match: the best photo is {result.best:.0%} likely to be relevant, less than {least:.0%}")
    else:
        typer.echo("no hits")
    note(", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in result.seconds.items()))
