"""`compsketch ingest`: what it counts, what it reports and goes on from, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.tally import IngestProgress
from compsketch_milvus.terminal import IngestBar


def test_a_bad_photo_is_reported_and_the_others_go_on(program, photos):
    (photos / "text.jpg").write_text("I am no photo")
    (photos / "empty.png").touch()
    done = program.json("ingest", photos, status=1)
    assert done["indexed"] == 4
    assert {Path(failure["source"]).name for failure in done["failed"]} == {"text.jpg", "empty.png"}
    assert all(failure["reason"] for failure in done["failed"])
    assert program("ingest", photos) == 1
    assert "failed: " in program.err
    assert "text.jpg: " in program.err


def test_of_several_sources_a_missing_one_is_a_failure(program, photos, tmp_path):
    done = program.json("ingest", tmp_path / "nowhere", photos, status=1)
    assert done["indexed"] == 4
    assert [failure["source"] for failure in done["failed"]] == [str(tmp_path / "nowhere")]


def test_an_interrupt_says_what_was_done(program, photos, toy_encoder, monkeypatch):
    encode = toy_encoder.encode_images

    def interrupted(images):
        if toy_encoder.batches:
            raise KeyboardInterrupt
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", interrupted)
    done = program.json("ingest", photos, "--batch-size", 2, status=130)
    assert re.search(r"interrupted after .* run the same ingest again", done["error"])
    assert program.err.endswith(f"error: {done['error']}\n")


def test_a_broken_encoder_is_a_failure_of_the_run(program, photos, toy_encoder, monkeypatch):
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(toy_encoder, "encode_images", broken)
    assert "out of memory" in program.json("ingest", photos, status=1)["error"]


def test_bad_sources(program, tmp_path):
    program.refused("nowhere", "ingest", tmp_path / "nowhere")
    (tmp_path / "leer").mkdir()
    program.refused("leer.*no photos", "ingest", tmp_path / "leer")
    assert not (tmp_path / "photos.db").exists()  # refused before anything is made


def test_counts_add_up_in_json(program, photos):
    (photos / "text.jpg").write_text("I am no photo")
    for _ in range(2):
        done = program.json("ingest", photos, status=1)
        assert done["read"] == 5
        assert done["read"] == done["indexed"] + done["skipped"] + len(done["failed"]) + done["failures_dropped"]
        assert (done["drained"], done["abandoned"]) == (False, 0)


def test_shards_together_are_the_whole(program, photos):
    done = [program.json("ingest", photos, "--shard", f"{index}/2") for index in (1, 2)]
    assert sum(answer["read"] for answer in done) == sum(answer["indexed"] for answer in done) == 4
    assert program.json("info")["count"] == 4
    program.refused("shard '3': give I/N with 1 <= I <= N", "ingest", photos, "--shard", "3")


def test_rejects_are_ingested_once_they_are_mended(program, photos, tmp_path):
    rejects, photo = tmp_path / "rejects.jsonl", photos / "text.jpg"
    photo.write_text("I am no photo")
    program.json("ingest", photos, "--rejects", rejects, status=1)
    (line,) = map(json.loads, rejects.read_text().splitlines())
    assert (line["source"], line["fields"]) == (str(photo.resolve()), {})
    photo.write_bytes(next(photos.glob("*.png")).read_bytes())
    done = program.json("ingest", rejects)
    assert (done["read"], done["indexed"]) == (1, 1)
    program.refused("is the source itself", "ingest", rejects, "--rejects", rejects)


def test_sigterm_ends_it_early_and_well(program, photos, toy_encoder, monkeypatch):
    encode, before = toy_encoder.encode_images, signal.getsignal(signal.SIGTERM)
    photo, signals = next(photos.glob("*.png")).read_bytes(), []
    for index in range(30):
        (photos / f"more{index}.png").write_bytes(photo)

    def terminated(images):
        if signals:
            os.kill(os.getpid(), signals.pop())
        time.sleep(0.05)  # 34 times in all: the signal is heeded long before that
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", terminated)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # one decoder: most photos are not decoded when the signal comes
    signals.append(signal.SIGTERM)
    done = program.json("ingest", photos, "--batch-size", 1)
    assert 1 <= done["indexed"] == done["read"] < 34
    assert done["drained"]
    assert done["next"] == "run the same ingest again, it goes on from there"
    signals.append(signal.SIGTERM)
    assert program("ingest", photos, "--batch-size", 1) == 0
    assert "stopped early, as SIGTERM asks: run the same ingest again" in program.err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_stays_away_is_told_with_the_counts(program, photos, monkeypatch):
    calls = []

    def away(self, records):
        calls.append(len(records))
        raise ServerError("http://milvus: no Milvus answers", transient=True)

    monkeypatch.setattr(SketchCollection, "upsert", away)
    done = program.json("ingest", photos, "--retry-for", 0.6, status=1)
    assert re.search(r"no Milvus answers \(tried \d times in \d s\).* run the same ingest again", done["error"])
    assert (done["read"], done["indexed"], done["abandoned"]) == (0, 0, 4)
    assert len(calls) > 1
    assert "waiting for 0 s, trying again: http://milvus: no Milvus answers" in program.err


@pytest.mark.parametrize("value", ["-1", "soon"])
def test_how_long_to_try_again_is_seconds(program, photos, value):
    assert program("ingest", photos, "--retry-for", value) == 2


def test_where_no_one_watches_waiting_is_said_once_and_then_now_and_then(capsys):
    with IngestBar(every=3600) as bar:
        for status in ("", "waiting for 1 s", "waiting for 2 s", "", "", "waiting for 1 s"):
            bar(IngestProgress(9, 5, 2, 1, None, 10.0, status))
    assert (
        capsys.readouterr().err.splitlines()
        == ["ingest: 8 photos: 5 indexed, 2 skipped, 1 failed, 0.8/s; waiting for 1 s"] * 2
    )


@pytest.mark.parametrize("command", [("ingest",), ("watch", "--once", "--settle", "0")])
def test_prometheus_is_answered_while_it_runs(program, photos, toy_encoder, monkeypatch, command):
    encode, seen = toy_encoder.encode_images, []

    def asked(images):
        seen.append(re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", program.capsys.readouterr().err)[1])
        with urllib.request.urlopen(seen[0]) as answer:
            seen.append(answer.read().decode())
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", asked)
    assert program(command[0], photos, *command[1:], "--metrics-port", 0) == 0
    address, text = seen
    assert "compsketch_ingest_running 1.0" in text
    assert 'compsketch_ingest_photos_total{state="indexed"} 0.0' in text
    assert ("compsketch_watch_in_step_timestamp_seconds" in text) is (command[0] == "watch")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_a_port_that_is_taken_is_refused_before_an_encoder_is_loaded(program, photos, monkeypatch):
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda *_, **__: pytest.fail("an encoder was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program.refused(
            f"metrics cannot be had at 127.0.0.1:{port} .*--metrics-port", "ingest", photos, "--metrics-port", port
        )


@pytest.mark.parametrize("command", ["ingest", "watch"])
def test_metrics_without_their_extra_name_it(program, photos, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "compsketch_milvus.metrics", raising=False)
    monkeypatch.delitem(sys.modules, "encoders.serving.scraping", raising=False)
    words = r'this needs prometheus_client, which is not installed: pip install "compsketch-milvus\[metrics\]"'
    program.refused(words, command, photos, "--metrics-port", 0)
