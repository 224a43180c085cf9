"""Weights and negatives against the equations written out, with set functions whose parts are known."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.weighing import Subset, combined, expansion, opposed, weighted

quarters = st.sampled_from([-4, -1, -0.25, 0.25, 0.5, 1, 2, 4])
weights_of_sketches = st.lists(quarters, min_size=1, max_size=6).filter(lambda weights: max(weights) > 0)


VECTORS = np.random.default_rng(0).normal(size=(3, 2**6, 5))


def e(subset: Collection[int], sketch: int = 0) -> np.ndarray:
    """Some vector a set: nothing about it is additive."""
    return VECTORS[sketch, sum(2**i for i in subset)]


def embed(keys: list[tuple[int, Subset]]) -> np.ndarray:
    return np.stack([e(subset, sketch) for sketch, subset in keys])


def by_equation(weights: list[float], sketch: int) -> np.ndarray:
    """E(Q) with sets and loops; the integral is a sum over 64 steps, exact for weights that are powers of 2."""
    times = (np.arange(64) + 0.5) / 64 * max(weights)
    wanted = sum(e({i for i, w in enumerate(weights) if w >= t}, sketch) for t in times) / 64
    out = wanted.copy()
    for j, w in enumerate(weights):
        if w < 0:
            out += w * np.linalg.norm(wanted) * e({j}, sketch) / np.linalg.norm(e({j}, sketch)) / 4
    return out


@settings(deadline=None, max_examples=40)
@given(st.lists(weights_of_sketches, min_size=1, max_size=3))
def test_weighted_is_the_equation(weights: list[list[float]]):
    expected = [by_equation(own, sketch) for sketch, own in enumerate(weights)]
    np.testing.assert_allclose(weighted(embed, weights), expected, atol=1e-9)


@given(weights_of_sketches, st.sets(st.integers(0, 5)))
def test_the_wanted_part_is_a_mean_of_nested_sets(weights: list[float], some: set[int]):
    among = {i for i in some if i < len(weights)}
    for sums, there in ((expansion(weights), set(range(len(weights)))), (expansion(weights, among), among)):
        assert min(sums.values()) > 0
        assert sum(sums.values()) == pytest.approx(1)
        sets = [set(subset) for subset in sums]
        assert sets[0] == {i for i in there if weights[i] > 0}
        assert all(later < earlier for earlier, later in pairwise(sets))


@given(st.floats(0.01, 4), st.integers(1, 6))
def test_equal_weights_are_equation_3_itself(weight: float, count: int):
    assert expansion([weight] * count) == {tuple(range(count)): 1.0}
    assert np.array_equal(weighted(embed, [[weight] * count])[0], e(range(count)))


def test_worked_by_hand():
    assert expansion([1.0, 2.0]) == {(0, 1): 0.5, (1,): 0.5}
    assert expansion([0.5, 2.0, 1.0]) == {(0, 1, 2): 0.25, (1, 2): 0.25, (1,): 0.5}
    assert expansion([-1.0, 1.0]) == {(1,): 1.0}
    assert expansion([1.0, 4.0], among=[0]) == {(0,): 0.25, (): 0.75}
    assert expansion([-1.0]) == {(): 1.0}
    against = opposed(np.array([0.0, 6]), np.array([[2.0, 0], [3, 4], [0, 0]]), [-1, -2, -4])
    np.testing.assert_allclose(against, [[-1.5, 0], [-1.8, -2.4], [0, 0]])


def test_a_weight_that_tends_to_nothing_takes_its_object_out():
    light = weighted(embed, [[1.0, 1e-9, 1.0], [1.0, 1.0, -1e-9]])
    np.testing.assert_allclose(light, [e((0, 2), 0), e((0, 1), 1)], atol=1e-6)


def test_where_objects_only_add_up_each_counts_its_share_of_the_largest_weight():
    parts = np.random.default_rng(0).normal(size=(3, 4))
    weights = [2.0, 0.5, 1.0]
    additive = weighted(lambda keys: np.stack([parts[list(key)].sum(axis=0) for _, key in keys]), [weights])
    np.testing.assert_allclose(additive[0], weights @ parts / 2)


def test_each_key_is_embedded_once_and_all_at_once():
    asked: list[list[str]] = []

    def counting(keys: list[str]) -> np.ndarray:
        asked.append(keys)
        return np.arange(2.0 * len(keys), dtype=np.float32).reshape(-1, 2)

    rows = combined(counting, [{"a": 1.0}, {"b": 2.0, "a": -1.0}])
    assert asked == [["a", "b"]]
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1], [4, 5]])
