"""Crops, mirror images and pasted scenes: where the boxes go, against slow references; and the cache."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.indexing import IndexingBranch, IndexingConfig
from encoders.runtimes import Normalise, compile_module
from encoders.training.data import read_training_set
from encoders.training.views import (
    KEPT,
    ViewConfig,
    crop_boxes,
    make_views,
    mirror_boxes,
    paste_scene,
    random_window,
)

fractions = st.tuples(*[st.floats(0, 1) for _ in range(4)]).map(
    lambda v: np.array([min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])])
)
boxes_of = st.lists(fractions.filter(lambda b: (b[2:] - b[:2] > 0.01).all()), min_size=1, max_size=5).map(np.stack)
seeds = st.integers(0, 2**32 - 1)


def slow_crop(boxes: np.ndarray, window: np.ndarray) -> list[tuple[int, list[float], float]]:
    """(index, box in the window's frame, the part of the box that is in the window), one box at a time."""
    found = []
    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        left, top = max(x0, window[0]), max(y0, window[1])
        right, bottom = min(x1, window[2]), min(y1, window[3])
        part = max(0.0, right - left) * max(0.0, bottom - top) / ((x1 - x0) * (y1 - y0))
        width, height = window[2] - window[0], window[3] - window[1]
        frame = [(left - window[0]) / width, (top - window[1]) / height]
        found.append((index, [*frame, (right - window[0]) / width, (bottom - window[1]) / height], part))
    return found


@settings(deadline=None, max_examples=80)
@given(boxes_of, seeds)
def test_a_crop_keeps_the_boxes_it_holds_enough_of(boxes, seed):
    window = random_window(np.random.default_rng(seed), 0.4)
    reference = slow_crop(boxes, window)
    assume(all(abs(part - KEPT) > 1e-6 for _, _, part in reference))
    cropped, kept = crop_boxes(boxes, window)
    expected = [(index, box) for index, box, part in reference if part > KEPT]
    assert kept.tolist() == [index for index, _ in expected]
    assert cropped.dtype == np.float32
    assert cropped.shape == (len(expected), 4)
    assert np.allclose(cropped, np.array([box for _, box in expected]).reshape(-1, 4), atol=1e-6)
    assert ((cropped >= -1e-6) & (cropped <= 1 + 1e-6)).all()


@given(boxes_of)
def test_the_whole_photo_is_a_crop_that_changes_nothing(boxes):
    cropped, kept = crop_boxes(boxes, np.array([0.0, 0, 1, 1]))
    assert kept.tolist() == list(range(len(boxes)))
    assert np.array_equal(cropped, boxes.astype(np.float32))


def test_a_photo_without_boxes_can_be_cropped():
    cropped, kept = crop_boxes(np.zeros((0, 4), np.float32), np.array([0.1, 0.1, 0.9, 0.9]))
    assert cropped.shape == (0, 4)
    assert len(kept) == 0


@given(boxes_of)
def test_mirrored_twice_is_as_before_and_once_is_about_the_middle(boxes):
    mirrored = mirror_boxes(boxes)
    assert np.allclose(mirror_boxes(mirrored), boxes, atol=1e-6)
    for before, after in zip(boxes, mirrored, strict=True):
        assert (before[0] + before[2]) / 2 + (after[0] + after[2]) / 2 == pytest.approx(1, abs=1e-6)
        assert after[2] - after[0] == pytest.approx(before[2] - before[0], abs=1e-6)
        assert after[[1, 3]] == pytest.approx(before[[1, 3]], abs=1e-6)


def test_a_mirrored_box_holds_the_mirrored_pixels():
    pixels = np.zeros((20, 40))
    box = np.array([[0.1, 0.2, 0.45, 0.6]])
    pixels[4:12, 4:18] = 1
    x0, y0, x1, y1 = (mirror_boxes(box)[0] * [40, 20, 40, 20]).round().astype(int)
    inside = np.zeros_like(pixels)
    inside[y0:y1, x0:x1] = 1
    assert np.array_equal(pixels[:, ::-1], inside)


@given(seeds, st.floats(0.1, 1))
def test_a_window_lies_in_the_photo_and_is_large_enough(seed, smallest):
    window = random_window(np.random.default_rng(seed), smallest)
    assert (window >= 0).all()
    assert (window <= 1 + 1e-12).all()
    assert (window[2:] - window[:2] >= smallest - 1e-12).all()


def plain(value: int) -> Image.Image:
    return Image.fromarray(np.full((10, 14, 3), value, np.uint8))


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 3))
def test_a_scene_shows_each_object_in_its_box_and_the_later_on_top(seed, count):
    side, values = 40, [60, 120, 180][:count]
    scene, boxes = paste_scene(np.random.default_rng(seed), plain(0), [plain(v) for v in values], side)
    assert scene.size == (side, side)
    assert boxes.shape == (count, 4)
    assert boxes.dtype == np.float32
    assert ((boxes >= 0) & (boxes <= 1)).all()
    expected = np.zeros((side, side), np.uint8)
    for value, (x0, y0, x1, y1) in zip(values, boxes, strict=True):
        row, column = slice(round(float(y0) * side), round(float(y1) * side)), slice(round(float(x0) * side), None)
        expected[row, column.start : round(float(x1) * side)] = value
    # A corner halfway between two pixels may fall on the other side in the float32 that the boxes are kept in.
    assert (np.asarray(scene)[..., 0] != expected).mean() < 0.03


