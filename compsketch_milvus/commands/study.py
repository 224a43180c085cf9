"""`compsketch study`: prepare tasks, serve the rating page, report what people said (section 4.4)."""

from __future__ import annotations

import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Json, Token, Uri
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import INTERRUPTED, StageBar, command, emit, lasting, table

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.study.rankings import Rankings
    from encoders.semir import SemirEncoder

__all__ = ["study"]

study = typer.Typer(
    help="The user study of section 4.4: people rate, blindly, what the methods find.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study", show_default=False)]


@study.command()
@command
def prepare(
    folder: Folder,
    method: Annotated[
        list[str],
        typer.Option(
            help="A method, repeated for several: ssbir, semir, msbir and the like over --annotations; or "
            "NAME=COLLECTION[:ENCODER], a collection in Milvus. Chance is always added"
        ),
    ],
    sketches: Annotated[
        Path,
        typer.Option(
            help="With --annotations, sketches of single objects (ndjson or manifest); else a folder of sketches"
        ),
    ],
    annotations: Annotated[
        list[Path] | None, typer.Option(help="annotations.json or a manifest (.parquet); repeat for several sets")
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Folder of photos, one for each --annotations")] = None,
    encoder: EncoderSpec = None,
    semir: Annotated[str | None, typer.Option(help="SemIR bundle, by name or folder, for the method semir")] = None,
    uri: Uri = None,
    token: Token = None,
    checks: Annotated[
        Path | None, typer.Option(help='JSON lines {"sketch", "good", "bad": [...]} of photos known for a sketch')
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(min=3, help="Queries, balanced over 1, 2, 3 objects  [default: 99; of a folder, all it can]"),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=200, help="Results of each method that are rated")] = 20,
    raters: Annotated[int, typer.Option(min=1, help="People who rate a task")] = 3,
    every: Annotated[int, typer.Option(min=2, help="One of so many tasks is an attention check")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of queries, chance, order and checks")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only what training has not seen")] = False,
    as_json: Json = False,
) -> None:
    """Make a study's folder: what each method finds, as blinded tasks with pictures of their own."""
    from compsketch_milvus.study.prepare import prepare as make

    if (folder / "study.json").exists():  # before there is work to lose; `make` looks again
        raise CompsketchError(f"{folder}: there is a study already, perhaps with ratings; prepare another folder")
    with StageBar() as bar:
        if annotations:
            sets = _zipped(annotations, images or [])
            amount = {"queries": queries or 99, "depth": depth, "seed": seed, "held_out": held_out, "progress": bar}
            found = _over_sets(method, sets, sketches, encoder, semir, amount)
        else:
            amount = {"queries": queries, "depth": depth, "seed": seed}
            found = _over_collections(method, sketches, checks, encoder, (uri, token), amount, bar)
        plan = make(found, folder, seed=seed, raters=raters, every=every, progress=bar)
    answer = {
        "study": str(folder), "queries": len(plan.queries), "tasks": len(plan.tasks), "checks": len(plan.checks),
        "photos": len(plan.photos), "methods": list(plan.methods), "fingerprint": plan.fingerprint,
    }  # fmt: skip
    emit(answer, as_json, lambda: _print_prepared(answer))


def _print_prepared(answer: dict[str, Any]) -> None:
    typer.echo("{queries} queries, {tasks} tasks, {photos} photos, {checks} attention checks: {study}".format(**answer))
    if not answer["checks"]:
        typer.echo("no attention checks: nothing is known of the photos; --checks FILE names some")
    typer.echo(f"collect ratings: compsketch study serve {answer['study']}")


@study.command()
@lasting
def serve(
    folder: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other machines reach 0.0.0.0, or [::]")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one")] = 8421,
    contact: Annotated[str, typer.Option(help="Who answers questions, for the page")] = "",
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate to serve by TLS with, in PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, in PEM")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without TLS, as behind a proxy that has it")
    ] = False,
    as_json: Json = False,
) -> int:
    """Serve the rating page. Where others than this machine's users come, they need the link that is printed."""
    from compsketch_milvus.study.pages import create_app
    from compsketch_milvus.study.plan import Plan
    from compsketch_milvus.study.store import Store
    from compsketch_milvus.web.listening import address, check_reach, listen
    from compsketch_milvus.web.listening import serve as run
    from compsketch_milvus.web.protection import is_loopback

    plan = Plan.load(folder)
    with closing(Store(folder, plan)) as store:
        check_reach(host, store.invitation, (tls_cert, tls_key), insecure)
        invited = not is_loopback(host)
        with listen(host, port) as opened:
            name = socket.gethostname() if host in ("0.0.0.0", "::", "[::]") else host  # a link that one can send
            link = address(opened, name, tls=tls_cert is not None) + (f"#{store.invitation}" if invited else "")
            emit({"url": link, "study": str(folder)}, as_json, lambda: typer.echo(f"the rating page: {link}"))
            try:
                run(create_app(folder, store, invited=invited, contact=contact), opened, tls_cert, tls_key)
            except KeyboardInterrupt:
                return INTERRUPTED
    return 0


