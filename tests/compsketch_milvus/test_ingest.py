"""The pipeline from a source to a collection: everything counted, nothing done twice, and an end to every thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus import retry, stages, tally
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, CompsketchError, IngestError, ServerError, SourceError
from compsketch_milvus.ingest import Failure, IngestProgress, ingest
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.retry import Backoff
from compsketch_milvus.server import DiskFullError, RefusedError
from compsketch_milvus.shard import Shard
from compsketch_milvus.sources import iterate


class MemoryCollection:
    """A collection in a dictionary: rows by id, and a count of the calls."""

    def __init__(self, encoder) -> None:
        self.encoder = encoder
        self.rows: dict[str, PhotoVector] = {}
        self.upserts = 0
        self.flushes = 0

    def stored(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict]:
        return {
            id: {name: self.rows[id].fields[name] for name in fields if name in self.rows[id].fields}
            for id in ids
            if id in self.rows
        }

    def upsert(self, records: Sequence[PhotoVector]) -> int:
        records = list(records)
        self.upserts += 1
        self.rows.update({record.id: record for record in records})
        return len(records)

    def flush(self) -> None:
        self.flushes += 1


@pytest.fixture
def collection(toy_encoder) -> MemoryCollection:
    return MemoryCollection(toy_encoder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos, each of another gray, 40 x 30."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (40, 30), (number * 20,) * 3).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("ingest-")]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.01)


def counts(summary) -> tuple[int, int, int, int]:
    return summary.read, summary.indexed, summary.skipped, len(summary.failed)


def test_a_folder_is_indexed(collection, photos):
    summary = ingest(collection, photos, batch_size=4)
    assert counts(summary) == (10, 10, 0, 0)
    assert summary.images_per_second == pytest.approx(10 / summary.seconds)
    assert (collection.encoder.batches, collection.encoder.images, collection.flushes) == (3, 10, 1)
    for record in iterate(photos):
        row = collection.rows[record.id]
        assert (row.source, row.width, row.height, row.fields) == (record.source, 40, 30, record.fields)
        np.testing.assert_allclose(row.vector, collection.encoder.encode_images([record.path])[0], rtol=1e-6)


def test_the_second_run_encodes_nothing(collection, photos):
    ingest(collection, photos)
    images, upserts = collection.encoder.images, collection.upserts
    assert counts(ingest(collection, photos)) == (10, 0, 10, 0)
    assert (collection.encoder.images, collection.upserts) == (images, upserts)


def test_milvus_lite_keeps_what_a_second_run_and_a_filter_need(toy_encoder, photos, tmp_path):
    rows = [f"{number}.png,{2000 + number},0.5,ä {number}" for number in range(9)]
    (photos / "list.csv").write_text("\n".join(["path,year,rating,caption", *rows]), encoding="utf-8")
    (photos / "bad.png").write_text("no photo")
    with SketchCollection.open("photos", toy_encoder, uri=str(tmp_path / "photos.db")) as collection:
        assert counts(collection.ingest(photos / "list.csv", batch_size=4)) == (9, 9, 0, 0)
        assert counts(collection.ingest(photos / "list.csv")) == (9, 0, 9, 0)
        assert counts(collection.ingest(photos)) == (11, 1, 9, 1)
        filters = ("", "year > 2005", "rating == 0.5", "mtime > 0 and width == 40")
        assert [collection.count(filter) for filter in filters] == [10, 3, 9, 10]
        assert toy_encoder.images == 10


def test_force_indexes_again(collection, photos):
    ingest(collection, photos)
    assert counts(ingest(collection, photos, force=True)) == (10, 10, 0, 0)


def test_only_what_changed_or_is_new_is_encoded(collection, photos):
    ingest(collection, photos)
    Image.new("RGB", (50, 30)).save(photos / "3.png")
    Image.new("RGB", (50, 30)).save(photos / "new.png")
    os.utime(photos / "4.png", ns=(0, 0))
    assert counts(ingest(collection, photos)) == (11, 3, 8, 0)
    assert sorted(row.width for row in collection.rows.values()) == [40] * 9 + [50] * 2


def test_a_changed_column_of_a_manifest_is_written(collection, photos):
    manifest = photos / "list.csv"
    manifest.write_text("path,year\n0.png,1999\n1.png,2000\n")
    assert counts(ingest(collection, manifest)) == (2, 2, 0, 0)
    manifest.write_text("path,year\n0.png,1999\n1.png,2001\n")
    assert counts(ingest(collection, manifest)) == (2, 1, 1, 0)
    assert sorted(row.fields["year"] for row in collection.rows.values()) == [1999, 2001]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_photo_named_twice_is_encoded_once(collection, photos, batch_size):
    summary = ingest(collection, [photos, photos / "1.png", str(photos / "[12].png")], batch_size=batch_size)
    assert counts(summary) == (13, 10, 3, 0)
    assert collection.encoder.images == 10


def test_a_bad_photo_fails_alone_and_says_why(collection, photos):
    (photos / "4.png").write_bytes((photos / "4.png").read_bytes()[:60])
    (photos / "text.jpg").write_text("no photo")
    (photos / "zero.jpg").touch()
    (photos / "Käse und Brot.jpg").write_text("no photo")
    (photos / "link.jpg").symlink_to("nowhere.jpg")
    summary = ingest(collection, [photos, photos / "none"], batch_size=16)
    assert counts(summary) == (15, 9, 0, 6)
    reasons = {Path(failure.source).name: failure.reason for failure in summary.failed}
    assert reasons["zero.jpg"] == "empty (0 bytes); fetch it again or leave it out"
    assert reasons["nowhere.jpg"] == "no such file; check the path"
    assert reasons["text.jpg"].startswith("not a photo in a known format; convert it to one of")
    assert reasons["Käse und Brot.jpg"].startswith("not a photo")
    assert reasons["4.png"].startswith("cannot be decoded")
    assert "no such file or folder" in reasons["none"]


def test_a_failed_photo_is_tried_again_once_it_is_mended(collection, photos):
    (photos / "bad.png").write_text("no photo")
    assert counts(ingest(collection, photos)) == (11, 10, 0, 1)
    Image.new("RGB", (9, 9)).save(photos / "bad.png")
    assert counts(ingest(collection, photos)) == (11, 1, 10, 0)


def test_bytes_given_through_python(collection, photos):
    data = (photos / "7.png").read_bytes()
    records = [ImageRecord("a", "tar:a", data=data, fields={"camera": 1}), ImageRecord("b", "tar:b", data=b"junk")]
    summary = ingest(collection, records)
    assert (summary.indexed, [failure.source for failure in summary.failed]) == (1, ["tar:b"])
    assert collection.rows["a"].fields == {"camera": 1}
    assert counts(ingest(collection, iter(records))) == (2, 0, 1, 1)


def test_only_the_culprit_of_a_batch_fails(collection, photos, monkeypatch):
    encode = collection.encoder.encode_images

    def picky(images):
        if any(image.mean() == 100 for image in images):
            raise RuntimeError("gray 100 is too much")
        return encode(images)

    monkeypatch.setattr(collection.encoder, "encode_images", picky)
    summary = ingest(collection, photos, batch_size=4)
    assert counts(summary) == (10, 9, 0, 1)
    reason = "the encoder refused it (gray 100 is too much); leave the photo out"
    assert summary.failed == [Failure(str(photos.resolve() / "5.png"), reason)]


def test_a_vector_that_is_not_finite_is_not_stored(collection, photos, monkeypatch):
    encode = collection.encoder.encode_images

    def with_nan(images):
        return np.stack(
            [row if image.mean() else row * np.nan for row, image in zip(encode(images), images, strict=True)]
        )

    monkeypatch.setattr(collection.encoder, "encode_images", with_nan)
    assert counts(ingest(collection, photos)) == (10, 9, 0, 1)


def test_an_encoder_that_refuses_everything_stops_the_run(collection, photos, monkeypatch):
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(collection.encoder, "encode_images", broken)
    with pytest.raises(IngestError, match="stopped after 0 photos were written: out of memory; put that right and run"):
        ingest(collection, photos, batch_size=4)


def test_a_full_disk_stops_the_run_and_the_next_goes_on(collection, photos, monkeypatch):
    upsert, full = collection.upsert, OSError(28, "No space left on device")

    def fills_up(records):
        if collection.upserts == 2:
            raise full
        return upsert(records)

    monkeypatch.setattr(collection, "upsert", fills_up)
    with pytest.raises(
        IngestError, match=r"stopped after 4 photos were written: .*No space left.*run the same"
    ) as caught:
        ingest(collection, photos, batch_size=2)
    assert caught.value.__cause__ is full
    assert caught.value.indexed == len(collection.rows) == 4
    summary = caught.value.summary
    assert counts(summary) == (4, 4, 0, 0)
    assert summary.abandoned <= 6  # how far the reader was, nobody knows
    assert collection.flushes == 0
    monkeypatch.setattr(collection, "upsert", upsert)
    assert counts(ingest(collection, photos, batch_size=2)) == (10, 6, 4, 0)


@pytest.mark.parametrize("method", ["stored", "flush"])
def test_other_failures_of_the_collection(collection, photos, monkeypatch, method):
    def lost(*arguments):
        raise ConnectionError("server went away")

    monkeypatch.setattr(collection, method, lost)
    with pytest.raises(IngestError, match="server went away") as caught:
        ingest(collection, photos)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_dead_decoder_is_the_cause(collection, photos, monkeypatch):
    bug = ZeroDivisionError("a bug")

    def dies(*arguments, **options):
        raise bug

    monkeypatch.setattr(stages, "load_photo", dies)
    with pytest.raises(IngestError, match="a bug") as caught:
        ingest(collection, photos)
    assert caught.value.__cause__ is bug


def test_a_source_that_breaks_in_the_middle(collection, photos):
    def breaks():
        yield photos / "1.png"
        raise OSError("stale handle")

    with pytest.raises(IngestError, match="stale handle") as caught:
        ingest(collection, breaks())
    assert isinstance(caught.value.__cause__, OSError)


def test_what_is_no_source_is_a_source_error(collection, tmp_path):
    for source, message in [(tmp_path, "holds no photos"), (tmp_path / "none", "no such file")]:
        with pytest.raises(SourceError, match=message):
            ingest(collection, source)


def test_sizes_are_checked(collection, photos):
    for options in ({"batch_size": 0}, {"decoders": 0}):
        with pytest.raises(CompsketchError, match="both must be at least 1"):
            ingest(collection, photos, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("closed")])
def test_breaking_off_ends_every_thread_within_the_deadline(collection, photos, error):
    """The source never ends, so that reader, decoders and writer are all at work."""

    def endless():
        number = 0
        while True:
            number += 1
            yield ImageRecord(str(number), f"endless {number}", path=photos / "1.png")

    def interrupts(progress: IngestProgress) -> None:
        if progress.indexed > 8:
            raise error

    started = time.monotonic()
    with pytest.raises((KeyboardInterrupt, IngestError)) as caught:
        ingest(collection, endless(), batch_size=4, progress=interrupts)
    assert error in (caught.value, caught.value.__cause__)
    assert time.monotonic() - started < 5


def test_progress_adds_up_and_ends_complete(collection, photos):
    seen: list[IngestProgress] = []
    (photos / "bad.png").touch()
    ingest(collection, photos, batch_size=2, progress=seen.append)
    assert all(p.indexed + p.skipped + p.failed <= p.read for p in seen)
    last = seen[-1]
    assert (last.read, last.indexed, last.skipped, last.failed) == (11, 10, 0, 1)
    assert last.total in (11, None)
    assert last.rate == pytest.approx(11 / last.seconds)


def test_progress_knows_the_total_while_a_slow_run_lasts(collection, photos, monkeypatch):
    encode = collection.encoder.encode_images

    def slow(images):
        time.sleep(0.15)
        return encode(images)

    monkeypatch.setattr(collection.encoder, "encode_images", slow)
    totals: list[int | None] = []
    ingest(collection, [photos], batch_size=4, progress=lambda progress: totals.append(progress.total))
    assert totals[-1] == 10
    totals.clear()
    ingest(collection, iter([photos]), force=True, progress=lambda progress: totals.append(progress.total))
    assert set(totals) == {None}  # an iterator can be read only once


def test_reasons_are_bounded_and_the_rest_counted(collection, monkeypatch):
    monkeypatch.setattr(tally, "MAX_FAILURES", 3)
    summary = ingest(collection, [ImageRecord(str(n), f"junk {n}", data=b"junk") for n in range(8)])
    assert (summary.read, len(summary.failed), summary.failures_dropped, summary.failures) == (8, 3, 5, 8)


def test_queues_are_bounded_by_a_slow_encoder(collection, photos, monkeypatch):
    """No stage runs ahead by more than the docstring's formula allows."""
    read, encoded, ahead = [0], [0], [0]
    monkeypatch.setattr(stages, "CHUNK", 100)

    def source():
        for number in range(600):
            read[0] += 1
            yield ImageRecord(str(number), f"photo {number}", path=photos / "1.png")

    encode = collection.encoder.encode_images

    def slow(images):
        time.sleep(0.005)
        ahead[0] = max(ahead[0], read[0] - encoded[0])
        encoded[0] += len(images)
        return encode(images)

    monkeypatch.setattr(collection.encoder, "encode_images", slow)
    assert counts(ingest(collection, source(), batch_size=8, decoders=2)) == (600, 600, 0, 0)
    assert ahead[0] <= 2 * 100 + 2 + 4 * 8 + 2


