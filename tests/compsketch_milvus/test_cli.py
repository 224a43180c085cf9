"""The program `compsketch`: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.cli import run
from encoders.bundle import Bundle

ROOT = Path(__file__).parents[2]
COMMANDS = ("ingest", "search", "info", "delete", "train", "data", "evaluate", "tables", "render", "demo")
LEFT = {
    "width": 320,
    "height": 320,
    "objects": [{"label": "cup", "strokes": [[[10, 150, 150, 10, 10], [10, 10, 310, 310, 10]]]}],
}


class Program:
    """Runs commands in this process, against a Milvus Lite file of this test's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: object, database: bool = True) -> int:
        where = ["--uri", str(self.folder / "photos.db")] if database else []
        self.capsys.readouterr()
        status = run([command, *where, *map(str, arguments)])
        self.out, self.err = self.capsys.readouterr()
        return status

    def json(self, command: str, *arguments: object, database: bool = True, status: int = 0) -> dict:
        assert self(command, *arguments, "--json", database=database) == status, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def program(tmp_path, capsys, monkeypatch, toy_encoder):
    for name in ("MILVUS_URI", "MILVUS_TOKEN", "MILVUS_DB_NAME", "COMPSKETCH_ENCODER", "COMPSKETCH_COLLECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(
        "compsketch_milvus.encoder.connect", lambda spec=None, *, device=None, runtime=None: toy_encoder
    )
    return Program(tmp_path, capsys)


@pytest.fixture
def photos(tmp_path):
    """Four photos, each dark in one part."""
    folder = tmp_path / "Fotos für Käthe"
    folder.mkdir()
    parts = {"left": np.s_[:, :32], "right": np.s_[:, 32:], "top": np.s_[:32], "Straße nach Süden": np.s_[32:]}
    for name, part in parts.items():
        pixels = np.full((64, 64, 3), 255, np.uint8)
        pixels[part] = 0
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def sketch(tmp_path):
    """One object that fills the left half."""
    path = tmp_path / "left.json"
    path.write_text(json.dumps(LEFT))
    return path


# --- help, version, start ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(program, command):
    assert program(command, "--help", database=False) == 0
    assert len(program.out.splitlines()) > 5
    assert f"compsketch {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


STAGES = [("train", stage) for stage in ("objects", "spatial", "projection", "all", "semir", "calibration")]
SETS = ("openimages", "coco", "voc", "quickdraw", "tuberlin", "sketchy", "sets", "queries")
GROUPS = [*STAGES, *(("data", name) for name in SETS)]


@pytest.mark.parametrize("command", [*((name,) for name in COMMANDS if name not in ("train", "data")), *GROUPS])
def test_every_command_has_json(program, command):
    program(*command, "--help", database=False)
    assert "--json" in program.out


def test_the_list_above_is_complete(program):
    assert program("--help", database=False) == 0
    listed = program.out.split("Commands:")[1]
    assert sorted(re.findall(r"^  (\w+)", listed, re.MULTILINE)) == sorted(COMMANDS)


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


# --- what the commands do ---


def test_ingest_search_info_delete(program, photos, sketch):
    done = program.json("ingest", photos)
    assert set(done) == {"indexed", "skipped", "failed", "seconds", "images_per_second"}
    assert (done["indexed"], done["skipped"], done["failed"]) == (4, 0, [])
    assert program.json("ingest", photos)["skipped"] == 4

    found = program.json("search", sketch)
    assert set(found) == {"hits", "best_confidence", "seconds", "encoder", "collection"}
    assert set(found["seconds"]) == {"encode", "search", "rerank"}
    assert [set(hit) for hit in found["hits"]] == [{"rank", "id", "source", "score", "distance", "confidence"}] * 4
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    best = found["hits"][0]
    assert best["source"] == str(photos / "left.png")
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert (found["collection"], found["encoder"]["name"]) == ("photos", "toy")

    facts = program.json("info")
    assert set(facts) == {"collection", "count", "dim", "encoder", "index", "server"}
    assert set(facts["index"]) == {"type", "params", "state", "reason"}
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


