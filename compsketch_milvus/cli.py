"""The command line: `compsketch ingest`, `search`, `info`, `render`, `train`, `data`, `evaluate`, `tables`, and so on.

Thin: each command parses, makes one call into the modules beside this one, and prints. Exit status: 0, 1 (it ran, with
failures), 2 (usage or input), 130 (interrupted). Modules are imported where they are used: `--help` has to be quick.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.cli_data import data
from compsketch_milvus.cli_evaluate import evaluate
from compsketch_milvus.cli_tables import tables
from compsketch_milvus.cli_train import train
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, IngestBar, command, emit, note, refuse, table

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.demo import DemoResult
    from compsketch_milvus.ingest import IngestSummary
    from compsketch_milvus.search import SearchResult
    from encoders.explain import Explanation
    from encoders.sketch import Sketch

__all__ = ["app", "main"]

SHOWN_FAILURES = 20  # on stderr; --json lists them all
SHOWN_HITS = 3  # of each of the demo's sketches
EVERYTHING = 'id != ""'

app = typer.Typer(
    name="compsketch",
    help="Draw a layout of objects, find the photos in Milvus that hold it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train, name="train")
app.add_typer(data, name="data")

# The flags that commands share.
Uri = Annotated[
    str | None,
    typer.Option(help="Milvus: http://HOST:PORT, or a Milvus Lite file ending in .db  [default: a file of your own]"),
]
Name = Annotated[str | None, typer.Option("--collection", help="Collection of photos  [default: photos]")]
Token = Annotated[str | None, typer.Option(help="Milvus token, or user:password; better set MILVUS_TOKEN")]
EncoderSpec = Annotated[
    str | None,
    typer.Option("--encoder", help="Encoder bundle, by name or folder  [default: the one that is shipped]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr")]
Filter = Annotated[str, typer.Option(help="Milvus filter, such as 'width > 640 and source like \"/photos/%\"'")]
SketchFile = Annotated[Path, typer.Argument(help="Stroke JSON, SVG, PNG or .npz masks", show_default=False)]


def main() -> None:
    """The program `compsketch`."""
    # gRPC's own log, of connections it makes anew by itself, would run through the progress bar; errors come as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; with ``--json`` a misused flag, too, is answered in JSON."""
    try:
        return int(app(arguments, prog_name="compsketch", standalone_mode=False) or 0)
    except Exception as error:
        if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):  # click's own, whoever carries it
            raise
        error.show()  # type: ignore[attr-defined]
        if "--json" in arguments:
            emit({"error": error.format_message()}, True, lambda: None)
        return int(error.exit_code)


def _terminated(*_: object) -> None:
    """Ended like by Ctrl-C, so that Milvus Lite finishes the file that it is writing."""
    raise KeyboardInterrupt


def _version(asked: bool) -> None:
    if asked:
        from compsketch_milvus import __version__

        typer.echo(f"compsketch {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None: ...


def _collection(
    uri: str | None,
    name: str | None,
    token: str | None,
    encoder: str | None = None,
    *,
    create: bool = False,
    encodes: bool = True,
    once: bool = False,
) -> SketchCollection:
    """Open the collection that flags, environment and settings file name; without encoder unless it ``encodes``.

    For one sketch, asked ``once``, networks run in torch if nothing else is set: to compile them takes seconds more.
    """
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.settings import load_settings

    settings = load_settings(uri=uri, token=token, collection=name, encoder=encoder)
    secret = settings.token.get_secret_value() if settings.token else None
    runtime = "torch" if once and settings.runtime == "auto" else settings.runtime
    return SketchCollection.open(
        settings.collection,
        connect(settings.encoder, runtime=runtime) if encodes else None,
        uri=settings.uri,
        token=secret,
        db_name=settings.db_name,
        create=create,
    )


@app.command()
@command
def ingest(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders, photos, glob patterns, manifests (.csv, .jsonl)")
    ],
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Encode again what is unchanged")] = False,
    as_json: Json = False,
) -> int:
    """Index photos; run it again to add what is new. A bad photo is reported, and the others go on."""
    source = _checked(sources)
    with _collection(uri, collection, token, encoder, create=True) as photos, IngestBar() as bar:
        try:
            summary = photos.ingest(source, batch_size=batch_size, force=force, progress=bar)
        except KeyboardInterrupt:
            refuse(f"interrupted after {bar.counts()}; run the same ingest again, it goes on from there", as_json)
            return INTERRUPTED
    emit(_ingest_json(summary), as_json, lambda: _print_ingest(summary))
    return FAILURES if summary.failed else 0


