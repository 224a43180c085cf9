"""`compsketch canary`: whether search still finds what is known to be there."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Json, Name, Token, Uri, open_collection
from compsketch_milvus.commands.scraping import MetricsHost, MetricsPort, scraped_at
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.terminal import DONE, FAILURES, StageBar, command, emit, lasting, note

if TYPE_CHECKING:
    from compsketch_milvus.canary.metrics import CanaryMetrics

__all__ = ["canary"]

PHOTOS = 100  # queries that are drawn where nobody says otherwise

canary = typer.Typer(
    help="Queries whose exact answers are known, asked again and again: recall and latency of a live collection.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The canary, a JSON file", show_default=False)]


@canary.command()
@command
def prepare(
    file: File,
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    queries: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Queries near random photos  [default: 100; none beside --sketches]"),
    ] = None,
    sketches: Annotated[Path | None, typer.Option(help="Also ask these: a folder of sketches")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random photos")] = 0,
    as_json: Json = False,
) -> None:
    """Draw queries, find the exact answers of each by comparing it with every photo, and keep both in a file."""
    from compsketch_milvus.canary.prepare import prepare as make
    from compsketch_milvus.canary.questions import check_place
    from compsketch_milvus.settings import load_settings
    from compsketch_milvus.study.inputs import sketch_files

    check_place(file)
    drawings = sketch_files(sketches) if sketches else None
    photos = queries or (0 if drawings else PHOTOS)
    name = load_settings(collection=collection).collection
    started = time.monotonic()
    with open_collection(uri, name, token, encoder, encodes=drawings is not None) as opened, StageBar() as bar:
        made = make(opened, name, photos=photos, sketches=drawings, seed=seed, progress=bar)
    made.save(file)
    answer = {
        "file": str(file), "collection": made.collection, "queries": len(made.questions), "rows": made.rows,
        "encoder": {"name": made.encoder, "fingerprint": made.fingerprint}, "seconds": time.monotonic() - started,
    }  # fmt: skip
    emit(answer, as_json, lambda: typer.echo(f"{len(made.questions)} queries over {made.rows} photos: {file}"))


@canary.command()
@lasting
def run(
    file: File,
    uri: Uri = None,
    collection: Annotated[
        str | None, typer.Option("--collection", help="Collection of photos  [default: the one it was prepared on]")
    ] = None,
    token: Token = None,
    floor: Annotated[float, typer.Option(min=0, max=1, help="Recall@10 under which it is too low")] = 0.95,
    every: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Ask again so often, until SIGTERM or Ctrl-C")
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    as_json: Json = False,
) -> int:
    """Ask a canary's queries as people search, and compare with its exact answers; status 1 where recall is too low.

    With --every a server that is away is waited for, and the object of --json comes at the end; SIGTERM ends it.
    """
    from compsketch_milvus.canary.questions import Canary
    from compsketch_milvus.canary.rounds import Rounds, words

    if metrics_port is not None and every is None:
        raise CompsketchError("--metrics-port is of no use for one round; give --every SECONDS as well")
    name = collection or Canary.read(file).collection
    open = partial(open_collection, uri, name, token, encodes=False)
    if every is None:
        answer = Rounds(file, open, floor=floor).once()
        emit(answer, as_json, lambda: typer.echo(words(answer)))
        return DONE if answer["good"] else FAILURES
    with _AtOnce(), scraped_at(metrics_host, metrics_port, partial(_metrics, name, floor)) as metrics:
        rounds = Rounds(file, open, floor=floor, metrics=metrics, tell=note)
        rounds.go_on(every)
    told = rounds.summary
    emit(told, as_json, lambda: typer.echo("{rounds} rounds, {low} low, {unanswered} unanswered".format(**told)))
    return DONE


def _metrics(collection: str, floor: float) -> CanaryMetrics:
    from compsketch_milvus.canary.metrics import CanaryMetrics

    return CanaryMetrics(collection, floor)


class _AtOnce:
    """Has SIGTERM end what is inside, wherever it is: nothing is lost, and it is how it is meant to end."""

    def __init__(self) -> None:
        self._asked = False

    def _heed(self, *_: object) -> None:
        self._asked = True
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._heed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        signal.signal(signal.SIGTERM, self._before)
        return self._asked and kind is KeyboardInterrupt
