"""`compsketch data`: from a set's files to manifests, what is said on the way, and how it ends."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from compsketch_milvus.cli import run
from encoders.evaluation.data import read_annotations, read_sketches

BOXES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


@pytest.fixture
def originals(tmp_path):
    """Six photos of a dog each, and one that lacks on disk; sketches of dogs."""
    (tmp_path / "csv").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "csv" / "class-descriptions-boxable.csv").write_text("/m/0bt9lr,Dog\n/m/04rky,Mammal\n")
    images = [f"{number:016x}" for number in range(7)]
    rows = [f"{image},xclick,/m/0bt9lr,1,0.1,0.8,0.2,0.9,0,0,0,0,0\n" for image in images]
    rows.append(f"{images[-1]},xclick,/m/04rky,1,0,1,0,1,0,0,0,0,0\n")
    (tmp_path / "csv" / "test-annotations-bbox.csv").write_text(BOXES + "".join(rows))
    for image in images[:6]:
        Image.new("RGB", (40, 30)).save(tmp_path / "photos" / f"{image}.jpg")
    lines = [
        json.dumps({"word": "dog", "key_id": str(n), "recognized": n < 4, "drawing": [[[0, 255], [0, 90]]]})
        for n in range(5)
    ]
    (tmp_path / "dog.ndjson").write_text("\n".join(lines))
    return tmp_path


def call(capsys, *arguments, status=0):
    """Run a command and return its JSON."""
    capsys.readouterr()
    assert run(["data", *map(str, arguments), "--json"]) == status
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_from_csv_files_to_queries(originals, capsys):
    photos, sketches, sets = originals / "photos.parquet", originals / "sketches.parquet", originals / "sets"
    made = call(capsys, "quickdraw", originals / "dog.ndjson", "--out", sketches)
    assert (made["sketches"], made["kept"]) == (4, {"dog": 4})
    assert [(item["reason"], item["count"]) for item in made["left_out"]] == [("sketch was not recognised", 1)]
    made = call(
        capsys, "openimages", originals / "csv", "--images", originals / "photos", "--split", "test", "--out", photos,
        "--sketches", sketches, status=1,
    )  # fmt: skip
    assert (made["photos"], made["boxes"], made["classes"]) == (6, 6, 1)
    (failed,) = made["failed"]
    assert (failed["reason"], failed["count"]) == ("photo is not on disk", 1)
    assert failed["first"].endswith("0000000000000006.jpg")
    assert [(item["class"], item["count"]) for item in made["dropped_classes"]] == [("Mammal", 1)]
    made = call(capsys, "sets", photos, "--sketches", sketches, "--out", sets, "--large", 5, "--small", 2, "--stock", 0)
    assert {name: found.get("queries") for name, found in made["sets"].items()} == {
        "test.parquet": None, "test-lq.parquet": 5, "test-sq.parquet": 2,
    }  # fmt: skip
    query = originals / "one.parquet"
    made = call(
        capsys, "queries", photos, "--sketches", sketches, "--out", query, "--count", 3, "--objects", 1, "--balanced"
    )
    assert (made["queries"], made["by_objects"], made["by_class"]) == (3, {"1": 3}, {"dog": 3})
    assert (read_annotations(photos).classes, read_sketches(sketches).words) == (("dog",) * 6, ("dog",) * 4)


def test_what_it_says_to_people(originals, capsys):
    command = ["data", "openimages", str(originals / "csv"), "--images", str(originals / "photos"), "--split", "test"]
    assert run([*command, "--out", str(originals / "photos.parquet")]) == 1
    out, err = capsys.readouterr()
    assert "Mammal             1  too broad: its kinds look unlike each other" in out
    assert out.endswith("photos.parquet: 6 photos, 6 boxes of 1 words\n")
    assert "failed: 1 x photo is not on disk, first " in err


@pytest.mark.parametrize("name", ["quickdraw", "tuberlin", "sketchy", "sets", "queries"])
def test_a_negative_seed_is_refused(originals, capsys, name):
    sketches = ["--sketches", originals / "dog.ndjson"] if name in ("sets", "queries") else []
    answer = call(capsys, name, originals, *sketches, "--out", originals / "a.parquet", "--seed", -1, status=2)
    assert "--seed" in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voc", "csv", "--split", "train", "--out", "a.parquet"], "csv has no folder Annotations; name the folder"),
        (["coco", "none.json", "--images", "photos", "--out", "a.parquet"], "no file none.json; name COCO's instances"),
        (["tuberlin", "csv", "--out", "a.parquet"], "csv holds no svg/<class>/*.svg or png/<class>/*.png"),
        (["sketchy", "csv", "--out", "a.parquet"], "csv holds neither sketches/<class>/*.svg nor"),
        (["quickdraw", "csv", "--out", "a.parquet"], "csv is no file and holds no .ndjson"),
        (["quickdraw", "dog.ndjson", "--class-map", "no.json", "--out", "a.parquet"], "no file no.json"),
        (["sets", "a.parquet", "--sketches", "dog.ndjson", "--out", "sets"], "no file a.parquet; give the path"),
        (["queries", "dog.ndjson", "--sketches", "dog.ndjson", "--out", "a.parquet"], "dog.ndjson is not JSON"),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(originals, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(originals)
    answer = call(capsys, *arguments, status=2)
    assert message in answer["error"]
    assert "Traceback" not in answer["error"]
    assert not (originals / "a.parquet").exists()


def test_coco_voc_tuberlin_and_sketchy_from_the_command_line(originals, capsys):
    instances = {
        "images": [{"id": 1, "file_name": "0000000000000000.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 18, "bbox": [0, 0, 20, 30], "iscrowd": 0}],
    }
    (originals / "instances_val2017.json").write_text(json.dumps(instances))
    out = originals / "out.parquet"
    made = call(capsys, "coco", originals / "instances_val2017.json", "--images", originals / "photos", "--out", out)
    assert (made["photos"], made["kept"]) == (1, {"dog": 1})
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (originals / "voc" / folder).mkdir(parents=True)
    (originals / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    size = "<size><width>40</width><height>30</height></size>"
    (originals / "voc" / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.jpg</filename>{size}<object><name>dog</name>{box}</object></annotation>"
    )
    Image.new("RGB", (40, 30)).save(originals / "voc" / "JPEGImages" / "a.jpg")
    assert call(capsys, "voc", originals / "voc", "--split", "train", "--out", out)["kept"] == {"dog": 1}
    assert read_annotations(out).boxes.tolist() == [[0, 0, 20, 30]]
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M1 1L8 8" stroke="black"/></svg>'
    for name in ("svg/pigeon/1.svg", "sketches/songbird/n1_2-1.svg"):
        (originals / name).parent.mkdir(parents=True)
        (originals / name).write_text(svg)
    assert call(capsys, "tuberlin", originals / "svg", "--out", out, "--per-class", 1)["kept"] == {"bird": 1}
    photo = originals / "256x256" / "photo" / "tx_000000000000" / "songbird" / "n1_2.jpg"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (256, 256)).save(photo)
    beside = originals / "labelled.parquet"
    made = call(capsys, "sketchy", originals, "--form", "svg", "--invalid", "--out", out, "--photos", beside)
    assert (made["kept"], made["also"][str(beside)]["kept"]) == ({"bird": 1}, {"bird": 1})
