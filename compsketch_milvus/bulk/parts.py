"""Rows as parquet files of bounded size, each row checked as an upsert checks it.

Written with pyarrow. pymilvus' LocalBulkWriter and RemoteBulkWriter were measured on 20,000 rows of 256 numbers: 3,100
rows a second (of an upsert: 10,800) and 5.5 KB of memory a row, against 30,300 and the memory of one group here; they
keep a whole file in memory, lose an error of the thread that writes it, and install two object stores' libraries.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.bulk.staging import Staging
from compsketch_milvus.errors import ServerError, SettingsError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import SCHEMA_FIELDS, checked_row, to_json

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["PART_BYTES", "CollectionFacts", "Part", "Parts", "leftover"]

PART_BYTES = 256 * 1024 * 1024  # half of one of Milvus' segments; 240,000 photos of 256 numbers
GROUP_BYTES = 16 * 1024 * 1024  # of rows in memory; Milvus reads a file group by group
ROWS = 1000  # read at once
META = "$meta"  # all fields that are no columns
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectionFacts:
    """What parts have to know of a collection; small enough to be sent to another process.

    Args:
        name: of the collection.
        fingerprint: of the encoder: another encoder's parts are none of this collection.
        dim: length of a vector.
        partition_key: the field that is a column, too; None where there is none.
    """

    name: str
    fingerprint: str
    dim: int
    partition_key: str | None = None

    @classmethod
    def of(cls, collection: SketchCollection) -> CollectionFacts:
        """Those of a collection that is open."""
        identity = collection.identity
        return cls(collection.name, identity.fingerprint, identity.dim, identity.partition_key)

    @property
    def folder(self) -> str:
        """Where its parts are in a staging."""
        return f"{self.name}-{self.fingerprint[:16]}"


@dataclass(frozen=True)
class Part:
    """A finished file of rows.

    Args:
        where: the staging, as it was named.
        name: the file's, in the staging.
        rows: how many there are in it.
        bytes: its size.
    """

    where: str
    name: str
    rows: int
    bytes: int

    @property
    def staging(self) -> Staging:
        """Where it is."""
        return Staging.at(self.where)

    @property
    def path(self) -> str:
        """What the server is told to read."""
        return self.staging.path(self.name)

    def ids(self) -> list[str]:
        """The ids of its photos, each once."""
        with self.staging.reading(self.name) as file:
            return [str(one) for one in _pyarrow_parquet().read_table(file, columns=["id"])["id"].to_pylist()]

    def photos(self) -> Iterator[list[PhotoVector]]:
        """Its photos, a thousand at a time."""
        with self.staging.reading(self.name) as file:
            for batch in _pyarrow_parquet().ParquetFile(file).iter_batches(ROWS):
                yield [_photo(row) for row in batch.to_pylist()]

    def remove(self, *, keep: bool = False) -> None:
        """Remove it, or put it aside, into the folder `imported`, where no later run finds it."""
        if keep:
            self.staging.rename(self.name, f"imported/{self.name}")
        else:
            self.staging.remove(self.name)


class Parts:
    """Writes the rows of one process to parts.

    In memory there are at most `GROUP_BYTES` of rows and one message, and the ids of the part that is being written.

    Args:
        facts: of the collection.
        where: the staging: a folder, or a bucket's URL.
        worker: name of this process among those that write at the same time; what an earlier one of the same name did
            not finish is thrown away.
        part_bytes: what a file's rows take at most, before they are packed.

    Raises:
        SettingsError: a staging of no known kind, or pyarrow is missing.
    """

    def __init__(self, facts: CollectionFacts, where: str, *, worker: str, part_bytes: int = PART_BYTES) -> None:
        self._facts, self._where, self._part_bytes = facts, where, part_bytes
        self._folder = f"{facts.folder}/{worker}"
        self._staging = Staging.at(where)
        self._staging.discard(self._folder)
        self._parquet, self._schema = _pyarrow_parquet(), _schema(facts)
        self._finished: list[Part] = []
        self._file: Path | None = None
        self._writer: Any = None
        self._ids: set[str] = set()
        self._group: list[dict[str, Any]] = []
        self._group_bytes = self._bytes = 0

    def add(self, photos: Sequence[PhotoVector]) -> None:
        """Write photos. An id that the open part has begins another part: of two the later one stays, as with upsert.

        Raises:
            CollectionError: a photo that does not fit, by its id; none of them was taken.
            ServerError: the staging cannot be written.
        """
        rows = [checked_row(photo, self._facts.dim, self._facts.partition_key) for photo in photos]
        for row, weight in rows:
            if self._ids and (self._bytes + weight > self._part_bytes or row["id"] in self._ids):
                self.finish()
            if self._ids and self._group_bytes + weight > GROUP_BYTES:
                self._write_group()
            self._ids.add(row["id"])
            self._group.append(row)
            self._group_bytes += weight
            self._bytes += weight

    def finish(self) -> None:
        """Finish the part that is being written, if it has rows.

        Raises:
            ServerError: the staging cannot be written.
        """
        if not self._ids:
            return
        self._write_group()
        self._writer.close()
        assert self._file is not None
        size = self._file.stat().st_size
        self._staging.publish(self._file, name := self._name)
        self._finished.append(Part(self._where, name, len(self._ids), size))
        self._writer = self._file = None
        self._ids, self._bytes = set(), 0

    def take(self) -> list[Part]:
        """The parts that are finished, each once."""
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> list[Part]:
        """Finish, and take what has not been taken.

        Raises:
            ServerError: the staging cannot be written.
        """
        self.finish()
        return self.take()

    def _write_group(self) -> None:
        if not self._group:
            return
        try:
            if self._writer is None:
                self._name = f"{self._folder}/{time.time_ns()}.parquet"
                self._file = self._staging.new(self._name)
                self._writer = self._parquet.ParquetWriter(self._file, self._schema)
            self._writer.write_batch(_record_batch(self._group, self._schema, self._facts.dim))
        except OSError as error:
            raise ServerError(
                f"staging {self._where}: cannot be written ({error}); free space, or give another with --staging"
            ) from error
        self._group, self._group_bytes = [], 0


def leftover(facts: CollectionFacts, where: str, *, worker: str | None = None) -> list[Part]:
    """The finished parts that are in a staging for a collection, oldest first; of one worker, or of all.

    A file that is damaged, as after a loss of power, is removed: its photos are not in the collection, so that they are
    encoded again.
    """
    staging, parquet = Staging.at(where), _pyarrow_parquet()
    from pyarrow import ArrowInvalid

    parts = []
    for name in staging.names(f"{facts.folder}/{worker}" if worker else facts.folder):
        try:
            with staging.reading(name) as file:
                rows = parquet.ParquetFile(file).metadata.num_rows
                size = file.seek(0, 2)
        except ArrowInvalid:
            _log.warning("staging %s: %s is damaged and is removed; its photos will be encoded again", where, name)
            staging.remove(name)
        else:
            parts.append(Part(where, name, rows, size))
    return parts


def rewritten(part: Part, facts: CollectionFacts, without: set[str]) -> Part | None:
    """The part without some of its photos; it takes the part's place. None, and it is removed, if none is left."""
    staging, parquet = part.staging, _pyarrow_parquet()
    schema, file, rows = _schema(facts), staging.new(part.name), 0
    with staging.reading(part.name) as source, parquet.ParquetWriter(file, schema) as writer:
        for batch in parquet.ParquetFile(source).iter_batches(10 * ROWS):
            left = batch.filter([one not in without for one in batch["id"].to_pylist()])
            rows += left.num_rows
            writer.write_batch(left.cast(schema))
    if not rows:
        file.unlink()
        staging.remove(part.name)
        return None
    size = file.stat().st_size
    staging.publish(file, part.name)
    return Part(part.where, part.name, rows, size)


