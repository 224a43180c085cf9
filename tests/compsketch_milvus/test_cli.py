"""The program `compsketch`: its help, its start, what it prints and where, and the one line for bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("ingest", "watch", "search", "info", "index", "delete", "attach", "search-attached", "reproject", "doctor"),
    *("upgrade", "alias"),
    *("train", "data", "evaluate", "tables", "render", "demo", "serve", "study", "web", "canary", "plan"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(program, command):
    assert program(command, "--help", database=False) == 0
    assert len(program.out.splitlines()) > 5
    assert f"compsketch {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


STAGES = [("train", stage) for stage in ("objects", "spatial", "projection", "all", "semir", "calibration")]
SETS = ("openimages", "coco", "voc", "quickdraw", "tuberlin", "sketchy", "sets", "queries")
STUDY = ("prepare", "serve", "report", "export")
CANARY = ("prepare", "run")
GROUPS = [
    *STAGES,
    *(("data", name) for name in SETS),
    *(("study", name) for name in STUDY),
    *(("canary", name) for name in CANARY),
]
ALONE = [(name,) for name in COMMANDS if name not in ("train", "data", "study", "canary")]


@pytest.mark.parametrize("command", [*ALONE, *GROUPS])
def test_every_command_has_json(program, command):
    program(*command, "--help", database=False)
    assert "--json" in program.out


def test_the_list_above_is_complete(program):
    assert program("--help", database=False) == 0
    listed = program.out.split("Commands:")[1]
    assert sorted(re.findall(r"^  ([\w-]+)", listed, re.MULTILINE)) == sorted(COMMANDS)


def test_version(program):
    assert program("--version", database=False) == 0
    assert re.fullmatch(r"compsketch \d+\.\d+\S*\n", program.out)


def test_help_starts_quickly_because_it_loads_nothing_heavy():
    code = (
        "import sys; from compsketch_milvus.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    assert not {"torch", "pymilvus", "numpy", "PIL", "grpc", "pydantic"} & set(done.stdout.split())
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.5  # seconds of processor: the clock on the wall depends on who else is running


def test_ingest_search_info_delete(program, photos, sketch):
    done = program.json("ingest", photos)
    assert {"read", "indexed", "skipped", "failed", "drained", "seconds", "images_per_second"} <= set(done)
    assert (done["indexed"], done["skipped"], done["failed"]) == (4, 0, [])
    assert program.json("ingest", photos)["skipped"] == 4

    found = program.json("search", sketch)
    assert set(found) == {"hits", "best_confidence", "short", "seconds", "encoder", "collection"}
    assert set(found["seconds"]) == {"encode", "search", "rerank"}
    names = {"rank", "id", "source", "score", "distance", "confidence", "fields", "duplicates"}
    assert [set(hit) for hit in found["hits"]] == [names] * 4
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    best = found["hits"][0]
    assert best["source"] == str(photos / "left.png")
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert (found["collection"], found["encoder"]["name"]) == ("photos", "toy")

    facts = program.json("info")
    assert set(facts) == {"collection", "count", "dim", "partition_key", "encoder", "index", "server"}
    assert {"type", "params", "search_params", "reason", "consequences", "state", "advice"} <= set(facts["index"])
    assert (facts["collection"], facts["count"], facts["dim"]) == ("photos", 4, 16)

    assert program.json("delete", best["id"]) == {"deleted": 1, "count": 3, "collection": "photos"}
    assert program.json("delete", "--filter", 'source like "%Süden%"')["deleted"] == 1
    assert program.json("delete", "--all", "--yes") == {"deleted": 2, "count": 0, "collection": "photos"}


def test_without_json_people_can_read_it(program, photos, sketch):
    assert program("ingest", photos) == 0
    assert program.out.startswith("4 indexed, 0 skipped, 0 failed in ")
    assert program("search", sketch, "--limit", 1) == 0
    assert program.out.splitlines()[1:] == [f"1  1.000  {photos / 'left.png'}"]
    assert program("info") == 0
    assert re.search(r"^count +4$", program.out, re.MULTILINE)


def test_demo_writes_a_page_of_ones_own_photos(program, photos, tmp_path):
    out = tmp_path / "show"
    done = program.json("demo", "--photos", photos, "--out", out, database=False)
    assert (done["photos"], done["indexed"], done["failed"]) == (4, 4, [])
    assert len(done["queries"]) >= 6
    assert all(Path(query["sheet"]).exists() for query in done["queries"])
    assert Path(done["page"]) == out / "index.html"
    (photos / "text.jpg").write_text("I am no photo")
    assert program("demo", "--photos", photos, "--out", out, database=False) == 1
    assert "index.html" in program.out
    assert "text.jpg: " in program.err


def test_bad_options(program, photos, sketch, tmp_path):
    program("ingest", photos)
    program.refused("limit", "search", sketch, "--limit", 0)
    program.refused("threshold", "search", sketch, "--threshold", 7)
    program.refused("filter", "search", sketch, "--filter", "width >")
    program.refused(r"sheet\.bmp", "search", sketch, "--sheet", tmp_path / "sheet.bmp")
    program.refused("cannot be written", "search", sketch, "--sheet", tmp_path / "nowhere" / "sheet.png")
    program.refused("what to delete", "delete")
    program.refused("--yes", "delete", "--all")
    program.refused("'no name'", "info", "--collection", "no name")
    assert program("search", sketch, "--no-such-option") == 2
    assert program("search") == 2
    assert "sketch" in program.json("search", status=2)["error"].lower()
    assert "--limit" in program.json("search", sketch, "--limit", "many", status=2)["error"]


def test_no_such_collection(program, photos, sketch, tmp_path):
    program.refused(r"photos\.db", "info")
    program("ingest", photos)
    program.refused("'others' does not exist.*photos", "search", sketch, "--collection", "others")
    other = ("--uri", tmp_path / "photos.txt")
    program.refused(r"photos\.txt", "info", *other, database=False)


def test_a_collection_of_another_encoder(program, photos, sketch, toy_encoder):
    program("ingest", photos)
    toy_encoder.fingerprint = "toy-ffffffffffffffff"
    words = "'photos' was made by encoder 'toy'.*toy-0000000000000000.*toy-ffffffffffffffff"
    program.refused(words, "search", sketch)
    program.refused(words, "ingest", photos)


def test_a_lite_file_that_another_process_has_open(program, photos, tmp_path):
    program("ingest", photos)  # this process keeps the lock until it ends
    code = "from compsketch_milvus.cli import main; main()"
    command = [sys.executable, "-c", code, "info", "--uri", str(tmp_path / "photos.db"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*photos\.db: another process has this Milvus Lite file open.*\n", done.stderr)
    assert "another process" in json.loads(done.stdout)["error"]
