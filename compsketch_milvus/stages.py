"""The work of each stage of an ingest, apart from what runs it: threads on one machine, or the workers of a cluster.

chunks      records that are worth one question to the collection
unchanged   which of them it holds as they are
decode      one record to pixels
encode      a batch to vectors; in `encoding`
write       a batch to the collection, and photo by photo where that is refused
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from compsketch_milvus.encoding import encode
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.server import RefusedError
from encoders.images import Limits, Photo, load_photo

__all__ = ["CHUNK", "CHUNK_BYTES", "Holding", "chunks", "decode", "encode", "unchanged", "weight", "write"]

CHUNK = 256  # records asked for in one question to the collection
CHUNK_BYTES = 64 * 1024 * 1024


class Holding(Protocol):
    """A collection that says what it holds."""

    def stored(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]: ...


def weight(record: ImageRecord) -> int:
    """What a record takes of CHUNK_BYTES, so that neither many of them nor large ones are too much."""
    return max(len(record.data or b""), CHUNK_BYTES // CHUNK)


def chunks(records: Iterable[ImageRecord]) -> Iterator[list[ImageRecord]]:
    """Cut records into lists of CHUNK, or of fewer that hold CHUNK_BYTES."""
    chunk: list[ImageRecord] = []
    held = 0
    for record in records:
        chunk.append(record)
        held += weight(record)
        if held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def unchanged(collection: Holding, chunk: Sequence[ImageRecord]) -> set[str]:
    """Ids of the photos that a collection holds with every field of their records as it is now.

    Raises:
        ServerError: Milvus is away, or refuses.
    """
    names = sorted({name for record in chunk for name in record.fields})
    stored = collection.stored([record.id for record in chunk], names)
    found = ((record, stored.get(record.id)) for record in chunk)
    return {
        record.id
        for record, held in found
        if held is not None and all(held.get(name) == value for name, value in record.fields.items())
    }


def decode(record: ImageRecord, size: int, limits: Limits) -> tuple[ImageRecord, Photo]:
    """A record and its photo's pixels, (size, size, 3) uint8.

    The record comes back without its bytes: they are not needed any more, and without them it weighs next to nothing.

    Raises:
        ImageError: the photo cannot be had, or is none.
    """
    photo = load_photo(record.content(limits.max_bytes), size, limits=limits)
    return ImageRecord(record.id, record.source, fields=record.fields), photo


def write(
    batch: list[PhotoVector], put: Callable[[list[PhotoVector]], None], fail: Callable[[PhotoVector, str], None]
) -> None:
    """Store a batch; if it is refused, photo by photo, so that only the one at fault fails.

    Args:
        batch: the photos.
        put: stores some of them, and counts them as stored.
        fail: called with each photo that is refused, and why.

    Raises:
        CollectionError, RefusedError: all of several photos are refused, so that it is another's fault.
        ServerError: Milvus is away; nothing but what `put` counted is known to be stored.
    """
    try:
        put(batch)
    except (CollectionError, RefusedError) as cause:
        _write_one_by_one(batch, put, fail, cause)


def _write_one_by_one(
    batch: list[PhotoVector],
    put: Callable[[list[PhotoVector]], None],
    fail: Callable[[PhotoVector, str], None],
    cause: Exception,
) -> None:
    refused: list[tuple[PhotoVector, Exception]] = []
    for photo in batch:
        try:
            put([photo])
        except (CollectionError, RefusedError) as error:
            refused.append((photo, error))
    if len(refused) == len(batch) > 1:
        raise cause
    for photo, reason in refused:
        fail(photo, f"it cannot be stored ({reason}); change its fields, or leave it out")
