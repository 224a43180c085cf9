"""The work of each stage of an ingest, without anything that runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus import stages
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.server import RefusedError
from encoders.errors import ImageError
from encoders.images import Limits


class Holding:
    """A collection that answers from a dictionary, and notes what it was asked for."""

    def __init__(self, rows: dict[str, dict]) -> None:
        self.rows, self.asked = rows, []

    def stored(self, ids, fields):
        self.asked.append((list(ids), list(fields)))
        return {id: self.rows[id] for id in ids if id in self.rows}


def photo(id: str) -> PhotoVector:
    return PhotoVector(id, f"/photos/{id}", 4, 3, np.array([1, 0], np.float32))


@given(st.lists(st.integers(0, 3 * stages.CHUNK_BYTES // stages.CHUNK), max_size=20))
def test_chunks_are_the_records_in_order_and_bounded_by_bytes(sizes: list[int]):
    records = [ImageRecord(str(number), str(number), data=b"\0" * size) for number, size in enumerate(sizes)]
    chunks = list(stages.chunks(records))
    assert [record.id for chunk in chunks for record in chunk] == [record.id for record in records]
    for chunk in chunks:
        assert sum(map(stages.weight, chunk[:-1])) < stages.CHUNK_BYTES, "one more than the bound at most"


def test_a_chunk_has_256_small_records():
    records = [ImageRecord(str(number), str(number), path=Path("a.png")) for number in range(600)]
    assert [len(chunk) for chunk in stages.chunks(records)] == [256, 256, 88]


def test_unchanged_is_what_is_held_with_every_field_as_it_is_now():
    collection = Holding({"a": {"mtime": 1}, "b": {"mtime": 1}, "c": {}, "d": {"mtime": 4, "year": 1999}})
    records = [
        ImageRecord("a", "a", fields={"mtime": 1}),
        ImageRecord("b", "b", fields={"mtime": 2}),
        ImageRecord("c", "c"),
        ImageRecord("d", "d", fields={"mtime": 4, "year": 2000}),
        ImageRecord("new", "new"),
    ]
    assert stages.unchanged(collection, records) == {"a", "c"}
    assert collection.asked == [(["a", "b", "c", "d", "new"], ["mtime", "year"])]


def test_decode_gives_pixels_and_lets_go_of_the_bytes(pictures):
    data = Path(pictures[1]).read_bytes()
    record, decoded = stages.decode(ImageRecord("a", "tar:a", data=data, fields={"n": 1}), 16, Limits())
    assert (record, decoded.pixels.shape, decoded.width) == (
        ImageRecord("a", "tar:a", fields={"n": 1}),
        (16, 16, 3),
        32,
    )
    with pytest.raises(ImageError, match="over the limit"):
        stages.decode(ImageRecord("a", "tar:a", data=data), 16, Limits(max_bytes=10))


@pytest.mark.parametrize("refusal", [CollectionError("too long"), RefusedError("too long")])
def test_of_a_refused_batch_only_the_photo_at_fault_fails(refusal):
    stored, failed = [], []

    def put(photos):
        if any(photo.id == "bad" for photo in photos):
            raise refusal
        stored.extend(photo.id for photo in photos)

    stages.write([photo("a"), photo("bad"), photo("b")], put, lambda photo, reason: failed.append((photo.id, reason)))
    assert stored == ["a", "b"]
    assert failed == [("bad", "it cannot be stored (too long); change its fields, or leave it out")]


@pytest.mark.parametrize(("error", "calls"), [(RefusedError("no such field"), 3), (ServerError("away"), 1)])
def test_what_is_no_photos_fault_is_raised_and_fails_none(error, calls):
    tried = []

    def put(photos):
        tried.append(photos)
        raise error

    with pytest.raises(type(error), match=str(error)):
        stages.write([photo("a"), photo("b")], put, lambda *_: pytest.fail("no photo is at fault"))
    assert len(tried) == calls
