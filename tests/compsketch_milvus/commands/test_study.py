"""`compsketch study`: prepare, serve, report and export as a user types them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.study.plan import Plan
from compsketch_milvus.study.store import Store
from tests.compsketch_milvus.study.small import drawing

ROOT = Path(__file__).parents[3]
PROGRAM = "from compsketch_milvus.cli import main; main()"


@pytest.fixture
def sketches(tmp_path: Path) -> Path:
    """A drawing of one object, one of two and one of three."""
    folder = tmp_path / "sketches"
    folder.mkdir()
    for objects in (1, 2, 3):
        drawing(objects).save(folder / f"{objects}.json")
    return folder


@pytest.fixture
def study(program, photos, sketches, tmp_path) -> Path:
    """A study of one collection of four photos, with a check."""
    lines = [{"sketch": "2.json", "good": str(photos / "left.png"), "bad": [str(photos / "top.png")]}]
    (tmp_path / "checks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    program("ingest", photos)
    inputs = ("--method", "ssbir=photos", "--sketches", sketches, "--uri", program.folder / "photos.db")
    done = program.json(
        "study", "prepare", tmp_path / "study", *inputs, "--checks", tmp_path / "checks.jsonl", "--depth", 2,
        "--raters", 1, database=False,
    )  # fmt: skip
    assert (done["queries"], done["tasks"], done["checks"]) == (3, 6, 1)
    assert done["methods"] == ["ssbir", "random"]
    return tmp_path / "study"


def rate(folder: Path, score: int = 4) -> int:
    """Somebody rates it all, and passes the checks; returns how many scores they gave."""
    plan, given = Plan.load(folder), 0
    with closing(Store(folder, plan)) as store:
        rater = store.join()
        work = store.work(rater)
        while work.tasks:
            task = work.tasks[0]
            scores = [score - (kind == "bad") for kind in task.expected or ("",) * len(task.photos)]
            given += len(scores)
            work = store.rate(rater, task.id, scores, 1)
    return given


def test_from_a_collection_to_a_report(program, study, tmp_path):
    program.refused("no rating counts yet", "study", "report", study, database=False)
    given = rate(study)
    figures = program.json("study", "report", study, database=False)
    assert figures["counts"]["tasks_complete"] == 6
    assert figures["methods"]["all"]["ssbir"]["P@2"]["value"] == 1
    assert [Path(file).name for file in figures["files"]] == ["report.md", "report.json", "fig4.svg", "fig4.png"]
    assert all(Path(file).is_file() for file in figures["files"])
    assert program("study", "report", study, "--out", tmp_path / "elsewhere", database=False) == 0
    assert program.out.splitlines()[0].split() == ["method", "P@2", "mAP", "NDCG", "mean", "rating", "rated", "3-5"]
    assert "6 of 6 tasks complete" in program.out
    assert (tmp_path / "elsewhere" / "report.md").is_file()
    table = tmp_path / "scores.csv"
    assert program.json("study", "export", study, "--out", table, database=False)["ratings"] == given
    assert len(table.read_text().splitlines()) == given + 1


def test_over_annotated_photos(program, tmp_path):
    images, boxes = [], []
    (tmp_path / "images").mkdir()
    for number in range(12):
        pixels = np.full((64, 64, 3), 255, np.uint8)
        for place in range(1 + number % 3):
            x, y = 16 * place, 16 * (number % 4)
            pixels[y : y + 16, x : x + 16] = 0
            box = [x, y, x + 16, y + 16]
            boxes.append({"image": f"{number}.png", "class": "cup" if number < 9 else "dog", "bbox": box})
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        images.append({"file": f"{number}.png", "width": 64, "height": 64})
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "boxes": boxes}))
    lines = [
        {"word": word, "key_id": f"{word}{i}", "drawing": [[[0, 9], [0, 9]]]} for word in ("cup", "dog") for i in "ab"
    ]
    (tmp_path / "sketches.ndjson").write_text("\n".join(map(json.dumps, lines)))
    sets = ("--annotations", tmp_path / "boxes.json", "--images", tmp_path / "images")
    inputs = (*sets, "--sketches", tmp_path / "sketches.ndjson", "--method", "ssbir", "--queries", 3, "--depth", 3)
    assert program("study", "prepare", tmp_path / "study", *inputs, database=False) == 0
    assert "3 queries, 9 tasks" in program.out
    assert f"compsketch study serve {tmp_path / 'study'}" in program.out
    program.refused("a study already", "study", "prepare", tmp_path / "study", *inputs, database=False)
    other = ("study", "prepare", tmp_path / "other")
    program.refused("no collection; give its name alone", *other, *inputs, "--method", "x=photos", database=False)
    program.refused("1 --annotations and 0 --images", *other, *inputs[:2], *inputs[4:], database=False)


def test_what_is_missing_is_said(program, photos, sketches, tmp_path):
    program("ingest", photos)
    prepare = ("study", "prepare", tmp_path / "study", "--uri", program.folder / "photos.db", "--sketches")
    program.refused("a name alone, such as ssbir, needs", *prepare, sketches, "--method", "ssbir", database=False)
    twice = ("--method", "a=photos", "--method", "a=photos")
    program.refused("given twice", *prepare, sketches, *twice, database=False)
    program.refused("'nothing'", *prepare, sketches, "--method", "a=nothing", database=False)
    program.refused("no folder", *prepare, tmp_path / "none", "--method", "a=photos", database=False)
    (tmp_path / "empty").mkdir()
    program.refused("holds no sketch", *prepare, tmp_path / "empty", "--method", "a=photos", database=False)
    checks = tmp_path / "checks.jsonl"
    known = (*prepare, sketches, "--method", "a=photos", "--checks", checks)
    for line, words in (
        ("{", r"checks\.jsonl:1: expected"),
        ('{"sketch": "1.json", "good": "a.png"}', "expected"),
        ('{"sketch": "1.json", "good": "a.png", "bad": []}', "expected"),
        ('{"sketch": "9.json", "good": "a.png", "bad": ["b.png"]}', r"no sketch '9\.json'"),
    ):
        checks.write_text(line)
        program.refused(words, *known, database=False)
    for command in ("serve", "report", "export"):
        program.refused("there is no study here", "study", command, tmp_path / "nowhere", database=False)


@pytest.mark.parametrize(
    ("library", "command", "extra"), [("fastapi", "serve", "web"), ("scipy", "report", "evaluate")]
)
def test_a_missing_library_names_the_extra_that_brings_it(study, library, command, extra):
    code = f"import sys; sys.modules[{library!r}] = None; {PROGRAM}"
    arguments = [sys.executable, "-c", code, "study", command, str(study), "--json"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    told = json.loads(done.stdout)["error"]
    assert re.match(rf'this needs {library}\S*, which .*"compsketch-milvus\[{extra}\]"', told)
    assert done.stderr == f"error: {told}\n"


def test_other_machines_are_not_served_in_the_clear(program, study):
    program.refused("TLS", "study", "serve", study, "--host", "0.0.0.0", database=False)


def test_serve_until_it_is_interrupted(study):
    command = [sys.executable, "-c", PROGRAM, "study", "serve", str(study), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", told["url"])
        with httpx.Client(base_url=told["url"], headers={"X-Compsketch": "1"}) as browser:
            assert browser.get("/healthz").json() == {"status": "ok"}
            assert browser.post("/api/login", json={"agree": True}).status_code == 200
            task = browser.post("/api/work", json={}).json()["tasks"][0]
            body = {"task": task["id"], "scores": [5] * len(task["photos"]), "revision": 1}
            assert browser.post("/api/ratings", json=body).json()["done"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    with closing(Store(study, Plan.load(study))) as store:
        assert [rating.task for rating in store.ratings()] == [task["id"]]
