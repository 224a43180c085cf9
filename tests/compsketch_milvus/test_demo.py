"""The demonstration: its sketches, its scenes, and the page it writes."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.demo import SKETCHES, run, shipped_sketches
from compsketch_milvus.demo.scenes import CUTOUTS, PHOTOS, SCENE, compose, gather, originals
from compsketch_milvus.errors import SourceError


def test_at_least_six_sketches_for_the_scenes_and_for_everyday_photos():
    composed, everyday = shipped_sketches(composed=True), shipped_sketches(composed=False)
    assert len(composed) >= 6
    assert len(everyday) >= 6
    assert len(composed) + len(everyday) == len(list(SKETCHES.glob("*.json")))
    for sketch in [*composed.values(), *everyday.values()]:
        assert 1 <= len(sketch.objects) <= 3
        assert all(item.label for item in sketch.objects)


def test_one_sketch_is_another_with_its_objects_swapped():
    sketches = shipped_sketches(composed=True)
    for title, labels in {"cat left cup right": ["cat", "cup"], "cup left cat right": ["cup", "cat"]}.items():
        objects = sorted(sketches[title].objects, key=lambda item: item.box[0])
        assert [item.label for item in objects] == labels


def test_gather_writes_the_same_pictures_for_the_same_seed(tmp_path):
    assert gather(tmp_path / "a", scenes=5, seed=3) == len(PHOTOS) + 5
    gather(tmp_path / "b", scenes=5, seed=3)
    gather(tmp_path / "c", scenes=5, seed=4)
    a, b, c = (
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in "abc"
    )
    assert a == b != c
    assert len(a) == len(PHOTOS) + 5
    names = [re.fullmatch(r"scene-\d{3}((?:-[a-z]+)+)\.jpg", name) for name in a if name.startswith("scene")]
    assert all(match and set(match[1].strip("-").split("-")) <= set(CUTOUTS) for match in names)


def test_originals_are_photos():
    for name, image in originals():
        assert image.mode == "RGB", name
        assert min(image.size) >= 300, name


def test_a_scene_holds_its_things_where_it_says():
    gray = Image.new("RGB", SCENE, (128, 128, 128))
    # One plain colour an object: recoloured by at most a fifth, it is told from the gray by its hue.
    colours = {"cat": (200, 0, 0), "cup": (0, 200, 0), "motorbike": (0, 0, 200)}
    cutouts = {label: Image.new("RGBA", (60, 40), (*colour, 255)) for label, colour in colours.items()}
    rng = np.random.default_rng(0)
    for _ in range(30):
        scene = compose(rng, cutouts, [gray])
        assert scene.image.size == SCENE
        assert 1 <= len(scene.things) <= 3
        pixels = np.asarray(scene.image).astype(int)
        coloured = np.ptp(pixels, axis=2) > 60
        expected = np.zeros(coloured.shape, bool)
        for thing in scene.things:
            x0, y0, x1, y1 = (np.array(thing.box) * [*SCENE, *SCENE]).round().astype(int)
            assert 0 <= x0 < x1 <= SCENE[0]
            assert 0 <= y0 < y1 <= SCENE[1]
            assert not expected[y0:y1, x0:x1].any()  # nothing hides another
            expected[y0:y1, x0:x1] = True
            middle = pixels[(y0 + y1) // 2, (x0 + x1) // 2]
            assert middle.argmax() == list(colours).index(thing.label)
        assert (coloured == expected).mean() > 0.99


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install scikit-image.*photos of your own"):
        originals()


def test_the_page_is_whole_and_can_be_moved(tmp_path, toy_encoder):
    out = tmp_path / "demo"
    result = run(toy_encoder, out, scenes=8)
    assert result.photos == result.ingest.indexed == len(PHOTOS) + 8
    assert [len(query.hits) for query in result.queries] == [12] * len(shipped_sketches(composed=True))
    page = result.page.read_text(encoding="utf-8")
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert len(pictures) == len(result.queries)
    assert all((out / picture).is_file() for picture in pictures)  # relative
    assert not re.search(r"https?://|<script|file:", page)
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert anchors == re.findall(r'<section id="([^"]+)"', page)

    again = run(toy_encoder, out, scenes=8)
    assert (again.ingest.indexed, again.photos) == (0, result.photos)
