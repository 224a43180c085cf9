"""Tables of a small study: what is in them, what is kept from one run to the next, and one that fails."""

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from encoders.errors import CompsketchError
from encoders.evaluation.ranking import rank
from encoders.evaluation.tables import (
    NAMES,
    ceiling,
    check,
    code_length,
    ladder,
    losses,
    merge,
    methods,
    queries,
    sheets,
    tau,
)
from encoders.evaluation.tables.figures import scored
from encoders.evaluation.tables.making import Made, kept, make
from encoders.evaluation.tables.study import Budget
from encoders.training.spatial import Weights

SMALL = Budget(epochs=1, views=96, image_size=64, threads=1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cell(table, row, column):
    return table.rows[row][table.columns.index(column)]


def test_queries_among_all_photos_are_those_among_the_held_out_ones(study):
    few, many = study.unseen, study.whole
    assert many.paths[: len(few.paths)] == few.paths
    assert [query.sketch for query in many.queries] == [query.sketch for query in few.queries]
    assert len(many.paths) == len(set(many.paths)) == 230 + 90 + 12 + 3


def test_photos_are_embedded_once(study):
    first = study.embedded(study.unseen.paths)
    assert np.allclose(first, study.encoder.embed_images(study.unseen.paths), atol=1e-5)
    again = replace(study, encoder=None)
    assert np.array_equal(again.embedded(study.unseen.paths), first)


def test_methods_and_tau_say_what_the_evaluation_says(study):
    table, found = methods.table(study), study.comparison["methods"]
    names = [row[0] for row in table.rows]
    assert names == ["ssbir", "words", "ssbir+words", "msbir", "random"]  # no SemIR, too few photos for a quantiser
    assert cell(table, 0, "mAP").value == found["ssbir"]["mAP"]
    assert [cell(table, 0, "mAP").low, cell(table, 0, "mAP").high] == found["ssbir"]["intervals"]["mAP"]
    sweep = tau.table(study)
    assert cell(sweep, 0, "0.5") == cell(table, 0, "mAP")
    assert cell(sweep, -1, "0.1") >= cell(sweep, -1, "0.9")
    assert len(methods.pairs(study).rows) == 2 * 10
    assert [row[0] for row in queries.table(study).rows][:3] == ["strokes only", "label only", "strokes and label"]


def test_weights_are_told_beside_what_is_without_them(study):
    table = queries.weights(study)
    assert {row[0] for row in table.rows} == {
        "b not wanted, over its own box",
        "b not wanted, over the whole canvas",
        "two objects, the first with weight 2",
    }
    for row in table.rows:
        assert row[4].value == pytest.approx(row[3] - row[2])


def test_eq_1_and_the_merge_are_scored_on_the_same_queries(study):
    table = merge.table(study)
    ours, theirs, gain = (cell(table, row, "mAP").value for row in range(3))
    assert gain == pytest.approx(ours - theirs)
    assert ours == pytest.approx(study.comparison["methods"]["ssbir"]["mAP"])
    numbers = [cell(table, row, "queries") for row in range(2, len(table.rows))]
    assert numbers[0] == sum(numbers[1:])


def test_the_ceiling_starts_from_what_the_search_gives(study):
    table = ceiling.table(study)
    figures = {(row[0], row[1]): row[3].value for row in table.rows}
    flat = unit(study.queries), unit(study.embedded(study.unseen.paths))
    assert figures["search", "strokes"] == pytest.approx(scored(study.unseen, rank(*flat, 200), 0.5)[:, 0].mean())
    stored = figures["search", "strokes, projected to d = 16"]
    assert stored == pytest.approx(study.comparison["methods"]["ssbir"]["mAP"])
    assert ("search", "the photo's own crops") in figures


def test_codes_are_compared_with_exact_search(study):
    table = code_length.table(study, dims=(16, 32), dim=32)
    searches = [(cell(table, row, "search"), cell(table, row, "d")) for row in range(4)]
    assert searches == [("exact", 49 * 8), ("exact", 16), ("exact", 32), ("IVF_PQ", 32)]
    assert cell(table, 0, "recall@200").value == cell(table, 0, "mAP kept").value == 1
    for row in range(3, len(table.rows)):
        assert 0 < cell(table, row, "recall@200").value <= 1
        assert cell(table, row, "mAP, re-ranked").value == pytest.approx(
            cell(table, row, "kept, re-ranked").value * exact_map(table, row)
        )


def exact_map(table, row):
    """mAP of exact search in the dimensions that a code has."""
    return next(cell(table, i, "mAP").value for i in range(1, 3) if cell(table, i, "d") == cell(table, row, "d"))


def test_sheets_show_true_boxes_and_relevance(study):
    exact = {query.sketch: found for query, found in zip(study.unseen.queries, study.unseen.relevant, strict=True)}
    drawn = []
    table = sheets.table(study, lambda title, shown, path: drawn.append((title, shown, path)), top=3, each=2)
    assert [path.name for _, _, path in drawn] == ["1-objects.jpg", "2-objects.jpg", "3-objects.jpg"]
    for count, (title, shown, _) in enumerate(drawn, start=1):
        assert title == f"{count} object{'s' if count > 1 else ''}"
        for answered in shown:
            assert len(answered.sketch.objects) == count
            assert len(answered.answers) == 3
            for answer in answered.answers:
                assert len(answer.boxes) == len(answer.objects)
                at = study.unseen.paths.index(answer.photo)
                assert answer.relevance == pytest.approx(exact[answered.sketch].of(np.array([at]))[0], abs=0.1)
    assert len(table.rows) == sum(len(shown) for _, shown, _ in drawn)


def test_a_row_that_trains_is_trained_once(study):
    one = {"the paper's": Weights(0.0, 0.8, 0.15, 0.05), "without eq. 7": Weights(0.0, 0.8, 0.15, 0.0)}
    table = losses.table(study, SMALL, one)
    assert [row[0] for row in table.rows] == list(one)
    assert cell(table, 0, "p") is None
    assert cell(table, 1, "mAP - first").value == pytest.approx(
        cell(table, 1, "mAP").value - cell(table, 0, "mAP").value
    )
    times = {path: path.stat().st_mtime_ns for path in study.work.glob("trials/*/spatial.pt")}
    assert len(times) == 2
    assert losses.table(study, SMALL, one) == table
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(list(study.work.glob("trials/views-held-out-*.npy"))) == 1  # both rows saw the same


def test_a_rung_of_the_ladder_is_compared_with_the_first_of_its_stage(study):
    table = ladder.table(study, SMALL, most=2)
    assert [row[0] for row in table.rows] == [ladder.STAGE_1] * 2 + [ladder.STAGE_2] * 2
    assert [row[1] for row in table.rows[::2]] == [ladder.FIRST] * 2
    for first in (0, 2):
        assert cell(table, first, "p") is None
        assert cell(table, first + 1, "mAP - first").value == pytest.approx(
            cell(table, first + 1, "mAP").value - cell(table, first, "mAP").value
        )
    assert cell(table, 0, "read").high <= 1
    assert cell(table, 2, "read") is None


def test_each_rung_changes_one_part_of_the_first(study):
    def changed(one, other, name=""):
        if is_dataclass(one):
            return [
                found
                for part in fields(one)
                for found in changed(getattr(one, part.name), getattr(other, part.name), f"{name}.{part.name}")
            ]
        if isinstance(one, tuple) and len(one) == len(other):
            return [found for pair in zip(one, other, strict=True) for found in changed(*pair, name)]
        return [] if one == other else [name]

    rows = {**ladder.object_rows(study, SMALL), **ladder.spatial_rows(study, SMALL)}
    assert len(rows) == 12
    for stage in (ladder.object_rows, ladder.spatial_rows):
        first, *others = stage(study, SMALL).values()
        parts = [{name.split(".")[-1] for name in changed(first, other)} for other in others]
        assert all(parts), "a rung that is the first again"
        assert len({frozenset(part) for part in parts}) == len(parts)


def test_what_was_made_of_the_same_is_kept(study):
    made = []

    def fresh():
        made.append(1)
        return tau.table(study)

    first, again = (kept("tau", study, None, tau.__file__, fresh) for _ in range(2))
    assert (first[0], first[1], again[1], len(made)) == (again[0], False, True, 1)
    assert not kept("tau", replace(study, seed=5), None, tau.__file__, fresh)[1]
    assert not kept("tau", study, SMALL, tau.__file__, fresh)[1]
    assert not kept("tau", study, None, methods.__file__, fresh)[1]  # another code


def test_a_table_that_fails_stops_no_other(study, tmp_path):
    def refuse(title, shown, path):
        raise CompsketchError("no ink left")

    def break_down(title, shown, path):
        raise ZeroDivisionError("a fault")

    made = list(make(["tau", "sheets"], study, SMALL, refuse, tmp_path))
    assert [(one.name, one.error) for one in made] == [("tau", None), ("sheets", "no ink left")]
    assert json.loads((tmp_path / "tau.json").read_text())["name"] == "tau"
    assert not (tmp_path / "sheets.json").exists()
    (broken,) = make(["sheets"], study, SMALL, break_down, tmp_path)
    assert isinstance(broken, Made)
    assert broken.error == "ZeroDivisionError: a fault"


def test_tables_are_chosen_by_name():
    assert check([]) == NAMES
    assert check(["tau", "methods"]) == ("methods", "tau")
    with pytest.raises(CompsketchError, match="no table 'mehtods'; choose from methods, pairs, tau"):
        check(["mehtods"])
