"""What the soak judges by, without a server: who is struck, what is written down, what counts as lost or doubled."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
from tests.soak.checks import differences, examine, outages, slope
from tests.soak.clients import doomed
from tests.soak.folder import Folder, photos_below
from tests.soak.jobs import accounts, answer_of
from tests.soak.killing import DECK, schedule
from tests.soak.ledger import Ledger, Tail
from tests.soak.operating import Operator, Service
from tests.soak.reporting import faults_of_growth, report

# --- who is struck ---


def test_a_seed_says_who_is_struck_and_even_a_short_run_strikes_everybody() -> None:
    blows = schedule(7, 600)
    assert blows == schedule(7, 600) != schedule(8, 600)
    assert Counter(blow.victim for blow in blows[: len(DECK)]) == Counter(DECK)
    assert schedule(7, 60) == [blow for blow in blows if blow.at < 60], "a shorter run begins the same way"
    assert {blow.signal for blow in blows} == {"KILL", "TERM", "STOP"}
    assert all((blow.hold > 0) == (blow.signal == "STOP") for blow in blows)


# --- what is written down ---


def test_a_ledger_is_read_while_it_is_written_and_a_line_without_an_end_waits(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "one.jsonl")
    assert tail.new() == []
    ledger = Ledger(tmp_path / "one.jsonl")
    ledger.write("deleted", paths=["a"])
    ledger.write("ok")
    with ledger.path.open("ab") as file:
        file.write(b'{"at": 1, "kind"')
        file.flush()
        assert [line["kind"] for line in tail.new()] == ["deleted", "ok"]
        file.write(b': "deleted", "paths": ["b"]}\n')
    assert [line["paths"] for line in tail.new("deleted")] == [["b"]]
    ledger.close()


def test_the_folder_keeps_changing_and_its_photos_are_what_is_on_disk(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "folder.jsonl")
    folder = Folder(tmp_path / "photos", random.Random(3), ledger)
    for _ in range(400):
        folder.step()
    ledger.close()
    done = Counter(line["kind"] for line in Tail(ledger.path).new())
    assert {"add", "add broken", "change", "move", "move folder", "delete", "delete folder"} <= set(done)
    there = photos_below(folder.root)
    assert 40 < len(there) < 300
    assert not [path for path in there if path.name.startswith(("broken", "."))]


def test_a_third_of_a_batch_is_deleted_whoever_asks() -> None:
    paths = [f"/batches/{number}.png" for number in range(600)]
    assert doomed(paths) == doomed(iter(paths))
    assert 150 < len(doomed(paths)) < 250


# --- the operator ---


def test_what_ends_is_started_again_until_it_is_done_and_what_should_not_end_is_a_violation(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "soak.jsonl")
    operator = Operator(tmp_path, {}, ledger)
    counting = f"open({str(tmp_path / 'runs')!r}, 'a').write('.'); print(len(open({str(tmp_path / 'runs')!r}).read()))"
    twice = operator.add(Service("ingest-1-1", [sys.executable, "-c", counting], lambda out: out == "2\n"))
    gives_up = operator.add(Service("watch", [sys.executable, "-c", "print('up'); exit('no more')"], ready="up"))
    stays = operator.add(
        Service("page", [sys.executable, "-c", "print('up', flush=True); input_ = __import__('time').sleep(99)"])
    )
    operator.start()
    assert twice.finished.wait(20)
    assert twice.starts == 2
    end = time.monotonic() + 20
    while (gives_up.starts < 2 or "up" not in operator.out(stays)) and time.monotonic() < end:
        time.sleep(0.05)
    operator.strike(stays, "KILL")
    operator.close()
    lines = Tail(ledger.path).new()
    ledger.close()
    violations = {line["what"] for line in lines if line["kind"] == "violation"}
    assert violations == {"watch ended by itself with status 1: no more"}
    assert {(line["name"], line["status"], line["struck"]) for line in lines if line["kind"] == "exit"} >= {
        ("ingest-1-1", 0, ""),
        ("watch", 1, ""),
    }


# --- what counts as lost or doubled ---


def test_an_ingest_that_broke_off_or_was_asked_to_end_is_run_again() -> None:
    whole = {"read": 3, "indexed": 1, "skipped": 1, "failed": [{}], "failures_dropped": 0, "abandoned": 0}
    assert answer_of("encoding\n" + json.dumps(whole | {"drained": False}) + "\n") is not None
    for broken in ("", json.dumps(whole | {"drained": True}), json.dumps(whole | {"error": "away", "drained": False})):
        assert answer_of(broken) is None
    assert accounts(whole)
    assert not accounts(whole | {"indexed": 0})


@given(st.sets(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 30), max_size=40))
def test_differences_are_found_whatever_is_lost_left_over_or_twice(expected: set[int], there: list[int]) -> None:
    found = differences(
        {str(one): {"source": f"/{one}"} for one in expected}, [{"id": str(one), "source": f"/{one}"} for one in there]
    )
    words = {line.split(":")[0].partition(" ")[2]: int(line.split()[0]) for line in found}
    twice = sum(count > 1 for count in Counter(there).values())
    counted = {
        "lost": len(expected - set(there)),
        "left over": sum(one not in expected for one in there),
        "twice": twice,
    }
    assert words == {fault: count for fault, count in counted.items() if count}


def test_a_collection_is_compared_with_the_disk(tmp_path: Path, pictures, toy_encoder) -> None:
    beside = [PhotoVector("beside", "/elsewhere", 1, 1, np.full(16, 0.25, np.float32))]
    paths = [Path(path) for path in pictures]
    with SketchCollection.open("photos", toy_encoder, uri=str(tmp_path / "photos.db")) as photos:
        photos.upsert(beside)
        photos.ingest(pictures)
        assert examine(photos, paths, beside) == (5, [])
        paths[0].write_bytes(paths[1].read_bytes())  # changed, and nobody told
        held, faults = examine(photos, [*paths, tmp_path / "new.png"][:4], [])
        assert held == 4
        assert [fault.split(":")[0] for fault in faults] == [
            "1 left over",
            "2 not as on disk",
            "the count is 5, and 4 there should be",
            "1 with another vector than their photo has",
        ]


def test_outages_and_growth() -> None:
    lines = [{"at": at, "kind": kind} for at, kind in enumerate(["ok", "away", "away", "ok", "ok", "away", "away"])]
    assert outages(lines) == [(1, 3), (5, 6)]
    assert slope([(at, 5 + 2 * at) for at in range(10)]) == pytest.approx(2)
    grown = {"page": {"longest_seconds": 1000, "growth_mb_an_hour": 100.0}}
    young = {"page": {"longest_seconds": 100, "growth_mb_an_hour": 900.0}}
    assert faults_of_growth(grown, 0) == ["page grew by 100 MB an hour, over 64"]
    assert faults_of_growth(young, 51) == ["51 temporary files are left, over 50"]


def test_a_report_counts_blows_by_victim_and_tells_each_clients_outages() -> None:
    lines = [
        {"at": 0.0, "by": "soak", "kind": "begin", "seed": 5},
        {"at": 1.0, "by": "soak", "kind": "strike", "victim": "ingest-3-1", "signal": "KILL"},
        {"at": 2.0, "by": "people", "kind": "away", "page": "a", "why": "503"},
        {"at": 4.5, "by": "people", "kind": "ok", "page": "a", "seconds": 0.2},
        {"at": 5.0, "by": "searcher", "kind": "violation", "what": "found although deleted"},
    ]
    found = report(lines, {})
    assert found["struck"] == {"ingest KILL": 1}
    assert found["violations"] == ["found although deleted"]
    assert (
        found["clients"]["people a"] | {"answered": 1, "outages": 1, "away_seconds": 2.5}
        == found["clients"]["people a"]
    )
