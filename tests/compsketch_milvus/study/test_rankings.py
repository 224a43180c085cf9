"""What methods find: over photos with boxes, and in collections of Milvus Lite."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.rankings import Check, balanced, from_collections, from_sets
from encoders.errors import DataError
from encoders.evaluation.metrics import top_k
from encoders.sketch import Sketch
from tests.compsketch_milvus.study.small import drawing

WORDS = ("dog", "cat", "cup")


@pytest.fixture
def sets(tmp_path: Path) -> tuple[list[tuple[Path, Path]], Path]:
    """48 photos of one to three dark boxes on white, all of one of three classes; sketches of each."""
    rng, images, boxes = np.random.default_rng(0), [], []
    (tmp_path / "images").mkdir()
    for number in range(48):
        file, picture = f"photo{number:02}.png", Image.new("RGB", (80, 80), "white")
        for cell in rng.choice(16, 1 + number % 3, replace=False).tolist():
            x, y = 20 * (cell % 4), 20 * (cell // 4)
            ImageDraw.Draw(picture).rectangle((x, y, x + 19, y + 19), fill="black")
            boxes.append({"image": file, "class": WORDS[number % 3 - 1], "bbox": [x, y, x + 20, y + 20]})
        picture.save(tmp_path / "images" / file)
        images.append({"file": file, "width": 80, "height": 80})
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "boxes": boxes}))
    lines = [
        {"word": word, "key_id": f"{word}{i}", "drawing": [[[0, 9, i], [0, 5, 9]]]} for word in WORDS for i in range(9)
    ]
    (tmp_path / "sketches.ndjson").write_text("\n".join(map(json.dumps, lines)))
    return [(tmp_path / "boxes.json", tmp_path / "images")], tmp_path / "sketches.ndjson"


def test_over_sets_queries_are_balanced_and_methods_ranked_as_they_rank(sets, toy_encoder):
    found = from_sets(toy_encoder, *sets, methods=["ssbir", "words"], queries=9, depth=5)
    assert sorted(len(one.sketch.objects) for one in found.found) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    paths = sorted((sets[0][0][1]).iterdir())
    photos = toy_encoder.encode_images(paths)
    for one in found.found:
        assert list(one.ranked) == ["ssbir", "words", "random"]
        scores = photos @ toy_encoder.encode_sketches([one.sketch])[0]
        assert one.ranked["ssbir"] == [str(paths[place].resolve()) for place in top_k(scores, 5)]
        assert len(set(one.ranked["random"])) == 5
    assert found.encoders == dict.fromkeys(("ssbir", "words"), f"toy {toy_encoder.fingerprint}")
    assert found.data == {"photos": 48, "sketches": 27}


def test_over_sets_checks_are_sure(sets, toy_encoder):
    found = from_sets(toy_encoder, *sets, methods=["ssbir"], queries=9, depth=5)
    boxes = json.loads(sets[0][0][0].read_text())["boxes"]
    classes = {box["image"]: box["class"] for box in boxes}
    for one in found.found:
        wanted = {item.label for item in one.sketch.objects}
        ranked = {photo for photos in one.ranked.values() for photo in photos}
        assert classes[Path(one.check.good).name] in wanted
        assert len(one.check.bad) == 1
        for photo in one.check.bad:
            assert classes[Path(photo).name] not in wanted
            assert photo not in ranked


def test_over_sets_a_seed_says_all(sets, toy_encoder):
    def once(seed):
        return from_sets(toy_encoder, *sets, methods=["ssbir"], queries=6, depth=4, seed=seed)

    def plain(found):
        return [(one.sketch.to_dict(), one.ranked, one.check) for one in found.found]

    assert plain(once(1)) == plain(once(1))
    assert plain(once(1)) != plain(once(2))


def test_over_sets_what_cannot_be_is_said(sets, toy_encoder):
    with pytest.raises(CompsketchError, match="unknown method 'magic'"):
        from_sets(toy_encoder, *sets, methods=["magic"])
    with pytest.raises(CompsketchError, match="a method beside chance"):
        from_sets(toy_encoder, *sets, methods=["random"])
    with pytest.raises(CompsketchError, match="'semir' needs an encoder of its own"):
        from_sets(toy_encoder, *sets, methods=["semir"])
    with pytest.raises(DataError, match="ask for fewer"):
        from_sets(toy_encoder, *sets, methods=["ssbir"], queries=99)


# --- collections ---


def quarter(number: int) -> Sketch:
    """One object that fills the n-th quarter from the left; see the fixture ``pictures``."""
    x0, x1 = 80 * number + 1, 80 * number + 79
    strokes = [[[x0, x1, x1, x0, x0], [0, 0, 320, 320, 0]]]
    return Sketch.from_dict({"width": 320, "height": 320, "objects": [{"label": "cup", "strokes": strokes}]})


def test_collections_one_a_method(open_collection, pictures, toy_encoder, toy):
    turned = toy.TurnedEncoder()
    for name, encoder in (("photos", toy_encoder), ("turned", turned)):
        with open_collection(name, encoder) as photos:
            photos.ingest(pictures[0].rpartition("/")[0])
    asked = []

    def open_(name, spec, is_semir):
        asked.append((name, spec, is_semir))
        return open_collection(name, toy_encoder if name == "photos" else turned, create=False)

    methods = {"ssbir": ("photos", None), "words": ("photos", "default"), "ours": ("turned", "runs/mine")}
    sketches = [quarter(number) for number in range(4)]
    checks = [Check(pictures[0], (pictures[1],)), None, None, None]
    found = from_collections(open_, methods, sketches, checks=checks, depth=3, seed=3)
    assert asked == [("photos", None, False), ("photos", "default", False), ("turned", "runs/mine", False)]
    for number, one in enumerate(found.found):
        assert list(one.ranked) == ["ssbir", "words", "ours", "random"]
        assert [one.ranked[name][0] for name in ("ssbir", "words", "ours")] == [pictures[number]] * 3
        assert len(set(one.ranked["random"])) == 3
        assert set(one.ranked["random"]) <= set(pictures)
        assert one.check == checks[number]
    assert found.encoders["ours"] == f"turned {turned.fingerprint}"
    assert found.data == {"collection": "photos", "photos": 4}
    again = from_collections(open_, methods, sketches, checks=checks, depth=3, seed=3)
    assert [one.ranked for one in again.found] == [one.ranked for one in found.found]


def test_chance_reaches_every_photo_of_a_collection(collection, photo_vectors, toy_encoder):
    collection.upsert(photo_vectors)
    found = from_collections(
        lambda *_: nullcontext(collection), {"ssbir": ("photos", None)}, [quarter(0)] * 60, depth=20
    )
    drawn = [photo for one in found.found for photo in one.ranked["random"]]
    counts = [drawn.count(record.source) for record in photo_vectors]
    assert min(counts) >= 8  # 1200 draws of 60 photos: 20 each
    assert max(counts) <= 36


def test_an_empty_collection_is_said(collection):
    with pytest.raises(CompsketchError, match="'photos' is empty"):
        from_collections(lambda *_: nullcontext(collection), {"ssbir": ("photos", None)}, [quarter(0)])


def test_sketches_are_balanced_or_it_is_said_what_is_missing():
    sketches = [drawing(1 + number % 3) for number in range(12)]
    assert balanced(sketches, None, 0) == list(range(12))
    chosen = balanced(sketches, 7, 0)
    assert sorted(len(sketches[place].objects) for place in chosen) == [1, 1, 2, 2, 3, 3, 3]
    assert chosen != balanced(sketches, 7, 1)
    with pytest.raises(CompsketchError, match="4 of 1, 4 of 2, 4 of 3"):
        balanced(sketches, 99, 0)
    with pytest.raises(CompsketchError, match="0 of 3"):
        balanced(sketches[:2], None, 0)
