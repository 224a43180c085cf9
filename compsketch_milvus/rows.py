"""Photos to the rows that Milvus stores: each checked by name before it is sent, cut into messages by size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.records import RESERVED_FIELDS, PhotoVector

__all__ = [
    "FIELDS_BYTES",
    "MESSAGE_BYTES",
    "MESSAGE_ROWS",
    "PARTITION_KEY_BYTES",
    "SCHEMA_FIELDS",
    "batches",
    "check_id",
    "check_partition_key",
    "checked_row",
    "size_of",
    "to_json",
]

MESSAGE_BYTES = 32 * 1024 * 1024  # Milvus refuses 64 MB
MESSAGE_ROWS = 5000
PARTITION_KEY_BYTES = 256
FIELDS_BYTES = 65_536  # so that a row, too, is far from a message's limit: of a vector Milvus takes 131,072 bytes
SCHEMA_FIELDS = ("id", "source", "width", "height", "vector", "$meta")
_COLUMNS = frozenset(SCHEMA_FIELDS)
_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))  # made once: it is half the work


def batches(
    records: Iterable[PhotoVector],
    dim: int,
    partition_key: str | None = None,
    *,
    max_bytes: int = MESSAGE_BYTES,
    max_rows: int = MESSAGE_ROWS,
) -> Iterator[list[dict[str, Any]]]:
    """Cut records into messages; of an id that is in one message twice the last stays, as Milvus may refuse both.

    Raises:
        CollectionError: a record does not fit; those before it have been yielded.
    """
    rows: dict[str, dict[str, Any]] = {}
    size = 0
    for record in records:
        try:
            row, weight = checked_row(record, dim, partition_key)
        except CollectionError:
            if rows:
                yield list(rows.values())
            raise
        if rows and (len(rows) >= max_rows or size + weight > max_bytes):
            yield list(rows.values())
            rows, size = {}, 0
        rows[record.id] = row
        size += weight
    if rows:
        yield list(rows.values())


def check_id(one: str) -> None:
    """Refuse what cannot be a primary key.

    Raises:
        CollectionError: not a text of 1 to 64 bytes without control characters.
    """
    if not isinstance(one, str) or not 1 <= len(one.encode("utf-8", "replace")) <= 64 or not one.isprintable():
        raise CollectionError(f"photo id {one!r}: it has to be a printable text of 1 to 64 bytes of UTF-8")


def check_partition_key(name: str) -> None:
    """Refuse what cannot be the name of a field that every photo has.

    Raises:
        CollectionError: not letters, digits and underscores, or the name of a column, or of what ingest keeps of files.
    """
    if not re.fullmatch(r"[A-Za-z_]\w{0,254}", name, re.ASCII) or name in {*SCHEMA_FIELDS, *RESERVED_FIELDS}:
        raise CollectionError(
            f"partition key {name!r}: use letters, digits and underscores, no digit in front, and none of "
            f"{', '.join(RESERVED_FIELDS)}"
        )


def checked_row(record: PhotoVector, dim: int, partition_key: str | None) -> tuple[dict[str, Any], int]:
    """The row, and a bound on its bytes in a message.

    Raises:
        CollectionError: the record does not fit.
    """
    check_id(record.id)
    name = f"photo {record.id!r}"
    try:
        source_bytes = len(record.source.encode("utf-8"))
    except UnicodeEncodeError:
        raise CollectionError(f"{name}: source {record.source!r} is not valid Unicode") from None
    if source_bytes > 4096:
        raise CollectionError(f"{name}: its source has {source_bytes} bytes, at most 4096 are kept")
    for side in ("width", "height"):
        pixels = getattr(record, side)
        if isinstance(pixels, bool) or not isinstance(pixels, int | np.integer) or pixels < 0:
            raise CollectionError(f"{name}: {side} {pixels!r} has to be a whole number of pixels")
    taken = _COLUMNS & record.fields.keys()
    if taken:
        raise CollectionError(f"{name}: fields {sorted(taken)} have the names of columns; rename them")
    if partition_key is not None:
        _check_partition(name, partition_key, record.fields.get(partition_key))
    try:
        field_bytes = size_of(record.fields)
    except (TypeError, ValueError) as error:
        raise CollectionError(f"{name}: its fields cannot be kept as JSON ({error})") from None
    if field_bytes > FIELDS_BYTES:
        raise CollectionError(f"{name}: its fields take {field_bytes} bytes as JSON, at most {FIELDS_BYTES} are kept")
    row = {
        "id": record.id,
        "source": record.source,
        "width": int(record.width),
        "height": int(record.height),
        "vector": _vector(record, dim),
        **record.fields,
    }
    return row, 4 * dim + source_bytes + field_bytes + 256


def size_of(fields: Mapping[str, Any]) -> int:
    """Bytes of fields as JSON. Raises TypeError, ValueError where they cannot be kept as that."""
    return len(to_json(fields).encode("utf-8")) if fields else 2


def to_json(fields: Mapping[str, Any]) -> str:
    """Fields as Milvus keeps them. Raises TypeError, ValueError where they cannot be kept as that."""
    return _JSON.encode(fields)


def _check_partition(name: str, key: str, value: Any) -> None:
    if value is None:
        raise CollectionError(f"{name}: it has no field {key!r}, by which this collection keeps photos apart; add it")
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= PARTITION_KEY_BYTES:
        raise CollectionError(f"{name}: {key} {value!r:.80} has to be a text of 1 to {PARTITION_KEY_BYTES} bytes")


def _vector(record: PhotoVector, dim: int) -> np.ndarray:
    vector = np.asarray(record.vector, dtype=np.float32)
    if vector.shape != (dim,):
        raise CollectionError(
            f"photo {record.id!r}: its vector has shape {vector.shape}, the collection's have ({dim},)"
        )
    norm = math.sqrt(vector @ vector)
    if not math.isfinite(norm) and not np.isfinite(vector).all():
        raise CollectionError(f"photo {record.id!r}: its vector is not finite")
    if not abs(norm - 1) <= 1e-2:
        raise CollectionError(f"photo {record.id!r}: its vector has length {norm:.3g}, not 1; divide it by that")
    return vector
