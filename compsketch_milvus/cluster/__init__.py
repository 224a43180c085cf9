"""Ingest on the machines of a Ray cluster, or on one machine's processes: the stages of `stages`, run by Ray Data.

    read      up to 8 tasks      a shard each of the source; asks a keeper which photos the collection holds as they are
    decode    a task a processor
    encode    an actor pool      each with the encoder open: a bundle, on a GPU where there is one, or a service
    write     1 to 4 keepers     actors with the collection open; one for a Milvus Lite file, which one process alone
                                 can open, and for a bulk import
    count     the process that starts it: outcomes come back to it, and nothing else

What a worker is given travels as one row, a batch of photos, and comes out as one row. So whatever Ray does again after
it lost a process or a machine, it gives each row once, and each photo is counted once; it is written again under the
same id. A photo that was written by a process which died before saying so may be counted as skipped.

Bounded are: the photos of a shard that are on their way, by the gate (`actors.Gate`); what Ray keeps of pixels, by its
back-pressure within the memory for objects; what the driver holds, by two batches and MAX_FAILURES reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.settings import load_settings
from encoders import tracing
from encoders.request import ongoing

if TYPE_CHECKING:
    from compsketch_milvus.cluster.setup import OpensEncoder
    from compsketch_milvus.course import Stop
    from compsketch_milvus.retry import Backoff
    from compsketch_milvus.sources import Source
    from compsketch_milvus.tally import IngestProgress, IngestSummary
    from encoders.images import Limits

__all__ = ["STORE_BYTES", "ingest"]

STORE_BYTES = 512 * 1024 * 1024  # of a Ray that is started for one ingest: some fifty batches of 32 photos


def ingest(
    source: Source,
    *,
    address: str = "local",
    collection: str | None = None,
    uri: str | None = None,
    token: str | None = None,
    encoder: str | OpensEncoder | None = None,
    index: str = "auto",
    index_params: Mapping[str, Any] | None = None,
    partition_key: str | None = None,
    staging: str | None = None,
    keep_staged: bool = False,
    workers: int | None = None,
    readers: int | None = None,
    batch_size: int = 32,
    force: bool = False,
    progress: Callable[[IngestProgress], None] | None = None,
    limits: Limits | None = None,
    rejects: str | Path | None = None,
    stop: Stop | None = None,
    backoff: Backoff | None = None,
    allow_private: bool = False,
    started: Callable[[str], None] | None = None,
) -> IngestSummary:
    """Index the photos of a source on Ray; what is not said here is as in `compsketch_milvus.ingest.ingest`.

    Args:
        source: as for `sources.iterate`, under a name by which every worker sees it; no iterator, which can be read
            once and by one process.
        address: "local" starts a Ray on this machine for the time of this; "auto" or HOST:PORT join one that runs. In
            a process that has joined one already that one is used.
        collection: name; None takes the settings', as for `uri`, `token` and `encoder`.
        uri: Milvus' address, as the workers reach it, or, with "local", a Milvus Lite file.
        token: what they log in with.
        encoder: of `connect`, or a function that opens one in a worker.
        index: as of `SketchCollection.open`, like `index_params` and `partition_key`.
        staging: import in bulk by files that wait there; None to upsert.
        keep_staged: put imported files aside, do not remove them.
        workers: encoders at a time; None for one a GPU, else one a machine.
        readers: shards of the source that are read at a time; None for one to two processors, at most 8.
        started: called with what there is to know about the Ray, in words.

    Raises:
        SourceError: the source is no good for the workers, and nothing was read; or `rejects` cannot be written.
        ServerError: no Ray answers at the address, or no Milvus.
        CollectionError: a Milvus Lite file and a cluster, or as `SketchCollection.open`.
        IngestError: as `compsketch_milvus.ingest.ingest`.
    """
    from compsketch_milvus.cluster.run import READERS, Plan, Run
    from compsketch_milvus.cluster.session import LOCAL, joined
    from compsketch_milvus.cluster.setup import Environment, Opening
    from compsketch_milvus.encoder import connect
    from compsketch_milvus.errors import CollectionError
    from compsketch_milvus.rejects import Rejects
    from compsketch_milvus.retry import Backoff
    from compsketch_milvus.server import lite_path
    from compsketch_milvus.sources.access import Access
    from compsketch_milvus.tally import Tally
    from encoders.images import Limits

    spec = _absolute(encoder) if isinstance(encoder, str) and os.path.isdir(encoder) else encoder
    settings = load_settings(uri=uri, token=token, collection=collection, encoder=None if callable(spec) else spec)
    path = lite_path(settings.uri)
    if path is not None and address != LOCAL:
        raise CollectionError(
            f"{settings.uri}: a Milvus Lite file can be open on one machine only; give --uri http://HOST:PORT of a "
            "server that the workers reach, or --ray local"
        )
    if batch_size < 1 or (workers or 1) < 1 or (readers or 1) < 1:
        raise SourceError(f"batch_size {batch_size}, workers {workers}, readers {readers}: all must be at least 1")
    source = _for_workers(source)
    if settings.tracing:
        tracing.start("compsketch")
    with ExitStack() as stack:
        stack.enter_context(ongoing())
        stack.enter_context(tracing.span("compsketch ingest"))
        log = stack.enter_context(Rejects.of(source, rejects)) if rejects is not None else None
        session = stack.enter_context(joined(address, STORE_BYTES))
        if started is not None:
            started(session.words)
        service = "://" in settings.encoder and not callable(spec)
        encoders = workers or (0 if service else session.gpus) or session.nodes
        plan = Plan(
            source,
            Opening(
                settings.collection,
                settings.uri if path is None else str(path),
                settings.token,
                settings.db_name,
                index,
                index_params,
                partition_key,
                str(_absolute(staging)) if staging else None,
                keep_staged,
            ),
            spec if callable(spec) else connect,
            Environment.of(settings).shared(-(-encoders // session.nodes), session.cpus // session.nodes),
            Access(limits or Limits(), allow_private),
            backoff or Backoff(),
            batch_size,
            force,
            encoders=encoders,
            readers=readers or min(READERS, max(1, session.cpus // 2)),
        )
        run = Run(plan, session, Tally(log), progress=progress, stop=stop)
        stack.callback(run.leave)
        return run.run()


def _for_workers(source: Any) -> Any:
    """The source with names that mean the same in every process of this machine."""
    if isinstance(source, Iterator):
        raise SourceError(
            f"{type(source).__name__}: can be read once, by one process; with Ray give names, or an iterable that "
            "every worker can begin anew"
        )
    if isinstance(source, (list, tuple)):
        return [one if isinstance(one, ImageRecord) else _for_workers(one) for one in source]
    return _absolute(source) if isinstance(source, (str, Path)) else source


def _absolute(name: str | Path) -> str | Path:
    if isinstance(name, str) and "://" in name:
        return name
    return type(name)(os.path.abspath(os.path.expanduser(name)))
