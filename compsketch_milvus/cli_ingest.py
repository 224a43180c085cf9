"""`compsketch ingest`: photos into a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.cli_collection import EncoderSpec, Json, Name, Token, Uri, open_collection
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, IngestBar, command, emit, note, refuse

if TYPE_CHECKING:
    from compsketch_milvus.ingest import IngestSummary

__all__ = ["ingest", "note_failures"]

SHOWN_FAILURES = 20  # on stderr; --json lists them all


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
    with open_collection(uri, collection, token, encoder, create=True) as photos, IngestBar() as bar:
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
    failures = note_failures(summary)
    typer.echo(
        f"{summary.indexed} indexed, {summary.skipped} skipped, {failures} failed "
        f"in {summary.seconds:.1f} s ({summary.images_per_second:.1f} photos/s)"
    )


def note_failures(summary: IngestSummary) -> int:
    """Say on stderr what failed, the first few by name; returns how many there were."""
    failures = len(summary.failed) + summary.failures_dropped
    for failure in summary.failed[:SHOWN_FAILURES]:
        note(f"failed: {failure.source}: {failure.reason}")
    if failures > SHOWN_FAILURES:
        note(f"… and {failures - SHOWN_FAILURES} more failures; --json lists them")
    return failures
