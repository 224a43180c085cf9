"""Methods side by side, on a handful of generated photos and a true, tiny encoder."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest
import scipy.stats
from PIL import Image, ImageDraw

from encoders.errors import CompsketchError, DataError, ImageError
from encoders.evaluation.benchmark import prepare
from encoders.evaluation.compare import compare, evaluate
from encoders.evaluation.compositions import split_photos, split_sketches
from encoders.evaluation.data import read_class_map, read_sketches
from encoders.evaluation.methods import METHODS
from encoders.evaluation.quantised import IvfPq
from encoders.evaluation.ranking import rank
from encoders.evaluation.relevance import Relevant
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


def test_every_two_methods_are_compared_query_by_query(data, single_object_encoder, tmp_path):
    result = evaluate(single_object_encoder, *data, per_query=tmp_path / "each.jsonl")
    names = [("ssbir", "msbir"), ("ssbir", "random"), ("msbir", "random")]
    assert [(pair["a"], pair["b"], pair["metric"]) for pair in result["pairs"]] == [
        (*pair, metric) for pair in names for metric in METRICS
    ]
    rows = [json.loads(line) for line in (tmp_path / "each.jsonl").read_text().splitlines()]
    assert len(rows) == 36 * 3 * 5
    at_half = [row for row in rows if row["tau"] == 0.5]
    by_method = {name: [row for row in at_half if row["method"] == name] for name in result["methods"]}
    for pair in result["pairs"]:
        column = "AP" if pair["metric"] == "mAP" else pair["metric"]
        a, b = (np.array([row[column] for row in by_method[pair[one]]]) for one in "ab")
        assert pair["difference"] == pytest.approx((a - b).mean())
        assert pair["difference"] == pytest.approx(
            result["methods"][pair["a"]][pair["metric"]] - result["methods"][pair["b"]][pair["metric"]]
        )
        if pair["metric"] == "P@200":  # of 36 photos every method finds all
            assert (pair["t"], pair["p"], pair["interval"]) == (0.0, 1.0, [0.0, 0.0])
            continue
        expected = scipy.stats.ttest_rel(a, b)
        assert (pair["t"], pair["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
        assert pair["effect_size"] == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
        assert pair["interval"][0] < pair["difference"] < pair["interval"][1]


def test_tables_can_be_made_again_from_the_scores_by_query(data, toy_encoder, tmp_path):
    result = evaluate(toy_encoder, *data, methods=["ssbir", "random"], taus=(0.4,), per_query=tmp_path / "each.parquet")
    table = pandas.read_parquet(tmp_path / "each.parquet")
    assert sorted(set(table.tau)) == result["taus"] == [0.4, 0.5]
    for (method, tau), part in table.groupby(["method", "tau"]):
        found = result["methods"][method]["by_tau"][f"{tau:g}"]
        assert found["mAP"] == pytest.approx(part.AP.mean())
        assert found["P@200"] == pytest.approx(part["P@200"].mean())
    part = table[(table.method == "ssbir") & (table.tau == 0.5)]
    for objects, ap in part.groupby("objects").AP.mean().items():
        assert result["methods"]["ssbir"]["by_objects"][str(objects)]["mAP"] == pytest.approx(ap)
    assert part.relevant.mean() == pytest.approx(result["relevant_per_query"])
    assert part.photo.str.endswith(".png").all()
    assert {word for words in part.classes for word in words} == {"dog"}


def test_words_hide_the_strokes_and_semir_is_asked_itself(data, toy_encoder):
    class Told(type(toy_encoder)):
        def encode_sketches(self, sketches):
            assert all(item.label == "dog" for sketch in sketches for item in sketch.objects)
            return super().encode_sketches(sketches)

    semir, asked = Told(), []
    encode = toy_encoder.encode_sketches

    def noted(sketches, *, words):
        asked.append((words, {len(item.strokes) for sketch in sketches for item in sketch.objects}))
        return encode(sketches, words=words)

    toy_encoder.encode_sketches = noted
    methods = ["ssbir", "words", "ssbir+words", "semir"]
    result = evaluate(toy_encoder, *data, methods=methods, semir=semir)
    assert asked == [(False, {1}), (True, {0}), (True, {1})]
    assert (toy_encoder.images, semir.images) == (36, 36)
    maps = [result["methods"][name]["mAP"] for name in methods]
    assert maps == [maps[0]] * 4  # the toy looks at boxes alone
    assert result["pairs"][0]["p"] == 1.0
    assert result["encoders"]["semir"] == {"name": "toy", "fingerprint": toy_encoder.fingerprint}


def test_methods_through_an_index_lose_what_ranking_again_brings_back(data, toy_encoder):
    methods = ["ssbir", "ssbir@pq", "ssbir@pq+rerank"]
    index = IvfPq(nlist=2, nbits=1)  # two centroids for each of the toy's 16 cells
    result = evaluate(toy_encoder, *data, methods=methods, index=index)
    exact, coarse, again = (result["methods"][name]["mAP"] for name in methods)
    assert coarse < exact == again  # all 36 photos are ranked again
    assert result["index"] == {"kind": "faiss IVF_PQ", "nlist": 2, "m": 16, "nbits": 1, "nprobe": 2}
    assert evaluate(toy_encoder, *data, methods=["ssbir"])["index"] is None


def test_the_order_of_the_gallery_and_of_the_queries_changes_nothing(data, toy_encoder):
    """Ties are broken by place in the gallery: the toy's photos that tie are alike, and relevant alike."""
    benchmark = prepare([data[:2]], read_sketches(data[2]), read_class_map(), above=0.3)
    before = compare(toy_encoder, benchmark, methods=["ssbir"])
    order = np.random.default_rng(0).permutation(36)
    place = np.argsort(order)

    def elsewhere(one: Relevant) -> Relevant:
        photos = place[one.photos]
        return Relevant(np.sort(photos), one.values[np.argsort(photos)])

    moved = replace(
        benchmark,
        paths=tuple(benchmark.paths[i] for i in order),
        queries=tuple(replace(query, photo_index=int(place[query.photo_index])) for query in benchmark.queries)[::-1],
        relevant=tuple(elsewhere(one) for one in benchmark.relevant)[::-1],
    )
    after = compare(toy_encoder, moved, methods=["ssbir"])
    for name in METRICS:
        assert after["methods"]["ssbir"][name] == pytest.approx(before["methods"]["ssbir"][name])
        assert after["methods"]["ssbir"]["by_tau"]["0.7"][name] == pytest.approx(
            before["methods"]["ssbir"]["by_tau"]["0.7"][name]
        )


