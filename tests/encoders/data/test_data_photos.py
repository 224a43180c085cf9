"""COCO and VOC, and the rules that hold for the photos of every set."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.data import coco, voc
from encoders.data.build import build_photos
from encoders.data.filtering import MAPS, digest, drawn_photos, on_disk, placed
from encoders.data.manifest import Box, Photo, iter_photos
from encoders.data.report import Report
from encoders.errors import DataError
from encoders.evaluation.data import CLASS_MAP, ClassMap, read_class_map

INSTANCES = {
    "images": [
        {"id": 9, "file_name": "000000000009.jpg", "width": 200, "height": 100, "coco_url": "http://c"},
        {"id": 25, "file_name": "000000000025.jpg", "width": 60, "height": 80},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [20, 10, 100, 50], "iscrowd": 0, "area": 5000},
        {"id": 2, "image_id": 9, "category_id": 18, "bbox": [0, 0, 200, 100], "iscrowd": 1},
        {"id": 3, "image_id": 25, "category_id": 72, "bbox": [0, 0, 60.4, 80], "iscrowd": 0},
        {"id": 4, "image_id": 25, "category_id": 1, "bbox": [0, 0, 30, 80], "iscrowd": 0},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 72, "name": "tv"}, {"id": 1, "name": "person"}],
}


def write_coco(path, change=lambda data: data):
    path.write_text(json.dumps(change(json.loads(json.dumps(INSTANCES)))))
    return path


def found_in(reader, *source, **options):
    report = Report()
    return list(reader.read(*source, report, **options)), report


def test_coco_boxes_are_corner_and_size(tmp_path):
    photos, report = found_in(coco, [write_coco(tmp_path / "instances_val2017.json")])
    assert [(p.file, p.width, p.height, p.split) for p in photos] == [
        ("000000000009.jpg", 200, 100, "validation"),
        ("000000000025.jpg", 60, 80, "validation"),
    ]
    assert photos[0].boxes == (Box("dog", 0.1, 0.1, 0.6, 0.6),)
    assert [box.name for box in photos[1].boxes] == ["tv", "person"]
    assert photos[1].boxes[0].x1 == 1.0  # 0.4 pixels past the photo are rounding
    assert report.left_out.counts == {"box around a crowd (iscrowd)": 1}
    photos, _ = found_in(coco, [tmp_path / "instances_val2017.json"], groups=True)
    assert [box.group for box in photos[0].boxes] == [False, True]


def test_coco_photos_may_be_in_a_folder_of_the_files_name(tmp_path):
    (tmp_path / "train2017").mkdir()
    photos, _ = found_in(coco, [write_coco(tmp_path / "instances_train2017.json")], images=tmp_path)
    assert (photos[0].file, photos[0].split) == ("train2017/000000000009.jpg", "train")


def test_bad_coco_entries_are_counted(tmp_path):
    def spoil(data):
        for number, change in enumerate(
            ({"image_id": 7}, {"category_id": 7}, {"bbox": [0, 0, -5, 9]}, {"bbox": [0, 0, 5]})
        ):
            data["annotations"][number].update(change, iscrowd=0)
        return data

    photos, report = found_in(coco, [write_coco(tmp_path / "instances_train2017.json", spoil)])
    assert not any(photo.boxes for photo in photos)
    assert report.failed.first == {
        "its image is not among the images": "instances_train2017.json: annotation 1",
        "its category is not among the categories": "instances_train2017.json: annotation 2",
        "box is inside out or no numbers": "instances_train2017.json: annotation 3",
        "bbox is not x, y, width and height": "instances_train2017.json: annotation 4",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [], "has no list 'images'; name a file of instances"),
        (lambda data: {"images": [], "annotations": []}, "has no list 'categories'"),
        (lambda data: data | {"categories": [{"id": 1}]}, "categories 0 lacks one of id, name"),
        (
            lambda data: data | {"images": [{"id": 1, "file_name": "a.jpg", "width": 0, "height": 5}]},
            "have to be pixels",
        ),
    ],
)
def test_broken_coco_files(tmp_path, change, message):
    with pytest.raises(DataError, match=rf"instances_x\.json.*{message}"):
        found_in(coco, [write_coco(tmp_path / "instances_x.json", change)])
    with pytest.raises(DataError, match=r"no file .*none\.json; name COCO's instances"):
        found_in(coco, [tmp_path / "none.json"])


VOC = """<annotation><folder>VOC2012</folder><filename>2008_000008.jpg</filename>
<size><width>500</width><height>250</height><depth>3</depth></size>
<object><name>horse</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>26</ymin><xmax>500</xmax><ymax>250</ymax></bndbox></object>
<object><name>person</name><part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>12</xmax><ymax>12</ymax></bndbox></part>
<bndbox><xmin>51</xmin><ymin>1</ymin><xmax>100.5</xmax><ymax>50</ymax></bndbox></object></annotation>"""


@pytest.fixture
def devkit(tmp_path):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "Annotations" / "2008_000008.xml").write_text(VOC)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("2008_000008\n")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("2008_000009 -1\n2008_000008  1\n")
    Image.new("RGB", (500, 250)).save(tmp_path / "JPEGImages" / "2008_000008.jpg")
    return tmp_path


def test_voc_counts_pixels_from_one(devkit):
    (photo,), report = found_in(voc, devkit, ["val"])
    assert (photo.file, photo.width, photo.height, photo.split) == ("2008_000008.jpg", 500, 250, "validation")
    assert [box.name for box in photo.boxes] == ["horse", "person"]  # a head is a part, no object
    assert photo.boxes[0] == Box("horse", 0, 0.1, 1, 1)
    assert photo.boxes[1][1:5] == pytest.approx((0.1, 0, 0.201, 0.2))
    assert not report.failed.counts


def test_voc_annotations_that_are_missing_or_bad_are_counted(devkit):
    (photo,), report = found_in(voc, devkit, ["train"])
    assert (photo.file, photo.split) == ("2008_000008.jpg", "train")
    assert list(report.failed.counts) == ["annotation is missing"]
    for text, reason in (
        ("<annotation>", "annotation is no XML with a size"),
        ("<annotation/>", "annotation is no XML with a size"),
        (VOC.replace("<width>500", "<width>0"), "annotation is no XML with a size"),
        (VOC.replace("<xmin>51", "<xmin>"), "box is inside out or no numbers"),
        (VOC.replace("<name>horse</name>", ""), "object has no name"),
        (VOC.replace("<xmax>500", "<xmax>700"), "box is outside its photo"),
    ):
        (devkit / "Annotations" / "2008_000008.xml").write_text(text)
        _, report = found_in(voc, devkit, ["val"])
        assert report.failed.counts == {reason: 1}, text


def test_what_voc_is_missing_is_named(devkit):
    with pytest.raises(DataError, match=r"split 'all' is none of VOC: train, val, trainval, test"):
        found_in(voc, devkit, ["all"])
    with pytest.raises(DataError, match=r"no file .*test\.txt; the lists of VOC's splits"):
        found_in(voc, devkit, ["val", "test"])
    with pytest.raises(DataError, match=r"has no folder Annotations; name the folder of a year"):
        found_in(voc, devkit / "Annotations", ["val"])


def test_a_photo_that_comes_twice_is_refused(devkit, tmp_path):
    (devkit / "ImageSets" / "Main" / "trainval.txt").write_text("2008_000008\n")
    report = Report()
    both = voc.read(devkit, ["trainval", "val"], report)
    with pytest.raises(DataError, match=r"photo 2008_000008\.jpg comes twice; name each split or file once"):
        build_photos("voc", both, report, tmp_path / "a.parquet", source=[devkit], images=devkit / "JPEGImages")
    assert not (tmp_path / "a.parquet").exists()


def test_a_sets_names_become_words(devkit, tmp_path):
    report = Report()
    out = tmp_path / "voc.parquet"
    build_photos("voc", voc.read(devkit, ["val"], report), report, out, source=[devkit], images=devkit / "JPEGImages")
    (photo,) = iter_photos(out)
    assert [(box.name, box.word) for box in photo.boxes] == [("horse", "horse")]
    assert "no sketch of a whole person" in report.classes["person"]


# --- filtering ---

PHOTO = Photo("a.jpg", 10, 10, "", (Box("tv", 0, 0, 1, 1), Box("mammal", 0, 0, 1, 1), Box("yak", 0, 0, 1, 1)))
MAP = ClassMap({"tv": "television", "yak": "yak"}, {"mammal": "too broad"})


def test_classes_without_a_word_or_without_sketches_are_dropped_and_what_they_cost_is_said():
    report = Report()
    (photo,) = drawn_photos([PHOTO], MAP, {"television"}, report)
    assert [(box.name, box.word) for box in photo.boxes] == [("tv", "television")]
    assert report.classes == {"mammal": "too broad", "yak": "no sketches of 'yak'"}
    (photo,) = drawn_photos([PHOTO], ClassMap({"yak": "cow"}, {}), None, report)
    assert [box.word for box in photo.boxes] == ["cow"]
    assert report.classes["tv"] == "not in the class map"
    assert report.boxes_of == {"mammal": 2, "yak": 1, "tv": 1}
    assert [item["class"] for item in report.to_dict()["dropped_classes"]] == ["mammal", "tv", "yak"]
    assert list(drawn_photos([PHOTO], ClassMap({}, {}), None, report)) == []
    assert report.left_out.first == {"photo without a box of a class that is drawn": "a.jpg"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.5, 1.5) | st.just(float("nan")), min_size=4, max_size=4), st.integers(1, 300))
def test_a_box_is_cut_to_its_photo_or_refused(corners, side):
    report = Report()
    box = placed(Box("dog", *corners), lambda: "here", report, (side, side))
    past = np.max([-np.array(corners[:2]), np.array(corners[2:]) - 1]) * side  # pixels
    cut = np.clip(corners, 0, 1)
    if box is None:
        assert report.failed.first.popitem()[1] == "here"
        assert not (cut[2:] - cut[:2] >= 1e-6).all() or past > 0.01 * side or np.isnan(past)
    else:
        assert past <= 0.0101 * side + 1
        assert list(box[1:5]) == [*cut]
        assert min(np.float32(box.x1) - np.float32(box.x0), np.float32(box.y1) - np.float32(box.y0)) > 0


def test_sizes_are_of_the_photo_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    (photo,) = on_disk([Photo("turned.jpg", 0, 0, "", ())], tmp_path, Report())
    assert (photo.width, photo.height) == (20, 30)
    with pytest.raises(
        DataError, match=r"nothing says the size of turned.jpg; name the folder of photos with --images"
    ):
        list(on_disk([Photo("turned.jpg", 0, 0, "", ())], None, Report()))


def test_many_photos_keep_their_order(tmp_path):
    names = [f"{number}.png" for number in range(700)]  # more than are looked for at once
    for name in names[::100]:
        Image.new("L", (3, 2)).save(tmp_path / name)
    report = Report()
    found = on_disk([Photo(name, 0, 0, "", ()) for name in names], tmp_path, report)
    assert [(photo.file, photo.width) for photo in found] == [(name, 3) for name in names[::100]]
    assert report.failed.counts == {"photo is not on disk": 693}


# --- the maps that are shipped ---


@pytest.mark.parametrize(
    ("name", "count", "words"), [("openimages", 601, 239), ("tuberlin", 250, 0), ("sketchy", 125, 0)]
)
def test_the_shipped_maps_settle_every_class_of_their_set(name, count, words):
    found = read_class_map(MAPS[name])
    settled = {**found.words, **found.left_out}
    again = {spelt for spelt in settled if spelt in OTHER_SPELLINGS} if name == "openimages" else set()
    assert len(settled) - len(again) == count
    assert all(found.left_out.values()), "each class left out says why"
    if words:
        assert len(set(found.words.values())) == words


# Open Images has spelt these names in two ways; either is in the map.
OTHER_SPELLINGS = {
    *("Asparagus", "Bat", "Drill", "Sunflower", "Nail", "Dairy", "Pitcher", "Volleyball", "Egg", "Horn", "Jaguar"),
    *("Lavender", "Maracas", "Organ", "Lifejacket", "Ratchet", "Squash"),
}


def test_the_maps_meet_in_one_vocabulary():
    photos = set(read_class_map(MAPS["openimages"]).words.values())
    berlin = set(read_class_map(MAPS["tuberlin"]).words.values())
    assert len(photos & berlin) >= 141  # the paper's number of classes
    assert read_class_map(MAPS["openimages"]).words["Motorcycle"] == read_class_map(CLASS_MAP).words["motorcycle"]
    assert {"dog", "motorbike", "bird", "television"} <= photos & berlin
    broad = read_class_map(MAPS["openimages"]).left_out
    assert broad["Mammal"].startswith("too broad")
    assert broad["Furniture"].startswith("too broad")


def test_the_digest_is_of_the_content():
    assert digest(ClassMap({"a": "b", "c": "d"}, {})) == digest(ClassMap({"c": "d", "a": "b"}, {}))
    assert digest(ClassMap({"a": "b"}, {})) != digest(ClassMap({"a": "c"}, {}))
    assert digest(ClassMap({"a": "b"}, {})) != digest(ClassMap({}, {"a": "b"}))
