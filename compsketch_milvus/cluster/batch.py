"""What travels through a cluster: a batch of photos, one row of a Ray dataset.

A row is never cut or joined, so that a batch keeps its size on the whole way and what Ray has to keep is bounded by
the number of batches, however many bytes a photo has at which stage.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.records import ImageRecord, PhotoVector

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "Outcome", "Written", "bare", "pack", "portable", "unpack"]

COLUMN = "batch"
_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class Outcome:
    """How a photo ended.

    Args:
        photo: its record, or its `PhotoVector` once it was encoded, without what is large.
        status: indexed, skipped or failed; refused, by its source; staged, if it was taken and is stored later;
            abandoned, if it is left for the next run.
        reason: why it failed.
    """

    photo: Any
    status: Literal["indexed", "skipped", "failed", "refused", "staged", "abandoned"]
    reason: str = ""


@dataclass(frozen=True)
class Written:
    """What came of a batch at the collection.

    Args:
        outcomes: of each of its photos.
        stored: ids of photos, of this batch and earlier ones, that were staged and are stored by now.
    """

    outcomes: list[Outcome]
    stored: Sequence[str] = ()


@dataclass
class Batch:
    """Photos of a shard.

    Args:
        shard: its number.
        photos: those that go on: records; records with pixels, once decoded; `PhotoVector`s, once encoded.
        outcomes: those that have ended.
        total: in a shard's last batch, how many photos it had; None in others.
        fault: what broke the ingest off; then none of `photos` goes on.
    """

    shard: int
    photos: list[Any] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    total: int | None = None
    fault: Exception | None = None

    def fail(self, record: ImageRecord | PhotoVector, reason: str) -> None:
        """End a photo that cannot be indexed."""
        self.outcomes.append(Outcome(bare(record), "failed", reason))

    def broken(self, error: Exception) -> Batch:
        """The batch that says why nothing goes on."""
        return replace(self, photos=[], fault=portable(error))

    def abandoned(self, records: list[ImageRecord]) -> Batch:
        """The batch whose photos are left for the next run."""
        left = [Outcome(bare(record), "abandoned") for record in records]
        return replace(self, photos=[], outcomes=[*self.outcomes, *left])


def bare(record: Any) -> Any:
    """A record or a `PhotoVector` without what is large."""
    if isinstance(record, PhotoVector):
        return replace(record, vector=_NOTHING)
    return ImageRecord(record.id, record.source, fields=record.fields)


def portable(error: Exception) -> Exception:
    """An error that another process can read: this package's as they are, of others what they say."""
    return error if isinstance(error, CompsketchError) else CompsketchError(f"{type(error).__name__}: {error}")


def pack(batch: Batch) -> pa.Table:
    """The row of a batch."""
    import pyarrow as pa
    from ray import cloudpickle

    data = cloudpickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL)
    return pa.table({COLUMN: pa.array([data], pa.large_binary())})


def unpack(row: pa.Table) -> Batch | None:
    """The batch of a row; None of a reader's answer that has no row, as it was stopped at once."""
    if not row.num_rows:
        return None
    batch = pickle.loads(row[COLUMN][0].as_buffer())
    assert isinstance(batch, Batch)
    return batch
