"""Open Images' CSVs: what is read, by which rule a box goes, and what is missing by name."""

from __future__ import annotations

import pytest

from encoders.data import openimages as reader
from encoders.data.build import build_photos
from encoders.data.manifest import iter_photos, read_facts
from encoders.data.report import Report
from encoders.errors import DataError
from encoders.evaluation.data import read_annotations

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
A, B, C = "000002b66c9c498e", "000002b97e5471a0", "000002c707c9895e"
DOG = "/m/0bt9lr"


def build(openimages, out, splits=("train",), *, groups=False, **options):
    report = Report()
    photos = reader.read(openimages.csv, splits, report, images=openimages.images, groups=groups)
    build_photos("openimages", photos, report, out, source=[openimages.csv], images=openimages.images, **options)
    return report


def test_photos_get_their_boxes_words_and_sizes(openimages, tmp_path):
    report = build(openimages, tmp_path / "photos.parquet")
    first, second = iter_photos(tmp_path / "photos.parquet")
    assert (first.file, first.width, first.height, first.split) == (f"{A}.jpg", 40, 20, "train")
    (box,) = first.boxes
    assert (box.name, box.word, box.group) == ("Dog", "dog", False)
    assert box[1:5] == pytest.approx((0.25, 0.1, 0.75, 0.9))
    assert (second.file, second.width, second.height, [box.word for box in second.boxes]) == (
        f"{B}.jpg", 30, 50, ["cat"],
    )  # fmt: skip
    assert (report.photos, report.boxes, report.kept) == (2, 2, {"dog": 1, "cat": 1})
    account = report.to_dict()
    assert account["failed"] == []
    assert account["left_out"] == [
        {"reason": "box around a group (IsGroupOf)", "count": 1, "first": "train-annotations-bbox.csv: line 5"}
    ]
    assert account["dropped_classes"] == [
        {"class": "Furniture", "reason": "too broad: its kinds look unlike each other", "count": 1}
    ]
    assert read_facts(tmp_path / "photos.parquet").images == "images"
    assert read_annotations(tmp_path / "photos.parquet").boxes[0].tolist() == pytest.approx([10, 2, 30, 18])


def test_groups_are_kept_on_request_and_photos_taken_inside_never(openimages, tmp_path):
    openimages.boxes(
        "train",
        f"{A},xclick,{DOG},1,0,1,0,1,0,0,1,0,0",
        f"{A},xclick,{DOG},1,0,1,0,1,0,0,0,0,1",
    )
    report = build(openimages, tmp_path / "photos.parquet", groups=True)
    (photo,) = iter_photos(tmp_path / "photos.parquet")
    assert [box.group for box in photo.boxes] == [True]
    assert report.left_out.counts == {"photo taken inside the object (IsInside)": 1}


def test_several_splits_under_the_sites_own_names(openimages, tmp_path):
    openimages.boxes("train", f"{A},xclick,{DOG},1,0,1,0,1,0,0,0,0,0", prefix="oidv6-")
    (openimages.csv / "train-annotations-bbox.csv").unlink()
    openimages.boxes("test", f"{C},xclick,{DOG},1,0,1,0,1,0,0,0,0,0")
    openimages.photos(C, split="test")
    (openimages.csv / "class-descriptions-boxable.csv").unlink()
    names = f"LabelName,DisplayName\n{DOG},Dog\n"  # v7 has a header
    (openimages.csv / "oidv7-class-descriptions-boxable.csv").write_text(names)
    build(openimages, tmp_path / "photos.parquet", ("train", "test"))
    found = [(photo.file, photo.split) for photo in iter_photos(tmp_path / "photos.parquet")]
    assert found == [(f"{A}.jpg", "train"), (f"test/{C}.jpg", "test")]


