"""What Prometheus is told of real ingests and watches, and of an ingest that waits."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.metrics import IngestMetrics, WatchMetrics
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.retry import Backoff, Retry
from compsketch_milvus.tally import IngestProgress
from compsketch_milvus.watch import Watch


def told(metrics: IngestMetrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(f"compsketch_{name}", labels)
    assert value is not None, name
    return value


def counts(metrics: IngestMetrics) -> tuple[float, ...]:
    """Read, indexed, skipped; failed by the source's, the photo's and the row's fault."""
    states = (told(metrics, "ingest_photos_total", state=state) for state in ("read", "indexed", "skipped"))
    reasons = (told(metrics, "ingest_failures_total", reason=reason) for reason in ("source", "photo", "row"))
    return (*states, *reasons)


def test_an_ingest_s_counts_add_up_over_several(collection, pictures, tmp_path, monkeypatch) -> None:
    (tmp_path / "bad.png").write_text("I am no photo")
    upsert = collection.upsert

    def picky(photos) -> int:
        if any(photo.id == "row" for photo in photos):
            raise CollectionError("photo 'row': not this one")
        return upsert(photos)

    monkeypatch.setattr(collection, "upsert", picky)
    records = [
        *(ImageRecord(f"p{i}", path, path=Path(path)) for i, path in enumerate(pictures)),
        ImageRecord("bad", "bad.png", path=tmp_path / "bad.png"),
        ImageRecord("none", "none.png", error="no such file"),
        ImageRecord("row", "row.png", path=Path(pictures[0])),
    ]
    metrics = IngestMetrics()
    assert counts(metrics) == (0, 0, 0, 0, 0, 0)  # there from the start: a rate needs a beginning
    before = told(metrics, "ingest_last_write_timestamp_seconds")
    for _ in range(2):
        with metrics.running() as progress:
            assert told(metrics, "ingest_running") == 1
            summary = collection.ingest(records, progress=progress)
            assert (summary.indexed + summary.skipped, summary.failures) == (4, 3)
        assert told(metrics, "ingest_running") == 0
    assert counts(metrics) == (14, 4, 4, 2, 2, 2)
    assert told(metrics, "ingest_under_way") == 0
    assert told(metrics, "ingest_last_write_timestamp_seconds") > before


def test_waiting_backlog_and_what_is_under_way_are_told_while_they_last() -> None:
    metrics = IngestMetrics()
    retry = Retry(Backoff(first=0, deadline=60), lambda seconds: False)
    attempts = iter([ServerError("no Milvus answers", transient=True), None])

    def work() -> None:
        if fault := next(attempts):
            raise fault
        progress(IngestProgress(30, 20, 4, 1, 100, 2.0, retry.status, {"photo": 1}))
        progress(IngestProgress(30, 20, 4, 1, 100, 2.1, retry.status, {"photo": 1}))
        assert told(metrics, "ingest_waiting") == 1
        assert told(metrics, "ingest_backlog") == 75
        assert told(metrics, "ingest_under_way") == 5

    with metrics.running() as progress:
        progress(IngestProgress(20, 10, 0, 0, None, 1.0))
        assert math.isnan(told(metrics, "ingest_backlog"))
        retry(work)
        progress(IngestProgress(30, 25, 4, 1, 100, 3.0, retry.status, {"photo": 1}))
        assert told(metrics, "ingest_waiting") == 0
        progress(IngestProgress(30, 25, 4, 1, 100, 4.0, "finishing what is decoded", {"photo": 1}))
        assert told(metrics, "ingest_waiting") == 0
    assert told(metrics, "ingest_waits_total") == 1
    assert counts(metrics) == (30, 25, 4, 0, 1, 0)
    assert math.isnan(told(metrics, "ingest_backlog"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos from long ago."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name)
        os.utime(tmp_path / "photos" / name, (1_700_000_000, 1_700_000_000))
    return tmp_path / "photos"


def test_a_watch_tells_how_far_behind_it_is(collection, folder, monkeypatch) -> None:
    """In step, then a file comes while the server is away, which is moved in with an old time of modification."""
    pytest.importorskip("watchfiles")
    monkeypatch.setattr("compsketch_milvus.watch.RETRY_SECONDS", 0.2)
    metrics, stop, away = WatchMetrics(), threading.Event(), threading.Event()
    real = type(collection).ingest

    def ingest(self, *rest, **more):
        if away.is_set():
            raise ServerError("no Milvus answers")
        return real(self, *rest, **more)

    monkeypatch.setattr(type(collection), "ingest", ingest)
    lines: list[str] = []
    watch = Watch(collection, folder, settle=0.2, rescan=600, stop=stop, tell=lines.append, observe=metrics)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        eventually(lambda: told(metrics, "watch_in_step_timestamp_seconds") > metrics._began)
        assert told(metrics, "watch_lag_seconds_count") == 2
        away.set()
        Image.new("RGB", (32, 32), (9, 9, 9)).save(folder.parent / "c.png")
        os.utime(folder.parent / "c.png", (1_700_000_000, 1_700_000_000))
        (folder.parent / "c.png").rename(folder / "c.png")
        (folder / "b.png").unlink()
        eventually(lambda: sum("trying again" in line for line in lines) >= 2)
        behind = told(metrics, "watch_in_step_timestamp_seconds")
        time.sleep(0.6)  # for as long as it is away that stands still, whatever else goes on
        assert told(metrics, "watch_in_step_timestamp_seconds") == behind
        away.clear()
        eventually(lambda: told(metrics, "watch_in_step_timestamp_seconds") > behind)
    finally:
        stop.set()
        thread.join(20)
    assert told(metrics, "watch_lag_seconds_count") == 3
    assert told(metrics, "watch_lag_seconds_bucket", le="0.5") <= 2
    assert 0.8 < told(metrics, "watch_lag_seconds_sum") < 120  # seconds, and not years
    assert told(metrics, "watch_deleted_total") == 1
    assert counts(metrics)[1] == 3


def eventually(holds, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