def test_search_takes_limit_filter_threshold_and_words(program, photos, sketch):
    program("ingest", photos)
    assert len(program.json("search", sketch, "--limit", 2)["hits"]) == 2
    assert program.json("search", sketch, "--filter", "width > 64")["hits"] == []
    above = program.json("search", sketch, "--threshold", 0.9, "--words")["hits"]
    assert [Path(hit["source"]).stem for hit in above] == ["left"]


def test_a_sheet_shows_the_hits_even_where_a_photo_is_gone(program, photos, sketch, tmp_path):
    program("ingest", photos)
    (photos / "left.png").unlink()
    program.json("search", sketch, "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 300


@pytest.fixture
def judging(program, photos, monkeypatch, judging_encoder):
    """The same program with an encoder that explains and is calibrated, and four photos in the collection."""
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda spec=None, *, runtime=None: judging_encoder)
    assert program("ingest", photos) == 0
    return program


def test_search_explains_each_hit(judging, sketch, tmp_path):
    plain, explained = tmp_path / "plain.png", tmp_path / "explained.png"
    judging.json("search", sketch, "--sheet", plain)
    found = judging.json("search", sketch, "--explain", "--sheet", explained)
    for hit in found["hits"]:
        parts = hit["explanation"]
        cells = sum(np.sum(part["cells"]) for part in (*parts["objects"], parts["canvas"]))
        assert cells + parts["bias"] == pytest.approx(hit["score"], abs=1e-5)
    with Image.open(plain) as before, Image.open(explained) as after:
        assert after.height > before.height  # the legend
    assert judging("search", sketch, "--explain", "--limit", 1) == 0
    assert judging.out.splitlines()[0].split() == ["#", "score", "likely", "0", "cup", "source"]
    assert "+1.000" in judging.out.splitlines()[1]


def test_search_says_that_there_is_no_good_match(judging, sketch):
    assert len(judging.json("search", sketch, "--min-confidence", 0.5)["hits"]) == 1
    assert judging("search", sketch, "--min-confidence", 0.95) == 0
    assert judging.out == "no good match: the best photo is 88% likely to be relevant, less than 95%\n"
    nothing = judging.json("search", sketch, "--min-confidence", 0.95)
    assert (nothing["hits"], nothing["best_confidence"]) == ([], pytest.approx(0.88, abs=0.01))


def test_what_an_encoder_cannot_say_is_refused(program, photos, sketch):
    program("ingest", photos)
    for option, said in ((["--explain"], "cannot explain"), (["--min-confidence", 0.5], "is not calibrated")):
        assert said in program.json("search", sketch, *option, status=2)["error"]


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


def test_render_draws_objects_boxes_and_rasters(program, sketch, tmp_path):
    out = tmp_path / "view.png"
    drawn = program.json("render", sketch, "--out", out, database=False)
    assert drawn == {
        "image": str(out),
        "width": 320,
        "height": 320,
        "objects": [{"label": "cup", "bbox": [10, 10, 150, 310], "weight": 1.0, "strokes": 1}],
    }
    with Image.open(out) as view:
        assert view.mode == "RGB"


def test_render_draws_at_the_size_that_a_bundle_says(program, sketch, tmp_path):
    Bundle({"name": "small", "objects": {"sketch_size": 16, "line_width": 1.0}}, {}).save(tmp_path / "small")
    for name, encoder in {"a": (), "b": ("--encoder", tmp_path / "small")}.items():
        program("render", sketch, "--out", tmp_path / f"{name}.png", *encoder, database=False)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    refused(program, "no bundle 'magic'", "render", sketch, "--encoder", "magic", database=False)


