"""Eq. 9 against a transcription of the formula, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.evaluation.relevance import Gallery, Relevant, iou, relevance, relevances

WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT = (0.0, 0.0, 0.5, 1.0)
RIGHT = (0.5, 0.0, 1.0, 1.0)


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def slow_relevance(boxes, classes, photos):
    """Eq. 9 word by word; ``photos`` lists each photo's (class, box) pairs."""
    rows = []
    for photo in photos:
        bests = []
        for box, name in zip(boxes, classes, strict=True):
            bests.append(max([slow_iou(box, other) for its, other in photo if its == name], default=0.0))
        rows.append(sum(bests) / len(boxes))
    return np.array(rows)


def build(photos):
    rows = [(box, index, name) for index, photo in enumerate(photos) for name, box in photo]
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    return Gallery.build(boxes, np.array([row[1] for row in rows], int), [row[2] for row in rows], len(photos))


def test_by_hand():
    gallery = build(
        [
            [("dog", LEFT), ("cat", RIGHT)],  # both in place: 1
            [("dog", WHOLE), ("cat", WHOLE)],  # each half of the photo's box: 1/2
            [("dog", LEFT)],  # one of two: 1/2
            [("cat", LEFT), ("dog", RIGHT)],  # the right classes in each other's place: 0
            [],
            [("dog", RIGHT), ("dog", LEFT), ("cat", WHOLE)],  # the better of two dogs: (1 + 1/2) / 2
        ]
    )
    found = relevance(np.array([LEFT, RIGHT]), ["dog", "cat"], gallery)
    assert found.photos.tolist() == [0, 1, 2, 5]
    assert found.values.tolist() == [1.0, 0.5, 0.5, 0.75]
    strictly = relevance(np.array([LEFT, RIGHT]), ["dog", "cat"], gallery, above=0.5)
    assert strictly.photos.tolist() == [0, 5]


def test_two_boxes_of_the_query_may_meet_one_box_of_the_photo():
    gallery = build([[("dog", WHOLE)]])
    assert relevance(np.array([WHOLE, LEFT]), ["dog", "dog"], gallery).values.tolist() == [0.75]


def test_an_unknown_class_and_an_empty_gallery_have_nothing_relevant():
    assert relevance(np.array([WHOLE]), ["yak"], build([[("dog", WHOLE)]])).photos.tolist() == []
    assert relevance(np.array([WHOLE]), ["dog"], build([])).photos.tolist() == []


def test_boxes_without_area_are_no_division_by_zero():
    point = (0.5, 0.5, 0.5, 0.5)
    assert iou(np.array([point, WHOLE]), np.array(point)).tolist() == [0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_like_the_formula(seed):
    rng = np.random.default_rng(seed)

    def boxes(count):
        corners = np.round(rng.random((count, 2, 2)), 1)  # a coarse grid: equal, touching and empty boxes occur
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)

    def names(count):
        return [str(name) for name in rng.choice(["a", "b", "c"], count)]

    photos = [list(zip(names(n), boxes(n).tolist(), strict=True)) for n in rng.integers(0, 5, rng.integers(1, 12))]
    n = int(rng.integers(1, 5))
    query, classes = boxes(n), names(n)
    expected = slow_relevance(query.tolist(), classes, photos)
    gallery, before = build(photos), query.copy()
    found = relevance(query, classes, gallery)
    np.testing.assert_allclose(found.of(np.arange(len(photos))), expected, atol=1e-12)
    assert found.photos.tolist() == np.flatnonzero(expected > 0).tolist()
    np.testing.assert_array_equal(query, before)


def test_a_photos_own_boxes_are_exactly_relevant():
    rng = np.random.default_rng(0)
    corners = rng.random((300, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    photos = np.arange(300) // 3
    gallery = Gallery.build(boxes, photos, ["a"] * 300, 100)
    queries = ((boxes[photos == photo], ["a"] * 3) for photo in range(100))
    for photo, found in enumerate(relevances(queries, gallery, above=0.5)):
        assert found.of(np.array([photo])) == [1.0]  # not 1 - 1e-16: tau may be near 1


def test_of_looks_up_photos_in_any_order_and_repeated():
    found = Relevant(np.array([2, 5]), np.array([0.7, 0.9]))
    assert found.of(np.array([5, 0, 2, 9, 5])).tolist() == [0.9, 0.0, 0.7, 0.0, 0.9]
    assert Relevant(np.array([], int), np.array([])).of(np.array([1])).tolist() == [0.0]


def test_mistakes_are_named():
    gallery = build([[("dog", WHOLE)]])
    with pytest.raises(ValueError, match="0 boxes"):
        relevance(np.zeros((0, 4)), [], gallery)
    with pytest.raises(ValueError, match="1 boxes and 2 classes"):
        relevance(np.array([WHOLE]), ["a", "b"], gallery)
    with pytest.raises(ValueError, match="above is -1"):
        relevance(np.array([WHOLE]), ["a"], gallery, above=-1)
    with pytest.raises(ValueError, match="gallery of 1"):
        Gallery.build(np.array([WHOLE]), np.array([1]), ["a"], 1)
    with pytest.raises(ValueError, match="1 boxes, 2 photos and 1 classes"):
        Gallery.build(np.array([WHOLE]), np.array([0, 0]), ["a"], 1)
