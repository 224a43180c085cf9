"""Explanations against Shapley's formula over all subsets, and against a similarity that is computed another way."""

from __future__ import annotations

from itertools import chain, combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.explain import AGAINST, EXACT, Explanation, explain, shares
from encoders.formats.pen import PALETTE
from encoders.projection import Projection
from encoders.weighing import Subset, combined, expansion

GRID, D, DIM = 7, 3, 8
FEATURES = D * GRID * GRID

weights_of_sketches = st.lists(st.floats(-4, 4).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=5)


def e(subset: Subset) -> np.ndarray:
    """Some map a set of objects: nothing about it is additive."""
    return np.random.default_rng(sum(2**i for i in subset)).normal(size=FEATURES)


def embed(subsets: list[Subset]) -> np.ndarray:
    return np.stack([e(subset) for subset in subsets])


def value(weights: list[float], among: Subset) -> np.ndarray:
    """E of the sketch that has only some of its objects."""
    return sum(coefficient * e(subset) for subset, coefficient in expansion(weights, among).items())


def by_formula(weights: list[float], i: int) -> np.ndarray:
    """Shapley (1953): sum over S without i of |S|! (n - |S| - 1)! / n! times what i adds to S."""
    n, total = len(weights), np.zeros(FEATURES)
    others = [j for j in range(n) if j != i]
    for without in chain.from_iterable(combinations(others, size) for size in range(n)):
        chance = factorial(len(without)) * factorial(n - len(without) - 1) / factorial(n)
        total += chance * (value(weights, tuple(sorted((*without, i)))) - value(weights, without))
    return total


def projection(seed: int) -> Projection:
    rng = np.random.default_rng(seed)
    matrix = np.linalg.qr(rng.normal(size=(FEATURES, DIM)))[0].T
    return Projection(matrix.astype(np.float32), rng.normal(0, 0.05, DIM).astype(np.float32))


