"""At the end, when all is quiet: does the collection hold what the disk says, each photo once, as it is now?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.paging import pages
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources.naming import file_record

__all__ = ["differences", "examine", "outages", "slope", "stored_rows"]

TOLERANCE = 1e-5  # of a vector's numbers
SHOWN = 5
ENCODED = 64  # photos at a time


def stored_rows(collection: SketchCollection) -> list[dict[str, Any]]:
    """All rows of a collection, with what is kept of a photo and its vector."""
    fields = ["source", "bytes", "mtime", "vector"]
    return [row for page in pages(collection.call, "id", fields, size=500) for row in page]


def differences(expected: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with rows, each kind of fault in one line.

    Args:
        expected: by id, the fields that a row has to have.
        rows: the rows, each with its `id`.
    """
    there = Counter(row["id"] for row in rows)
    wrong = [
        f"{row['id']} has {name} {row.get(name)!r}, not {value!r}"
        for row in rows
        for name, value in expected.get(row["id"], {}).items()
        if row.get(name) != value
    ]
    faults = {
        "lost": [f"{one} ({facts.get('source')})" for one, facts in expected.items() if one not in there],
        "left over": [f"{row['id']} ({row.get('source')})" for row in rows if row["id"] not in expected],
        "twice": [one for one, count in there.items() if count > 1],
        "not as on disk": wrong,
    }
    return [f"{len(names)} {fault}: {', '.join(names[:SHOWN])}" for fault, names in faults.items() if names]


def examine(
    collection: SketchCollection, paths: Iterable[Path], others: Iterable[PhotoVector]
) -> tuple[int, list[str]]:
    """Compare a collection with the files that it should hold, and rows that were there before.

    Args:
        collection: open, with an encoder that makes the same vectors.
        paths: the photos.
        others: rows of no file.

    Returns:
        The number of rows that there should be, and what is wrong.
    """
    records = {record.id: record for record in map(file_record, paths)}
    vectors = {photo.id: photo.vector for photo in others}
    expected: dict[str, dict[str, Any]] = {
        one: {"source": record.source, **record.fields} for one, record in records.items()
    }
    expected |= {photo.id: {"source": photo.source} for photo in others}
    rows = stored_rows(collection)
    faults = differences(expected, rows)
    counted = collection.count()
    if counted != len(expected):
        faults.append(f"the count is {counted}, and {len(expected)} there should be")
    for ids in _parts(sorted(records)):
        made = collection.encoder.encode_images([records[one].path for one in ids])
        vectors |= dict(zip(ids, made, strict=True))
    known = [row for row in rows if row["id"] in vectors]
    off = [row["id"] for row in known if np.abs(np.array(row["vector"]) - vectors[row["id"]]).max() > TOLERANCE]
    if off:
        faults.append(f"{len(off)} with another vector than their photo has: {off[:SHOWN]}")
    return len(expected), faults + _not_found(collection, known)


def _not_found(collection: SketchCollection, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows that their own vector does not find."""
    from compsketch_milvus.search import search_vectors

    missing = []
    for part in _parts(rows):
        vectors = np.array([row["vector"] for row in part], np.float32)
        for row, result in zip(part, search_vectors(collection, vectors, 3, consistency="Strong"), strict=True):
            if row["id"] not in [hit.id for hit in result]:
                missing.append(f"{row['id']} ({row['source']})")
    return [f"{len(missing)} not found by their own vector: {', '.join(missing[:SHOWN])}"] if missing else []


def _parts(things: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (things[start : start + ENCODED] for start in range(0, len(things), ENCODED))


def outages(lines: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The spans for which one client had no answer: from its first `away` to its next `ok`; the last may be open."""
    found: list[tuple[float, float]] = []
    since: float | None = None
    last = 0.0
    for line in lines:
        if line["kind"] == "away":
            since = line["at"] if since is None else since
        elif line["kind"] == "ok" and since is not None:
            found.append((since, line["at"]))
            since = None
        last = line["at"]
    return found if since is None else [*found, (since, last)]


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """The growth of a quantity a second, by least squares; 0 for fewer than three samples."""
    if len(samples) < 3:
        return 0.0
    at, value = np.array(samples).T
    return float(np.polyfit(at - at[0], value, 1)[0])
