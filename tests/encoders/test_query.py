"""The query tensor against a naive transcription of eq. 1: paint every pixel, then adaptive max-pooling."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.errors import CompsketchError
from encoders.query import layout, paint, query_tensor, query_tensors

LEFT, RIGHT, ALL = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1)


def pixels_of(low: float, high: float, size: int) -> list[int]:
    inside = [i for i in range(size) if low <= (i + 0.5) / size < high]
    return inside or [min(int((low + high) / 2 * size), size - 1)]


def naive(vectors, boxes, cells, resolution):
    """Eq. 1 word for word: a W x H field of 1/kappa an object, the weighted sum, MP_NxN."""
    width, height = resolution
    mask = np.zeros((len(boxes), height, width))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        for y in pixels_of(y0, y1, height):
            mask[i, y, pixels_of(x0, x1, width)] = 1
    kappa = mask.sum(axis=0)
    painted = np.einsum("nc,nhw->chw", np.asarray(vectors, dtype=float), mask) / np.maximum(kappa, 1)
    result = np.empty((len(vectors[0]), cells, cells), dtype=np.float32)
    for i in range(cells):
        for j in range(cells):
            rows = slice(i * height // cells, -(-(i + 1) * height // cells))
            columns = slice(j * width // cells, -(-(j + 1) * width // cells))
            result[:, i, j] = painted[:, rows, columns].max(axis=(1, 2))
    return result


@st.composite
def scenes(draw):
    """Boxes that overlap, repeat, touch the border, lie on a grid or are tiny; vectors of small integers, so exact."""
    side = st.one_of(st.floats(0, 1), st.integers(0, 8).map(lambda k: k / 8), st.just(0.0), st.just(1.0))
    extent = st.one_of(st.just(1e-6), st.floats(1e-9, 1))

    def box(x, y, w, h):
        x, y = min(x, 1 - 1e-6), min(y, 1 - 1e-6)
        return (x, y, min(x + max(w, 1e-9), 1.0), min(y + max(h, 1e-9), 1.0))

    boxes = draw(st.lists(st.one_of(st.builds(box, side, side, extent, extent), st.just(ALL)), min_size=1, max_size=7))
    boxes += draw(st.lists(st.sampled_from(boxes), max_size=3))  # identical boxes
    channels = draw(st.integers(1, 3))
    vectors = draw(
        st.lists(
            st.lists(st.integers(-9, 9), min_size=channels, max_size=channels), min_size=len(boxes), max_size=len(boxes)
        )
    )
    cells = draw(st.integers(1, 9))
    resolution = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return np.array(vectors, dtype=np.float32), np.array(boxes), cells, resolution


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_equals_the_naive_painting_exactly(scene):
    assert np.array_equal(query_tensor(*scene), naive(*scene))


@pytest.mark.parametrize("objects", [1, 2, 5, 32])
def test_equals_the_naive_painting_at_the_papers_size(objects):
    rng = np.random.default_rng(objects)
    low = rng.random((objects, 2)) * 0.7
    boxes = np.hstack([low, low + 0.01 + rng.random((objects, 2)) * 0.28])
    vectors = rng.normal(size=(objects, 4)).astype(np.float32)
    tensor = query_tensor(vectors, boxes)
    assert tensor.shape == (4, 31, 31)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, naive(vectors, boxes, 31, (248, 248)), rtol=1e-6, atol=1e-7)


def test_pools_like_torch():
    torch = pytest.importorskip("torch")
    boxes = np.array([[0.1, 0.2, 0.63, 0.7], [0.4, 0.05, 0.9, 0.66]])
    vectors = np.array([[1.0, -2.0], [-3.0, 4.0]], dtype=np.float32)
    painted = naive(vectors, boxes, cells=50, resolution=(50, 50))  # a cell a pixel: eq. 1 before its max-pool
    pooled = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(painted), 31).numpy()
    assert np.array_equal(query_tensor(vectors, boxes, resolution=(50, 50)), pooled)


def test_empty_positions_are_zero_and_a_covered_one_is_the_vector():
    tensor = query_tensor([[2, -3]], [LEFT], cells=2)
    assert tensor.tolist() == [[[2, 0], [2, 0]], [[-3, 0], [-3, 0]]]


def test_a_partly_covered_cell_is_the_signed_maximum_with_zero():
    tensor = query_tensor([[2, -3]], [(0, 0, 0.75, 1)], cells=2)
    assert tensor.tolist() == [[[2, 2], [2, 2]], [[-3, 0], [-3, 0]]]


def test_overlapping_vectors_are_averaged_with_one_over_kappa():
    tensor = query_tensor([[6], [3], [0]], [ALL, ALL, RIGHT], cells=2)
    assert tensor.tolist() == [[[4.5, 3], [4.5, 3]]]


def test_x_runs_along_the_columns_and_y_along_the_rows():
    tensor = query_tensor([[1]], [(0.75, 0, 1, 0.25)], cells=4)
    assert np.argwhere(tensor[0]).tolist() == [[0, 3]]


def test_a_box_under_a_pixel_keeps_one_pixel():
    tensor = query_tensor([[5]], [(0.5, 0.99999, 0.500001, 1.0)])
    assert np.argwhere(tensor[0]).tolist() == [[30, 15]]


@settings(max_examples=50, deadline=None)
@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_the_objects_does_not_matter(scene, random):
    vectors, boxes, cells, resolution = scene
    order = random.sample(range(len(boxes)), len(boxes))
    assert np.array_equal(
        query_tensor(vectors[order], boxes[order], cells, resolution), query_tensor(vectors, boxes, cells, resolution)
    )


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_the_layout_tells_what_occurs_and_serves_many_vectors(scene):
    vectors, boxes, cells, resolution = scene
    geometry = layout(boxes, cells, resolution)
    values = (geometry.labels > 0) @ vectors / np.maximum((geometry.labels > 0).sum(axis=1, keepdims=True), 1)
    occurs = geometry.shown[:, geometry.kinds]  # (L, cells, cells)
    by_label = np.where(occurs[:, None], values[:, :, None, None], -np.inf).max(axis=0)
    np.testing.assert_array_equal(paint(geometry, vectors).spread(), by_label.astype(np.float32))
    np.testing.assert_array_equal(paint(geometry, -vectors).spread(), naive(-vectors, boxes, cells, resolution))
    assert set(geometry.labels.sum(axis=1).round(6)) <= {0, 1}


def test_a_painting_names_each_kind_of_cell_once():
    painting = paint(layout([(0.25, 0.25, 0.75, 0.75)], cells=4), [[2.0, -1.0]])
    assert painting.vectors.tolist() == [[2, -1], [0, 0]] or painting.vectors.tolist() == [[0, 0], [2, -1]]
    inside = painting.cells == painting.cells[1, 1]
    assert inside.astype(int).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_batch_of_different_numbers_of_objects():
    vectors = [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]
    boxes = [[LEFT], [RIGHT, ALL]]
    batch = query_tensors(vectors, boxes)
    assert batch.shape == (2, 2, 31, 31)
    assert np.array_equal(batch, np.stack([query_tensor(v, b) for v, b in zip(vectors, boxes, strict=True)]))


def test_arguments_are_left_alone():
    vectors, boxes = np.ones((1, 3), np.float32), np.array([LEFT], np.float32)
    query_tensor(vectors, boxes)
    assert (vectors == 1).all()
    assert boxes.tolist() == [list(LEFT)]


@pytest.mark.parametrize(
    ("vectors", "boxes", "message"),
    [
        ([[1.0]], [(0.2, 0.2, 0.1, 0.9)], r"box 0 is \[0.2, 0.2, 0.1, 0.9\]"),
        ([[1.0]], [(0.2, 0.2, 0.2, 0.9)], "x0 < x1"),
        ([[1.0], [1.0]], [ALL, (0, 0, 1.01, 1)], "box 1 is"),
        ([[1.0]], [(0, -0.1, 1, 1)], "box 0 is"),
        ([[1.0]], [(0, 0, float("nan"), 1)], "box 0 is"),
        ([[1.0]], [(0, 0, 1)], r"shape \(1, 3\)"),
        ([1.0], [ALL], r"vectors have shape \(1,\)"),
        ([[1.0]], [ALL, ALL], r"give \(2, C\)"),
        ([[]], [ALL], "vectors have shape"),
        ([[float("inf")]], [ALL], "vector 0 holds"),
        (np.empty((0, 2)), np.empty((0, 4)), "n from 1 to 32"),
        (np.ones((33, 1)), [ALL] * 33, "n from 1 to 32"),
    ],
)
def test_bad_input_names_itself(vectors, boxes, message):
    with pytest.raises(CompsketchError, match=message):
        query_tensor(vectors, boxes)


@pytest.mark.parametrize(("name", "value"), [("cells", 0), ("resolution", (0, 5))])
def test_bad_sizes_name_themselves(name, value):
    with pytest.raises(CompsketchError, match=name):
        query_tensor([[1.0]], [ALL], **{name: value})


def test_a_bad_item_of_a_batch_is_named():
    with pytest.raises(CompsketchError, match="item 1: box 0"):
        query_tensors([[[1.0]], [[1.0]]], [[ALL], [(1, 1, 0, 0)]])
    with pytest.raises(CompsketchError, match="item 1 has 2 channels"):
        query_tensors([[[1.0]], [[1.0, 2.0]]], [[ALL], [ALL]])
    with pytest.raises(CompsketchError, match="vectors of 1 items and boxes of 0"):
        query_tensors([[[1.0]]], [])


def test_needs_numpy_only():
    code = "import sys, encoders.query; sys.exit(any(m in sys.modules for m in ('torch', 'PIL', 'faiss', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
