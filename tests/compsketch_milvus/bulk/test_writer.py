"""`ingest` by bulk import: the pipeline of every ingest, and photos that count once their job has ended."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from compsketch_milvus import stages
from compsketch_milvus.bulk import BulkWriter, Parts, leftover
from compsketch_milvus.errors import IngestError
from compsketch_milvus.ingest import ingest
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.retry import Backoff
from compsketch_milvus.sources import iterate
from encoders.images import Limits


@pytest.fixture
def writer(photos, jobs, tmp_path):
    """`writer()`: one whose parts hold seven rows or so."""

    def make(**options) -> BulkWriter:
        return BulkWriter(photos, str(tmp_path / "staging"), jobs=jobs, **{"part_bytes": 3000, **options})

    return make


def staged(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "staging").rglob("*") if path.is_file()]


def once(milvus) -> set[int]:
    return set(milvus.counts().values())


def test_a_folder_is_indexed_by_import(milvus, photos, writer, noise, tmp_path) -> None:
    folder = noise(40)
    told = []
    summary = ingest(photos, folder, batch_size=4, writer=writer(), progress=told.append)
    assert (summary.read, summary.indexed, summary.skipped, summary.failures) == (40, 40, 0, 0)
    assert len(milvus.jobs) > 2
    assert photos.upserts == 0
    assert [action for action, _ in milvus.said].count("list") == 1  # for what an earlier run left, once
    assert (len(milvus.counts()), once(milvus)) == (40, {1})
    assert staged(tmp_path) == []
    assert all(now.read >= now.indexed for now in told)

    again = ingest(photos, folder, batch_size=4, writer=writer())
    assert (again.indexed, again.skipped) == (0, 40)


def test_a_photo_counts_as_indexed_when_its_job_has_ended(milvus, photos, writer, noise, monkeypatch) -> None:
    ended, counted = threading.Event(), []
    run = milvus.run

    def slow(job) -> None:
        assert ended.wait(30)
        run(job)

    monkeypatch.setattr(milvus, "run", slow)

    def progress(now) -> None:
        if "import job" in now.status and not ended.is_set():
            counted.append(now.indexed)
            if len(counted) == 3:
                ended.set()

    milvus.asked = 50
    summary = ingest(photos, noise(6), writer=writer(part_bytes=10**6), progress=progress)
    assert counted == [0, 0, 0]
    assert summary.indexed == 6


def test_changed_photos_are_upserted_new_ones_imported(milvus, photos, writer, noise) -> None:
    folder = noise(8)
    ingest(photos, folder, writer=writer())
    (folder / "000.png").write_bytes((folder / "001.png").read_bytes() + b" ")
    (folder / "new.png").write_bytes((folder / "002.png").read_bytes())
    imported = len(milvus.jobs)
    summary = ingest(photos, folder, writer=writer())
    assert (summary.indexed, summary.skipped) == (2, 7)
    assert (photos.upserts, len(milvus.jobs) - imported) == (1, 1)
    assert (len(milvus.counts()), once(milvus)) == (9, {1})


@pytest.mark.parametrize("where", ["before a part is whole", "before its job", "in its job", "before it is removed"])
def test_killed_anywhere_the_next_run_loses_and_doubles_nothing(
    milvus, photos, writer, jobs, noise, tmp_path, facts, where
) -> None:
    """A run that was killed is what it left: files in the staging, jobs at the server."""
    folder = noise(12)
    parts = Parts(facts, str(tmp_path / "staging"), worker="all")
    parts.add(encoded(folder, photos.encoder)[:9])
    if where == "before a part is whole":
        parts._write_group()
        del parts
    else:
        [part] = parts.close()
    if where in ("in its job", "before it is removed"):
        job = jobs.create(part.path)
        while where == "before it is removed" and not jobs.ask(job).done:
            pass
    summary = ingest(photos, folder, writer=writer())
    assert (summary.indexed, summary.skipped) == ((12, 0) if where == "before a part is whole" else (3, 9))
    assert milvus.counts().keys() == {photo.id for photo in encoded(folder, photos.encoder)}
    assert once(milvus) == {1}
    assert staged(tmp_path) == []


def encoded(folder: Path, encoder) -> list[PhotoVector]:
    """The photos of a folder, as an ingest stores them."""
    decoded = [stages.decode(record, encoder.image_size, Limits()) for record in iterate(folder)]
    return stages.encode(encoder, decoded, lambda *_: None)


def test_a_failed_job_ends_the_ingest_and_the_next_one_goes_on(milvus, photos, writer, noise, facts, tmp_path) -> None:
    folder = noise(10)
    milvus.fails = ["no such file"]
    with pytest.raises(
        IngestError, match=r"stopped after 0 photos were written: import job \d+ failed: no such"
    ) as error:
        ingest(photos, folder, writer=writer(part_bytes=10**6))
    assert error.value.summary.indexed == 0
    [part] = leftover(facts, str(tmp_path / "staging"))
    assert part.path in str(error.value)
    summary = ingest(photos, folder, writer=writer())
    assert (summary.indexed, summary.skipped) == (0, 10)  # what was staged is imported before anything is read
    assert (len(milvus.counts()), once(milvus)) == (10, {1})


def test_milvus_that_is_away_for_a_while_is_waited_for(milvus, photos, writer, noise) -> None:
    milvus.answers = {"create": [503, "hang up", 200], "list": [503, 200, "hang up"]}
    summary = ingest(photos, noise(10), writer=writer(), backoff=Backoff(first=0.01, ceiling=0.01))
    assert summary.indexed == 10
    assert (len(milvus.counts()), once(milvus)) == (10, {1})


def test_a_photo_that_cannot_be_stored_fails_alone(milvus, photos, writer, noise) -> None:
    photos.identity = replace(photos.identity, partition_key="shop")
    manifest = noise(3) / "photos.jsonl"
    manifest.write_text(
        '{"path": "000.png", "shop": "north"}\n{"path": "001.png"}\n{"path": "002.png", "shop": "south"}\n'
    )
    summary = ingest(photos, manifest, writer=writer())
    assert summary.indexed == 2
    [failure] = summary.failed
    assert failure.source.endswith("001.png")
    assert "it has no field 'shop'" in failure.reason
    assert (len(milvus.counts()), once(milvus)) == (2, {1})
