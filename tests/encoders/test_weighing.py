"""Weights and negatives against the equation written out, with set functions whose parts are known."""

from __future__ import annotations

from collections.abc import Collection, Hashable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.weighing import combined, expansion

weights_of_sketches = st.lists(st.floats(-4, 4).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=6)


def e(subset: Collection[int]) -> np.ndarray:
    """Some vector a set: nothing about it is additive."""
    seed = sum(2**i for i in subset)
    return np.random.default_rng(seed).normal(size=5)


def embed(keys: list[Hashable]) -> np.ndarray:
    return np.stack([e(key) for key in keys])


def by_equation(weights: list[float]) -> np.ndarray:
    """E(Q) as the module's equation has it, with sets and loops."""
    wanted = {i for i, w in enumerate(weights) if w > 0}
    out = e(wanted).copy()
    for i in wanted:
        out += (weights[i] - 1) * (e(wanted) - e(wanted - {i}))
    for j, w in enumerate(weights):
        if w < 0:
            out += w * (e(wanted | {j}) - e(wanted))
    return out


@given(weights_of_sketches)
def test_the_sum_over_subsets_is_the_equation(weights: list[float]):
    sums = expansion(weights)
    assert len(sums) <= len(weights) + 1
    assert sum(sums.values()) == pytest.approx(1)
    np.testing.assert_allclose(combined(embed, [sums])[0], by_equation(weights), atol=1e-9)


@given(weights_of_sketches, st.sets(st.integers(0, 5)))
def test_among_some_is_as_if_there_were_no_others(weights: list[float], some: set[int]):
    among = sorted(i for i in some if i < len(weights))
    alone = expansion([weights[i] for i in among])
    assert expansion(weights, among) == {tuple(among[i] for i in subset): c for subset, c in alone.items()}


def test_weights_of_one_are_equation_3_itself():
    assert expansion([1.0, 1.0, 1.0]) == {(0, 1, 2): 1.0}
    assert np.array_equal(combined(embed, [{(0, 1, 2): 1.0}])[0], e((0, 1, 2)))


def test_an_object_worked_by_hand():
    assert expansion([1.0, 2.0]) == {(0, 1): 2.0, (0,): -1.0}
    assert expansion([1.0, 0.25]) == {(0, 1): 0.25, (0,): 0.75}  # on the way to leaving it out
    assert expansion([-1.0, 1.0]) == {(1,): 2.0, (0, 1): -1.0}
    assert expansion([3.0]) == {(0,): 3.0, (): -2.0}  # against the empty canvas
    assert expansion([-1.0, 1.0], among=[0]) == {(): 2.0, (0,): -1.0}


def test_where_objects_only_add_up_each_counts_its_weight():
    parts = np.random.default_rng(0).normal(size=(3, 4))
    weights = [2.0, 0.5, -1.5]
    additive = combined(lambda keys: np.stack([parts[list(key)].sum(axis=0) for key in keys]), [expansion(weights)])
    np.testing.assert_allclose(additive[0], weights @ parts)


def test_each_key_is_embedded_once_and_all_at_once():
    asked: list[list[str]] = []

    def counting(keys: list[str]) -> np.ndarray:
        asked.append(keys)
        return np.arange(2.0 * len(keys), dtype=np.float32).reshape(-1, 2)

    rows = combined(counting, [{"a": 1.0}, {"b": 2.0, "a": -1.0}])
    assert asked == [["a", "b"]]
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1], [4, 5]])
