"""The report's files, the figure, the table of all scores, and who is left out."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.histograms import CHANCE, COLOURS, draw_png, draw_svg
from compsketch_milvus.study.report import COLUMNS, export, report, write

COUNTS = {
    "1": {"ssbir": [1, 1, 2, 4, 2], "semir": [2, 2, 2, 2, 2], "random": [10, 0, 0, 0, 0]},
    "2": {"ssbir": [0, 0, 0, 0, 0], "semir": [0, 10, 0, 0, 0], "random": [9, 1, 0, 0, 0]},
}


@pytest.fixture
def rated(plan, store, rate_all, knows):
    """Three raters who know the truth, and one who always says 3."""
    rate_all(store, lambda task: [3] * len(task.photos))
    for _ in range(3):
        rate_all(store, knows)
    return store


def test_who_fails_the_checks_is_left_out_and_that_is_said(plan, rated, tmp_path):
    figures = report(plan, rated)
    assert figures["counts"]["raters"] == 4
    assert figures["counts"]["raters_left_out"] == 1
    assert [one["marked"] for one in figures["raters"]] == [True, False, False, False]
    assert figures["alpha"]["all"] == 1.0
    assert figures["methods"]["all"]["random"]["P@3"]["value"] == 0
    everybody = report(plan, rated, with_marked=True)
    assert everybody["counts"]["raters_left_out"] == 0
    assert everybody["alpha"]["all"] < 1
    assert everybody["counts"]["ratings"] > figures["counts"]["ratings"]
    text = write(figures, tmp_path / "report")[0].read_text()
    assert "4 raters, 1 of whom are left out" in text
    assert "9 of 9 tasks are complete" in text


def test_who_came_and_rated_nothing_is_no_rater(plan, rated):
    rated.join()
    figures = report(plan, rated)
    assert figures["counts"]["raters"] == 4
    assert [one["tasks"] for one in figures["raters"]][4:] == [0]


def test_the_files(plan, rated, tmp_path):
    figures = report(plan, rated)
    files = write(figures, tmp_path / "deep" / "report")
    assert [file.name for file in files] == ["report.md", "report.json", "fig4.svg", "fig4.png"]
    assert json.loads(files[1].read_text()) == json.loads(json.dumps(figures))
    text = files[0].read_text()
    for words in ("## Table 2", "| method | P@3 | mAP | NDCG |", "## Fig. 4", "## Paired t-tests", "## Agreement"):
        assert words in text
    assert "Krippendorff" in text
    assert rated.raters()[0] not in text + files[1].read_text()  # a rater's cookie is a secret
    with Image.open(files[3]) as picture:
        assert picture.width > 1000


def test_nothing_to_report_is_said_in_one_line(plan, store, rate_all):
    with pytest.raises(CompsketchError, match=r"no rating counts yet: 0 raters.*study serve"):
        report(plan, store)
    rate_all(store, lambda task: [3] * len(task.photos))
    with pytest.raises(CompsketchError, match=r"1 raters, 1 of them left out"):
        report(plan, store)
    assert report(plan, store, with_marked=True)["counts"]["ratings"] > 0


def test_a_study_under_way_has_a_report(plan, store, knows):
    rater = store.join()
    task = store.work(rater).tasks[0]
    while plan.by_id[task.id].rank is None:
        task = store.rate(rater, task.id, knows(task), 1).tasks[0]
    store.rate(rater, task.id, knows(task), 1)
    figures = report(plan, store)
    assert figures["counts"]["queries_answered"] == 0
    assert figures["methods"]["all"]["ssbir"]["mAP"]["value"] is None
    assert figures["alpha"]["all"] is None
    assert figures["pairs"] == []


def test_every_score_is_a_line_with_the_methods_that_found_its_photo(plan, rated, tmp_path):
    path = tmp_path / "ratings.csv"
    count = export(plan, rated, path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == count == sum(len(rating.scores) for rating in rated.ratings())
    assert tuple(rows[0]) == COLUMNS
    assert {row["rater"] for row in rows} == {"1", "2", "3", "4"}
    assert {row["marked"] for row in rows if row["rater"] == "1"} == {"1"}
    first = [row for row in rows if row["rank"] == "1"]
    assert {row["methods"] for row in first} == {"ssbir semir", "random"}  # they agree there
    checks = [row for row in rows if row["expected"]]
    assert {row["expected"] for row in checks} == {"good", "bad"}
    assert {row["methods"] for row in checks} == {""}


def test_bars_are_as_high_as_the_parts_they_stand_for():
    svg = ElementTree.fromstring(draw_svg(COUNTS))
    space = "{http://www.w3.org/2000/svg}"
    bars = [box for box in svg.iter(f"{space}rect") if box.get("fill") == COLOURS[0]][1:]  # the first is the legend's
    heights = [float(bar.get("height")) for bar in bars]
    assert len(heights) == 10
    assert heights[:5] == pytest.approx([heights[0] * times for times in (1, 1, 2, 4, 2)])
    assert heights[5:] == [0] * 5  # of no rating no bar, and no division by it
    chance = [box for box in svg.iter(f"{space}rect") if box.get("fill") == CHANCE][1]
    assert float(chance.get("height")) == pytest.approx(10 * heights[0], abs=0.05)
    words = [text.text for text in svg.iter(f"{space}text")]
    assert {"1 object", "2 objects", "ssbir", "semir", "random", "100%"} <= set(words)


def test_the_png_is_the_same_picture():
    picture, svg = draw_png(COUNTS), ElementTree.fromstring(draw_svg(COUNTS))
    assert picture.size == (2 * int(svg.get("width")), 2 * int(svg.get("height")))
    for box in svg.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, width, height = (float(box.get(name) or 0) for name in ("x", "y", "width", "height"))
        if width > 4 and height > 4:
            middle = (round(2 * x + width), round(2 * y + height))
            if box.get("fill") in (CHANCE, *COLOURS):
                assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel(middle)) == box.get("fill")


def test_names_of_methods_cannot_break_the_svg():
    counts = {"1": {'<b>&"': [1, 0, 0, 0, 0], "random": [1, 0, 0, 0, 0]}}
    assert any(text.text == '<b>&"' for text in ElementTree.fromstring(draw_svg(counts)).iter())
