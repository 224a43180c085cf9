"""`compsketch watch`: a folder and a collection in step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.ingest import Drain
from compsketch_milvus.commands.opening import EncoderSpec, Json, Name, Token, Uri, open_collection
from compsketch_milvus.commands.scraping import MetricsHost, MetricsPort, scraped_at
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, emit, lasting, note

if TYPE_CHECKING:
    from compsketch_milvus.metrics import WatchMetrics
    from compsketch_milvus.watch import Watch

__all__ = ["watch"]


@lasting
def watch(
    folder: Annotated[Path, typer.Argument(help="The folder of photos", show_default=False)],
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    once: Annotated[bool, typer.Option("--once", help="Compare once and end, as for cron")] = False,
    rescan: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Compare the whole folder so often, besides its events")
    ] = 300.0,
    settle: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Read a file once it has not changed for so long")
    ] = 2.0,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Delete all its photos where the folder holds none any more")
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    as_json: Json = False,
) -> int:
    """Keep a collection in step with a folder: photos added, changed, moved and deleted. The files stay as they are.

    Rows of photos elsewhere are left alone. SIGTERM ends it when what is under way is stored; so does Ctrl-C, at once.
    """
    from compsketch_milvus.watch import Watch

    started = time.monotonic()
    with (
        Drain() as drain,
        scraped_at(metrics_host, metrics_port, _metrics) as metrics,
        open_collection(uri, collection, token, encoder, create=True) as photos,
    ):
        watching = Watch(
            photos,
            folder,
            batch_size=batch_size,
            settle=settle,
            rescan=rescan,
            allow_empty=allow_empty,
            stop=drain,
            tell=note,
            observe=metrics,
        )
        status = 0
        try:
            if not once:
                note(f"watching {watching.root}; SIGTERM or Ctrl-C ends it")
            watching.once() if once else watching.run()
        except KeyboardInterrupt:
            status = INTERRUPTED
    answer = _summary(watching, time.monotonic() - started)
    emit(answer, as_json, lambda: typer.echo(_words(answer)))
    return status or (FAILURES if answer["failed"] or answer["kept"] or answer["unsettled"] else 0)


def _metrics() -> WatchMetrics:
    from compsketch_milvus.metrics import WatchMetrics

    return WatchMetrics()


def _summary(watching: Watch, seconds: float) -> dict[str, Any]:
    done = watching.summary
    return {
        "folder": str(watching.root),
        "indexed": done.indexed,
        "deleted": done.deleted,
        "failed": [{"source": source, "reason": reason} for source, reason in done.failed.items()],
        "kept": done.kept,
        "unsettled": done.unsettled,
        "comparisons": done.comparisons,
        "seconds": seconds,
    }


def _words(answer: dict[str, Any]) -> str:
    line = "{indexed} indexed, {deleted} deleted, {} failed in {seconds:.1f} s"
    told = line.format(len(answer["failed"]), **answer)
    more = {"kept": "kept although their files are not there", "unsettled": "still being written"}
    return told + "".join(f"; {answer[name]} {words}" for name, words in more.items() if answer[name])
