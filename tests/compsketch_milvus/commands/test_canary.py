"""`compsketch canary`: what it makes and says, its exit status, rounds that Prometheus hears of and SIGTERM ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.toy_program import ENVIRONMENT, command


@pytest.fixture
def canary(program, photos, tmp_path) -> Path:
    """One that was prepared on four photos."""
    assert program("ingest", photos) == 0
    program.json("canary", "prepare", tmp_path / "canary.json", "--uri", tmp_path / "photos.db", database=False)
    return tmp_path / "canary.json"


@pytest.fixture
def asked(program, tmp_path):
    """Runs one round; the JSON object."""

    def ask(file: Path, *arguments, status: int = 0) -> dict:
        where = ("--uri", tmp_path / "photos.db")
        return program.json("canary", "run", file, *where, *arguments, database=False, status=status)

    return ask


def test_prepared_and_asked(program, canary, asked, photos, tmp_path):
    answer = asked(canary)
    assert (answer["recall"], answer["found"], answer["queries"], answer["good"]) == (1.0, 16, 4, True)
    assert (answer["collection"], answer["index"]["type"], answer["advice"]) == ("photos", "FLAT", "")
    assert 0 < answer["p50"] <= answer["p99"]
    assert program("canary", "run", canary, "--uri", tmp_path / "photos.db", database=False) == 0
    assert program.out.startswith("photos: recall@10 1.000: 16 found, 0 missed, 0 displaced, 0 gone; p50 ")


def test_a_folder_of_sketches(program, canary, asked, sketch, tmp_path):
    (tmp_path / "sketches").mkdir()
    sketch.rename(tmp_path / "sketches" / "left.json")
    where = ("--uri", tmp_path / "photos.db", "--sketches", tmp_path / "sketches")
    assert program.json("canary", "prepare", canary, *where, database=False)["queries"] == 1
    assert program.json("canary", "prepare", canary, *where, "--queries", 2, database=False)["queries"] == 3
    assert asked(canary)["recall"] == 1.0


def test_recall_under_the_floor_is_a_failure(canary, asked, program, monkeypatch):
    from compsketch_milvus import retrieval

    real = retrieval.ranked
    monkeypatch.setattr(retrieval, "ranked", lambda rows, vector: real(rows[1:], vector))  # as if the first were missed
    low = asked(canary, "--floor", 0.8, status=1)
    assert (low["recall"], low["missed"], low["good"]) == (0.75, 4, False)
    assert asked(canary, "--floor", 0.7)["good"] is True


def test_where_nothing_counts_recall_is_unknown_and_that_is_a_failure(canary, asked, program):
    program.json("delete", "--all", "--yes")
    unknown = asked(canary, status=1)
    assert (unknown["recall"], unknown["gone"], unknown["good"]) == (None, 16, False)
    assert "canary prepare" in unknown["advice"]


def test_mistakes_are_one_line(program, canary, toy_encoder, tmp_path):
    def refused(words: str, *arguments) -> None:
        program.refused(words, "canary", *arguments, "--uri", tmp_path / "photos.db", database=False)

    refused(r"none\.json: cannot be read .*compsketch canary prepare", "run", tmp_path / "none.json")
    refused("cannot be written", "prepare", tmp_path / "nowhere" / "canary.json")
    refused(r"empty: no folder", "prepare", canary, "--sketches", tmp_path / "empty")
    refused("'others' does not exist", "run", canary, "--collection", "others")
    refused("--metrics-port is of no use for one round", "run", canary, "--metrics-port", 0)
    kept = json.loads(canary.read_text())
    canary.write_text(json.dumps({**kept, "fingerprint": "toy-ffffffffffffffff"}))
    for every in ((), ("--every", 60)):
        refused(r"'photos' was made by encoder 'toy' \(toy-0+, 16-D\), the canary's .*\(toy-f+", "run", canary, *every)


def test_without_the_extra_it_names_it(program, canary, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "compsketch_milvus.canary.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    words = r'this needs prometheus_client, which is not installed: pip install "compsketch-milvus\[metrics\]"'
    program.refused(words, "canary", "run", canary, "--every", 60, "--metrics-port", 0, database=False)


def scraped(address: str) -> Iterator[tuple[str, dict[str, str], float]]:
    with urllib.request.urlopen(address) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value


def test_rounds_are_told_to_prometheus_until_sigterm(canary, tmp_path):
    from milvus_lite.server_manager import server_manager_instance

    database = str(tmp_path / "photos.db")
    server_manager_instance.release_server(database)  # for the other process: only one can have it open
    run = ("canary", "run", canary, "--uri", database, "--every", 0.2, "--metrics-port", 0, "--json")
    running = subprocess.Popen(
        command(*run), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert first.startswith("metrics at http://127.0.0.1:")
        for _ in range(2):
            assert "photos: recall@10 1.000: 16 found" in running.stderr.readline()
        told = {(name, *labels.values()): value for name, labels, value in scraped(first.split()[-1])}
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=20)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0
    summary = json.loads(out)
    assert summary["rounds"] >= 2
    assert (summary["low"], summary["unanswered"], summary["last"]["recall"]) == (0, 0, 1.0)
    assert told["compsketch_canary_recall", "photos"] == 1.0
    assert told["compsketch_canary_recall_floor", "photos"] == 0.95
    assert told["compsketch_canary_answers", "photos", "found"] == 16
    assert told["compsketch_canary_answers", "photos", "missed"] == 0
    assert told["compsketch_canary_rounds_total", "photos", "good"] >= 2
    assert told["compsketch_canary_search_seconds_count", "photos"] >= 8
    assert time.time() - 60 < told["compsketch_canary_prepared_timestamp_seconds", "photos"] < time.time()
    assert time.time() - 60 < told["compsketch_canary_last_success_timestamp_seconds", "photos"] < time.time()
