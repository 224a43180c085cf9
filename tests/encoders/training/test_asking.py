"""Queries made of photos' boxes: what is asked for, what a seed decides, and what held-out queries are measured by."""

from dataclasses import replace

import numpy as np
import pytest

from encoders.query import query_tensor
from encoders.training.asking import AskConfig, Asker, held_out_queries
from encoders.training.vectors import CropVectors, NameVectors, SketchVectors, Source
from encoders.training.views import Views

C, K = 8, 4
Layouts = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


RNG = np.random.default_rng(0)
NAMES = NameVectors(unit(RNG.normal(size=(K, C))))
SKETCHES = SketchVectors.build(unit(RNG.normal(size=(6, C))), np.array([0, 0, 1, 1, 2, 2]), K)
DRAWN = np.array([True, True, True, False])  # nobody drew class 3
SOURCE = Source(C, list("abcd"), NAMES, SKETCHES, DRAWN, DRAWN)


def layouts(seed: int, photos: int = 6) -> Layouts:
    """Boxes, classes and crops of photos with 1 to 5 objects."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, photos)
    start = [rng.uniform(0, 0.6, (n, 2)) for n in counts]
    boxes = [np.concatenate([low, low + rng.uniform(0.05, 0.4, low.shape)], axis=1).astype(np.float32) for low in start]
    crops = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
    return boxes, [rng.integers(0, K, n) for n in counts], crops


def views(boxes: list[np.ndarray], classes: list[np.ndarray], crops: list[np.ndarray]) -> Views:
    return Views(np.zeros((len(boxes), 1, 1, 1), np.float16), boxes, classes, crops, np.arange(len(boxes)))


def usable(photos: Layouts, asker: Asker) -> Layouts:
    """Those with something to ask for."""
    rows = asker.usable(views(*photos))
    boxes, classes, crops = ([part[row] for row in rows] for part in photos)
    return boxes, classes, crops


def slow_relevance(asked: np.ndarray, kinds: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> float:
    """Eq. 9, as it is written."""
    found = []
    for one, kind in zip(asked.tolist(), kinds, strict=True):
        best = 0.0
        for other, its_kind in zip(boxes.tolist(), classes, strict=True):
            width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
            height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
            best = max(best, (kind == its_kind) * width * height / (sum(areas) - width * height))
        found.append(best)
    return float(np.mean(found))


def test_a_seed_decides_what_is_asked():
    asker = Asker(SOURCE, AskConfig())
    photos = usable(layouts(4), asker)
    one, same, other = (asker.ask(*photos, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.tensors, same.tensors)
    assert all(np.array_equal(a, b) for a, b in zip(one.boxes, same.boxes, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.classes, same.classes, strict=True))
    assert not np.array_equal(one.tensors, other.tensors)


def test_what_is_asked_are_one_to_four_large_boxes_of_the_photo():
    asker = Asker(SOURCE, AskConfig(min_area=0.02))
    photos = usable(layouts(5, photos=40), asker)
    asked = asker.ask(*photos, np.random.default_rng(0))
    assert asked.tensors.shape == (len(photos[0]), C, 31, 31)
    for chosen, kinds, its_boxes, its_kinds in zip(asked.boxes, asked.classes, *photos[:2], strict=True):
        assert 1 <= len(chosen) <= 4
        assert ((chosen[:, 2:] - chosen[:, :2]).prod(axis=1) >= 0.02).all()
        own = [(*box, kind) for box, kind in zip(its_boxes.tolist(), its_kinds.tolist(), strict=True)]
        picked = [(*box, kind) for box, kind in zip(chosen.tolist(), kinds.tolist(), strict=True)]
        assert all(item in own for item in picked)
        assert len(set(picked)) == len(picked)  # no box twice


def test_the_tensor_is_equation_1_of_the_chosen_vectors():
    """Without jitter and with names alone nothing is left to chance but which boxes."""
    asker = Asker(SOURCE, AskConfig(jitter=0))
    asked = asker.ask(*usable(layouts(6), asker), np.random.default_rng(0))
    for tensor, its_boxes, kinds in zip(asked.tensors, asked.boxes, asked.classes, strict=True):
        assert np.array_equal(tensor, query_tensor(NAMES.vectors[kinds], its_boxes))


def test_with_crops_the_tensor_is_equation_2():
    """Every object is painted with its own crop's vector, and one without a crop is not asked for."""
    photos = layouts(7, photos=30)
    numbers = np.concatenate(photos[2])[::2]
    crops = CropVectors.build(unit(np.random.default_rng(8).normal(size=(len(numbers), C))), numbers)
    asker = Asker(replace(SOURCE, training=crops), AskConfig(jitter=0))
    boxes, classes, own = usable(photos, asker)
    asked = asker.ask(boxes, classes, own, np.random.default_rng(0))
    for tensor, chosen, its_boxes, its_crops in zip(asked.tensors, asked.boxes, boxes, own, strict=True):
        places = [its_boxes.tolist().index(box) for box in chosen.tolist()]
        assert all(crop in numbers for crop in its_crops[places])
        vectors = np.stack([crops.vectors[numbers.tolist().index(crop)] for crop in its_crops[places]])
        assert np.array_equal(tensor, query_tensor(vectors, chosen))


