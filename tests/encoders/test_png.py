"""PNG drawings: colours told apart under antialiasing, clusters of one colour, stray dots, thinning and tracing."""

from __future__ import annotations

import io
import struct
import time
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageDraw

from encoders.errors import SketchError
from encoders.formats.pen import PALETTE
from encoders.formats.skeleton import components, outline, simplify, thin, trace
from encoders.sketch import Sketch, SketchObject

RED, BLUE, BLACK = (220, 30, 30), (30, 60, 220), (0, 0, 0)
# The middle lines of `scene`: an ellipse, a bent line that crosses it, a rectangle.
SCENE = [(21.5, 41.5, 158.5, 198.5), (120, 60, 380, 250), (251.5, 21.5, 328.5, 88.5)]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scene(colours, oversample: int = 4, width: int = 3, filter=Image.Resampling.LANCZOS) -> Image.Image:
    """400 x 300: drawn larger and reduced, which is antialiasing with ringing."""
    k = oversample
    image = Image.new("RGB", (400 * k, 300 * k), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((20 * k, 40 * k, 160 * k, 200 * k), outline=colours[0], width=width * k)
    pen.line((120 * k, 60 * k, 300 * k, 250 * k, 380 * k, 100 * k), fill=colours[1], width=width * k)
    pen.rectangle((250 * k, 20 * k, 330 * k, 90 * k), outline=colours[2], width=width * k)
    return image.resize((400, 300), filter) if k > 1 else image


def boxes(image: Image.Image) -> list[tuple[float, ...]]:
    return [item.box for item in Sketch.from_bytes(png(image)).objects]


def assert_boxes(found: list[tuple[float, ...]], expected: list[tuple[float, ...]], within: float = 3.0) -> None:
    """The same boxes in any order."""
    assert len(found) == len(expected)
    np.testing.assert_allclose(sorted(found), sorted(expected), atol=within)


@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("oversample", [1, 4])
def test_one_colour_an_object(oversample: int, width: int):
    assert_boxes(boxes(scene((RED, BLUE, BLACK), oversample, width)), SCENE, within=4)


@pytest.mark.parametrize(
    "colours",
    [
        ((255, 0, 0), (255, 70, 0), BLACK),
        (RED, (240, 120, 120), (20, 20, 20)),
        (BLACK, (128, 128, 128), (60, 60, 200)),
        ((120, 0, 0), (250, 0, 0), (0, 90, 0)),
        ((255, 215, 0), (0, 200, 255), (255, 0, 255)),
    ],
)
@pytest.mark.parametrize("filter", [Image.Resampling.BICUBIC, Image.Resampling.BOX])
def test_neighbouring_hues_and_tones_of_one_hue_are_told_apart(colours, filter):
    assert_boxes(boxes(scene(colours, filter=filter)), SCENE)


def test_a_stray_dot_is_dropped_and_loses_nothing():
    image = scene((RED, BLUE, BLACK))
    pen = ImageDraw.Draw(image)
    pen.ellipse((380, 10, 384, 14), fill=(0, 160, 0))  # of a colour of its own
    pen.point((5, 290), fill=RED)  # of an object's colour, far off it
    pen.point((200, 280), fill=(90, 90, 0))
    assert_boxes(boxes(image), SCENE)


def test_a_picture_of_dots_keeps_them():
    image = Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(image).ellipse((20, 30, 23, 33), fill=RED)
    assert_boxes(boxes(image), [(22, 32, 22, 32)], within=2)


def test_one_colour_is_cut_into_clusters():
    image = Image.new("RGB", (400, 300), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 40, 160, 200), outline=BLUE, width=3)
    pen.ellipse((60, 80, 72, 92), outline=BLUE, width=3)  # an eye, inside
    pen.line((165, 100, 200, 100), fill=BLUE, width=3)  # nearly touches
    pen.rectangle((250, 20, 330, 90), outline=BLUE, width=3)
    pen.point((390, 290), fill=BLUE)
    assert_boxes(boxes(image), [(21, 41, 200, 199), (251, 21, 329, 89)])


def test_alpha_lies_on_white_and_palettes_and_grey_are_read():
    ink = np.zeros((60, 80, 4), dtype=np.uint8)
    ink[10:13, 10:60, 3] = ink[10:50, 30:33, 3] = 255
    for image in (
        Image.fromarray(ink),
        Image.fromarray(ink).getchannel("A").point(lambda a: 255 - a),
        Image.fromarray(255 - ink[..., 3]).convert("P"),
        Image.fromarray((255 - ink[..., 3]).astype(np.uint16) * 257),
    ):
        assert_boxes(boxes(image), [(11, 11, 59, 49)])