@study.command()
@command
def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the report  [default: report, in the study]")
    ] = None,
    with_marked: Annotated[
        bool, typer.Option("--with-marked", help="Count those raters too who failed too many attention checks")
    ] = False,
    as_json: Json = False,
) -> None:
    """Table 2, Fig. 4, t-tests and agreement of what was rated so far: Markdown, JSON, SVG, PNG."""
    from compsketch_milvus.study.plan import Plan
    from compsketch_milvus.study.report import report as figures_of
    from compsketch_milvus.study.report import write
    from compsketch_milvus.study.store import Store

    plan = Plan.load(folder)
    with closing(Store(folder, plan)) as store:
        figures = figures_of(plan, store, with_marked=with_marked)
    files = write(figures, out or folder / "report")
    emit({**figures, "files": [str(file) for file in files]}, as_json, lambda: _print_report(figures, files[0]))


def _print_report(figures: dict[str, Any], file: Path) -> None:
    metrics = figures["metrics"]
    rows = [
        (method, *("-" if found[name]["value"] is None else f"{found[name]['value']:.3f}" for name in metrics))
        for method, found in figures["methods"]["all"].items()
    ]
    table(["method", *(f"{name}>" for name in metrics)], rows)
    alpha = figures["alpha"]["all"]
    typer.echo(
        "\n{ratings} ratings by {raters} raters, {raters_left_out} left out for failed checks; "
        "{tasks_complete} of {tasks} tasks complete".format(**figures["counts"])
        + ("" if alpha is None else f"; Krippendorff's alpha {alpha:.3f}")
    )
    typer.echo(f"the report: {file}")


@study.command()
@command
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, .csv")] = Path("ratings.csv"),
    as_json: Json = False,
) -> None:
    """Write every score as a line of CSV: query, rank, photo, methods, rater, score."""
    from compsketch_milvus.study.plan import Plan
    from compsketch_milvus.study.report import export as write_all
    from compsketch_milvus.study.store import Store

    plan = Plan.load(folder)
    with closing(Store(folder, plan)) as store:
        count = write_all(plan, store, out)
    emit({"ratings": count, "out": str(out)}, as_json, lambda: typer.echo(f"{count} ratings: {out}"))


# --- what the methods are asked over ---


def _zipped(files: list[Path], folders: list[Path]) -> list[tuple[Path, Path]]:
    if len(files) != len(folders):
        raise CompsketchError(f"{len(files)} --annotations and {len(folders)} --images: give one folder a file")
    return list(zip(files, folders, strict=True))


def _over_sets(
    methods: list[str],
    sets: list[tuple[Path, Path]],
    sketches: Path,
    encoder: str | None,
    semir: str | None,
    amount: dict[str, Any],
) -> Rankings:
    named = [name for name in methods if "=" in name]
    if named:
        raise CompsketchError(
            f"--method {named[0]}: over --annotations a method has no collection; give its name alone"
        )
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.study.rankings import from_sets

    return from_sets(connect(encoder), sets, sketches, methods=methods, semir=_semir(semir), **amount)


def _over_collections(
    methods: list[str],
    folder: Path,
    checks: Path | None,
    encoder: str | None,
    server: tuple[str | None, str | None],
    amount: dict[str, Any],
    bar: StageBar,
) -> Rankings:
    from compsketch_milvus.study.inputs import collections, known, sketch_files
    from compsketch_milvus.study.rankings import balanced, from_collections

    named, drawn = collections(methods, encoder), sketch_files(folder)
    files = [list(drawn)[place] for place in balanced(list(drawn.values()), amount["queries"], amount["seed"])]
    return from_collections(
        partial(_opened, server), named, [drawn[file] for file in files],
        checks=None if checks is None else known(checks, files), depth=amount["depth"], seed=amount["seed"],
        progress=bar,
    )  # fmt: skip


def _opened(server: tuple[str | None, str | None], name: str, spec: str | None, is_semir: bool) -> SketchCollection:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.settings import load_settings

    settings = load_settings(uri=server[0], token=server[1], collection=name, encoder=spec)
    secret = settings.token.get_secret_value() if settings.token else None
    network: Any = _semir(settings.encoder) if is_semir else connect(settings.encoder)
    where: dict[str, Any] = {"uri": settings.uri, "token": secret, "db_name": settings.db_name}
    return SketchCollection.open(settings.collection, network, create=False, **where)


def _semir(spec: str | None) -> SemirEncoder | None:
    if spec is None:
        return None
    from compsketch_milvus.settings import load_settings
    from encoders.semir import SemirEncoder

    settings = load_settings()
    return SemirEncoder.open(spec, settings.device, settings.runtime)