def _checked(sources: list[str]) -> str | list[str]:
    """The source, refused before the encoder is loaded if it is the only one and no good."""
    from compsketch_milvus.sources import iterate

    if len(sources) > 1:
        return sources
    next(iterate(sources[0]), None)
    return sources[0]


def _ingest_json(summary: IngestSummary) -> dict[str, Any]:
    return {
        "indexed": summary.indexed,
        "skipped": summary.skipped,
        "failed": [{"source": failure.source, "reason": failure.reason} for failure in summary.failed],
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
    }


def _print_ingest(summary: IngestSummary) -> None:
    failures = _note_failures(summary)
    typer.echo(
        f"{summary.indexed} indexed, {summary.skipped} skipped, {failures} failed "
        f"in {summary.seconds:.1f} s ({summary.images_per_second:.1f} photos/s)"
    )


def _note_failures(summary: IngestSummary) -> int:
    failures = len(summary.failed) + summary.failures_dropped
    for failure in summary.failed[:SHOWN_FAILURES]:
        note(f"failed: {failure.source}: {failure.reason}")
    if failures > SHOWN_FAILURES:
        note(f"… and {failures - SHOWN_FAILURES} more failures; --json lists them")
    return failures


@app.command()
@command
def search(
    sketch: SketchFile,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Number of hits")] = 20,
    filter: Filter = "",
    threshold: Annotated[float | None, typer.Option(help="Leave out hits with a lower score, -1 to 1")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave out hits less likely to be relevant, 0 to 1; needs a calibrated bundle")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Also use the objects' labels")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each object adds to a score, and where")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet to this PNG or JPEG")] = None,
    as_json: Json = False,
) -> None:
    """Find the photos that hold a sketch's objects in its layout, best first."""
    from compsketch_milvus import explain as why
    from compsketch_milvus.search import search as find
    from compsketch_milvus.sheet import check_place, contact_sheet, save
    from encoders.sketch import Sketch

    query = Sketch.open(sketch)
    if sheet is not None:
        check_place(sheet)
    with _collection(uri, collection, token, encoder, once=True) as photos:
        if explain:
            why.check_explains(photos)
        result = find(photos, query, limit, filter, words=words, threshold=threshold, min_confidence=min_confidence)
        parts = why.explain(photos, result.hits, query, words=words) if explain else []
        answer = _search_json(result, parts) | {"encoder": _identity(photos), "collection": photos.name}
    if sheet is not None:
        save(contact_sheet(query, result.hits, title=sketch.name, explanations=parts), sheet)
    emit(answer, as_json, lambda: _print_search(query, result, parts, min_confidence))


def _search_json(result: SearchResult, parts: list[Explanation]) -> dict[str, Any]:
    names = ("id", "source", "score", "distance", "confidence")
    hits = [{"rank": rank, **{name: getattr(hit, name) for name in names}} for rank, hit in enumerate(result.hits, 1)]
    for hit, explanation in zip(hits, parts, strict=False):  # none, unless asked for
        hit["explanation"] = explanation.to_dict()
    return {"hits": hits, "best_confidence": result.best, "seconds": result.seconds}


def _identity(photos: SketchCollection) -> dict[str, str]:
    return {"name": photos.encoder.name, "fingerprint": photos.encoder.fingerprint}