def units(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- whose part of the embedding is whose ---


@settings(max_examples=25, deadline=None)
@given(weights_of_sketches)
def test_an_objects_share_is_its_shapley_value(weights: list[float]):
    parts = combined(embed, shares(weights))
    assert parts.shape == (len(weights) + 1, FEATURES)
    for i in range(len(weights)):
        np.testing.assert_allclose(parts[i], by_formula(weights, i), atol=1e-9)
    np.testing.assert_array_equal(parts[-1], e(()))


@pytest.mark.parametrize("count", [1, EXACT, EXACT + 1, 12])
@pytest.mark.parametrize("weight", [1.0, 2.5, -0.5])
def test_shares_sum_to_the_embedding_for_sampled_orders_too(count: int, weight: float):
    weights = [1.0] * (count - 1) + [weight if count > 1 else 1.0]
    summed: dict[Subset, float] = {}
    for row in shares(weights):
        for subset, coefficient in row.items():
            summed[subset] = summed.get(subset, 0.0) + coefficient
    expected = expansion(weights)
    assert expected.keys() <= summed.keys()
    for subset, coefficient in summed.items():
        assert coefficient == pytest.approx(expected.get(subset, 0.0), abs=1e-9)


def test_sampled_orders_come_from_the_seed_and_are_few():
    weights = [1.0] * 12
    assert shares(weights, seed=3) == shares(weights, seed=3) != shares(weights, seed=4)
    assert len({subset for row in shares(weights) for subset in row}) < 200  # each goes through f_t once


def test_sampled_orders_come_near_to_all_of_them():
    """Overlapping objects of one kind: the second to come adds half of what the first does."""
    weights = [1.0] * (EXACT + 2)

    def saturating(subsets: list[Subset]) -> np.ndarray:
        return np.array([[2 * (1 - 0.5 ** len(subset))] for subset in subsets])

    parts = combined(saturating, shares(weights))[:-1, 0]
    np.testing.assert_allclose(parts, 2 * (1 - 0.5 ** len(weights)) / len(weights), atol=0.06)


def test_an_object_that_changes_nothing_has_no_share_and_equal_ones_share_alike():
    parts = combined(lambda subsets: np.array([[len({0, 1} & set(s)) ** 2] for s in subsets], float), shares([1.0] * 3))
    np.testing.assert_allclose(parts[:, 0], [2, 2, 0, 0], atol=1e-12)


# --- the parts of a score ---


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_the_parts_sum_to_the_similarity(seed: int, objects: int):
    parts = np.random.default_rng(seed).normal(size=(objects + 1, FEATURES))
    project, stored = projection(seed + 1), units(4, seed + 2)
    similarity = stored @ project.apply(parts.sum(axis=0, keepdims=True))[0]
    explained = explain(parts, project, stored, GRID)
    assert [one.score for one in explained] == pytest.approx(similarity.tolist(), abs=1e-5)
    for one in explained:
        assert one.totals.sum() + one.canvas.sum() + one.bias == pytest.approx(one.score)


def test_a_cells_part_is_the_similarity_of_that_cell_alone():
    """Both norms held, the similarity is linear: keep one cell of the map, project, and multiply."""
    parts, project, stored = embed([(0,), (1,), ()]), projection(0), units(1, 1)
    (explained,) = explain(parts, project, stored, GRID)
    whole = parts.sum(axis=0)
    norm = np.linalg.norm(project.matrix @ whole / np.linalg.norm(whole) + project.offset)
    for row, part in enumerate(parts):
        for y, x in ((0, 0), (2, 5), (6, 6)):
            alone = np.zeros((D, GRID, GRID))
            alone[:, y, x] = part.reshape(D, GRID, GRID)[:, y, x]
            expected = stored[0] @ (project.matrix @ alone.ravel()) / np.linalg.norm(whole) / norm
            found = explained.objects[row, y, x] if row < 2 else explained.canvas[y, x]
            assert found == pytest.approx(expected, abs=1e-6)


def test_as_a_dictionary_it_still_sums_to_the_score():
    (one,) = explain(embed([(0,), (1,), ()]), projection(2), units(1, 3), GRID)
    told = one.to_dict()
    cells = sum(np.sum(part["cells"]) for part in (*told["objects"], told["canvas"]))
    assert cells + told["bias"] == pytest.approx(one.score)
    assert [part["total"] for part in told["objects"]] == pytest.approx(one.totals.tolist())


# --- the heat map ---


@pytest.fixture
def two_objects() -> Explanation:
    """Object 0 speaks for the photo at the upper left, object 1 half as loud at the lower right, 0 against it there."""
    objects = np.zeros((2, GRID, GRID))
    objects[0, 0, 0], objects[1, 6, 6], objects[0, 6, 0] = 0.2, 0.1, -0.2
    return Explanation(objects, np.zeros((GRID, GRID)), 0.1)


def test_a_cell_is_tinted_in_its_objects_colour_as_strongly_as_it_speaks(two_objects):
    white = np.full((70, 140, 3), 255, np.uint8)
    tinted = np.asarray(two_objects.overlay(Image.fromarray(white))).astype(float)
    assert tinted.shape == white.shape
    assert (tinted[30, 70] == 255).all()  # nobody speaks here
    for place, colour, opacity in (((5, 10), PALETTE[0], 0.75), ((65, 130), PALETTE[1], 0.375)):
        np.testing.assert_allclose(tinted[place], 255 + opacity * (np.array(colour) - 255), atol=2)
    np.testing.assert_allclose(tinted[65, 10], 255 + 0.75 * (np.array(AGAINST) - 255), atol=2)


def test_several_photos_are_tinted_by_one_measure(two_objects):
    white = Image.new("RGB", (70, 70), "white")
    alone, beside = two_objects.overlay(white), two_objects.overlay(white, loudest=2 * two_objects.loudest)
    assert beside.getpixel((5, 5))[1] > alone.getpixel((5, 5))[1]


def test_where_nothing_speaks_the_photo_is_only_pale_and_grey(two_objects):
    silent = Explanation(np.zeros((1, GRID, GRID)), two_objects.canvas, 0.0)
    photo = Image.effect_noise((20, 30), 50).convert("RGB")
    pale = np.asarray(silent.overlay(photo)).astype(float)
    np.testing.assert_allclose(pale, 0.7 * np.asarray(photo) + 0.3 * 255, atol=1)
