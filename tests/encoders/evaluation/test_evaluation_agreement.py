"""Krippendorff's alpha against a value worked by hand, published examples and a package of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.evaluation.agreement import alpha

# The example of Krippendorff 2011, section C: four observers, twelve units, some not rated; columns are units.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_a_case_worked_by_hand():
    # Units (1, 1), (1, 2), (2, 2): values 1 and 2 thrice each. Observed: the pair (1, 2) and (2, 1), once each, of 6;
    # expected of 6 * 5 / 5 = 6 coincidences: 3 * 3 / 5 of each of the two. 1 - 2 / (2 * 9 / 5) = 4 / 9.
    assert alpha([(1, 1), (1, 2), (2, 2)]) == pytest.approx(4 / 9)


def test_the_published_example():
    rows = [line.split() for line in OBSERVERS]
    units = [[int(value) for value in column if value != "."] for column in zip(*rows, strict=True)]
    assert alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_full_agreement_is_1_and_none_is_below_0():
    assert alpha([(1, 1, 1), (4, 4, 4), (5, 5)]) == 1.0
    assert alpha([(1, 5), (5, 1), (1, 5)]) < 0


def test_ratings_by_chance_are_about_0():
    units = np.random.default_rng(0).integers(1, 6, size=(4000, 3)).tolist()
    assert alpha(units) == pytest.approx(0.0, abs=0.03)


def test_it_is_not_defined_where_nothing_can_be_told():
    assert alpha([]) is None
    assert alpha([(1,), (5,)]) is None
    assert alpha([(3, 3), (3, 3, 3)]) is None


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=12))
def test_it_is_the_package_krippendorffs(units):
    krippendorff = pytest.importorskip("krippendorff")
    found = alpha(units)
    if found is None:
        return
    counts = np.array([np.bincount(values, minlength=6)[1:] for values in units if len(values) > 1])
    expected = krippendorff.alpha(
        value_counts=counts, value_domain=[1, 2, 3, 4, 5], level_of_measurement="ordinal"
    )  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=4), min_size=2, max_size=8), st.randoms())
def test_the_order_of_units_and_of_raters_does_not_matter(units, random):
    before = alpha(units)
    shuffled = [random.sample(values, len(values)) for values in random.sample(units, len(units))]
    after = alpha(shuffled)
    assert after == before if before is None else after == pytest.approx(before)
