"""`compsketch ingest`: photos into a collection."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compsketch_milvus.commands.info import IndexParams, IndexType, index_parameters
from compsketch_milvus.commands.opening import EncoderSpec, Json, Name, Token, Uri, open_collection
from compsketch_milvus.commands.scraping import MetricsHost, MetricsPort, scraped_at
from compsketch_milvus.errors import IngestError
from compsketch_milvus.terminal import FAILURES, INTERRUPTED, IngestBar, command, emit, note, refuse

if TYPE_CHECKING:
    from typing_extensions import Self

    from compsketch_milvus.bulk import BulkWriter
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.metrics import IngestMetrics
    from compsketch_milvus.shard import Shard
    from compsketch_milvus.tally import IngestProgress, IngestSummary

__all__ = ["Drain", "ingest", "ingest_json", "note_failures", "print_broken"]


GOES_ON = "run the same ingest again, it goes on from there"
SHOWN_FAILURES = 20  # on stderr; --json lists them all


class Via(str, Enum):
    """The way into Milvus."""

    UPSERT = "upsert"
    BULK = "bulk"


@command
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, photos, glob patterns, manifests (.csv, .jsonl, .parquet), archives (.zip, .tar), URLs of "
            "them (http, https, s3, gs), shard-{000..012}.tar, or milvus://HOST:PORT/COLLECTION?field=NAME",
        ),
    ],
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos encoded at once")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Encode again what is unchanged")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Of N workers on one source, the photos of worker I")
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Append each failure to this .jsonl, which `ingest` takes as a source")
    ] = None,
    retry_for: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Try again while the server is away or busy")
    ] = 600.0,
    keep_features: Annotated[
        Path | None,
        typer.Option(help="Keep photos' features here, for another projection later; some 9 KB a photo"),
    ] = None,
    index: IndexType = "auto",
    index_params: IndexParams = None,
    partition_key: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Of a new collection: keep photos apart by this field, such as a tenant's name"
        ),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let URLs lead to private addresses, such as those of this network")
    ] = False,
    via: Annotated[
        Via,
        typer.Option(help="Upsert as they come, or write files that Milvus imports: for a first, large load"),
    ] = Via.UPSERT,
    staging: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="With --via bulk: where Milvus reads the files: a folder that it sees under the same path, or "
            "s3://BUCKET/PREFIX in its own bucket  [default: COMPSKETCH_STAGING]",
        ),
    ] = None,
    keep_staged: Annotated[
        bool, typer.Option("--keep-staged", help="With --via bulk: put imported files aside, do not remove them")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|auto|HOST:PORT",
            help="Spread the work by Ray: over processes of this machine, or over the cluster that it is a part of",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --ray: encoders at a time  [default: one a GPU, else one a machine]"),
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    as_json: Json = False,
) -> int:
    """Index photos; run it again to add what is new. A bad photo is reported, and the others go on.

    SIGTERM ends it when what is decoded is stored; a second one, or Ctrl-C, at once. Nothing stored is lost.
    """
    from compsketch_milvus.retry import Backoff
    from compsketch_milvus.shard import Shard

    share = Shard.parse(shard) if shard else None
    staged_at = _staging(via, staging, keep_staged, uri)
    _check_ray(ray, workers, share, keep_features)
    where: dict[str, Any] = {"uri": uri, "token": token, "encoder": encoder, "index": index}
    where |= {"index_params": index_parameters(index_params), "partition_key": partition_key}
    source = sources if ray not in (None, "local") else _checked(sources, allow_private)  # which workers may see alone
    if ray is None:
        ingesting = _here(collection, where, share, keep_features, staged_at, keep_staged)
    else:
        ingesting = _on_ray(ray, workers, {**where, "collection": collection}, staged_at, keep_staged)
    with (
        Drain() as drain,
        scraped_at(metrics_host, metrics_port, _metrics) as metrics,
        ingesting as run,
        IngestBar() as bar,
        _reported(bar, metrics) as progress,
    ):
        try:
            summary = run(
                source,
                batch_size=batch_size,
                force=force,
                progress=progress,
                rejects=rejects,
                stop=drain,
                backoff=Backoff(deadline=retry_for),
                allow_private=allow_private,
            )
        except KeyboardInterrupt:
            refuse(f"interrupted after {bar.counts()}; {GOES_ON}", as_json)
            return INTERRUPTED
        except IngestError as error:
            print_broken(error, as_json)
            return FAILURES
    emit(ingest_json(summary), as_json, lambda: _print_ingest(summary))
    return FAILURES if summary.failed else 0


@contextmanager
def _here(
    collection: str | None,
    where: dict[str, Any],
    share: Shard | None,
    keep_features: Path | None,
    staging: str | None,
    keep_staged: bool,
) -> Iterator[Callable[..., IngestSummary]]:
    """An ingest in this process, with the collection open."""
    from compsketch_milvus.features import FeatureStore

    uri, token = where.pop("uri"), where.pop("token")
    with open_collection(uri, collection, token, where.pop("encoder"), create=True, **where) as photos:
        yield partial(
            photos.ingest,
            shard=share,
            keep_features=FeatureStore(keep_features, photos.encoder) if keep_features else None,
            writer=staging and _bulk(photos, staging, share, keep_staged, uri, token),
        )


@contextmanager
def _on_ray(
    address: str, workers: int | None, where: dict[str, Any], staging: str | None, keep_staged: bool
) -> Iterator[Callable[..., IngestSummary]]:
    """An ingest by the workers of a Ray."""
    from compsketch_milvus import cluster

    more: dict[str, Any] = {"staging": staging, "keep_staged": keep_staged, "started": note}

    def run(source: Any, **options: Any) -> IngestSummary:
        with redirect_stdout(sys.stderr):  # on which Ray tells of workers that died
            return cluster.ingest(source, address=address, workers=workers, **where, **more, **options)

    yield run


def _check_ray(address: str | None, workers: int | None, share: Shard | None, keep_features: Path | None) -> None:
    from compsketch_milvus.errors import SettingsError

    if address is None and workers is not None:
        raise SettingsError("--workers says how many encode under --ray: add --ray local, or leave it out")
    if address is not None and share is not None:
        raise SettingsError("--shard and --ray: Ray shares the source out among its workers; leave --shard out")
    if address is not None and keep_features is not None:
        raise SettingsError("--keep-features and --ray: features are kept by an ingest without --ray only")


def _metrics() -> IngestMetrics:
    from compsketch_milvus.metrics import IngestMetrics

    return IngestMetrics()


@contextmanager
def _reported(bar: IngestBar, metrics: IngestMetrics | None) -> Iterator[Callable[[IngestProgress], None]]:
    """The progress of one ingest, to people, and to Prometheus where it asks."""
    if metrics is None:
        yield bar
        return
    with metrics.running() as counted:

        def both(now: IngestProgress) -> None:
            bar(now)
            counted(now)

        yield both


def _staging(via: Via, staging: str | None, keep: bool, uri: str | None) -> str | None:
    """Where files wait, for a bulk import; None without one. What cannot be is refused before anything is made."""
    from compsketch_milvus.bulk.jobs import check_imports
    from compsketch_milvus.errors import SettingsError
    from compsketch_milvus.settings import load_settings

    if via is Via.UPSERT:
        if staging or keep:
            raise SettingsError("--staging and --keep-staged are for --via bulk: add that, or leave them out")
        return None
    settings = load_settings(staging=staging, uri=uri)
    if not settings.staging:
        raise SettingsError(
            "--via bulk writes files that Milvus reads: give --staging FOLDER (which the server sees under the same "
            "path) or --staging s3://BUCKET/PREFIX (in its own bucket), or set COMPSKETCH_STAGING"
        )
    check_imports(settings.uri)
    return settings.staging


def _bulk(
    photos: SketchCollection, staging: str, share: Shard | None, keep: bool, uri: str | None, token: str | None
) -> BulkWriter:
    from compsketch_milvus.bulk import BulkWriter, jobs_of

    worker = f"{share.index}-of-{share.count}" if share else None
    return BulkWriter(photos, staging, worker=worker, jobs=jobs_of(photos, uri=uri, token=token), keep=keep)


class Drain:
    """The `stop` of an ingest: set by the first SIGTERM; the second ends the program like Ctrl-C.

    A context manager, for the main thread. It says nothing itself, as a signal may come in the midst of a line.
    """

    def __init__(self) -> None:
        self._asked = False

    def is_set(self) -> bool:
        """Whether a SIGTERM came."""
        return self._asked

    def _heed(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _checked(sources: list[str], allow_private: bool) -> str | list[str]:
    """The source, refused before the encoder is loaded if it is the only one and no good."""
    from compsketch_milvus.sources import iterate
    from compsketch_milvus.sources.access import Access

    if len(sources) > 1:
        return sources
    next(iterate(sources[0], Access(allow_private=allow_private)), None)
    return sources[0]


def ingest_json(summary: IngestSummary) -> dict[str, Any]:
    """read == indexed + skipped + len(failed) + failures_dropped."""
    return {
        "read": summary.read,
        "indexed": summary.indexed,
        "skipped": summary.skipped,
        "failed": [{"source": failure.source, "reason": failure.reason} for failure in summary.failed],
        "failures_dropped": summary.failures_dropped,
        "abandoned": summary.abandoned,
        "drained": summary.drained,
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
    } | ({"next": GOES_ON} if summary.drained else {})


def _print_ingest(summary: IngestSummary) -> None:
    note_failures(summary)
    typer.echo(
        f"{summary.indexed} indexed, {summary.skipped} skipped, {summary.failures} failed "
        f"in {summary.seconds:.1f} s ({summary.images_per_second:.1f} photos/s)"
    )
    if summary.drained:
        note(f"stopped early, as SIGTERM asks: {GOES_ON}")


def print_broken(error: IngestError, as_json: bool) -> None:
    """An ingest that broke off: why, and the counts until then."""
    line = " ".join(str(error).split())
    if not as_json:
        note_failures(error.summary)
    note(f"error: {line}")
    emit({"error": line, **ingest_json(error.summary)}, as_json, lambda: None)


def note_failures(summary: IngestSummary) -> None:
    """Say on stderr what failed, the first few by name."""
    for failure in summary.failed[:SHOWN_FAILURES]:
        note(f"failed: {failure.source}: {failure.reason}")
    if summary.failures > SHOWN_FAILURES:
        note(f"… and {summary.failures - SHOWN_FAILURES} more failures; --json and --rejects list them")
