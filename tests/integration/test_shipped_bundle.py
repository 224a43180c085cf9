"""The bundle that ships, on real photos and Milvus Lite: what is drawn left is found left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus import SketchCollection, connect
from compsketch_milvus.demo import SKETCHES, scenes
from encoders.bundle import find
from encoders.local import LocalEncoder
from encoders.sketch import Sketch

pytest.importorskip("skimage", reason="its photos are what the scenes are composed of")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory):
    """150 composed scenes, whose names list their objects from left to right, in a Milvus Lite collection."""
    folder = tmp_path_factory.mktemp("shipped")
    scenes.gather(folder / "photos", scenes=150, seed=1)
    with SketchCollection.open("photos", connect(), uri=str(folder / "photos.db")) as collection:
        assert collection.ingest(folder / "photos").failed == []
        yield collection


def names(photos: SketchCollection, sketch: str, limit: int) -> list[str]:
    return [Path(hit.source).stem for hit in photos.search(Sketch.open(SKETCHES / f"{sketch}.json"), limit=limit)]


@pytest.mark.parametrize(
    ("sketch", "left", "right"),
    [
        ("cat-left-cup-right", "cat", "cup"),
        ("cup-left-cat-right", "cup", "cat"),
        ("motorbike-left-flower-right", "motorbike", "flower"),
    ],
)
def test_two_objects_come_on_the_sides_where_they_are_drawn(photos, sketch: str, left: str, right: str) -> None:
    ranked = names(photos, sketch, limit=photos.count())
    right_way = np.array([left in name and right in name and name.index(left) < name.rindex(right) for name in ranked])
    assert right_way[0], ranked[:5]
    precision = right_way.cumsum() / np.arange(1, len(ranked) + 1)
    chance = right_way.mean()  # what a random ranking's average precision would be
    assert precision[right_way].mean() > 3 * chance, (precision[right_way].mean(), chance)
    mirrored = np.array([left in name and right in name and name.index(right) < name.rindex(left) for name in ranked])
    only = mirrored & ~right_way
    assert np.flatnonzero(right_way).mean() < np.flatnonzero(only).mean()  # places in the ranking


def test_the_bundle_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in find().iterdir()) < 45e6


def test_the_runtimes_agree_on_photos_and_sketches(photos, tmp_path: Path) -> None:
    """bfloat16 of the fastest runtime against float32: the mean cosine is .999, and no row is far off."""
    scenes.gather(tmp_path, scenes=0)
    pictures = sorted(tmp_path.glob("*.jpg"))
    sketches = [Sketch.open(path) for path in sorted(SKETCHES.glob("*.json"))]
    fast, exact = photos.encoder, LocalEncoder.open(runtime="torch")
    for mine, reference in (
        (fast.encode_images(pictures), exact.encode_images(pictures)),
        (fast.encode_sketches(sketches), exact.encode_sketches(sketches)),
    ):
        cosine = np.sum(mine * reference, axis=1)
        assert cosine.mean() > 0.999
        assert cosine.min() > 0.99