def test_boxes_at_the_edge_are_jittered_within_the_canvas():
    """query_tensor refuses a box that leaves the canvas or has no area."""
    boxes = [np.array([[0, 0, 1, 1], [0.97, 0.97, 1, 1], [0, 0, 0.03, 0.03]], np.float32)] * 50
    asker = Asker(SOURCE, AskConfig(jitter=0.3, min_area=0))
    asked = asker.ask(boxes, [np.array([0, 1, 2])] * 50, [np.arange(3)] * 50, np.random.default_rng(0))
    assert np.isfinite(asked.tensors).all()


def test_boxes_nobody_can_draw_are_asked_for_less_often_whatever_paints_them():
    boxes = [np.array([[0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32)] * 400
    asked = Asker(SOURCE, AskConfig()).ask(
        boxes, [np.array([0, 3])] * 400, [np.arange(2)] * 400, np.random.default_rng(0)
    )
    alone = [kinds[0] for kinds in asked.classes if len(kinds) == 1]
    assert np.mean(np.array(alone) == 3) == pytest.approx(0.2 / 1.2, abs=0.09)


def test_usable_photos_have_a_box_to_ask_for():
    small, large, none = [[0, 0, 0.1, 0.1]], [[0, 0, 0.1, 0.1], [0, 0, 0.5, 0.5]], np.zeros((0, 4))
    boxes = [np.array(row, np.float32) for row in (small, large, none, large)]
    classes = [np.full(len(row), kind) for row, kind in zip(boxes, (0, 0, 0, 3), strict=True)]
    photos = views(boxes, classes, classes)
    config = AskConfig(min_area=0.015)
    assert Asker(SOURCE, config).usable(photos).tolist() == [1, 3]
    assert Asker(replace(SOURCE, training=SKETCHES), config).usable(photos).tolist() == [1]


def test_held_out_queries_are_of_the_largest_boxes_that_have_unseen_sketches():
    boxes, classes, crops = layouts(9, photos=20)
    none = np.zeros(0, int)
    shown = views([*boxes, np.zeros((0, 4), np.float32)], [*classes, none], [*crops, none])  # one has no boxes
    queries = held_out_queries(SOURCE, shown, seed=0)
    asked = 0
    for row in range(20):
        area = (boxes[row][:, 2:] - boxes[row][:, :2]).prod(axis=1)
        able = [i for i in np.argsort(-area) if area[i] > 0.02 and classes[row][i] != 3]
        if not able:
            continue
        found = queries.relevance[asked]
        matches = [  # one, two or three of them, by the relevance of all the photos
            np.allclose(found[:-1], [slow_relevance(boxes[row][able[:n]], classes[row][able[:n]], *photo)
                                     for photo in zip(boxes, classes, strict=True)], atol=1e-6)
            for n in (1, 2, 3)
        ]  # fmt: skip
        assert any(matches)
        assert found[-1] == 0
        filled = queries.tensors[asked][:, np.abs(queries.tensors[asked]).sum(axis=0) > 0].T
        assert np.isclose(unit(filled) @ SKETCHES.vectors.T, 1, atol=1e-5).any()  # where one object is alone
        asked += 1
    assert len(queries.tensors) == len(queries.relevance) == asked


def test_every_method_is_measured_with_the_same_boxes():
    shown = views(*layouts(10, photos=30))
    strokes, names = (held_out_queries(replace(SOURCE, held_out=v), shown, seed=2) for v in (SKETCHES, NAMES))
    assert np.array_equal(strokes.relevance, names.relevance)
    filled = [np.abs(queries.tensors).sum(axis=1) > 0 for queries in (strokes, names)]
    assert np.array_equal(*filled)
    assert not np.array_equal(strokes.tensors, names.tensors)
