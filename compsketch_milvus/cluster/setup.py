"""What the processes of a cluster are given by the one that started them: settings, the encoder, the collection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import SecretStr

from compsketch_milvus.settings import VARIABLES, Settings
from encoders import request, tracing

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder
    from compsketch_milvus.ingest import Writer

__all__ = ["EncoderFacts", "Environment", "Opening", "OpensEncoder"]

OpensEncoder: TypeAlias = "Callable[[], Encoder]"
THREADS = "OMP_NUM_THREADS"
SPANS_WAIT = "OTEL_BSP_SCHEDULE_DELAY"  # milliseconds in which a span has left a process


@dataclass(frozen=True)
class Environment:
    """The settings and the request of the process that starts an ingest, for the workers; secrets are not shown.

    They travel as an argument of an actor or a task: what Ray shows of a job, its runtime environment, holds none.

    Args:
        variables: values by the names of `settings.VARIABLES`.
        threads: OMP_NUM_THREADS; None leaves the libraries their own choice, in place of Ray's, a thread a process.
        traced: whether the workers send spans, which they do where OpenTelemetry's variables say on their machines.
        request: id of the request that the ingest is.
        carrier: headers that carry its span.
    """

    variables: Mapping[str, str] = field(repr=False)
    threads: str | None = None
    traced: bool = False
    request: str = ""
    carrier: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Environment:
        """That of these settings, and of the request and the span that this is called in."""
        variables = {}
        for name, (variable, _) in VARIABLES.items():
            value = getattr(settings, name)
            if value is not None and name not in ("user", "password"):  # which are in the token
                variables[variable] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        threads, carrier = os.environ.get(THREADS), tuple(tracing.injected())
        return cls(variables, threads, settings.tracing, request.current(), carrier)

    def shared(self, encoders: int, cpus: int) -> Environment:
        """For machines of so many processors, each with so many encoders: these take the processors between them."""
        if self.threads is not None or encoders < 2:
            return self
        return replace(self, threads=str(max(1, cpus // encoders)))

    def enter(self) -> None:
        """Make it this process' own."""
        for variable in (variable for variable, _ in VARIABLES.values()):
            os.environ.pop(variable, None)
        os.environ.update(self.variables)
        os.environ.pop(THREADS, None)
        if self.threads is not None:
            os.environ[THREADS] = self.threads
        if self.traced:
            os.environ.setdefault(SPANS_WAIT, "100")  # not 5,000: workers are killed as soon as the ingest has ended
            tracing.start("compsketch")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Around what a worker does of the ingest: under its request's id, in a span below its own."""
        with request.request(self.request), tracing.span(f"ingest {name}", carrier=dict(self.carrier)):
            yield


@dataclass(frozen=True)
class EncoderFacts:
    """What a process that encodes nothing has to know of an encoder; see `Encoder`."""

    name: str
    dim: int
    fingerprint: str
    image_size: int

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderFacts:
        """Those of an encoder that is open."""
        return cls(encoder.name, encoder.dim, encoder.fingerprint, encoder.image_size)


@dataclass(frozen=True)
class Opening:
    """How a process opens the collection.

    Args:
        name: of the collection.
        uri: Milvus' address, or a Milvus Lite file.
        token: what it logs in with.
        db_name: database.
        index: as of `SketchCollection.open`, like the rest.
        index_params: likewise.
        partition_key: likewise.
        staging: where files wait for a bulk import; None to upsert.
        keep_staged: put imported files aside, do not remove them.
    """

    name: str
    uri: str = field(repr=False)
    token: SecretStr | None
    db_name: str | None
    index: str = "auto"
    index_params: Mapping[str, Any] | None = None
    partition_key: str | None = None
    staging: str | None = None
    keep_staged: bool = False

    def open(self, encoder: EncoderFacts) -> SketchCollection:
        """Open the collection, or make it. Raises as `SketchCollection.open`."""
        from compsketch_milvus.collection import SketchCollection

        return SketchCollection.open(
            self.name,
            encoder,  # type: ignore[arg-type]  # nothing is encoded here
            uri=self.uri,
            token=self.token.get_secret_value() if self.token else None,
            db_name=self.db_name,
            index=self.index,
            index_params=self.index_params,
            partition_key=self.partition_key,
        )

    def writer(self, collection: SketchCollection) -> Writer | None:
        """What stores photos in place of the collection's upsert, if something does; it has ended what it left behind.

        Raises:
            ServerError: Milvus, or the staging, is away or refuses.
        """
        if self.staging is None:
            return None
        from compsketch_milvus.bulk import BulkWriter, jobs_of

        token = self.token.get_secret_value() if self.token else None
        jobs = jobs_of(collection, uri=self.uri, token=token)
        writer = BulkWriter(collection, self.staging, jobs=jobs, keep=self.keep_staged)
        writer.recover()
        return writer
