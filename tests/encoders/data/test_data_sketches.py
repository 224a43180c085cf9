"""Quick, Draw!, TU-Berlin and Sketchy: all become strokes in Quick, Draw!'s unit."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from encoders.data import quickdraw, sketchy, tuberlin
from encoders.data.build import build_photos, build_sketches
from encoders.data.manifest import Drawing, iter_photos, read_facts
from encoders.data.report import Report
from encoders.data.sampling import sample
from encoders.data.strokes import from_png, from_svg, to_unit
from encoders.errors import DataError, ImageError, SketchError
from encoders.evaluation.data import read_labels, read_sketches

SIMPLE = {"word": "cat", "countrycode": "VE", "timestamp": "2017-03-02 23:25:10.07453 UTC", "recognized": True,
          "key_id": "5201136883597312", "drawing": [[[130, 113, 99], [72, 40, 27]], [[76, 28], [82, 68]]]}  # fmt: skip
RAW = {**SIMPLE, "key_id": "9", "drawing": [[[100.0, 300.0, 510.0], [50.0, 150.0, 255.0], [0, 17, 40]],
                                            [[100.0, 610.0], [560.0, 50.0], [90, 99]]]}  # fmt: skip
# A square of 400 in TU-Berlin's form, its corner at (103, 53); the groups are as the archive has them.
SVG = """<?xml version="1.0" encoding="utf-8"?>
<svg viewBox="0 0 800 800" preserveAspectRatio="xMinYMin meet" xmlns="http://www.w3.org/2000/svg" version="1.1">
<g fill="none" stroke="black" stroke-linecap="round" stroke-linejoin="round" stroke-miterlimit="1">
<g transform="translate(3,3) scale(1)"><path id="0" d="M100 50 L500 50 L500 450" />
<path id="1" d="M500 450 C 400 450 200 450 100 450 L100 50 " /></g></g></svg>"""


def square_png(size=1111, start=150, side=800, mode="L"):
    image = Image.new(mode, (size, size), "white")
    ImageDraw.Draw(image).rectangle((start, start, start + side, start + side), outline="black", width=9)
    return image


def ink(strokes):
    points = np.concatenate(strokes, axis=1)
    return [*points.min(axis=1).tolist(), *points.max(axis=1).tolist()]


def quick(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def read(reader, *source, **options):
    report = Report()
    return list(reader.read(*source, report, **options)), report


# --- Quick, Draw! ---


def test_simplified_drawings_stay_as_they_are(tmp_path):
    (found,), report = read(quickdraw, [quick(tmp_path / "cat.ndjson", SIMPLE)])
    assert (found.word, found.key_id) == ("cat", "5201136883597312")
    assert [stroke.tolist() for stroke in found.strokes] == SIMPLE["drawing"]
    assert not report.failed.counts


def test_raw_drawings_are_scaled_and_simplified_as_quick_draw_does(tmp_path):
    (found,), _ = read(quickdraw, [quick(tmp_path / "raw.ndjson", RAW)])
    straight, other = found.strokes  # the middle point lies on the line, to less than 2
    np.testing.assert_allclose(straight, [[0, 205], [0, 102.5]], atol=1e-4)
    np.testing.assert_allclose(other, [[0, 255], [255, 0]], atol=1e-4)


def test_unrecognised_sketches_are_left_out_by_default(tmp_path):
    path = quick(tmp_path / "cat.ndjson", {**SIMPLE, "recognized": False}, SIMPLE)
    found, report = read(quickdraw, [path])
    assert len(found) == 1
    assert report.left_out.to_list() == [
        {"reason": "sketch was not recognised", "count": 1, "first": "cat.ndjson: line 1"}
    ]
    assert len(read(quickdraw, [path], unrecognised=True)[0]) == 2


def test_a_folder_of_files_plain_and_gzipped(tmp_path):
    quick(tmp_path / "b.ndjson", {**SIMPLE, "word": "dog"})
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(SIMPLE).encode() + b"\n\n"))
    said = []
    found, _ = read(quickdraw, [tmp_path], progress=lambda *now: said.append(now))
    assert [drawing.word for drawing in found] == ["cat", "dog"]
    assert [name for name, done, total in said if done == total] == ["a.ndjson.gz", "b.ndjson"]


def test_bad_lines_are_counted_and_damaged_files_refused(tmp_path):
    path = tmp_path / "cat.ndjson"
    path.write_text('{"word": "cat"\n[1]\n{"word": "cat", "key_id": "1", "drawing": [[[1, 2], [1]]]}\n')
    found, report = read(quickdraw, [path])
    assert not found
    assert list(report.failed.counts.values()) == [3]
    assert list(report.failed.first.values()) == ["cat.ndjson: line 1"]
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    damaged = bytearray(gzip.compress(b"x" * 1000))
    damaged[10] = 0xFF  # the first byte behind the header: no kind of block
    (tmp_path / "damaged.gz").write_bytes(damaged)
    for name in ("cut.gz", "damaged.gz"):
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            read(quickdraw, [tmp_path / name])
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            read_sketches(tmp_path / name)
    with pytest.raises(DataError, match=r"none is no file and holds no \.ndjson"):
        read(quickdraw, [tmp_path / "none"])
    with pytest.raises(DataError, match=r"out\.parquet: nothing is left to write; line is no sketch"):
        build_sketches("quickdraw", quickdraw.read([path], report), report, tmp_path / "out.parquet", source=[path])


def test_a_sample_is_the_seeds_whatever_the_order():
    drawings = [Drawing(word, str(number), ()) for number in range(50) for word in ("cat", "dog")]

    def keys(source, count, seed):
        return [(drawing.word, drawing.key_id) for drawing in sample(source, count, seed)]

    ten = keys(drawings, 10, 3)
    assert keys(reversed(drawings), 10, 3) == ten
    assert keys(drawings, 10, 4) != ten
    assert set(keys(drawings, 5, 3)) < set(ten)
    assert [word for word, _ in ten] == ["cat"] * 10 + ["dog"] * 10
    assert len(keys(drawings, 60, 3)) == 100
    assert len(keys([*drawings, *drawings], 3, 3)) == 6  # equal keys are no error


# --- strokes of other files ---


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_drawing_begins_at_0_and_its_longest_side_is_255(seed):
    rng = np.random.default_rng(seed)
    drawing = [rng.normal(size=(2, n)) * 900 + 40 for n in rng.integers(1, 7, 3)]
    low_x, low_y, high_x, high_y = ink(to_unit(drawing))
    assert min(low_x, low_y) == pytest.approx(0, abs=1e-3)
    # What is simplified lies within 2 of what was drawn.
    assert 251 <= max(high_x, high_y) <= 255.01
    extent = np.ptp(np.concatenate(drawing, axis=1), axis=1)
    assert abs(high_x - 255 * extent[0] / extent.max()) <= 2.01


def test_a_dot_stays_a_dot():
    (dot,) = to_unit([np.array([[7.0], [9.0]])])
    assert dot.tolist() == [[0], [0]]


def test_the_same_square_as_svg_and_as_png():
    from_file = from_svg(SVG.encode())
    assert ink(from_file) == pytest.approx([0, 0, 255, 255], abs=0.5)
    for mode in ("L", "RGB", "RGBA", "1"):
        path_of = from_png(_bytes(square_png(mode=mode)))
        assert ink(path_of) == pytest.approx([0, 0, 255, 255], abs=1)
        points = np.concatenate(path_of, axis=1)
        on_edge = np.minimum(points, 255 - points).min(axis=0)
        assert on_edge.max() < 3, "the line's middle, not a filled square"


def test_transparent_paper_is_white():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(image).line((8, 8, 56, 8), fill=(0, 0, 0, 255), width=3)
    x0, y0, x1, y1 = ink(from_png(_bytes(image)))
    assert (x1 - x0, y1 - y0) == (pytest.approx(255), pytest.approx(0, abs=8))


def test_files_without_ink_or_damaged():
    with pytest.raises(SketchError, match="it has no ink"):
        from_png(_bytes(Image.new("L", (20, 20), "white")))
    with pytest.raises(ImageError, match="the file is damaged or truncated"):
        from_png(_bytes(square_png())[:200])
    with pytest.raises(ImageError, match="not a photo in a known format"):
        from_png(b"no png")
    with pytest.raises(ImageError, match="4001 x 4000 pixels, over the limit"):
        from_png(_bytes(Image.new("1", (4001, 4000))))
    with pytest.raises(SketchError, match="it has no ink"):
        from_svg(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
    word = b'<g><rect x="1" y="1" width="7" height="7"/><text>cat</text></g>'
    with pytest.raises(SketchError, match="it has no ink"):
        from_svg(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">' + word + b"</svg>")
    with pytest.raises(SketchError):
        from_svg(b'{"objects": [{}]}')


def _bytes(image):
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# --- TU-Berlin ---


@pytest.fixture
def berlin(tmp_path):
    """Two SVGs, listed, and the PNG of the first."""
    for name in ("airplane/1", "car (sedan)/81"):
        path = tmp_path / "svg" / f"{name}.svg"
        path.parent.mkdir(parents=True)
        path.write_text(SVG)
    (tmp_path / "svg" / "filelist.txt").write_text("airplane/1.svg\ncar (sedan)/81.svg\n")
    (tmp_path / "png" / "airplane").mkdir(parents=True)
    square_png().save(tmp_path / "png" / "airplane" / "1.png")
    return tmp_path


def test_tu_berlin_in_either_form_has_the_same_keys(berlin):
    found, report = read(tuberlin, berlin)
    assert [(d.word, d.key_id) for d in found] == [("airplane", "airplane/1"), ("car (sedan)", "car (sedan)/81")]
    (from_pixels,), _ = read(tuberlin, berlin, form="png")
    assert (from_pixels.word, from_pixels.key_id) == ("airplane", "airplane/1")
    assert not report.failed.counts
    assert [d.key_id for d in read(tuberlin, berlin / "svg")[0]] == [d.key_id for d in found]


def test_tu_berlins_names_become_words(berlin, tmp_path):
    report, out = Report(), tmp_path / "berlin.parquet"
    build_sketches("tuberlin", tuberlin.read(berlin, report), report, out, source=[berlin])
    assert read_sketches(out).words == ("airplane", "car")
    assert report.kept == {"airplane": 1, "car": 1}
    assert report.sketches == 2
    class_map = tmp_path / "map.json"
    class_map.write_text(json.dumps({"words": {"car (sedan)": "saloon"}, "left_out": {"airplane": "not wanted"}}))
    report = Report()
    build_sketches("tuberlin", tuberlin.read(berlin, report), report, out, source=[berlin], class_map=class_map)
    assert read_sketches(out).words == ("saloon",)
    assert report.to_dict()["dropped_classes"] == [{"class": "airplane", "reason": "not wanted", "count": 1}]


def test_sketches_that_are_listed_and_not_there_or_cannot_be_read(berlin):
    (berlin / "svg" / "airplane" / "1.svg").write_text("<svg")
    (berlin / "svg" / "car (sedan)" / "81.svg").unlink()
    found, report = read(tuberlin, berlin)
    assert not found
    assert set(report.failed.counts) == {"sketch cannot be read", "sketch is not on disk"}
    assert report.failed.first["sketch is not on disk"].endswith("81.svg")
    (berlin / "svg" / "filelist.txt").write_text("../../etc/passwd.svg\n")
    with pytest.raises(DataError, match=r"filelist\.txt: '../../etc/passwd\.svg' is no <class>/<n>\.svg"):
        read(tuberlin, berlin)
    (berlin / "svg" / "filelist.txt").write_text("/passwd.svg\n")
    with pytest.raises(DataError, match=r"filelist\.txt: '/passwd\.svg' is no <class>/<n>\.svg"):
        read(tuberlin, berlin)
    with pytest.raises(DataError, match="form is 'jpg'; expected auto, svg or png"):
        read(tuberlin, berlin, form="jpg")
    with pytest.raises(DataError, match=r"holds no svg/<class>/\*\.svg or png/<class>/\*\.png; name the folder"):
        read(tuberlin, berlin / "png" / "airplane")


# --- Sketchy ---


@pytest.fixture
def database(tmp_path):
    """Three sketches of two photos, one of them invalid; the photos, and PNGs of two."""
    for name in ("n02691156_10151-1", "n02691156_10151-2"):
        (tmp_path / "sketches" / "airplane").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sketches" / "airplane" / f"{name}.svg").write_text(SVG)
    (tmp_path / "sketches" / "songbird").mkdir()
    (tmp_path / "sketches" / "songbird" / "n01530575_1-1.svg").write_text(SVG)
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "invalid-error.txt").write_text("n02691156_10151-2\n")
    for kind, name in (("sketch", "n02691156_10151-1.png"), ("photo", "n02691156_10151.jpg")):
        folder = tmp_path / "256x256" / kind / "tx_000000000000" / "airplane"
        folder.mkdir(parents=True)
        square_png(256, 30, 180).convert("RGB").save(folder / name)
    return tmp_path


def test_sketchy(database):
    found, report = read(sketchy, database)
    assert [(d.word, d.key_id) for d in found] == [
        ("airplane", "airplane/n02691156_10151-1"),
        ("songbird", "songbird/n01530575_1-1"),
    ]
    assert report.left_out.counts == {"sketch is on a list of invalid ones": 1}
    assert len(read(sketchy, database, invalid=True)[0]) == 3
    (database / "info").rename(database / "inner")
    with pytest.raises(
        DataError, match=r"has no list invalid\*\.txt; unpack Sketchy's info there, or keep all with --inv"
    ):
        read(sketchy, database)
    assert len(read(sketchy, database, invalid=True)[0]) == 3
    (database / "info-06-04").mkdir()  # an archive unpacked to a folder of its own name
    (database / "inner").rename(database / "info-06-04" / "info")
    assert len(read(sketchy, database)[0]) == 2
    (drawn,), _ = read(sketchy, database, form="png")
    assert drawn.key_id == found[0].key_id
    assert ink(drawn.strokes) == pytest.approx(ink(found[0].strokes), abs=2)
    with pytest.raises(DataError, match=r"holds neither sketches/<class>/\*\.svg nor 256x256/sketch/tx_000000000000"):
        read(sketchy, database / "info-06-04")


def test_the_photos_beside_are_labelled(database, tmp_path):
    folder, report, out = sketchy.photos_folder(database), Report(), tmp_path / "photos.parquet"
    build_photos("sketchy", sketchy.read_photos(folder), report, out, source=[database], images=folder)
    (photo,) = iter_photos(out)
    assert (photo.file, photo.label, photo.boxes) == ("airplane/n02691156_10151.jpg", "airplane", ())
    assert (photo.width, photo.height) == (256, 256)
    assert (read_labels(out).files, read_labels(out).classes) == (("airplane/n02691156_10151.jpg",), ("airplane",))
    assert read_facts(out).images == "256x256/photo/tx_000000000000"
    with pytest.raises(DataError, match="has no folder 256x256/photo/tx_000000000000; unpack"):
        sketchy.photos_folder(tmp_path / "info")
    with pytest.raises(DataError, match=r"info holds no <class>/\*\.jpg"):
        list(sketchy.read_photos(database / "info"))
