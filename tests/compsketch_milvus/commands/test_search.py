"""`compsketch search`: hits, sheets and explanations, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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


def test_parameters_stand_for_names_in_a_filter(program, photos, sketch):
    program("ingest", photos)
    asked = ("search", sketch, "--filter", "width >= {least} and source like {where}")
    where = ("--param", f'where="%{Path("left.png")}"')
    found = program.json(*asked, "--param", "least=64", *where)["hits"]
    assert [Path(hit["source"]).name for hit in found] == ["left.png"]
    assert program.json(*asked, "--param", "least=65", *where)["hits"] == []
    assert "'where' has no value" in program.json(*asked, "--param", "least=64", status=2)["error"]
    gone = program.json("delete", "--filter", "source like {where}", *where)
    assert gone["deleted"] == 1


@pytest.mark.parametrize(
    ("param", "said"),
    [
        (["least"], "it has to be NAME=JSON, such as 'least=640'"),
        (["=3"], "it has to be NAME=JSON"),
        (["tag=sea"], r'a text in double quotes: --param "tag=\"sea\""'),
        (["a=1", "a=2"], "'a' is given twice; for several values give a list"),
    ],
)
def test_parameters_that_are_none(program, sketch, param, said):
    options = [part for one in param for part in ("--param", one)]
    assert said in program.json("search", sketch, *options, status=2)["error"]


def test_search_groups_hides_and_takes_a_level(program, photos, sketch):
    program("ingest", photos)
    every = program.json("search", sketch)["hits"]
    alone = program.json("search", sketch, "--group-by", "width", "--consistency", "strong", "--rerank", 0)
    assert [hit["id"] for hit in alone["hits"]] == [every[0]["id"]]
    assert (alone["short"], every[0]["fields"]["width"]) == (None, 64)
    few = program.json("search", sketch, "--hide-duplicates", 0.3)["hits"]
    assert 0 < len(few) < len(every)
    assert few[0]["duplicates"]
    assert program("search", sketch, "--hide-duplicates", 0.3) == 0
    assert "like it" in program.out.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--consistency", "weak"], "consistency 'Weak': there are Bounded, Session, Strong, Eventually"),
        (["--hide-duplicates", "1.5"], "hide_duplicates 1.5"),
        (["--rerank", "-1"], "rerank -1"),
        (["--group-size", "2"], "say by which field, with group_by"),
    ],
)
def test_terms_that_do_not_fit_are_refused_before_an_encoder_is_loaded(program, sketch, monkeypatch, options, said):
    monkeypatch.setattr("compsketch_milvus.encoder.connect", lambda *_, **__: pytest.fail("loaded"))
    assert said in program.json("search", sketch, *options, status=2)["error"]


def test_photos_are_kept_apart_by_a_field_of_the_manifest(program, photos, sketch, tmp_path):
    names = sorted(path.name for path in photos.iterdir() if path.suffix == ".png")
    lines = [f"{photos / name},{'acme' if number else ''}" for number, name in enumerate(names)]
    (tmp_path / "list.csv").write_text("\n".join(["path,tenant", *lines]))
    done = program.json("ingest", tmp_path / "list.csv", "--partition-key", "tenant", status=1)
    assert [Path(failure["source"]).name for failure in done["failed"]] == names[:1]
    assert "tenant" in done["failed"][0]["reason"]
    assert done["indexed"] == len(names) - 1
    assert program.json("info")["partition_key"] == "tenant"
    found = program.json("search", sketch, "--filter", "tenant == {who}", "--param", 'who="acme"')["hits"]
    assert {Path(hit["source"]).name for hit in found} == set(names[1:])
    assert program.json("search", sketch, "--filter", 'tenant == "other"')["hits"] == []