def test_evaluate_scores_each_method(program, photos, tmp_path):
    names = sorted(path.name for path in photos.iterdir())
    annotations = tmp_path / "annotations.json"
    images = [{"file": name, "width": 64, "height": 64} for name in names]
    boxes = [{"image": name, "class": "cup", "bbox": [4 * i, 4 * i, 40, 40 + 4 * i]} for i, name in enumerate(names)]
    annotations.write_text(json.dumps({"images": images, "boxes": boxes}))
    drawings = tmp_path / "cups.ndjson"
    drawing = {"word": "cup", "drawing": [[[0, 255, 255, 0], [0, 0, 255, 255]]]}
    drawings.write_text("".join(json.dumps({**drawing, "key_id": str(key)}) + "\n" for key in range(5)))
    inputs = ("--annotations", annotations, "--images", photos, "--sketches", drawings, "--methods", "ssbir,random")
    scores = program.json("evaluate", *inputs, database=False)
    assert {"methods", "queries", "gallery", "tau", "seed"} <= set(scores)
    assert list(scores["methods"]) == ["ssbir", "random"]
    assert {"mAP", "NDCG", "P@20", "P@200", "intervals", "by_objects", "by_class"} < set(scores["methods"]["ssbir"])
    assert {(pair["a"], pair["b"]) for pair in scores["pairs"]} == {("ssbir", "random")}
    assert (scores["gallery"], scores["tau"]) == (4, 0.5)
    assert program("evaluate", *inputs, database=False) == 0
    assert program.out.split()[:4] == ["method", "mAP", "NDCG", "P@20"]
    assert "ssbir - random" in program.out
    assert "mAP by class" not in program.out
    more = ("--taus", ".4, .8", "--by-class", "--per-query", tmp_path / "each.jsonl")
    extra = ("--extra-gallery", annotations, "--extra-images", photos)
    assert program("evaluate", *inputs, *more, *extra, database=False) == 0
    firsts = [line.split()[0] for line in program.out.splitlines() if line]
    assert [first for first in firsts if first in ("0.3", "0.4", "0.5", "0.8", "cup")] == ["0.4", "0.5", "0.8", "cup"]
    assert "4 queries, 0 of them without a relevant photo and left out; 8 photos, tau 0.5, seed 0" in program.out
    assert len((tmp_path / "each.jsonl").read_text().splitlines()) == 4 * 3 * 2


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


def test_an_interrupt_says_what_was_done(program, photos, toy_encoder, monkeypatch):
    encode = toy_encoder.encode_images

    def interrupted(images):
        if toy_encoder.batches:
            raise KeyboardInterrupt
        return encode(images)

    monkeypatch.setattr(toy_encoder, "encode_images", interrupted)
    done = program.json("ingest", photos, "--batch-size", 2, status=130)
    assert re.search(r"interrupted after .* run the same ingest again", done["error"])
    assert program.err == f"error: {done['error']}\n"