def test_large_records_are_bounded_by_their_bytes(collection, photos, monkeypatch):
    """Photos held as bytes: two chunks of 10,000 bytes and one photo a decoder, not 256 photos."""
    read, written, ahead = [0], [0], [0]
    monkeypatch.setattr(stages, "CHUNK_BYTES", 10_000)
    upsert, data = collection.upsert, (photos / "1.png").read_bytes().ljust(2000, b"\0")

    def source():
        for number in range(60):
            read[0] += 1
            yield ImageRecord(str(number), f"photo {number}", data=data)

    def slow(records):
        time.sleep(0.01)
        ahead[0] = max(ahead[0], read[0] - written[0])
        written[0] += len(records)
        return upsert(records)

    monkeypatch.setattr(collection, "upsert", slow)
    assert counts(ingest(collection, source(), batch_size=1, decoders=1)) == (60, 60, 0, 0)
    assert ahead[0] <= 2 * 5 + 1 + 8 + 1


def test_stages_overlap(collection, photos, monkeypatch):
    """Encoding and writing take 0.1 s a batch each; one after the other, ten batches would take 2 s."""
    encode, upsert = collection.encoder.encode_images, collection.upsert

    def slow_encode(images):
        time.sleep(0.1)
        return encode(images)

    def slow_upsert(records):
        time.sleep(0.1)
        return upsert(records)

    monkeypatch.setattr(collection.encoder, "encode_images", slow_encode)
    monkeypatch.setattr(collection, "upsert", slow_upsert)
    assert ingest(collection, photos, batch_size=1).seconds < 1.7