def test_a_filled_shape_becomes_its_outline():
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).ellipse((20, 40, 160, 180), fill=RED)
    (item,) = Sketch.from_bytes(png(image)).objects
    assert_boxes([item.box], [(20.5, 40.5, 160.5, 180.5)], within=1)
    for points in item.strokes:
        np.testing.assert_allclose(np.hypot(points[0] - 90.5, points[1] - 110.5), 70, atol=1.5)


def test_layers_may_overlap(tmp_path):
    masks = np.zeros((2, 60, 80), dtype=bool)
    masks[0, 10:50, 10:50] = masks[1, 30:58, 30:78] = True
    np.savez_compressed(tmp_path / "a.npz", masks=masks, labels=np.array(["dog", "größer"]))
    sketch = Sketch.open(tmp_path / "a.npz")
    assert [item.label for item in sketch.objects] == ["dog", "größer"]
    np.testing.assert_allclose(
        [item.box for item in sketch.objects], [(10.5, 10.5, 49.5, 49.5), (30.5, 30.5, 77.5, 57.5)]
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask": np.ones((1, 4, 4), bool)}, "no array 'masks'"),
        ({"masks": np.ones((4, 4), bool)}, r"found \(4, 4\) of bool"),
        ({"masks": np.ones((1, 4, 4))}, "float64"),
        ({"masks": np.zeros((1, 4, 4), bool)}, "object 0: its mask is empty"),
        ({"masks": np.ones((33, 4, 4), bool)}, "33 layers"),
        ({"masks": np.ones((1, 4, 4), bool), "labels": np.array(["a", "b"])}, "'labels' has to be"),
        ({"masks": np.array([{}])}, "holds objects"),
    ],
)
def test_layers_that_do_not_fit(arrays, message: str):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(SketchError, match=message):
        Sketch.from_bytes(buffer.getvalue())
    with pytest.raises(SketchError, match="damaged"):
        Sketch.from_bytes(buffer.getvalue()[:60])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_pictures_that_are_no_sketch():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    specks = Image.new("RGB", (400, 400), "white")
    for x in range(20, 400, 50):
        for y in range(20, 400, 50):
            ImageDraw.Draw(specks).rectangle((x, y, x + 12, y + 12), outline="black")
    good = png(scene((RED, BLUE, BLACK)))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    for data, message in [
        (png(Image.fromarray(noise)), "no plain paper"),
        (png(Image.new("RGB", (50, 50), "white")), "has no ink"),
        (png(Image.new("RGBA", (50, 50))), "has no ink"),
        (png(specks), "64 separate colours or clusters of ink, 32 is the limit"),
        (good[:20], "cut off"),
        (good[: len(good) // 2], "damaged"),
        (good[:50] + b"\x00" * 50 + good[100:], "damaged"),
        (bomb, "40000 x 40000 pixels, 16000000 is the limit"),
    ]:
        with pytest.raises(SketchError, match=message):
            Sketch.from_bytes(data)


def test_a_large_drawing_takes_seconds():
    image = Image.new("RGB", (2000, 2000), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((100, 100, 1900, 1900), outline=RED, width=12)
    pen.rectangle((500, 500, 900, 1800), fill=BLUE)
    begin = time.process_time()
    found = boxes(image)
    assert time.process_time() - begin < 20  # about 2 s; a loop over pixels would take minutes
    assert_boxes(found, [(106, 106, 1894, 1894), (500, 500, 900, 1800)], within=4)


def test_the_palette_is_distinct():
    colours = np.array([*PALETTE, (255, 255, 255)], dtype=float)
    gaps = np.linalg.norm(colours[:, None] - colours, axis=2) + 1e3 * np.eye(len(colours))
    assert len(PALETTE) == 32
    assert gaps.min() > 25


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_png_round_trip(data: st.DataObject):
    """Objects on a grid, so that none hides another: same number, labels and boxes."""
    cells = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True))
    objects = []
    for cell in cells:
        origin = np.array([[cell % 3], [cell // 3]]) * 100 + 5
        offsets = st.floats(0, 90).map(lambda value: round(value, 2))
        ink = [
            np.array([data.draw(st.lists(offsets, min_size=n, max_size=n)) for _ in range(2)]) + origin
            for n in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        ]
        ink.append(np.array([[10, 60], [20, 50]]) + origin)  # of a piece smaller than the pen little is left
        objects.append(SketchObject(tuple(ink), data.draw(st.sampled_from([None, "dog", "Bär"]))))
    sketch = Sketch(300, 300, tuple(objects))
    from encoders.formats import png as writer

    again = Sketch.from_bytes(writer.write(sketch.to_dict()))
    assert [item.label for item in again.objects] == [item.label for item in sketch.objects]
    for old, new in zip(sketch.objects, again.objects, strict=True):
        np.testing.assert_allclose(new.box, old.box, atol=2)


def test_what_a_png_cannot_hold_is_said(tmp_path):
    item = SketchObject([[[10, 50], [10, 50]]])
    with pytest.raises(SketchError, match="object 0 is hidden by later ones"):
        Sketch(100, 100, (item, item)).save(tmp_path / "a.png")
    with pytest.raises(SketchError, match="60000 x 60000 is too large for a PNG"):
        Sketch(60_000, 60_000, (item,)).save(tmp_path / "a.png")


def flood(mask: np.ndarray) -> list[frozenset[tuple[int, int]]]:
    """Components by the textbook's flood fill, the oracle."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        stack, group = [left.pop()], set()
        while stack:
            y, x = stack.pop()
            group.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(frozenset(group))
    return found


masks = npst.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@settings(deadline=None, max_examples=80)
@given(masks)
def test_components_are_those_of_a_flood_fill(mask: np.ndarray):
    labels, count = components(mask)
    found = [frozenset(map(tuple, np.argwhere(labels == n).tolist())) for n in range(1, count + 1)]
    assert set(found) == set(flood(mask))
    assert ((labels > 0) == mask).all()


@settings(deadline=None, max_examples=80)
@given(masks)
def test_thinning_keeps_every_component_and_adds_nothing(mask: np.ndarray):
    lines = thin(mask)
    assert not (lines & ~mask).any()
    labels, count = components(mask)
    assert set(np.unique(labels[lines]).tolist()) == set(range(1, count + 1))
    np.testing.assert_array_equal(thin(lines), lines)


def slow_thin(mask: np.ndarray) -> np.ndarray:
    """Zhang and Suen as in the paper, one pixel at a time."""
    image = np.pad(mask, 1).astype(int)
    while True:
        before = image.copy()
        for step in (0, 1):
            gone = []
            for y, x in np.argwhere(image[1:-1, 1:-1]) + 1:
                p2, p3, p4 = image[y - 1, x], image[y - 1, x + 1], image[y, x + 1]
                p5, p6, p7 = image[y + 1, x + 1], image[y + 1, x], image[y + 1, x - 1]
                p8, p9 = image[y, x - 1], image[y - 1, x - 1]
                ring = [p2, p3, p4, p5, p6, p7, p8, p9, p2]
                rises = sum(a == 0 and b == 1 for a, b in pairwise(ring))
                edges = (p2 * p4 * p6, p4 * p6 * p8) if step == 0 else (p2 * p4 * p8, p2 * p6 * p8)
                if 2 <= sum(ring[:-1]) <= 6 and rises == 1 and edges == (0, 0):
                    gone.append((y, x))
            for place in gone:
                image[place] = 0
        if (image == before).all():
            return image[1:-1, 1:-1].astype(bool)


@settings(deadline=None, max_examples=60)
@given(masks)
def test_thinning_is_zhang_and_suen_with_lost_pieces_restored(mask: np.ndarray):
    fast, slow = thin(mask), slow_thin(mask)
    assert not (slow & ~fast).any()
    labels, _ = components(mask)
    assert not np.isin(labels[fast & ~slow], labels[slow]).any()


@settings(deadline=None, max_examples=100)
@given(masks)
def test_tracing_visits_every_pixel(mask: np.ndarray):
    lines = thin(mask)
    seen = np.zeros(mask.shape, dtype=bool)
    for points in trace(lines, tolerance=0.0):
        for a, b in zip(points.T, points.T[1:] if points.shape[1] > 1 else points.T, strict=False):
            steps = int(max(1, np.abs(b - a).max()))
            for share in np.linspace(0, 1, steps + 1):
                x, y = a + share * (b - a)
                seen[int(y), int(x)] = True
    np.testing.assert_array_equal(seen, lines)


def test_a_closed_curve_is_one_stroke_and_a_fork_is_three():
    ring = np.zeros((9, 9), dtype=bool)
    ring[1:8, 1:8] = True
    (stroke,) = trace(thin(outline(ring)))
    np.testing.assert_allclose(stroke[:, 0], stroke[:, -1])
    fork = np.zeros((9, 9), dtype=bool)
    fork[4, :] = fork[4:, 4] = True
    assert len(trace(fork)) == 3


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=30), st.floats(0.1, 20))
def test_simplifying_stays_within_its_tolerance(corners, tolerance: float):
    points = np.array(corners).T
    kept = simplify(points, tolerance)
    np.testing.assert_array_equal(kept[:, [0, -1]], points[:, [0, -1]])
    starts, chords = kept[:, :-1], np.diff(kept, axis=1)
    for point in points.T:
        offset = point[:, None] - starts
        share = np.clip((offset * chords).sum(0) / np.maximum((chords**2).sum(0), 1e-12), 0, 1)
        distance = np.hypot(*(offset - share * chords)).min() if starts.size else np.hypot(*(point - kept[:, 0]))
        assert distance <= tolerance + 1e-6
