"""Contact sheets: what is where, and that nothing a collection can hold breaks them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.sheet import SCALE, check_place, contact_sheet, network_view, save
from encoders.errors import SketchError
from encoders.explain import Explanation
from encoders.formats.pen import PALETTE
from encoders.sketch import Sketch, SketchObject


@dataclass(frozen=True)
class Found:
    source: str
    score: float = 0.5
    confidence: float | None = None


@pytest.fixture
def sketch():
    """Two objects, left and right."""
    square = np.array([[0.0, 80, 80, 0, 0], [0, 0, 80, 80, 0]])
    left = SketchObject([square + 10], "cup")
    return Sketch(200, 100, (left, SketchObject([square + np.array([[110], [10]])])))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "Bäume im Süden.jpg"
    Image.new("RGB", (400, 300), (90, 160, 90)).save(path)
    return Found(str(path))


def count(image: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(image.convert("RGB")) == colour).all(axis=2).sum())


def test_each_object_has_its_colour_on_the_sketch_and_on_every_photo(sketch, photo):
    none, one, three = (contact_sheet(sketch, [photo] * number) for number in (0, 1, 3))
    for colour in PALETTE[:2]:
        alone, single, triple = (count(sheet, colour) for sheet in (none, one, three))
        assert 0 < alone < single < triple
        assert triple - alone == 3 * (single - alone)
    assert count(three, PALETTE[2]) == 0


def test_a_photo_fills_its_tile_whole(sketch, photo):
    sheet = contact_sheet(sketch, [photo])
    green = (np.abs(np.asarray(sheet).astype(int) - (90, 160, 90)) < 6).all(axis=2)
    rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert (width, height) == (200 * SCALE, 150 * SCALE)


def test_an_explained_photo_is_tinted_where_objects_speak_and_says_how_much_each_adds(sketch, photo):
    cells = np.zeros((2, 7, 7))
    cells[0, :, 0] = 0.1
    loud = Explanation(cells, np.zeros((7, 7)), 0.0)
    quiet = Explanation(cells / 10, np.zeros((7, 7)), 0.0)
    plain = contact_sheet(sketch, [photo, photo])
    sheet = contact_sheet(sketch, [photo, photo], explanations=[loud, quiet])
    assert sheet.height > plain.height
    # In the first column of cells of each photo, left of the boxes, and between the boxes, where nothing speaks.
    loudly, quietly, silent = (sheet.getpixel((x * SCALE, 60 * SCALE)) for x in (356, 570, 457))
    assert loudly[0] > loudly[1] + 40  # object 0 is red
    assert max(abs(a - b) for a, b in zip(quietly, silent, strict=True)) < 30  # a tenth as loud, by one measure
    assert silent[0] == silent[1] == silent[2]
    assert count(sheet, PALETTE[0]) > count(plain, PALETTE[0])  # its total below, in its colour


def test_what_many_objects_add_is_cut_short(photo):
    dots = [SketchObject([[[10 + 5 * i, 20 + 5 * i], [10, 90]]]) for i in range(32)]
    explained = Explanation(np.full((32, 7, 7), 0.01), np.zeros((7, 7)), 0.0)
    wide = contact_sheet(Sketch(200, 100, dots), [photo], explanations=[explained])
    assert wide.size[0] == contact_sheet(Sketch(200, 100, dots), [photo]).size[0]


def test_confidence_is_shown_where_it_is_known(sketch, photo):
    unknown = contact_sheet(sketch, [photo])
    known = contact_sheet(sketch, [Found(photo.source, confidence=0.62)])
    assert unknown.size == known.size
    assert unknown != known


@pytest.mark.parametrize("hits", [0, 1, 4, 5, 13])
def test_rows_grow_with_the_hits(sketch, photo, hits):
    sheet = contact_sheet(sketch, [photo] * hits, columns=4)
    assert sheet.mode == "RGB"
    assert sheet.height >= -(-hits // 4) * 190 * SCALE


@pytest.mark.parametrize("source", ["/nowhere/at-all.jpg", "", "tar://x#" + "long" * 1000, "null\0byte", "日本.png"])
def test_a_photo_that_cannot_be_read_gets_a_tile_that_says_so(sketch, photo, source):
    missing = contact_sheet(sketch, [Found(source)])
    assert missing.size == contact_sheet(sketch, [photo]).size
    assert count(missing, PALETTE[0]) == count(contact_sheet(sketch, []), PALETTE[0])  # no boxes on a tile


def test_a_tall_canvas_and_many_objects_fit(photo):
    dots = [SketchObject([[[10 + 5 * i, 20 + 5 * i], [900, 990]]], f"object with a long name {i}") for i in range(32)]
    tall = Sketch(200, 1000, dots)
    for picture in (contact_sheet(tall, [photo]), network_view(tall)):
        assert max(picture.size) < 4000


def test_the_networks_view_shows_a_raster_an_object(sketch):
    one = network_view(Sketch(200, 100, sketch.objects[:1]), title="left")
    two = network_view(sketch, title="both")
    assert two.width > one.width
    assert count(two, PALETTE[1]) > 0 == count(one, PALETTE[1])


def test_save_names_the_file_and_the_way_out(sketch, tmp_path):
    view = network_view(sketch)
    for name in ("view.png", "view.JPG"):
        save(view, tmp_path / name)
        with Image.open(tmp_path / name) as written:
            assert written.size == view.size
    with pytest.raises(SketchError, match=r"view\.gif.*\.png"):
        save(view, tmp_path / "view.gif")
    with pytest.raises(SketchError, match=r"nowhere.*cannot be written"):
        save(view, tmp_path / "nowhere" / "view.png")
    with pytest.raises(SketchError, match="cannot be written"):
        save(view, Path("/dev/full/x.png"))


@pytest.mark.parametrize(("width", "height"), [(65536, 1), (1, 65536)])
def test_an_extreme_canvas_and_an_extreme_photo(tmp_path, width, height) -> None:
    sketch = Sketch(width, height, (SketchObject([[[0, width], [0, height]]]),))
    Image.new("RGB", (min(width, 9000), min(height, 9000)), "green").save(tmp_path / "strip.png")
    assert count(contact_sheet(sketch, [Found(str(tmp_path / "strip.png"))]), PALETTE[0]) > 0
    assert count(network_view(sketch), PALETTE[0]) > 0


def test_a_place_is_refused_before_there_is_work_to_lose(tmp_path) -> None:
    with pytest.raises(SketchError, match=r"x\.png: cannot be written \(there is no folder .*nowhere\)"):
        check_place(tmp_path / "nowhere" / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SketchError, match=r"folder\.png: cannot be written \(it is a folder\)"):
        check_place(tmp_path / "folder.png")
    check_place(tmp_path / "fine.JPG")


def test_words_and_what_is_not_wanted_are_shown(photo):
    objects = (SketchObject((), "cup", (10, 10, 90, 90)), SketchObject((), "dog", (0, 0, 200, 100), weight=-1))
    wanted = Sketch(200, 100, (objects[0], SketchObject((), "dog", (0, 0, 200, 100))))
    unwanted = Sketch(200, 100, objects)
    solid, dashed = (count(contact_sheet(one, [photo] * 3), PALETTE[1]) for one in (wanted, unwanted))
    assert solid != dashed > 0
    view = network_view(unwanted)
    assert count(view, PALETTE[0]) > 0
    assert count(view, PALETTE[1]) > 0
