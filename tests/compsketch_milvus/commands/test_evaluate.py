"""`compsketch evaluate`: its tables and figures, and the one line for what is missing."""

from __future__ import annotations

import json


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


def test_evaluate_refuses_what_is_missing(program, tmp_path):
    missing = ("--annotations", tmp_path / "a.json", "--images", tmp_path, "--sketches", tmp_path / "q.ndjson")
    program.refused(r"q\.ndjson|a\.json", "evaluate", *missing, "--methods", "random", database=False)
    program.refused("'magic'.*random", "evaluate", *missing, "--methods", "magic", database=False)
    program.refused("'semir' needs an encoder.*--semir", "evaluate", *missing, "--methods", "semir", database=False)
    program.refused("--taus: 'half' is no number", "evaluate", *missing, "--taus", "half", database=False)
    program.refused("1 --extra-gallery and 0", "evaluate", *missing, "--extra-gallery", tmp_path, database=False)
    random = (*missing, "--methods", "random")
    program.refused(r"scores by query.*\.parquet", "evaluate", *random, "--per-query", "x.csv", database=False)
    program.refused("no Milvus answers", "evaluate", *random, "--index-uri", "http://127.0.0.1:9", database=False)
