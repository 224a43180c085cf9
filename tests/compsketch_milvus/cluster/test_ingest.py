"""Ingests on a Ray of this machine, into Milvus Lite files: everything counted, nothing done twice, whatever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus import cluster
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import (
    CollectionError,
    CompsketchError,
    FingerprintError,
    IngestError,
    SourceError,
)
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources import iterate

pytestmark = [
    pytest.mark.usefixtures("ray_here"),
    # Ray Data's own copy of its own settings, for each dataset.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "ray.db")


@pytest.fixture
def ingest(uri, toy) -> Callable:
    """An ingest with the toy encoder, in batches of four."""

    def ingest(source, **options):
        return cluster.ingest(source, **{"uri": uri, "encoder": toy.ToyEncoder, "batch_size": 4, **options})

    return ingest


def counts(summary) -> tuple[int, int, int, int]:
    return summary.read, summary.indexed, summary.skipped, len(summary.failed)


def test_a_folder_is_indexed_and_a_second_run_takes_up_what_is_new(ingest, photos, uri, toy_encoder, tmp_path):
    (photos / "bad.png").write_text("no photo")
    told, seen = [], []
    summary = ingest(photos, rejects=tmp_path / "bad.jsonl", started=told.append, progress=seen.append)
    assert counts(summary) == (21, 20, 0, 1)
    assert (summary.abandoned, summary.drained, seen[-1].indexed) == (0, False, 20)
    assert re.fullmatch(r"Ray on 1 machine: 2 CPUs.*", told[0])
    rejected = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (rejected["source"], summary.failed[0].source) == (str(photos / "bad.png"),) * 2
    assert rejected["reason"] == summary.failed[0].reason

    Image.new("RGB", (50, 30)).save(photos / "03.png")
    assert counts(ingest([photos, photos / "04.png", photos / "nowhere.png"])) == (23, 1, 20, 2)

    with SketchCollection.open("photos", toy_encoder, uri=uri) as collection:
        good = {record.id: record for record in iterate(photos) if record.path.stem != "bad"}
        stored = collection.stored(good, ["source", "width", "mtime"])
        assert {id: (row["source"], row["mtime"]) for id, row in stored.items()} == {
            id: (record.source, record.fields["mtime"]) for id, record in good.items()
        }
        assert sorted(row["width"] for row in stored.values()) == [24] * 19 + [50]
        vector = toy_encoder.encode_images([photos / "07.png"])[0]
        (hit,) = collection.search_vector(vector, 1)
        assert (Path(hit.source).name, hit.score) == ("07.png", pytest.approx(1, abs=1e-5))


def test_a_missing_source_and_another_encoder_are_refused_as_on_one_machine(ingest, photos, toy, tmp_path):
    with pytest.raises(SourceError, match=f"^{tmp_path}/none: no such file or folder; check the path$"):
        ingest(tmp_path / "none")
    other = toy.ToyEncoder(fingerprint="toy-another000000000")
    with pytest.raises(FingerprintError, match=r"toy-0000000000000000.*toy-another000000000"):
        ingest(photos, encoder=lambda: other)


def test_an_encoder_that_refuses_everything_ends_the_ingest_with_its_words(ingest, photos, toy):
    class Broken(toy.ToyEncoder):
        def encode_images(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(
        IngestError, match=r"after 0 photos were written: RuntimeError: out of memory; put that"
    ) as caught:
        ingest(photos, encoder=Broken)
    assert (caught.value.summary.read, caught.value.summary.failed) == (0, [])


class Endless:
    """Photos without end, which every worker can begin anew."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[ImageRecord]:
        for number in range(10**9):
            yield ImageRecord(f"{number:032x}", f"made {number}", data=self.data)


@pytest.fixture
def endless(photos) -> Endless:
    return Endless((photos / "00.png").read_bytes())


def test_told_to_stop_it_takes_nothing_more_and_finishes_what_is_decoded(ingest, endless, uri, toy_encoder):
    stop = threading.Event()

    def progress(now) -> None:
        if now.indexed >= 40:
            stop.set()

    summary = ingest(endless, stop=stop, progress=progress)
    assert summary.drained
    assert summary.indexed == summary.read >= 40
    assert summary.read + summary.abandoned <= 2 * (512 + 4 * 10), "what the gate let in"
    with SketchCollection.open("photos", toy_encoder, uri=uri) as collection:
        assert collection.count() == summary.indexed


def test_an_interrupt_ends_it_at_once_and_leaves_what_is_stored(ingest, endless, photos, uri, toy_encoder):
    reached = []

    def progress(now) -> None:
        if now.indexed >= 20:
            reached.append(now.indexed)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(endless, progress=progress)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ingest-")]
    with SketchCollection.open("photos", toy_encoder, uri=uri) as collection:
        assert collection.count() >= reached[0]


def test_what_cannot_be_shared_out_is_said_before_anything_starts(ingest, photos, monkeypatch, uri):
    with pytest.raises(SourceError, match="can be read once, by one process; with Ray give names"):
        ingest(iter([photos]))
    with pytest.raises(CollectionError, match=r"Milvus Lite file can be open on one machine only; give --uri http"):
        ingest(photos, address="auto")
    with pytest.raises(SourceError, match="must be at least 1"):
        ingest(photos, batch_size=0)
    with pytest.raises(CompsketchError, match="is the source itself"):
        ingest(str(photos / "bad.jsonl"), rejects=photos / "bad.jsonl")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(CompsketchError, match=r'--ray needs ray.data, .*: pip install "compsketch-milvus\[ray\]"'):
        ingest(photos)


def test_a_worker_that_dies_costs_a_retry_and_leaves_one_object_on_stdout(program, photos, toy, tmp_path, monkeypatch):
    """The encoder's process is killed in its second batch, and the first one's photos are not counted again."""
    mark = tmp_path / "died"

    class Dying(toy.ToyEncoder):
        def encode_images(self, images):
            if self.batches and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().encode_images(images)

    monkeypatch.setattr("compsketch_milvus.encoder.connect", Dying)
    done = program.json("ingest", photos, "--ray", "local", "--batch-size", 4)
    assert mark.exists()
    assert (done["read"], done["indexed"], done["skipped"], done["failed"]) == (20, 20, 0, [])
    assert "Ray on 1 machine: 2 CPUs" in program.err
    assert program.json("info")["count"] == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ray", "local", "--shard", "1/2"], "leave --shard out"),
        (["--ray", "local", "--keep-features", "kept"], "without --ray"),
        (["--workers", 2], "add --ray local"),
    ],
)
def test_flags_that_do_not_go_together(program, photos, options, words):
    program.refused(words, "ingest", photos, *options)