def _print_search(query: Sketch, result: SearchResult, parts: list[Explanation], least: float | None) -> None:
    """A table of hits, with columns for what is known: how likely they are relevant, what each object adds."""
    columns: dict[str, list[str]] = {
        "#>": [str(rank) for rank in range(1, len(result.hits) + 1)],
        "score>": [f"{hit.score:.3f}" for hit in result.hits],
    }
    if result.best is not None:
        columns["likely>"] = [f"{hit.confidence:.0%}" for hit in result.hits]
    for index, item in enumerate(query.objects if parts else ()):
        columns[f"{index} {item.label or 'object'}>"] = [f"{one.totals[index]:+.3f}" for one in parts]
    columns["source"] = [hit.source for hit in result.hits]
    if result.hits:
        table(list(columns), list(zip(*columns.values(), strict=True)))
    elif result.best is not None:
        typer.echo(f"no good match: the best photo is {result.best:.0%} likely to be relevant, less than {least:.0%}")
    else:
        typer.echo("no hits")
    note(", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in result.seconds.items()))


@app.command()
@command
def info(
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    as_json: Json = False,
) -> None:
    """Describe a collection: photos, vector length, encoder, index and why it is that one, server."""
    with _collection(uri, collection, token, encoder, encodes=encoder is not None) as photos:
        facts = photos.info()
    emit(facts, as_json, lambda: _print_facts(facts))


def _print_facts(facts: dict[str, Any]) -> None:
    flat = {
        f"{name} {inner}" if inner else name: value
        for name, part in facts.items()
        for inner, value in (part.items() if isinstance(part, dict) else [("", part)])
    }
    table(["", ""], [(name, value) for name, value in flat.items()])


@app.command()
@command
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as search prints")] = None,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    filter: Filter = "",
    everything: Annotated[bool, typer.Option("--all", help="Delete all photos of the collection")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting all")] = False,
    as_json: Json = False,
) -> None:
    """Delete photos from a collection, by id, by filter, or all; the files stay. `ingest` brings them back."""
    from compsketch_milvus.errors import CollectionError

    if sum((bool(ids), bool(filter), everything)) != 1:
        raise CollectionError("what to delete? give ids, or --filter EXPRESSION, or --all, one of the three")
    if everything and not yes and not _confirmed("Delete all photos of the collection?"):
        raise CollectionError("nothing was deleted; give --yes to delete all")
    with _collection(uri, collection, token, encoder, encodes=encoder is not None) as photos:
        deleted = photos.delete(ids) if ids else photos.delete(filter=EVERYTHING if everything else filter)
        answer = {"deleted": deleted, "count": photos.count(), "collection": photos.name}
    emit(answer, as_json, lambda: typer.echo("{deleted} deleted, {count} left in {collection}".format(**answer)))


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, err=True)


@app.command()
@command
def render(
    sketch: SketchFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to draw")] = Path("render.png"),
    encoder: EncoderSpec = None,
    as_json: Json = False,
) -> None:
    """Draw what the networks see of a sketch: its objects and boxes, and each object's raster."""
    from compsketch_milvus.sheet import network_view, save
    from encoders.sketch import Sketch

    query = Sketch.open(sketch)
    save(network_view(query, title=sketch.name, **_raster_sizes(encoder)), out)
    objects = [
        {"label": item.label, "bbox": list(item.box), "weight": item.weight, "strokes": len(item.strokes)}
        for item in query.objects
    ]
    answer = {"image": str(out), "width": query.width, "height": query.height, "objects": objects}
    emit(answer, as_json, lambda: _print_render(query, out))


def _raster_sizes(encoder: str | None) -> dict[str, Any]:
    """The raster's size and line width where a bundle is named; without one, those of the bundle that is shipped."""
    if encoder is None:
        return {}
    from encoders.bundle import Bundle, find

    sizes = Bundle.load(find(encoder)).config.get("objects", {})
    return {new: sizes[old] for new, old in (("size", "sketch_size"), ("line_width", "line_width")) if old in sizes}


def _print_render(sketch: Sketch, out: Path) -> None:
    rows = [
        (item.label or index, f"{item.weight:g}", len(item.strokes), *(f"{value:.1f}" for value in item.box))
        for index, item in enumerate(sketch.objects)
    ]
    table(["object", "weight>", "strokes>", "x0>", "y0>", "x1>", "y1>"], rows)
    typer.echo(f"drawn to {out}")


app.command()(evaluate)
app.command()(tables)


@app.command()
@command
def demo(
    photos: Annotated[Path | None, typer.Option(help="Your own photos  [default: scenes composed here]")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page, its pictures and the database")] = Path(
        "demo"
    ),
    encoder: EncoderSpec = None,
    as_json: Json = False,
) -> int:
    """Ingest photos into Milvus Lite, search with the sketches that are shipped, write a page of contact sheets."""
    from compsketch_milvus.demo import run
    from compsketch_milvus.encoder import connect

    with IngestBar() as bar:
        result = run(connect(encoder), out, photos=photos, progress=bar)
    emit(result.to_dict(), as_json, lambda: _print_demo(result))
    return FAILURES if result.ingest.failed else 0


def _print_demo(result: DemoResult) -> None:
    _note_failures(result.ingest)
    rows = [
        (query.title if rank == 1 else "", rank, f"{hit.score:.3f}", Path(hit.source).name)
        for query in result.queries
        for rank, hit in enumerate(query.hits[:SHOWN_HITS], 1)
    ]
    table(["sketch", "#>", "score>", "photo"], rows)
    typer.echo(f"\n{result.photos} photos; the page: {result.page}")