def _record_batch(rows: Sequence[dict[str, Any]], schema: Any, dim: int) -> Any:
    import pyarrow as pa

    starts = np.arange(0, dim * len(rows) + 1, dim, dtype=np.int32)
    vectors = pa.ListArray.from_arrays(pa.array(starts), pa.array(np.concatenate([row["vector"] for row in rows])))
    further = [{name: value for name, value in row.items() if name not in schema.names} for row in rows]
    columns = {"vector": vectors, META: pa.array([to_json(fields) for fields in further], pa.string())}
    for column in schema:
        if column.name not in columns:
            columns[column.name] = pa.array([row[column.name] for row in rows], column.type)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _schema(facts: CollectionFacts) -> Any:
    import pyarrow as pa

    kinds = {"width": pa.int64(), "height": pa.int64(), "vector": pa.list_(pa.float32())}
    names = [*SCHEMA_FIELDS, *([facts.partition_key] if facts.partition_key else [])]
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names])


def _photo(row: dict[str, Any]) -> PhotoVector:
    fields = json.loads(row.pop(META))
    own = {name: row.pop(name) for name in SCHEMA_FIELDS if name != META}
    own["vector"] = np.asarray(own["vector"], np.float32)
    return PhotoVector(**own, fields={**fields, **row})  # what is left of the row: the partition key


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise SettingsError('bulk import needs pyarrow: pip install "compsketch-milvus[bulk]"') from None
    return pyarrow.parquet
