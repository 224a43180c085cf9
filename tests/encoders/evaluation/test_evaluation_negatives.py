"""Negatives and weights judged on a gallery whose truth is known, with an encoder that sees class and place exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from encoders.errors import DataError
from encoders.evaluation.compositions import Composition
from encoders.evaluation.negatives import Boxes, heavier, negatives
from encoders.sketch import Sketch, SketchObject
from encoders.weighing import Subset, weighted

LEFT, RIGHT = np.array([0.0, 0, 0.5, 1]), np.array([0.5, 0, 1, 1])
CELLS = {(word, side): number for number, (word, side) in enumerate((w, s) for w in ("cup", "dog") for s in (0, 1))}
# Of 80 photos every other holds a cup left, and half of those a dog on the right; a few hold a dog on the left.
PHOTOS = [[("cup", 0)] * (n % 2 == 0) + [("dog", 1)] * (n % 4 == 0) + [("dog", 0)] * (n % 8 == 3) for n in range(80)]


def encode(sketches: Sequence[Sketch]) -> np.ndarray:
    """One dimension a class and side; weighed as `weighing` has it."""

    def embed(keys: list[tuple[int, Subset]]) -> np.ndarray:
        rows = np.full((len(keys), len(CELLS) + 1), 0.01)
        for row, (number, subset) in zip(rows, keys, strict=True):
            for i in subset:
                x0, _, x1, _ = sketches[number].boxes[i]
                for side in (0, 1):
                    row[CELLS[str(sketches[number].objects[i].label), side]] += min(x1, (1 + side) / 2) > max(
                        x0, side / 2
                    )
        return rows

    rows = weighted(embed, [[item.weight for item in sketch.objects] for sketch in sketches])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def held() -> Boxes:
    facts = [(n, word, side) for n, photo in enumerate(PHOTOS) for word, side in photo]
    numbers, words, sides = zip(*facts, strict=True)
    return Boxes(np.array([(LEFT, RIGHT)[side] for side in sides]), np.array(numbers), np.array(words), len(PHOTOS))


@pytest.fixture
def gallery() -> np.ndarray:
    rows = np.full((len(PHOTOS), len(CELLS) + 1), 0.01)
    for row, photo in zip(rows, PHOTOS, strict=True):
        for cell in photo:
            row[CELLS[cell]] += 1
        row[-1] += 1.05 * (("dog", 1) not in photo)  # something else in its place
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def query(photo: int) -> Composition:
    objects = tuple(
        SketchObject((), word, tuple((box * 100).tolist())) for word, box in (("cup", LEFT), ("dog", RIGHT))
    )
    return Composition(Sketch(100, 100, objects), photo, ("cup", "dog"), np.array([LEFT, RIGHT]), (0, 0), (0, 0))


def test_boxes_are_met_by_iou_and_lie_where_the_smaller_is_inside(held):
    assert held.met("cup", LEFT)[[0, 1, 4]].tolist() == [1, 0, 1]
    assert held.met("dog", np.array([0.5, 0, 1, 0.5]))[[0, 3, 2]].tolist() == [0.5, 0, 0]
    assert held.lies("dog", np.array([0.0, 0, 1, 1]))[[0, 3, 2]].tolist() == [True, True, False]
    assert held.lies("dog", np.array([0.8, 0.4, 0.9, 0.5]))[[0, 3]].tolist() == [True, False]
    assert held.lies("dog", np.array([0.25, 0, 0.75, 1]))[[0, 3]].tolist() == [False, False]  # half, not over half


def test_a_true_encoder_keeps_out_what_is_not_wanted(held, gallery):
    table = negatives(encode, gallery, held, [query(0), query(8)], ["Cup", "dog"])
    for place in ("box", "canvas"):
        row = table[place]
        assert row["queries"] == 2
        # 40 photos hold a cup left and come first, 20 of them with a dog: first, or behind where it is not wanted.
        assert row["b in top 20"]["plain"] == 1
        assert row["b in top 20"]["changed"] == 0
        assert row["AP of a"]["plain"] == 1
        assert row["AP of a without b"]["plain"] < row["AP of a without b"]["changed"] == 1
        gain = row["AP of a without b"]["changed"] - row["AP of a without b"]["plain"]
        assert row["AP of a without b"]["difference"] == pytest.approx(gain)


def test_queries_without_another_known_class_are_left_out(held, gallery):
    asked = [query(0), query(2)]  # photo 2 holds a cup alone
    assert negatives(encode, gallery, held, asked, ["cup", "dog"])["box"]["queries"] == 1


def test_where_nothing_can_be_unwanted_or_weigh_more_it_is_said(held, gallery):
    with pytest.raises(DataError, match="no query's photo has another class that the encoder knows"):
        negatives(encode, gallery, held, [query(2)], ["cup", "dog"])
    sketch = query(0).sketch
    alone = replace(query(0), sketch=replace(sketch, objects=sketch.objects[:1]))
    with pytest.raises(DataError, match="no query has two objects"):
        heavier(encode, gallery, held, [alone])


def test_more_weight_brings_its_object_forward(held, gallery):
    table = heavier(encode, gallery, held, [query(0)], weight=4)
    assert table["queries"] == 1
    assert table["first"]["changed"] >= table["first"]["plain"]
    assert table["first"]["interval"] is None  # of one query
    same = heavier(encode, gallery, held, [query(0)], weight=1)
    assert same["first"]["difference"] == same["second"]["difference"] == 0
