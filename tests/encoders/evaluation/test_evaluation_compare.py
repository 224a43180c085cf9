"""Methods side by side, on a handful of generated photos and a true, tiny encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from encoders.errors import CompsketchError, DataError, ImageError
from encoders.evaluation.compare import evaluate
from encoders.evaluation.compositions import split_photos, split_sketches
from encoders.evaluation.methods import METHODS
from encoders.evaluation.ranking import rank
from encoders.evaluation.scores import METRICS

CELLS = [(x, y, x + 2, y + 2) for y in range(3) for x in range(3)]  # of a 4 x 4 grid, as the toy encoder sees it
WORDS = ("dog", "cat")


@pytest.fixture
def data(tmp_path):
    """36 photos, each with one or two dark boxes on white, on a coarse grid; sketches of dogs and cats."""
    return make(tmp_path, 36)


def make(root, count, prefix="photo", most=2):
    images, boxes = [], []
    (root / "images").mkdir(exist_ok=True)
    for i in range(count):
        file = f"{prefix}{i:03d}.png"
        picture = Image.new("RGB", (80, 40), "white")
        for cell in list(dict.fromkeys([CELLS[i % 9], CELLS[(i // 9) * 2 % 9]]))[:most]:
            x0, y0, x1, y1 = (value * step for value, step in zip(cell, (20, 10, 20, 10), strict=True))
            ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), fill="black")
            boxes.append({"image": file, "class": "dog", "bbox": [x0, y0, x1, y1]})
        picture.save(root / "images" / file)
        images.append({"file": file, "width": 80, "height": 40})
    (root / f"{prefix}.json").write_text(json.dumps({"images": images, "boxes": boxes}))
    lines = [
        {"word": word, "key_id": f"{word}{i}", "drawing": [[[0, 9, i], [0, 5, 9]]]} for word in WORDS for i in range(40)
    ]
    (root / "sketches.ndjson").write_text("\n".join(map(json.dumps, lines)))
    return root / f"{prefix}.json", root / "images", root / "sketches.ndjson"


@pytest.fixture
def single_object_encoder(toy_encoder):
    """The toy with the two embeddings that the single-object baseline ranks by: its own, blind to where things are."""

    class Blind(type(toy_encoder)):
        def embed_photo_objects(self, images):
            return blind(self.encode_images(images))

        def embed_canvas(self, sketches):
            return blind(self.encode_sketches(sketches))

    def blind(vectors):
        vectors = np.sort(vectors, axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return Blind()


def test_the_shape_of_the_answer_and_the_order_of_the_methods(data, single_object_encoder):
    result = evaluate(single_object_encoder, *data)
    assert json.loads(json.dumps(result)) == result  # plain numbers only
    assert {key: result[key] for key in ("queries", "gallery", "tau", "k", "seed", "subset")} == {
        "queries": 36, "gallery": 36, "tau": 0.5, "k": 200, "seed": 0, "subset": "all",
    }  # fmt: skip
    assert list(result["methods"]) == ["ssbir", "msbir", "random"]
    assert result["queries_without_relevant"] == 0
    assert result["relevant_per_query"] >= 1
    for scores in result["methods"].values():
        mean_of = {*METRICS, "intervals", "queries"}
        assert set(scores) == mean_of | {"by_objects", "by_class", "by_tau"}
        parts = scores["by_objects"]
        assert set(parts) == {"1", "2"}
        assert sum(part["queries"] for part in parts.values()) == 36
        assert set(scores["by_class"]) == {"dog"}  # there are no boxes of cats
        assert list(scores["by_tau"]) == ["0.3", "0.4", "0.5", "0.6", "0.7"]
        for part in (parts["1"], scores["by_class"]["dog"], *scores["by_tau"].values()):
            assert set(part) == mean_of
        assert scores["by_tau"]["0.5"] == scores["by_class"]["dog"] == {name: scores[name] for name in mean_of}
        for name in METRICS:
            low, high = scores["intervals"][name]
            assert 0 <= low <= scores[name] <= high <= 1
            mean = sum(part[name] * part["queries"] for part in parts.values()) / 36
            assert scores[name] == pytest.approx(mean)
    maps = [result["methods"][name]["mAP"] for name in ("ssbir", "msbir", "random")]
    assert maps[0] > 1.5 * max(maps[1:])


def test_layouts_of_all_objects_are_found_exactly(tmp_path, toy_encoder):
    data = make(tmp_path, 9, most=1)  # one box a photo, all different: the toy sees just that
    result = evaluate(toy_encoder, *data, methods=["ssbir"])
    assert result["relevant_per_query"] == 1.0
    assert result["methods"]["ssbir"]["mAP"] == result["methods"]["ssbir"]["NDCG"] == pytest.approx(1.0)
    assert result["methods"]["ssbir"]["P@20"] == pytest.approx(1 / 20)


def test_a_seed_repeats_and_a_limit_keeps_the_gallery(data, toy_encoder):
    options = {"methods": ["ssbir", "random"], "limit": 7, "seed": 5}
    first = evaluate(toy_encoder, *data, **options)
    assert (first["queries"], first["gallery"]) == (7, 36)
    assert evaluate(toy_encoder, *data, **options, batch_size=5) == first
    assert evaluate(toy_encoder, *data, **{**options, "seed": 6}) != first


def test_photos_are_encoded_once_for_methods_that_share_them(data, toy_encoder):
    stages = []
    methods = ["ssbir", "ssbir+words"]
    evaluate(toy_encoder, *data, methods=methods, batch_size=10, progress=lambda *stage: stages.append(stage))
    assert (toy_encoder.images, toy_encoder.batches) == (36, 4)
    assert [stage for stage in stages if stage[0].startswith("photos")] == [
        ("photos: encode_images", done, 36) for done in (10, 20, 30, 36)
    ]


def test_held_out_leaves_what_training_saw(data, toy_encoder):
    annotations, _, sketches = data
    files = [image["file"] for image in json.loads(annotations.read_text())["images"]]
    keys = [json.loads(line)["key_id"] for line in sketches.read_text().splitlines()]
    assert 0 < split_sketches([key for key in keys if key.startswith("dog")]).sum() < 40
    result = evaluate(toy_encoder, *data, methods=["ssbir"], subset="held_out")
    assert result["gallery"] == split_photos(files).sum() < 36
    assert result["queries"] == result["gallery"]


def test_more_photos_are_ranked_but_not_asked_for(tmp_path, data, toy_encoder):
    more = tmp_path / "more"
    more.mkdir()
    make(more, 5, prefix="other")
    (more / "labels.json").write_text(json.dumps([{"file": "other000.png", "class": "dog"}]))
    extra = [(more / "other.json", more / "images"), (more / "labels.json", more / "images")]
    alone = evaluate(toy_encoder, *data, methods=["ssbir"])
    result = evaluate(toy_encoder, *data, methods=["ssbir"], extra_gallery=extra)
    assert (result["queries"], result["gallery"]) == (36, 42)
    assert result["relevant_per_query"] > alone["relevant_per_query"]  # boxes count, labels do not
    both = evaluate(
        toy_encoder, [data[0], more / "other.json"], [data[1], more / "images"], data[2], methods=["random"]
    )
    assert (both["queries"], both["gallery"]) == (41, 41)


def test_classes_meet_by_word(tmp_path, data, toy_encoder):
    annotations = json.loads(data[0].read_text())
    class_map = tmp_path / "map.json"
    class_map.write_text(json.dumps({"words": {"hound": "dog"}, "left_out": {"person": "none"}}))
    for box, name in zip(annotations["boxes"], ["hound", "dog", "person", "yak"] * 99, strict=False):
        box["class"] = name
    data[0].write_text(json.dumps(annotations))
    result = evaluate(toy_encoder, *data, methods=["ssbir"], class_map_path=class_map)
    assert result["classes_left_out"] == ["person", "yak"]
    for box in annotations["boxes"]:
        box["class"] = box["class"].replace("hound", "dog")
    data[0].write_text(json.dumps(annotations))
    assert evaluate(toy_encoder, *data, methods=["ssbir"], class_map_path=class_map)["methods"] == result["methods"]


def test_rank_is_stable_across_blocks():
    gallery = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    queries = np.tile(np.eye(3, dtype=np.float32), (200, 1))  # more than one block
    rankings = list(rank(queries, gallery, 4))
    assert len(rankings) == 600
    assert [r.tolist() for r in rankings[597:]] == [[0, 1, 2, 3], [2, 3, 0, 1], [4, 5, 0, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["semir2"]}, "unknown method 'semir2'; choose from " + r", ".join(METHODS).replace("+", r"\+")),
        ({"methods": []}, "no methods"),
        (
            {"methods": ["msbir"]},
            "encoder 'toy' can't do method 'msbir': it has no embed_photo_objects and no embed_canv",
        ),
        ({"tau": 1.0}, "tau is 1"),
        ({"k": 0}, "k is 0"),
        ({"subset": "train"}, "unknown subset 'train'; choose from all, held_out"),
    ],
)
def test_mistakes_are_named_before_anything_is_encoded(data, toy_encoder, options, message):
    with pytest.raises(CompsketchError, match=message):
        evaluate(toy_encoder, *data, **{"methods": ["ssbir"], **options})
    assert toy_encoder.batches == 0


def test_missing_and_unreadable_photos_are_named(data, toy_encoder):
    with pytest.raises(DataError, match="2 annotation files and 1 folders"):
        evaluate(toy_encoder, [data[0], data[0]], [data[1]], data[2], methods=["ssbir"])
    (data[1] / "photo007.png").write_text("not a photo")
    with pytest.raises(ImageError, match=r"photo007\.png"):
        evaluate(toy_encoder, *data, methods=["ssbir"])
    (data[1] / "photo007.png").unlink()
    with pytest.raises(DataError, match=r"1 of 36 photos are missing.*photo007\.png"):
        evaluate(toy_encoder, *data, methods=["ssbir"])


def test_an_encoder_that_returns_nan_is_named(data, toy_encoder):
    toy_encoder.encode_sketches = lambda sketches, words: np.full((len(sketches), 16), np.nan)
    with pytest.raises(CompsketchError, match=r"encoder 'toy', sketches: encode_sketches.*NaN"):
        evaluate(toy_encoder, *data, methods=["ssbir"])