# --- a server that is away, slow, or refuses ---


def quickly(deadline: float = 5.0) -> Backoff:
    return Backoff(first=0.01, ceiling=0.05, deadline=deadline)


def failing(method, times: int, error: Exception, *, after: bool = False):
    """The method, which at its first calls raises; with `after` once it has done its work, as a time-out may."""
    left = [times]

    def call(*arguments):
        if left[0]:
            left[0] -= 1
            if after:
                method(*arguments)
            raise error
        return method(*arguments)

    return call


AWAY = ServerError("http://milvus: no Milvus answers (could not store photos); is it running?", transient=True)


@pytest.mark.parametrize("method", ["stored", "upsert", "flush"])
@pytest.mark.parametrize("after", [False, True])
def test_a_server_that_comes_back_is_waited_for(collection, photos, monkeypatch, method, after):
    monkeypatch.setattr(collection, method, failing(getattr(collection, method), 3, AWAY, after=after))
    assert counts(ingest(collection, photos, batch_size=4, backoff=quickly())) == (10, 10, 0, 0)
    assert len(collection.rows) == collection.encoder.images == 10
    assert collection.flushes >= 1


def test_meanwhile_the_progress_says_so(collection, photos, monkeypatch):
    monkeypatch.setattr(collection, "upsert", failing(collection.upsert, 4, AWAY))
    seen: list[IngestProgress] = []
    backoff = Backoff(first=0.15, ceiling=0.15)
    assert counts(ingest(collection, photos, batch_size=1, backoff=backoff, progress=seen.append)) == (10, 10, 0, 0)
    said = {progress.status for progress in seen}
    assert "waiting for 0 s, trying again: http://milvus: no Milvus answers (could not store photos)" in said
    assert seen[-1].status == ""


