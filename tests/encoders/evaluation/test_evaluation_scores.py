"""Scores by query and their means by group, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from encoders.evaluation.relevance import Relevant
from encoders.evaluation.scores import METRICS, by_group, gains, ideal, means, pairs, score

RELEVANT = (
    Relevant(np.array([1, 4, 7]), np.array([0.4, 1.0, 0.6])),
    Relevant(np.array([0]), np.array([0.35])),
    Relevant(np.zeros(0, int), np.zeros(0)),
)


def test_gains_and_the_ideal_by_hand():
    rankings = np.array([[7, 0, 4], [2, 0, -1], [5, -1, -1]])
    assert gains(RELEVANT, rankings).tolist() == [[0.6, 0.0, 1.0], [0.0, 0.35, 0.0], [0.0, 0.0, 0.0]]
    assert ideal(RELEVANT, 2).tolist() == [[1.0, 0.6], [0.35, 0.0], [0.0, 0.0]]


def test_scores_by_hand():
    ranked, best = gains(RELEVANT, np.array([[7, 0, 4], [2, 0, 3], [5, 6, 8]])), ideal(RELEVANT, 200)
    strict, loose = score(ranked, best, tau=0.5, k=200), score(ranked, best, tau=0.3, k=200)
    found = (0.6 + 1.0 / math.log2(4)) / (1.0 + 0.6 / math.log2(3))
    np.testing.assert_allclose(strict[0], [(1 / 1 + 2 / 3) / 2, found, 2 / 20, 2 / 200])
    np.testing.assert_array_equal(strict[1:], 0.0)  # R = .35 is not over .5
    assert loose[0, 0] == pytest.approx((1 / 1 + 2 / 3) / 3)  # the photo of R = .4 was missed
    np.testing.assert_allclose(loose[1], [1 / 2, 1 / math.log2(3), 1 / 20, 1 / 200])


def test_means_by_group_by_hand():
    """Two methods, three queries: a dog; a dog and a cat; two cats, which count the query once."""
    scores = np.zeros((3, 2, 4))
    scores[:, 0, 0], scores[:, 1, 0] = [0.2, 0.4, 0.9], [0.1, 0.1, 0.1]
    found = by_group(scores, [["dog"], ["dog", "cat"], ["cat", "cat"]], ["a", "b"], seed=0)
    assert list(found) == ["a", "b"]
    assert list(found["a"]) == ["cat", "dog"]
    assert {name: (part["mAP"], part["queries"]) for name, part in found["a"].items()} == {
        "cat": (pytest.approx(0.65), 2), "dog": (pytest.approx(0.3), 2),
    }  # fmt: skip
    assert found["b"]["dog"]["intervals"]["mAP"] == [0.1, 0.1]
    alone = by_group(scores[:1], [[1]], ["a", "b"], seed=0)["a"]["1"]
    assert (alone["mAP"], alone["queries"], alone["intervals"]) == (0.2, 1, None)


def test_no_query_with_a_relevant_photo_is_zero_without_interval():
    none = np.zeros((0, 1, 4))
    assert means(none, ["a"], 0) == {"a": {**dict.fromkeys(METRICS, 0.0), "intervals": None, "queries": 0}}
    assert pairs(none, ["a", "b"], 0) == pairs(np.zeros((5, 1, 4)), ["a"], 0) == []
    assert by_group(none, [], ["a"], 0) == {"a": {}}


def test_pairs_by_hand():
    scores = np.zeros((4, 2, 4))
    scores[:, 0, 0], scores[:, 1, 0] = [0.2, 0.4, 0.6, 0.8], [0.1, 0.2, 0.3, 0.6]  # apart by .1, .2, .3, .2
    first, *rest = pairs(scores, ["a", "b"], seed=0)
    assert (first["a"], first["b"], first["metric"], first["n"]) == ("a", "b", "mAP", 4)
    assert (first["difference"], first["t"]) == (pytest.approx(0.2), pytest.approx(2 * math.sqrt(6)))
    assert first["effect_size"] == pytest.approx(math.sqrt(6))
    low, high = first["interval"]
    assert 0.1 <= low < 0.2 < high <= 0.3
    assert [pair["metric"] for pair in rest] == list(METRICS[1:])
    assert all((pair["p"], pair["interval"]) == (1.0, [0.0, 0.0]) for pair in rest)