def test_a_broken_encoder_is_a_failure_of_the_run(program, photos, toy_encoder, monkeypatch):
    def broken(images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(toy_encoder, "encode_images", broken)
    assert "out of memory" in program.json("ingest", photos, status=1)["error"]


# --- bad input: one line that names the input, status 2 ---


def refused(program, words, *arguments, **options):
    assert program(*arguments, **options) == 2
    assert program.err.startswith("error: ")
    assert program.err.count("\n") == 1
    assert "Traceback" not in program.err
    assert re.search(words, program.err), program.err
    assert program.out == ""
    assert program.json(*arguments, **options, status=2) == {"error": program.err[len("error: ") : -1]}


HOSTILE = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g><text>&a;</text></g></svg>"""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.json", '{"width": 9, "height": 9, "objects": []}', r"empty\.json.*empty"),
        ("void.json", "", r"void\.json"),
        ("hostile.svg", HOSTILE, r"hostile\.svg"),
        ("Übel.json", '{"width": 9, "height": 9, "objects": [{"strokes": [[[NaN], [1]]]}]}', r"Übel\.json"),
        ("no ink.json", '{"width": 9, "height": 9, "objects": [{"strokes": []}]}', r"no ink\.json.*no ink"),
        ("outside.json", '{"width": 9, "height": 9, "objects": [{"strokes": [[[50], [50]]]}]}', "outside the canvas"),
    ],
)
@pytest.mark.parametrize("command", ["search", "render"])
def test_bad_sketches(program, tmp_path, command, name, content, words):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    refused(program, words, command, path, database=command == "search")


@pytest.mark.parametrize("command", ["search", "render"])
def test_missing_sketch(program, tmp_path, command):
    refused(program, r"nowhere\.json", command, tmp_path / "nowhere.json", database=command == "search")


def test_bad_sources(program, tmp_path):
    refused(program, "nowhere", "ingest", tmp_path / "nowhere")
    (tmp_path / "leer").mkdir()
    refused(program, "leer.*no photos", "ingest", tmp_path / "leer")
    assert not (tmp_path / "photos.db").exists()  # refused before anything is made


def test_bad_options(program, photos, sketch, tmp_path):
    program("ingest", photos)
    refused(program, "limit", "search", sketch, "--limit", 0)
    refused(program, "threshold", "search", sketch, "--threshold", 7)
    refused(program, "filter", "search", sketch, "--filter", "width >")
    refused(program, r"sheet\.bmp", "search", sketch, "--sheet", tmp_path / "sheet.bmp")
    refused(program, "cannot be written", "search", sketch, "--sheet", tmp_path / "nowhere" / "sheet.png")
    refused(program, "what to delete", "delete")
    refused(program, "--yes", "delete", "--all")
    refused(program, "'no name'", "info", "--collection", "no name")
    assert program("search", sketch, "--no-such-option") == 2
    assert program("search") == 2
    assert "sketch" in program.json("search", status=2)["error"].lower()
    assert "--limit" in program.json("search", sketch, "--limit", "many", status=2)["error"]


def test_no_such_collection(program, photos, sketch, tmp_path):
    refused(program, r"photos\.db", "info")
    program("ingest", photos)
    refused(program, "'others' does not exist.*photos", "search", sketch, "--collection", "others")
    other = ("--uri", tmp_path / "photos.txt")
    refused(program, r"photos\.txt", "info", *other, database=False)


def test_a_collection_of_another_encoder(program, photos, sketch, toy_encoder):
    program("ingest", photos)
    toy_encoder.fingerprint = "toy-ffffffffffffffff"
    words = "'photos' was made by encoder 'toy'.*toy-0000000000000000.*toy-ffffffffffffffff"
    refused(program, words, "search", sketch)
    refused(program, words, "ingest", photos)


def test_a_lite_file_that_another_process_has_open(program, photos, tmp_path):
    program("ingest", photos)  # this process keeps the lock until it ends
    code = "from compsketch_milvus.cli import main; main()"
    command = [sys.executable, "-c", code, "info", "--uri", str(tmp_path / "photos.db"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*photos\.db: another process has this Milvus Lite file open.*\n", done.stderr)
    assert "another process" in json.loads(done.stdout)["error"]


def test_evaluate_refuses_what_is_missing(program, tmp_path):
    missing = ("--annotations", tmp_path / "a.json", "--images", tmp_path, "--sketches", tmp_path / "q.ndjson")
    refused(program, r"q\.ndjson|a\.json", "evaluate", *missing, "--methods", "random", database=False)
    refused(program, "'magic'.*random", "evaluate", *missing, "--methods", "magic", database=False)
    refused(program, "'semir' needs an encoder.*--semir", "evaluate", *missing, "--methods", "semir", database=False)
    refused(program, "--taus: 'half' is no number", "evaluate", *missing, "--taus", "half", database=False)
    refused(program, "1 --extra-gallery and 0", "evaluate", *missing, "--extra-gallery", tmp_path, database=False)
    random = (*missing, "--methods", "random")
    refused(program, r"scores by query.*\.parquet", "evaluate", *random, "--per-query", "x.csv", database=False)
    refused(program, "no Milvus answers", "evaluate", *random, "--index-uri", "http://127.0.0.1:9", database=False)


def test_train_refuses_a_folder_without_data(program, tmp_path):
    refused(program, "has no", "train", "all", "--data", tmp_path, "--out", tmp_path / "out", database=False)


def test_train_names_the_stage_that_has_to_run_before(program, tmp_path):
    arguments = ("--data", tmp_path, "--out", tmp_path)
    refused(program, r"objects\.pt.*compsketch train objects", "train", "spatial", *arguments, database=False)
    (tmp_path / "objects.pt").touch()
    refused(program, r"spatial\.pt.*compsketch train spatial", "train", "projection", *arguments, database=False)


@pytest.mark.parametrize("ours", [True, False])
def test_a_missing_package_is_named_but_a_broken_installation_is_not_hidden(program, tmp_path, monkeypatch, ours):
    def missing(*_, **work):
        raise ModuleNotFoundError(name="encoders.training" if ours else "faiss")

    monkeypatch.setattr("compsketch_milvus.cli_train._run", missing)
    if ours:
        with pytest.raises(ModuleNotFoundError):
            run(["train", "all", "--data", str(tmp_path)])
    else:
        refused(program, r"needs faiss.*pip install", "train", "all", "--data", tmp_path, database=False)
