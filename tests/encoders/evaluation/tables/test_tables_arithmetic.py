"""What tables compute beside the evaluation itself, each against a naive reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from encoders.calibration import Calibration, reliability
from encoders.evaluation.metrics import average_precision
from encoders.evaluation.quantised import IvfPq
from encoders.evaluation.tables.ceiling import hits
from encoders.evaluation.tables.code_length import Code, codes, recall
from encoders.evaluation.tables.figures import difference, mean, ratio
from encoders.evaluation.tables.merge import cells, merged
from encoders.evaluation.tables.reliability import lines, share

corners = st.floats(0, 1).flatmap(lambda low: st.tuples(st.just(low), st.floats(low, 1)))


@settings(deadline=None)
@given(corners, corners)
def test_a_box_meets_the_cells_that_share_area_with_it(across, down):
    (x0, x1), (y0, y1) = across, down
    found = cells((x0, y0, x1, y1))
    for row in range(7):
        for column in range(7):
            common = min(x1 * 7, column + 1) - max(x0 * 7, column), min(y1 * 7, row + 1) - max(y0 * 7, row)
            if min(common) > 1e-9:
                assert found[row, column]
            if min(common) < 0:  # a box without area meets the cell that it lies in
                assert not found[row, column]
    assert found.any()


def test_merged_is_each_cells_mean_over_the_objects_that_meet_it():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 2, 7, 7))
    boxes = np.array([[0, 0, 0.5, 0.5], [0.3, 0.3, 0.9, 0.6], [0.4, 0.0, 0.6, 1.0]])
    found = merged(maps, boxes)
    for row in range(7):
        for column in range(7):
            here = [
                maps[i, :, row, column]
                for i, (x0, y0, x1, y1) in enumerate(boxes)
                if x0 * 7 < column + 1 and x1 * 7 > column and y0 * 7 < row + 1 and y1 * 7 > row
            ]
            expected = np.mean(here, axis=0) if here else np.zeros(2)
            assert found[:, row, column] == pytest.approx(expected)


def test_one_object_over_the_whole_canvas_is_its_own_map():
    maps = np.random.default_rng(1).normal(size=(1, 4, 7, 7))
    assert np.array_equal(merged(maps, np.array([[0.0, 0, 1, 1]])), maps[0])


def test_recall_is_the_part_of_the_exact_best_that_is_among_the_found():
    exact, found = np.array([[0, 1, 2, 3], [4, 5, 6, 7]]), np.array([[1, 9, 0, 2], [8, 9, -1, -1]])
    assert recall(found, exact, 2).tolist() == [0.5, 0]
    assert recall(found, exact, 4).tolist() == [0.75, 0]
    assert recall(exact, exact, 200).tolist() == [1, 1]


def test_codes_that_the_data_cannot_fill_are_left_out():
    every = codes(8000, (64, 256), 256, seed=3)
    assert {code.index.m for code in every} == {8, 16, 32, 64}
    assert {code.dim for code in every} == {64, 256}
    assert {code.index.nlist for code in every} == {128, 1600}
    assert len(set(every)) == len(every)
    assert Code(256, IvfPq(nlist=1600, m=16, nprobe=1600, seed=3)) in every
    assert {code.index.nlist for code in codes(1000, (64, 256), 256, seed=0)} == {16}
    assert {code.index.m for code in codes(1000, (32,), 32, seed=0)} == {8, 16, 32}
    assert codes(200, (64, 256), 256, seed=0) == []


def test_a_ratio_of_means_has_both_means_of_the_same_queries():
    rng = np.random.default_rng(2)
    whole = rng.uniform(0, 1, 50)
    same = ratio(whole, whole, seed=0)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    kept = ratio(whole * rng.uniform(0.8, 1, 50), whole, seed=0)
    assert 0.8 < kept.low < kept.value < kept.high < 1
    assert ratio(np.zeros(3), np.zeros(3), seed=0).value == 0


def test_means_and_differences_have_intervals_around_them():
    a, b = np.random.default_rng(3).uniform(0, 1, (2, 80))
    figure = mean(a, seed=0)
    assert figure.value == pytest.approx(a.mean())
    assert figure.low < figure.value < figure.high
    assert mean(a[:1], seed=0).low is None
    gain, p, effect = difference(a + 0.3, b, seed=0)
    assert gain.value == pytest.approx((a + 0.3 - b).mean())
    assert p < 0.001 < effect


def test_crops_ranked_by_sketches_are_scored_as_scikit_learn_scores_them():
    rng = np.random.default_rng(4)
    sketches, crops = rng.normal(size=(6, 5)), rng.normal(size=(40, 5))
    words, classes = np.array(list("abcabc")), np.array(list("abcd") * 10)
    ranked = hits(sketches, words, crops, classes)
    found = average_precision(ranked, ranked, k=40)
    expected = [
        average_precision_score(classes == word, crops @ sketch) for sketch, word in zip(sketches, words, strict=True)
    ]
    assert found == pytest.approx(expected)


def test_a_share_has_wilsons_interval():
    figure = share(8, 10)
    z, n, p = 1.959964, 10, 0.8
    middle, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * (p * 0.2 / n + z**2 / (4 * n**2)) ** 0.5
    assert (figure.low, figure.high) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_a_curve_has_a_line_for_all_pairs_and_one_for_each_bin():
    curve = reliability(np.array([0.1, 0.1, 0.1, 0.9]), np.array([False, False, True, True]), bins=2)
    whole, low, high = lines(Calibration({}, reliability={"strokes/1": {"all": curve}}))
    assert whole == ("strokes/1", "all", "all", None, 4, curve.ece, curve.brier)
    assert (low[2], low[3], low[4]) == ("0.100", share(1, 3), 3)
    assert (high[2], high[3].value, high[4]) == ("0.900", 1, 1)
    assert curve.ece == pytest.approx((3 * (1 / 3 - 0.1) + 0.1) / 4)
