"""Edge maps of photos' objects: what is drawn, of what, and how it is varied."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from encoders.training.data import read_training_set
from encoders.training.edges import FREE, SIDE, Edges, edge_map, edge_maps


def test_a_disc_becomes_a_circle_in_the_middle():
    photo = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(photo).ellipse((40, 40, 160, 160), fill=(30, 60, 200))
    picture = edge_map(photo)
    rows, columns = np.nonzero(picture < 128)
    radius = np.hypot(rows + 0.5 - SIDE / 2, columns + 0.5 - SIDE / 2)
    assert radius == pytest.approx(60 / 200 * (SIDE - 2 * FREE), abs=3)
    assert picture[SIDE // 2, SIDE // 2] == 255


def test_the_aspect_is_kept_and_the_rest_stays_white():
    photo = Image.new("RGB", (240, 60), "white")
    ImageDraw.Draw(photo).rectangle((20, 10, 220, 50), fill="black")
    picture = edge_map(photo)
    rows, columns = np.nonzero(picture < 128)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(200 / 40, rel=0.2)


def test_what_has_no_edges_is_left_out():
    assert edge_map(Image.new("RGB", (80, 80), "gray")) is None


def test_only_what_can_be_drawn_has_edge_maps_and_they_are_kept(data_folder, tmp_path):
    data = read_training_set(data_folder)
    edges = edge_maps(data, tmp_path)
    assert edges.pictures.shape[1:] == (SIDE, SIDE)
    words = {data.vocabulary[kind] for kind in edges.classes}
    assert words
    assert words <= {"cat", "dog", "motorbike"}  # nobody draws a person or a kettle here
    (cache,) = tmp_path.glob("edges-*.npz")
    written = cache.stat().st_mtime_ns
    again = edge_maps(data, tmp_path)
    assert np.array_equal(again.pictures, edges.pictures)
    assert cache.stat().st_mtime_ns == written


def test_rare_classes_are_drawn_more_often_and_a_seed_repeats():
    pictures = np.full((101, SIDE, SIDE), 255, np.uint8)
    pictures[-1] = 0
    edges = Edges(pictures, np.array([0] * 100 + [1]))
    drawn, classes = edges.draw(400, np.random.default_rng(0), 32)
    again, _ = edges.draw(400, np.random.default_rng(0), 32)
    assert drawn.shape == (400, 32, 32)
    assert bool((drawn == again).all())
    assert 0.05 < float((classes == 1).float().mean()) < 0.3  # 100 ** -.6 against 100 times as many: .14
    assert bool((drawn[classes == 0] == 255).all())
    assert float(drawn[classes == 1].float().mean()) < 60
