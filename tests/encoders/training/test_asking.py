"""Queries made of photos' boxes: the relevance against evaluation's own, and what a seed decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.evaluation.relevance import Gallery
from encoders.evaluation.relevance import relevance as evaluated
from encoders.objects import ObjectConfig, ObjectEncoder
from encoders.query import query_tensor
from encoders.training.asking import (
    AskConfig,
    Mixture,
    Vectors,
    ask,
    held_out_queries,
    make_vectors,
    relevance,
    sketch_vectors,
    usable,
)
from encoders.training.data import read_training_set
from encoders.training.views import Views

C, K = 8, 4


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def vectors() -> Vectors:
    """Ten sketches of classes 0 to 2; nobody drew class 3."""
    rng = np.random.default_rng(0)
    classes = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    by_class = [np.flatnonzero(classes == kind) for kind in range(K)]
    return Vectors(unit(rng.normal(size=(10, C))), by_class, unit(rng.normal(size=(K, C))))


def layouts(seed: int, photos: int = 6) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes and classes of photos with 1 to 5 objects."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, photos)
    start = [rng.uniform(0, 0.6, (n, 2)) for n in counts]
    boxes = [np.concatenate([low, low + rng.uniform(0.05, 0.4, low.shape)], axis=1).astype(np.float32) for low in start]
    return boxes, [rng.integers(0, K, n) for n in counts]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_relevance_is_evaluations(seed):
    boxes, classes = layouts(seed)
    asked, kinds = layouts(seed + 1)
    owners = np.repeat(np.arange(len(boxes)), [len(row) for row in boxes])
    names = [str(kind) for kind in np.concatenate(classes)]
    gallery = Gallery.build(np.concatenate(boxes), owners, names, len(boxes))
    found = relevance(asked, kinds, boxes, classes)
    assert found.shape == (len(asked), len(boxes))
    assert found.dtype == np.float32
    for row, its_boxes, its_kinds in zip(found, asked, kinds, strict=True):
        expected = evaluated(its_boxes, [str(kind) for kind in its_kinds], gallery).of(np.arange(len(boxes)))
        assert np.allclose(row, expected, atol=1e-6)


def test_a_query_is_wholly_relevant_to_its_own_photo(vectors):
    boxes, classes = layouts(3)
    asked = ask(boxes, classes, vectors, AskConfig(), np.random.default_rng(0))
    assert np.diag(relevance(asked.boxes, asked.classes, boxes, classes)) == pytest.approx(1)


def test_a_seed_decides_what_is_asked(vectors):
    boxes, classes = layouts(4)
    one, same, other = (ask(boxes, classes, vectors, AskConfig(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one.tensors, same.tensors)
    assert all(np.array_equal(a, b) for a, b in zip(one.boxes, same.boxes, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.classes, same.classes, strict=True))
    assert not np.array_equal(one.tensors, other.tensors)


def test_what_is_asked_are_one_to_four_large_boxes_of_the_photo(vectors):
    boxes, classes = layouts(5, photos=40)
    config = AskConfig(min_area=0.02)
    large = [((row[:, 2:] - row[:, :2]).prod(axis=1) >= config.min_area).any() for row in boxes]
    boxes = [row for row, keep in zip(boxes, large, strict=True) if keep]
    classes = [row for row, keep in zip(classes, large, strict=True) if keep]
    asked = ask(boxes, classes, vectors, config, np.random.default_rng(0))
    assert asked.tensors.shape == (len(boxes), C, 31, 31)
    for chosen, kinds, its_boxes, its_kinds in zip(asked.boxes, asked.classes, boxes, classes, strict=True):
        assert 1 <= len(chosen) <= 4
        assert ((chosen[:, 2:] - chosen[:, :2]).prod(axis=1) >= config.min_area).all()
        own = [(*box, kind) for box, kind in zip(its_boxes.tolist(), its_kinds.tolist(), strict=True)]
        picked = [(*box, kind) for box, kind in zip(chosen.tolist(), kinds.tolist(), strict=True)]
        assert all(item in own for item in picked)
        assert len(set(picked)) == len(picked)  # no box twice


def test_the_tensor_is_equation_1_of_the_chosen_vectors(vectors):
    """Without jitter and with names alone nothing is left to chance but which boxes."""
    boxes, classes = layouts(6)
    config = AskConfig(mixture=Mixture(sketch=0, name=1, both=0), jitter=0)
    asked = ask(boxes, classes, vectors, config, np.random.default_rng(0))
    for tensor, its_boxes, kinds in zip(asked.tensors, asked.boxes, asked.classes, strict=True):
        assert np.array_equal(tensor, query_tensor(vectors.names[kinds], its_boxes))


def test_boxes_at_the_edge_are_jittered_within_the_canvas(vectors):
    """query_tensor refuses a box that leaves the canvas or has no area."""
    boxes = [np.array([[0, 0, 1, 1], [0.97, 0.97, 1, 1], [0, 0, 0.03, 0.03]], np.float32)] * 50
    config = AskConfig(jitter=0.3, min_area=0)
    asked = ask(boxes, [np.array([0, 1, 2])] * 50, vectors, config, np.random.default_rng(0))
    assert np.isfinite(asked.tensors).all()


def test_drawn_vectors_are_of_the_class_as_the_mixture_says(vectors):
    kinds, rng = np.array([0, 1, 2, 3] * 50), np.random.default_rng(0)
    names = vectors.draw(kinds, Mixture(sketch=0, name=1, both=0), rng)
    assert np.allclose(names, vectors.names[kinds])
    drawn = vectors.draw(kinds, Mixture(sketch=1, name=0, both=0, noise=0), rng)
    mixed = vectors.draw(kinds, Mixture(sketch=0, name=0, both=1, noise=0), rng)
    noisy = vectors.draw(kinds, Mixture(sketch=1, name=0, both=0, noise=0.5), rng)
    for kind, plain, both, rough in zip(kinds, drawn, mixed, noisy, strict=True):
        own = vectors.sketches[vectors.by_class[kind]]
        if not len(own):  # nobody drew it: its name stands for it
            assert np.allclose([plain, both, rough], vectors.names[kind])
            continue
        assert np.isclose(own @ plain, 1).any()
        assert np.isclose(unit(own + vectors.names[kind]) @ both, 1).any()
    assert np.allclose(np.linalg.norm(noisy, axis=1), 1)
    assert not np.allclose(noisy[kinds == 0], drawn[kinds == 0])


def test_boxes_nobody_can_draw_are_asked_for_less_often(vectors):
    boxes = [np.array([[0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32)] * 400
    asked = ask(boxes, [np.array([0, 3])] * 400, vectors, AskConfig(), np.random.default_rng(0))
    alone = [kinds[0] for kinds in asked.classes if len(kinds) == 1]
    assert np.mean(np.array(alone) == 3) == pytest.approx(0.2 / 1.2, abs=0.09)


def views(boxes: list[np.ndarray], classes: list[np.ndarray]) -> Views:
    return Views(np.zeros((len(boxes), 1, 1, 1), np.float16), boxes, classes, np.arange(len(boxes)))


def test_usable_views_have_a_box_to_ask_for():
    small, large, none = [[0, 0, 0.1, 0.1]], [[0, 0, 0.1, 0.1], [0, 0, 0.5, 0.5]], np.zeros((0, 4))
    boxes = [np.array(row, np.float32) for row in (small, large, none)]
    found = usable(views(boxes, [np.zeros(len(row), np.int64) for row in boxes]), AskConfig(min_area=0.015))
    assert found.tolist() == [1]


@pytest.fixture(scope="module")
def model() -> ObjectEncoder:
    torch.manual_seed(0)
    return ObjectEncoder(ObjectConfig(dim=C, hidden=16, sketch_size=32, crop_size=32), classes=5).eval()


def test_make_vectors_draws_every_sketch_several_times_once(model, data_folder, tmp_path):
    data = read_training_set(data_folder, held_out=True)
    made = make_vectors(model, data, AskConfig(versions=2), tmp_path / "sketches.npy", seed=0)
    number = {word: i for i, word in enumerate(data.vocabulary)}
    assert made.sketches.shape == (2 * len(data.sketches.words), C)
    assert np.allclose(np.linalg.norm(made.sketches, axis=1), 1, atol=1e-3)
    for i, word in enumerate(data.sketches.words * 2):
        assert i in made.by_class[number[word]]
    assert [len(rows) > 0 for rows in made.by_class] == [word in data.sketches.words for word in data.vocabulary]
    again = make_vectors(model, data, AskConfig(versions=2), tmp_path / "sketches.npy", seed=9)
    assert np.array_equal(made.sketches, again.sketches)  # from the file


def test_held_out_queries_ask_with_unseen_sketches_of_the_class(model, data_folder):
    unseen = read_training_set(data_folder, held_out=True)
    number = {word: i for i, word in enumerate(unseen.vocabulary)}
    classes = [np.array([number[word] for word in words], np.int64) for words in unseen.words]
    boxes = [*unseen.boxes, np.zeros((0, 4), np.float32)]  # a photo without any
    shown = views(boxes, [*classes, np.zeros(0, np.int64)])
    queries = held_out_queries(model, unseen, shown, seed=0)
    drawable = [any(word in unseen.sketches.words for word in words) for words in unseen.words]
    assert queries.tensors.shape == (sum(drawable), C, 31, 31)
    assert queries.relevance.shape == (sum(drawable), len(boxes))
    own = np.flatnonzero(drawable)
    assert queries.relevance[np.arange(len(own)), own] == pytest.approx(1)
    assert not queries.relevance[:, -1].any()
    vectors = sketch_vectors(model, list(unseen.sketches.drawings), None)
    for tensor in queries.tensors:  # wherever there is one object alone, its vector is that of a sketch
        filled = tensor[:, np.abs(tensor).sum(axis=0) > 0].T
        assert np.isclose(unit(filled) @ vectors.T, 1, atol=1e-4).any()