def test_a_query_to_which_nothing_is_relevant_is_left_out_and_counted(data, toy_encoder):
    benchmark = prepare([data[:2]], read_sketches(data[2]), read_class_map(), above=0.3)
    whole = compare(toy_encoder, benchmark, methods=["ssbir"])
    nothing = Relevant(np.zeros(0, int), np.zeros(0))
    weak = Relevant(np.array([0]), np.array([0.45]))  # relevant at .3 and .4 alone
    part = replace(benchmark, relevant=(nothing, weak, *benchmark.relevant[2:]))
    found = compare(toy_encoder, part, methods=["ssbir"])
    assert (found["queries"], found["queries_without_relevant"]) == (36, 2)
    assert {tau: row["queries"] for tau, row in found["methods"]["ssbir"]["by_tau"].items()} == {
        "0.3": 35, "0.4": 35, "0.5": 34, "0.6": 34, "0.7": 34,
    }  # fmt: skip
    assert whole["methods"]["ssbir"]["queries"] == 36
    with pytest.raises(CompsketchError, match=r"relevant over 0\.3, not over a smaller tau"):
        compare(toy_encoder, part, methods=["ssbir"], taus=(0.2,))


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
        ({"methods": ["semir@pq"]}, "'semir@pq' needs an encoder of its own, trained on class names: give one with"),
        ({"tau": 1.0}, "tau is 1"),
        ({"taus": (0.5, -0.1)}, r"tau is -0\.1"),
        ({"per_query": "scores.csv"}, r"scores\.csv: .*\.jsonl or \.parquet"),
        ({"per_query": "no/such/scores.jsonl"}, "no folder no/such"),
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
