"""Grouping and near-duplicates: by hand, and against the definition in words on random photos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.diversity import pick
from compsketch_milvus.ranking import ranked
from compsketch_milvus.terms import Terms

QUERY = np.array([1.0, 0.0])


def photos(angles, shops=None):
    """Ranked photos at angles (degrees) to the query."""
    rows = [
        {"id": f"p{i}", "source": "s", "vector": [np.cos(np.radians(angle)), np.sin(np.radians(angle))]}
        for i, angle in enumerate(angles)
    ]
    for row, shop in zip(rows, shops or [None] * len(rows), strict=True):
        row |= {} if shop is None else {"shop": shop}
    return ranked(rows, QUERY)


def test_a_photo_hides_those_that_are_nearly_the_same() -> None:
    found = photos([0, 2, 10, 12, 11, 40])
    assert pick(found, Terms(10, hide_duplicates=np.cos(np.radians(3)))) == {0: [1], 2: [3, 4], 5: []}
    assert [found.rows[place]["id"] for place in (2, 3, 4)] == ["p2", "p4", "p3"]  # by distance


def test_what_a_photo_hides_beyond_the_limit_counts_too() -> None:
    assert pick(photos([0, 30, 31, 1]), Terms(1, hide_duplicates=0.99)) == {0: [1]}


def test_equal_vectors_are_duplicates_at_one() -> None:
    assert pick(photos([33.3, 33.3, 34]), Terms(5, hide_duplicates=1.0)) == {0: [1], 2: []}


def test_groups_are_filled_in_order_and_photos_without_the_field_are_alone() -> None:
    found = photos(range(8), ["a", "a", None, "b", "a", None, "b", "c"])
    assert list(pick(found, Terms(10, group_by="shop"))) == [0, 2, 3, 5, 7]
    assert list(pick(found, Terms(10, group_by="shop", group_size=2))) == [0, 1, 2, 3, 5, 6, 7]
    assert list(pick(found, Terms(3, group_by="shop"))) == [0, 2, 3]


def test_values_of_different_kinds_are_different_groups() -> None:
    assert list(pick(photos(range(5), [1, "1", True, [1], [1]]), Terms(10, group_by="shop"))) == [0, 1, 2, 3]


def test_a_duplicate_takes_no_place_in_a_group() -> None:
    found = photos([0, 1, 50, 60], ["a", "a", "a", "b"])
    assert pick(found, Terms(10, group_by="shop", group_size=2, hide_duplicates=0.999)) == {0: [1], 2: [], 3: []}


def test_the_threshold_comes_first() -> None:
    found = photos([0, 1, 50, 60])
    assert pick(found, Terms(10, threshold=0.9, hide_duplicates=0.999)) == {0: [1]}
    assert list(pick(found, Terms(10, threshold=0.6))) == [0, 1, 2]
    assert found.passing(1 - found.squares[2] / 2) == 3


@given(
    angles=st.lists(st.integers(0, 60), max_size=25),
    limit=st.integers(1, 8),
    size=st.integers(1, 3),
    degrees=st.integers(0, 10),
)
def test_any_choice_keeps_what_the_terms_say(angles, limit, size, degrees) -> None:
    found = photos(angles, [f"{angle % 3}" for angle in angles])
    cosine = float(np.cos(np.radians(degrees)))
    shown = pick(found, Terms(limit, group_by="shop", group_size=size, hide_duplicates=cosine))
    places = list(shown)
    assert places == sorted(places)
    assert len(places) <= limit
    near = found.vectors @ found.vectors.T >= cosine - 1e-6 if angles else np.zeros((0, 0), bool)
    assert not any(near[a, b] for a in places for b in places if a != b)
    groups = [found.rows[place]["shop"] for place in places]
    assert all(groups.count(group) <= size for group in groups)
    for place in set(range(len(angles))) - set(places):  # each has a reason to be left out
        before = [better for better in places if better < place]
        hidden = [better for better in before if place in shown[better]]
        assert hidden == [better for better in before if near[better, place]][:1]
        full = groups[: len(before)].count(found.rows[place]["shop"]) >= size
        assert hidden or full or len(before) == limit


@pytest.mark.parametrize("rows", [[], [{"id": "a", "source": "s", "distance": -1e-9}]])
def test_few_rows(rows) -> None:
    assert list(pick(ranked(rows, QUERY), Terms(5, group_by="shop"))) == list(range(len(rows)))
