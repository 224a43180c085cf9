"""What counts as found and as missed, case by case, and the property for which it is so defined."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.canary.scoring import Score, judge
from compsketch_milvus.ranking import Hit


def hits(**distances: float) -> list[Hit]:
    return [Hit(id, "s", 0.0, distance) for id, distance in distances.items()]


def score(**counts) -> Score:
    zero = dict.fromkeys(("found", "missed", "displaced", "gone"), 0)
    return Score(**{**zero, "seconds": (0.01,), "rows": 100, "rows_prepared": 100, **counts})


NOW = {"a": 0.01, "b": 0.04, "c": 0.09}  # squares of the distances .1, .2 and .3


@pytest.mark.parametrize(
    ("given", "now", "counts"),
    [
        (hits(a=0.1, b=0.2, c=0.3), NOW, {"found": 3}),
        # Unchanged, as everybody counts: one of the three was left out for something farther.
        (hits(a=0.1, c=0.3, x=0.4), NOW, {"found": 2, "missed": 1}),
        # x was added, and is nearer than c, which it pushes out.
        (hits(a=0.1, x=0.15, b=0.2), NOW, {"found": 2, "displaced": 1}),
        # x was added, but it is b that is left out, and c, which is farther, that is given.
        (hits(a=0.1, x=0.15, c=0.3), NOW, {"found": 2, "missed": 1}),
        # b was deleted, and the next one comes up.
        (hits(a=0.1, c=0.3, x=0.4), {"a": 0.01, "c": 0.09}, {"found": 2, "gone": 1}),
        # b was deleted, and a search that is a moment behind gives it still.
        (hits(a=0.1, b=0.2, c=0.3), {"a": 0.01, "c": 0.09}, {"found": 2, "gone": 1}),
        # b's photo was replaced by one that is far away now.
        (hits(a=0.1, c=0.3, x=0.4), {**NOW, "b": 1.0}, {"found": 2, "displaced": 1}),
        # a's was replaced by one that is farther, and nearer than x all the same.
        (hits(b=0.2, c=0.3, x=0.4), {**NOW, "a": 0.11}, {"found": 2, "missed": 1}),
        # As far away as the last one that is given: either will do.
        (hits(a=0.1, b=0.2, x=0.3), NOW, {"found": 2, "displaced": 1}),
        # Fewer than were asked for: nothing stands in the place of what is missing.
        (hits(a=0.1, b=0.2), NOW, {"found": 2, "missed": 1}),
        (hits(), NOW, {"missed": 3}),
        (hits(), {}, {"gone": 3}),
    ],
)
def test_an_answer_is_one_of_four(given, now, counts) -> None:
    assert judge("abc", given, now, depth=3) == Counter(counts)


def test_recall_counts_what_is_found_and_what_is_missed() -> None:
    assert score(found=9, missed=1).recall == 0.9
    assert score(found=3, missed=1, displaced=50, gone=50).recall == 0.75
    assert score(gone=3).recall is None


@pytest.mark.parametrize(
    ("counts", "changed"),
    [
        ({"found": 9, "missed": 1}, 0.0),
        ({"found": 8, "displaced": 1, "gone": 1}, 0.2),
        ({"found": 10, "rows": 130}, 0.3),  # a search that knows nothing of 30 new photos finds all the old ones
        ({"found": 10, "rows": 60}, 0.4),
    ],
)
def test_what_has_changed_much_is_to_be_prepared_again(counts, changed) -> None:
    made = score(**counts)
    assert made.changed == pytest.approx(changed)
    assert ("canary prepare" in made.advice) is (changed > 0.2)


def test_where_nothing_counts_the_advice_says_so_whatever_has_changed() -> None:
    assert "3 of the answers are gone or displaced, and of 100 photos there are 100 now" in score(gone=3).advice


@given(st.data())
def test_exact_search_always_scores_one(data) -> None:
    """Whatever is added, deleted or replaced, also where photos are equal, or fewer than are asked for."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    depth, places = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    query = rng.normal(size=3)

    def photo() -> np.ndarray:
        return rng.integers(0, places, size=3).astype(float)  # few different ones: many are equal

    def nearest(photos: dict[str, np.ndarray]) -> list[Hit]:
        far = sorted((math.dist(query, vector), id) for id, vector in photos.items())
        return [Hit(id, "s", 0.0, distance) for distance, id in far[:depth]]

    names = [f"p{number}" for number in range(12)]
    photos = {name: photo() for name in names if data.draw(st.booleans())}
    answers = [hit.id for hit in nearest(photos)]
    for name in data.draw(st.lists(st.sampled_from([*names, *(f"new{number}" for number in range(12))]))):
        if data.draw(st.booleans()):
            photos[name] = photo()
        else:
            photos.pop(name, None)
    now = {id: math.dist(query, photos[id]) ** 2 for id in answers if id in photos}
    counts = judge(answers, nearest(photos), now, depth)
    assert counts["missed"] == 0
    assert counts.total() == len(answers)