def test_a_server_that_stays_away_ends_the_ingest_with_its_counts(collection, photos, monkeypatch):
    monkeypatch.setattr(collection, "upsert", failing(collection.upsert, 10**6, AWAY))
    (photos / "bad.png").touch()
    with pytest.raises(IngestError, match=r"no Milvus answers .*tried \d+ times in 0 s.*run the same") as caught:
        ingest(collection, photos, backoff=quickly(deadline=0.2))
    summary = caught.value.summary
    assert summary.read == summary.indexed + summary.skipped + summary.failures == summary.failures <= 1
    assert summary.abandoned + summary.read == 11


@pytest.mark.parametrize("error", [ServerError("no such collection"), DiskFullError("the disk is full")])
def test_what_does_not_pass_is_not_tried_again(collection, photos, monkeypatch, error):
    calls = []
    monkeypatch.setattr(collection, "upsert", lambda records: calls.append(1) or failing(None, 1, error)(records))
    with pytest.raises(IngestError) as caught:
        ingest(collection, photos, backoff=quickly())
    assert caught.value.__cause__ is error
    assert calls == [1]


@pytest.mark.parametrize("error", [CollectionError("no number"), RefusedError("no number")])
def test_a_refused_row_fails_alone(collection, photos, monkeypatch, error):
    upsert = collection.upsert

    def picky(records):
        if any(record.source.endswith("3.png") for record in records):
            raise error
        return upsert(records)

    monkeypatch.setattr(collection, "upsert", picky)
    for batch_size in (4, 1):
        summary = ingest(collection, photos, batch_size=batch_size, force=True)
        assert counts(summary) == (10, 9, 0, 1)
        assert summary.failed[0].reason == "it cannot be stored (no number); change its fields, or leave it out"


