"""The stages that Ray Data runs, each from a row to a row: read a shard, decode, encode."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from compsketch_milvus import stages
from compsketch_milvus.cluster.actors import Patience, answer
from compsketch_milvus.cluster.batch import Batch, Outcome, bare, pack, unpack
from compsketch_milvus.cluster.setup import EncoderFacts, Environment, OpensEncoder
from compsketch_milvus.errors import FingerprintError, SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.shard import Shard
from compsketch_milvus.sources import Source, iterate
from compsketch_milvus.sources.access import Access
from encoders.errors import ImageError

if TYPE_CHECKING:
    import pyarrow as pa

    from compsketch_milvus.encoder import Encoder

__all__ = ["Decode", "Encode", "Reader", "datasource"]


@dataclass(frozen=True)
class Reader:
    """Reads the photos of one shard of a source, and leaves out those that the collection holds as they are.

    Started anew, it gives the same batches: so Ray can go on where the first one ended.

    Args:
        source: as for `sources.iterate`; every worker has to see it.
        shard: which photos.
        access: what the source is allowed.
        environment: settings.
        batch_size: photos a batch.
        window: how many photos of the shard may be on their way.
        force: index also what the collection holds already.
        gate: holds it back.
        keeper: of the collection.
        local: whether the worker is the machine that the user sits at.
    """

    source: Source
    shard: Shard
    access: Access
    environment: Environment
    batch_size: int
    window: int
    force: bool
    gate: Any
    keeper: Any
    local: bool

    def __call__(self) -> Iterator[pa.Table]:
        position = 0
        recent: dict[str, None] = {}
        try:
            self.environment.enter()
            for chunk in stages.chunks(self._own()):
                position += len(chunk)
                if not answer(self.gate.enter.remote(self.shard.index, position)):
                    return
                yield from map(pack, self._batches(chunk, recent))
        except Exception as error:
            yield pack(Batch(self.shard.index).broken(self._seen_here(error)))
        else:
            yield pack(Batch(self.shard.index, total=position))

    def _own(self) -> Iterator[ImageRecord]:
        records = iterate(self.source, replace(self.access, asks=self.shard.holds))
        return (record for record in records if self.shard.holds(record.id))

    def _batches(self, chunk: list[ImageRecord], recent: dict[str, None]) -> Iterator[Batch]:
        """Cut by the number of records, so that what the collection holds by then does not move a cut."""
        asked = [] if self.force else [bare(record) for record in chunk if record.error is None]
        held = answer(self.keeper.unchanged.remote(asked)) if asked else set()
        for start in range(0, len(chunk), self.batch_size):
            batch = Batch(self.shard.index)
            for record in chunk[start : start + self.batch_size]:
                again, recent[record.id] = record.id in recent, None
                if record.error is not None:
                    batch.outcomes.append(Outcome(bare(record), "refused", record.error))
                elif again or record.id in held:
                    batch.outcomes.append(Outcome(bare(record), "skipped"))
                else:
                    self._take(record, batch)
            yield batch
        while len(recent) > self.window:  # what was named before these has ended: the gate let this chunk in
            del recent[next(iter(recent))]

    def _take(self, record: ImageRecord, batch: Batch) -> None:
        try:
            batch.photos.append(self._portable(record))
        except ImageError as error:
            batch.fail(record, str(error))

    def _portable(self, record: ImageRecord) -> ImageRecord:
        """The record as another process can read it: what only this one can fetch, of an open archive, is fetched."""
        if record.fetch is None:
            return record
        from ray import cloudpickle

        try:
            cloudpickle.dumps(record.fetch)
        except (TypeError, pickle.PicklingError):
            content = record.content(self.access.limits.max_bytes)
            assert isinstance(content, bytes)
            return replace(record, data=content, fetch=None)
        return record

    def _seen_here(self, error: Exception) -> Exception:
        if self.local or not isinstance(error, SourceError):
            return error
        return SourceError(
            f"worker {socket.gethostname()}: {error}; every worker has to see the source under this name: "
            "a folder that all of them mount, or a bucket"
        )


@dataclass(frozen=True)
class Decode:
    """Records to pixels; a bad photo fails here, alone.

    Args:
        size: side of the square in pixels.
        access: what a photo may cost.
        environment: settings.
        gate: whether what is not decoded is left for the next run.
        local: whether the worker is the machine that the user sits at.
    """

    size: int
    access: Access
    environment: Environment
    gate: Any
    local: bool

    def __call__(self, row: pa.Table) -> pa.Table:
        batch = unpack(row)
        if batch is None or not batch.photos:
            return row
        if answer(self.gate.stopped.remote()):
            return pack(batch.abandoned(batch.photos))
        try:
            self.environment.enter()
            with self.environment.part("decode"):
                return pack(self._decoded(batch))
        except Exception as error:
            return pack(batch.broken(error))

    def _decoded(self, batch: Batch) -> Batch:
        records, batch.photos = batch.photos, []
        for record in records:
            try:
                batch.photos.append(stages.decode(record, self.size, self.access.limits))
            except ImageError as error:
                batch.fail(record, str(error) if self.local else f"{error} (on worker {socket.gethostname()})")
        return batch


class Encode:
    """Pixels to vectors, in an actor that has the encoder open.

    Args:
        opens: opens the encoder.
        facts: of the encoder that the collection was opened for.
        environment: settings.
        patience: with the encoder's service.
    """

    def __init__(self, opens: OpensEncoder, facts: EncoderFacts, environment: Environment, patience: Patience) -> None:
        environment.enter()
        self._opens, self._facts, self._environment, self._patience = opens, facts, environment, patience

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self._opens()
        if encoder.fingerprint != self._facts.fingerprint:
            raise FingerprintError(
                f"worker {socket.gethostname()}: has encoder {encoder.name!r} ({encoder.fingerprint}), the ingest "
                f"began with {self._facts.name!r} ({self._facts.fingerprint}); give all workers the same bundle"
            )
        return encoder

    def __call__(self, row: pa.Table) -> pa.Table:
        batch = unpack(row)
        if batch is None or not batch.photos:
            return row
        try:
            with self._environment.part("encode"):
                batch.photos = self._patience(partial(stages.encode, self._encoder, batch.photos, batch.fail))
        except Exception as error:
            return pack(batch.broken(error))
        return pack(batch)


def datasource(readers: Sequence[Reader]) -> Any:
    """What Ray Data reads from: a task for each reader."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Photos(Datasource):
        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(reader, unknown) for reader in readers]

        def estimate_inmemory_data_size(self) -> int | None:
            return None

    return Photos()
