"""Boxes that a collection knows, in the forms in which they come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.web.boxes import MOST, known_boxes

SIDES = {"width": 200, "height": 100}
HALF = {"label": "cat", "box": [0.0, 0.0, 0.5, 0.5]}


@pytest.mark.parametrize(
    "fields",
    [
        {"objects": [HALF]},
        {"objects": json.dumps([HALF])},
        {"objects": [{"class": "cat", "bbox": [0, 0, 100, 50]}]},
        {"boxes": '[{"name": "cat", "box": [-20, 0, 100, 50]}]'},
        {"objects": [HALF, "nonsense", {"label": "dog"}, {"label": "dog", "box": [0.5, 0.5, 0.1, 0.1]}]},
    ],
)
def test_a_box_in_any_of_the_forms(fields) -> None:
    assert [one.model_dump() for one in known_boxes({**fields, **SIDES})] == [HALF]


def test_boxes_without_labels() -> None:
    assert [one.model_dump() for one in known_boxes({"boxes": [[0, 0, 0.5, 1]]})] == [
        {"label": None, "box": [0.0, 0.0, 0.5, 1.0]}
    ]


@pytest.mark.parametrize("fields", [{}, {"objects": "no JSON"}, {"objects": 3}, {"objects": '{"a": 1}'}])
def test_none_where_there_is_no_such_field(fields) -> None:
    assert known_boxes({**fields, **SIDES}) is None


def test_pixels_are_of_no_use_without_the_photos_sides() -> None:
    assert known_boxes({"boxes": [[0, 0, 100, 50]]}) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["box", "label", "x"]), inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["objects", "boxes"]), JSON)
def test_whatever_is_in_the_field_corners_lie_within_the_photo(value, name, side) -> None:
    for one in known_boxes({name: value, "width": side, "height": 100}) or ():
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_few_enough_for_a_page() -> None:
    assert len(known_boxes({"boxes": [[0, 0, 1, 1]] * 10_000})) == MOST