def test_of_two_objects_hardly_one_is_half_hidden():
    hidden = []
    for seed in range(300):
        _, (first, second) = paste_scene(np.random.default_rng(seed), plain(0), [plain(1), plain(2)], 40)
        common = (np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])).clip(0).prod()
        hidden.append(common / (first[2:] - first[:2]).prod())
    assert np.mean(np.array(hidden) >= 0.4) < 0.05  # 20 tries may all fail
    assert np.mean(hidden) > 0.01  # and they do overlap


@pytest.fixture(scope="module")
def branch():
    return IndexingBranch(IndexingConfig(image_size=64, hidden=8, channels=4), pretrained=True)


@pytest.fixture(scope="module")
def few(data_folder):
    """A dozen held-out photos, and all that scenes are pasted from."""
    data = read_training_set(data_folder, held_out=True)
    few = 12
    return type(data)(
        **{**vars(data), "photos": data.photos[:few], "boxes": data.boxes[:few], "words": data.words[:few]}
    )


def test_views_are_photos_crops_of_them_and_scenes(few, branch, tmp_path):
    views = make_views(few, branch, ViewConfig(crops=2, scenes=5), tmp_path / "views", seed=1, threads=1)
    assert len(views) == 12 * 3 + 5
    assert views.features.shape == (41, 192, 2, 2)
    assert views.features.dtype == np.float16
    assert views.photo.tolist() == [i for i in range(12) for _ in range(3)] + [-1] * 5
    assert [len(row) for row in views.boxes] == [len(row) for row in views.classes]
    for index, (boxes, words) in enumerate(zip(few.boxes, few.words, strict=True)):  # the first view is the photo
        assert np.array_equal(views.boxes[3 * index], boxes)
        assert [few.vocabulary[kind] for kind in views.classes[3 * index]] == words
    for boxes, classes in zip(views.boxes[-5:], views.classes[-5:], strict=True):
        assert 1 <= len(boxes) <= 3
        assert {few.vocabulary[kind] for kind in classes} <= set(few.labels)


def test_each_box_knows_the_crop_it_shows(few, branch, tmp_path):
    """Crops are counted box by box, then labelled photo by labelled photo; every view of a box shows the same."""
    views = make_views(few, branch, ViewConfig(crops=2, scenes=5), tmp_path / "views", seed=1, threads=1)
    counts = [len(boxes) for boxes in few.boxes]
    listed = [*(word for words in few.words for word in words), *few.labels]
    for classes, crops, photo in zip(views.classes, views.crops, views.photo, strict=True):
        assert [few.vocabulary[kind] for kind in classes] == [listed[crop] for crop in crops]
        first = sum(counts) if photo < 0 else sum(counts[:photo])
        assert ((crops >= first) & (crops < first + (len(few.labels) if photo < 0 else counts[photo]))).all()
    for photo, count in enumerate(counts):
        assert views.crops[3 * photo].tolist() == list(range(sum(counts[:photo]), sum(counts[: photo + 1])))
        assert all(set(views.crops[3 * photo + copy]) <= set(views.crops[3 * photo]) for copy in (1, 2))
        assert len(views.crops[3 * photo]) == count


def test_features_are_those_of_the_frozen_layers(few, branch, tmp_path):
    views = make_views(few, branch, ViewConfig(0, 0), tmp_path / "views", seed=0, threads=1)
    pixels = [Image.open(path).resize((64, 64), Image.Resampling.BILINEAR) for path in few.photos]
    module = Normalise(branch.spec.mean, branch.spec.std)
    batch = np.stack([np.asarray(picture) for picture in pixels])
    network = compile_module(
        type(branch.frozen)(module, *branch.frozen).eval(), batch[:1], runtime="torch", precision="f32"
    )
    for own, reference in zip(np.asarray(views.features, np.float32), network(batch), strict=True):
        cosine = (own * reference).sum() / np.linalg.norm(own) / np.linalg.norm(reference)
        assert cosine > 0.999


def test_views_are_computed_once_and_a_computation_cut_short_is_no_cache(few, branch, tmp_path):
    cache = tmp_path / "views"
    config = ViewConfig(crops=1, scenes=2)
    views = make_views(few, branch, config, cache, seed=3, threads=1)
    written = cache.with_suffix(".npy").stat().st_mtime_ns
    again = make_views(few, branch, config, cache, seed=4, threads=1)
    assert cache.with_suffix(".npy").stat().st_mtime_ns == written
    assert np.array_equal(views.features, again.features)
    kept = np.array(views.features)
    cache.with_suffix(".npz").unlink()  # the boxes are written last
    fresh = make_views(few, branch, config, cache, seed=3, threads=1)
    assert np.array_equal(fresh.features, kept)  # and the seed decides
    assert all(np.array_equal(a, b) for a, b in zip(fresh.boxes, views.boxes, strict=True))