def test_a_list_of_images_holds_what_is_of_the_set(openimages, tmp_path):
    listed = openimages.csv / "train-images-boxable.csv"
    listed.write_text(f"ImageID,Subset,OriginalURL\n{A},train,http://a\n")
    report = build(openimages, tmp_path / "photos.parquet")
    assert [photo.file for photo in iter_photos(tmp_path / "photos.parquet")] == [f"{A}.jpg"]
    assert report.failed.counts == {"photo is not in the list of images": 1}
    assert B in report.failed.first["photo is not in the list of images"]
    listed.write_text("image_id\n")
    with pytest.raises(DataError, match=r"train-images-boxable.csv has no column ImageID; it has image_id"):
        build(openimages, tmp_path / "photos.parquet")


def test_bad_rows_are_counted_by_reason_and_the_first_is_named(openimages, tmp_path):
    openimages.boxes(
        "train",
        f"{A},xclick,{DOG},1,0.1,0.9,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,0.9,0.1,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,x,0.1,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,nan,0.1,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,0.5,1.2,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,0.5,1.004,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG},1,0.5,0.5,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,/m/none,1,0.5,0.6,0.1,0.9,0,0,0,0,0",
        f"{A},xclick,{DOG}",
        f"../../{A},xclick,{DOG},1,0.1,0.9,0.1,0.9,0,0,0,0,0",
    )
    report = build(openimages, tmp_path / "photos.parquet")
    (photo,) = iter_photos(tmp_path / "photos.parquet")
    assert [box[1:5] for box in photo.boxes] == [pytest.approx((0.1, 0.1, 0.9, 0.9)), pytest.approx((0.5, 0.1, 1, 0.9))]
    assert report.failed.counts == {
        "box is inside out or no numbers": 3,
        "box is outside its photo": 1,
        "box is empty": 1,
        "class /m/none is not in the class descriptions": 1,
        "row has not the 13 columns of the header, or no ImageID": 2,
    }
    assert report.failed.first["box is outside its photo"] == "train-annotations-bbox.csv: line 6"


def test_photos_that_are_not_on_disk_or_damaged_are_named(openimages, tmp_path):
    (openimages.images / f"{A}.jpg").unlink()
    report = build(openimages, tmp_path / "photos.parquet")
    assert report.failed.to_list() == [
        {"reason": "photo is not on disk", "count": 1, "first": str(openimages.images / f"{A}.jpg")}
    ]
    (openimages.images / f"{B}.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"nothing is left to write; photo cannot be read \(.*\.jpg\); photo is not on"):
        build(openimages, tmp_path / "other.parquet")
    assert not list(tmp_path.glob("other*"))
    assert not list(tmp_path.glob(".manifest*"))


def test_what_an_original_is_missing_is_named(openimages, tmp_path):
    out = tmp_path / "photos.parquet"
    with pytest.raises(DataError, match=r"csv has no validation-annotations-bbox.csv; put Open Images' CSV files"):
        build(openimages, out, ("train", "validation"))
    with pytest.raises(DataError, match="split 'val' is none of Open Images: train, validation, test"):
        build(openimages, out, ("val",))
    openimages.boxes("train", header=HEADER.replace("XMax,", ""))
    with pytest.raises(DataError, match=r"train-annotations-bbox.csv has no column XMax; it has ImageID, Source"):
        build(openimages, out)
    openimages.boxes("train", *(f"{image},xclick,{DOG},1,0,1,0,1,0,0,0,0,0" for image in (A, B, A)))
    with pytest.raises(DataError, match=rf"line 4: the rows of {A} are apart; sort the file by ImageID"):
        build(openimages, out)
    (openimages.csv / "class-descriptions-boxable.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="names no class; expected lines such as"):
        build(openimages, out)
    (openimages.csv / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(DataError, match=r"has no class-descriptions-boxable\.csv"):
        build(openimages, out)
    openimages.images.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"no folder .*images; name the folder of the photos"):
        build(openimages, out)
    assert not out.exists()


def test_progress_ends_at_the_files_end(openimages, tmp_path):
    said = []
    list(reader.read(openimages.csv, ["train"], Report(), progress=lambda *now: said.append(now)))
    size = (openimages.csv / "train-annotations-bbox.csv").stat().st_size
    assert said[-1] == ("train-annotations-bbox.csv", size, size)