def test_a_server_that_refuses_all_rows_stops_the_run(collection, photos, monkeypatch):
    monkeypatch.setattr(collection, "upsert", failing(collection.upsert, 10**6, RefusedError("wrong schema")))
    with pytest.raises(IngestError, match="stopped after 0 photos were written: wrong schema") as caught:
        ingest(collection, photos, batch_size=5)
    assert caught.value.summary.failed == []


def test_a_slow_server_holds_the_reader_back(collection, photos, monkeypatch):
    """600 photos, but never more on the way than the docstring's formula allows."""
    read, ahead = [0], [0]
    monkeypatch.setattr(stages, "CHUNK", 50)
    upsert = collection.upsert

    def source():
        for number in range(400):
            read[0] += 1
            yield ImageRecord(str(number), f"photo {number}", path=photos / "1.png")

    def slow(records):
        time.sleep(0.02)
        ahead[0] = max(ahead[0], read[0] - len(collection.rows))
        return upsert(records)

    monkeypatch.setattr(collection, "upsert", slow)
    assert counts(ingest(collection, source(), batch_size=8, decoders=2)) == (400, 400, 0, 0)
    assert ahead[0] <= 2 * 50 + 2 + 8 * 8 + 2


def test_ctrl_c_does_not_wait_for_a_server_that_is_away(collection, photos, monkeypatch):
    release = threading.Event()

    def silent(records):
        release.wait(20)

    def interrupts(progress: IngestProgress) -> None:
        if progress.status:
            raise KeyboardInterrupt

    monkeypatch.setattr(collection, "upsert", silent)
    monkeypatch.setattr(retry, "SLOW_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ingest(collection, photos, progress=interrupts)
    assert time.monotonic() - started < 3
    release.set()


def test_no_decoders_exception_is_lost(collection, photos, monkeypatch):
    barrier = threading.Barrier(2)

    def dies(content, *arguments, **options):
        barrier.wait(5)
        raise ZeroDivisionError(f"a bug in {threading.current_thread().name}")

    monkeypatch.setattr(stages, "load_photo", dies)
    with pytest.raises(IngestError) as caught:
        ingest(collection, photos, decoders=2)
    assert all(f"a bug in ingest-decode-{number}" in str(caught.value) for number in range(2))
    assert caught.value.summary.read == 0


# --- stopping early ---


def test_told_to_stop_it_finishes_what_is_decoded_and_the_next_run_does_the_rest(collection, photos):
    stop = threading.Event()

    def source():
        for number in range(1500):
            yield ImageRecord(str(number), f"photo {number}", path=photos / "1.png")

    def stops(progress: IngestProgress) -> None:
        if progress.indexed >= 8:
            stop.set()

    summary = ingest(collection, source(), batch_size=4, stop=stop, progress=stops)
    assert summary.drained
    assert 8 <= summary.indexed == summary.read == len(collection.rows) == collection.encoder.images < 1500
    assert collection.flushes == 1
    again = ingest(collection, source(), batch_size=256)
    assert (counts(again), again.drained) == ((1500, 1500 - summary.indexed, summary.indexed, 0), False)


def test_a_source_that_is_stuck_does_not_keep_it_from_stopping(collection, photos):
    stop, release = threading.Event(), threading.Event()

    def stuck():
        yield ImageRecord("a", "photo a", path=photos / "1.png")
        stop.set()
        release.wait(20)
        yield ImageRecord("b", "photo b", path=photos / "2.png")

    started = time.monotonic()
    summary = ingest(collection, stuck(), stop=stop)
    assert time.monotonic() - started < 5
    assert (counts(summary), summary.abandoned, summary.drained) == ((0, 0, 0, 0), 1, True)
    release.set()


def test_a_stop_after_the_sources_end_changes_nothing(collection, photos, monkeypatch):
    stop, flush = threading.Event(), collection.flush

    def flushes():
        stop.set()
        time.sleep(0.3)
        flush()

    monkeypatch.setattr(collection, "flush", flushes)
    summary = ingest(collection, photos, stop=stop)
    assert (counts(summary), summary.drained) == ((10, 10, 0, 0), False)


def test_a_stop_before_the_start_reads_nothing(collection, photos):
    stop = threading.Event()
    stop.set()
    summary = ingest(collection, photos, stop=stop)
    assert (summary.indexed, summary.drained, summary.read) == (0, True, 0)


# --- several workers ---


def test_shards_share_a_source_and_nothing_is_left_or_done_twice(collection, photos):
    (photos / "bad.png").touch()
    summaries = [ingest(collection, photos, shard=Shard(index, 3)) for index in (1, 2, 3)]
    assert sum(summary.read for summary in summaries) == 11
    assert sum(summary.indexed for summary in summaries) == collection.encoder.images == len(collection.rows) == 10
    assert sum(summary.failures for summary in summaries) == 1


def test_the_total_of_a_shard_is_its_own(collection, photos):
    totals: list[int | None] = []
    summary = ingest(collection, photos, shard=Shard(1, 2), progress=lambda progress: totals.append(progress.total))
    assert totals[-1] in (summary.read, None)
