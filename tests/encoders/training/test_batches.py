"""What stage 2 sees in a step, from cached views and from photos decoded anew."""

import numpy as np
import pytest
import torch

from encoders.training.asking import AskConfig, Asker
from encoders.training.batches import CachedViews, Photos, Steps, pad
from encoders.training.data import read_training_set
from encoders.training.loop import generator
from encoders.training.vectors import CropVectors, Source
from encoders.training.views import ViewConfig, Views

C, SIDE = 8, 32


@pytest.fixture(scope="module")
def data(data_folder):
    return read_training_set(data_folder)


@pytest.fixture(scope="module")
def asker(data) -> Asker:
    """Paints with the crops themselves, as the paper does (eq. 2)."""
    count = sum(len(boxes) for boxes in data.boxes)
    vectors = np.random.default_rng(0).normal(size=(count, C)).astype(np.float32)
    crops = CropVectors.build(vectors, np.arange(count))
    every = np.ones(len(data.vocabulary), bool)
    return Asker(Source(C, data.vocabulary, crops, crops, every, every), AskConfig(jitter=0.0, undrawable=1.0))


@pytest.fixture(scope="module")
def photos(data, asker) -> Photos:
    return Photos(data, ViewConfig(crops=1), SIDE, asker)


def test_a_look_at_a_photo_is_of_it_or_of_a_crop_mirrored_or_not(data, photos):
    seen = set()
    for seed in range(40):
        look = photos.look(0, generator(seed))
        assert look.features.shape == (SIDE, SIDE, 3)
        assert look.features.dtype == np.uint8
        assert len(look.boxes) == len(look.classes) == len(look.crops) > 0
        if len(look.boxes) < len(data.boxes[0]):
            seen.add("some")
        else:
            mirrored = np.allclose(look.boxes[:, 0], 1 - data.boxes[0][:, 2])
            seen.add("whole" if np.array_equal(look.boxes, data.boxes[0]) else "mirrored" if mirrored else "cropped")
        assert set(look.crops) <= set(range(len(data.boxes[0])))
        assert [data.vocabulary[kind] for kind in look.classes] == [data.words[0][crop] for crop in look.crops]
    assert {"whole", "mirrored"} < seen  # and crops, with all boxes or some


def test_the_pixels_are_those_that_the_boxes_say(photos, data):
    """The one box of its colour, in the picture as in the list."""
    alone = [i for i, words in enumerate(data.words) if words == ["motorbike"]]
    largest = max(alone, key=lambda i: np.prod(data.boxes[i][0, 2:] - data.boxes[i][0, :2]))
    for seed in range(6):
        look = photos.look(largest, generator(seed))
        x0, y0, x1, y1 = np.round(look.boxes[0] * SIDE).astype(int)
        inside = look.features[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].reshape(-1, 3).mean(axis=0)
        assert inside[0] > 180 > 100 > inside[2]  # yellow


def test_a_photos_crops_are_numbered_through_all_photos(photos, data):
    assert np.array_equal(np.concatenate(photos.crops), np.arange(sum(len(boxes) for boxes in data.boxes)))


def test_cached_views_mirror_features_with_boxes():
    features = np.arange(2 * 1 * 2 * 3, dtype=np.float16).reshape(2, 1, 2, 3)
    boxes = [np.array([[0.0, 0.1, 0.3, 0.5]], np.float32)] * 2
    views = CachedViews(Views(features, boxes, [np.array([1])] * 2, [np.array([0]), np.array([1])], np.arange(2)))
    seen = set()
    for seed in range(12):
        look = views.look(1, generator(seed))
        mirrored = not np.array_equal(look.boxes, boxes[1])
        assert np.array_equal(look.features, features[1][:, :, ::-1] if mirrored else features[1])
        assert look.boxes[0] == pytest.approx([0.7, 0.1, 1.0, 0.5] if mirrored else [0.0, 0.1, 0.3, 0.5])
        assert look.crops.tolist() == [1]
        seen.add(mirrored)
    assert seen == {True, False}


def test_two_processes_draw_the_halves_of_the_order(photos, asker, monkeypatch):
    """Each sees every photo once an epoch, in an order that the seed decides."""
    usable = asker.usable(photos)
    whole = Steps(photos, usable, asker, 8, seed=0, epoch=1)
    assert sorted(whole.order) == usable.tolist()
    batch = whole[0]
    assert batch.features.shape == (8, SIDE, SIDE, 3)
    assert batch.vectors[batch.cells].shape == (8, 31, 31, C)
    assert all(
        torch.equal(a, b) for a, b in zip(batch, Steps(photos, usable, asker, 8, seed=0, epoch=1)[0], strict=True)
    )
    assert not torch.equal(batch.classes, Steps(photos, usable, asker, 8, seed=0, epoch=2)[0].classes)
    monkeypatch.setattr("encoders.training.batches.rank", lambda: 1)
    monkeypatch.setattr("encoders.training.batches.per_process", lambda batch: batch // 2)
    rows = []
    monkeypatch.setattr(photos, "look", lambda row, rng: rows.append(row) or Photos.look(photos, row, rng))
    assert len(Steps(photos, usable, asker, 8, seed=0, epoch=1)[2].cells) == 4
    assert rows == whole.order[20:24].tolist()


def test_padding_says_where_there_is_nothing():
    boxes, classes = pad([np.ones((2, 4)), np.ones((0, 4))], [np.array([3, 4]), np.array([], int)], 3)
    assert boxes.shape == (2, 3, 4)
    assert classes.tolist() == [[3, 4, -1], [-1, -1, -1]]
    assert boxes.sum() == 8
