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

from compsketch_milvus.commands.attach import attach, search_attached
from compsketch_milvus.commands.canary import canary
from compsketch_milvus.commands.data import data
from compsketch_milvus.commands.doctor import doctor
from compsketch_milvus.commands.evaluate import evaluate
from compsketch_milvus.commands.info import index, info
from compsketch_milvus.commands.ingest import ingest, note_failures
from compsketch_milvus.commands.opening import EncoderSpec, Filter, Json, Name, Token, Uri, open_collection
from compsketch_milvus.commands.plan import plan
from compsketch_milvus.commands.project import reproject
from compsketch_milvus.commands.search import Params, SketchFile, parameters, search
from compsketch_milvus.commands.serve import serve
from compsketch_milvus.commands.study import study
from compsketch_milvus.commands.tables import tables
from compsketch_milvus.commands.train import train
from compsketch_milvus.commands.upgrade import alias, upgrade
from compsketch_milvus.commands.watch import watch
from compsketch_milvus.commands.web import web
from compsketch_milvus.terminal import FAILURES, IngestBar, command, emit, table

if TYPE_CHECKING:
    from compsketch_milvus.demo import DemoResult
    from encoders.sketch import Sketch

__all__ = ["app", "main"]

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
app.add_typer(study, name="study")
app.add_typer(canary, name="canary")


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


app.command()(ingest)
app.command()(watch)
app.command()(search)
app.command()(attach)
app.command("search-attached")(search_attached)
app.command()(info)
app.command()(index)
app.command()(reproject)
app.command()(upgrade)
app.command()(alias)


@app.command()
@command
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as search prints")] = None,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    filter: Filter = "",
    param: Params = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all photos of the collection")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting all")] = False,
    as_json: Json = False,
) -> None:
    """Delete photos from a collection, by id, by filter, or all; the files stay. `ingest` brings them back."""
    from compsketch_milvus.errors import CollectionError

    if sum((bool(ids), bool(filter), everything)) != 1:
        raise CollectionError("what to delete? give ids, or --filter EXPRESSION, or --all, one of the three")
    values = parameters(param)
    if everything and not yes and not _confirmed("Delete all photos of the collection?"):
        raise CollectionError("nothing was deleted; give --yes to delete all")
    with open_collection(uri, collection, token, encoder, encodes=encoder is not None) as photos:
        chosen = EVERYTHING if everything else filter
        deleted = photos.delete(ids or None, None if ids else chosen, values)
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


app.command()(web)
app.command()(evaluate)
app.command()(tables)
app.command()(plan)
app.command()(doctor)
app.command()(serve)


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
    note_failures(result.ingest)
    rows = [
        (query.title if rank == 1 else "", rank, f"{hit.score:.3f}", Path(hit.source).name)
        for query in result.queries
        for rank, hit in enumerate(query.hits[:SHOWN_HITS], 1)
    ]
    table(["sketch", "#>", "score>", "photo"], rows)
    typer.echo(f"\n{result.photos} photos; the page: {result.page}")
    typer.echo(f"draw for yourself: {sys.argv[0]} web --open --uri {result.uri} --collection {result.collection}")
