"""SVG: curves against closed forms, transforms against matrices, what is an object, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.errors import SketchError
from encoders.formats.svg_xml import MAX_DEPTH, MAX_ELEMENTS
from encoders.sketch import Sketch, SketchObject

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '


def read(body: str, head: str = 'width="200" height="200"') -> Sketch:
    return Sketch.from_bytes(f"{SVG}{head}>{body}</svg>".encode())


def stroke(body: str) -> np.ndarray:
    """The only stroke of the only object."""
    (item,) = read(body).objects
    (points,) = item.strokes
    return points


def path(data: str) -> np.ndarray:
    return stroke(f'<path d="{data}"/>')


def distance_to(points: np.ndarray, polyline: np.ndarray) -> float:
    """The largest distance from any of the points to the polyline, (2, n) both."""
    starts, chords = polyline[:, None, :-1], np.diff(polyline, axis=1)[:, None]  # (2, 1, m)
    offsets = points[:, :, None] - starts  # (2, n, m)
    shares = np.clip((offsets * chords).sum(axis=0) / np.maximum((chords**2).sum(axis=0), 1e-12), 0, 1)
    return float(np.hypot(*(offsets - shares * chords)).min(axis=1).max())


def agree(points: np.ndarray, curve: np.ndarray, tolerance: float = 0.06) -> None:
    """The polyline lies on the curve, and the curve on the polyline."""
    assert distance_to(points, curve) < tolerance
    assert distance_to(curve, points) < tolerance


T = np.linspace(0, 1, 400)


def cubic(p0, p1, p2, p3) -> np.ndarray:
    a, b, c, d = (np.array(p, dtype=float)[:, None] for p in (p0, p1, p2, p3))
    return a * (1 - T) ** 3 + 3 * b * T * (1 - T) ** 2 + 3 * c * T**2 * (1 - T) + d * T**3


def quadratic(p0, p1, p2) -> np.ndarray:
    a, b, c = (np.array(p, dtype=float)[:, None] for p in (p0, p1, p2))
    return a * (1 - T) ** 2 + 2 * b * T * (1 - T) + c * T**2


@pytest.mark.parametrize(
    ("data", "corners"),
    [
        ("M10 20L30 40", [(10, 20), (30, 40)]),
        ("m10,20 l30-5", [(10, 20), (40, 15)]),
        ("M10 20 30 40 50 10", [(10, 20), (30, 40), (50, 10)]),
        ("m10 20 5 5 5-5", [(10, 20), (15, 25), (20, 20)]),
        ("M1e1 2.5E+1 H60 V70 h-10 v-5.5", [(10, 25), (60, 25), (60, 70), (50, 70), (50, 64.5)]),
        ("M.5.5.25.75L1-1", [(0.5, 0.5), (0.25, 0.75), (1, -1)]),
        ("M10 10 h20 v20 z", [(10, 10), (30, 10), (30, 30), (10, 10)]),
        ("M10 10 Z", [(10, 10)]),
    ],
)
def test_lines_are_exact(data: str, corners: list[tuple[float, float]]):
    np.testing.assert_allclose(path(data).T, corners)


def test_after_closing_the_next_stroke_begins_where_the_last_one_did():
    (item,) = read('<path d="M10 10 h20 v20 z l5 5 M 50 50 m1 1 l1 1"/>').objects
    np.testing.assert_allclose(item.strokes[1].T, [(10, 10), (15, 15)])
    np.testing.assert_allclose(item.strokes[2].T, [(51, 51), (52, 52)])


@pytest.mark.parametrize(
    ("data", "curve"),
    [
        ("M10 80 C 40 10, 65 10, 95 80", cubic((10, 80), (40, 10), (65, 10), (95, 80))),
        ("M10 80 c 30 -70, 55 -70, 85 0", cubic((10, 80), (40, 10), (65, 10), (95, 80))),
        ("M10 80 Q 95 10 180 80", quadratic((10, 80), (95, 10), (180, 80))),
        ("M10 80 q 85 -70 170 0", quadratic((10, 80), (95, 10), (180, 80))),
        ("M10 80 S 65 10, 95 80", cubic((10, 80), (10, 80), (65, 10), (95, 80))),
        ("M10 80 T 95 80", quadratic((10, 80), (10, 80), (95, 80))),
    ],
)
def test_curves_follow_their_closed_form(data: str, curve: np.ndarray):
    agree(path(data), curve)


def test_smooth_curves_mirror_the_last_control_point():
    first, second = cubic((10, 50), (20, 10), (40, 10), (50, 50)), cubic((50, 50), (60, 90), (80, 90), (90, 50))
    agree(path("M10 50 C20 10 40 10 50 50 S 80 90 90 50"), np.concatenate([first, second], axis=1))
    first, second = quadratic((10, 50), (30, 10), (50, 50)), quadratic((50, 50), (70, 90), (90, 50))
    agree(path("M10 50 q20 -40 40 0 t 40 0"), np.concatenate([first, second], axis=1))
    # After a curve of the other kind the control point is the current point.
    first, second = quadratic((10, 50), (30, 10), (50, 50)), cubic((50, 50), (50, 50), (80, 90), (90, 50))
    agree(path("M10 50 Q30 10 50 50 S 80 90 90 50"), np.concatenate([first, second], axis=1))


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("sweep", [0, 1])
def test_arcs_lie_on_an_ellipse_through_both_ends(large: int, sweep: int):
    points = path(f"M100 30 a40 20 30 {large}{sweep}20 25")
    np.testing.assert_allclose(points[:, [0, -1]].T, [(100, 30), (120, 55)], atol=1e-9)
    # In the ellipse's own frame it is a circle: fit its centre, then check radius, turn and share.
    turn = math.radians(30)
    own = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) @ points / [[40], [20]]
    system = np.column_stack([2 * own.T, np.ones(own.shape[1])])
    cx, cy, rest = np.linalg.lstsq(system, (own**2).sum(axis=0), rcond=None)[0]
    assert math.sqrt(rest + cx**2 + cy**2) == pytest.approx(1, abs=1e-6)
    angles = np.unwrap(np.arctan2(own[1] - cy, own[0] - cx))
    assert (angles[-1] - angles[0] > 0) == bool(sweep)
    assert (abs(angles[-1] - angles[0]) > math.pi) == bool(large)


def test_an_arc_too_small_is_enlarged_and_one_without_radius_is_a_line():
    np.testing.assert_allclose(np.ptp(path("M10 50 A1 1 0 0 1 90 50"), axis=1), [80, 40], atol=0.1)
    np.testing.assert_allclose(path("M10 50 A0 5 0 0 1 90 50").T, [(10, 50), (90, 50)])


def test_shapes():
    np.testing.assert_allclose(stroke('<line x1="1" y1="2" x2="3" y2="4"/>').T, [(1, 2), (3, 4)])
    np.testing.assert_allclose(stroke('<polyline points="1,2 3,4,5 6"/>').T, [(1, 2), (3, 4), (5, 6)])
    np.testing.assert_allclose(stroke('<polygon points="1,2 3,4 5,9"/>').T, [(1, 2), (3, 4), (5, 9), (1, 2)])
    corners = [(10, 20), (40, 20), (40, 60), (10, 60), (10, 20)]
    np.testing.assert_allclose(stroke('<rect x="10" y="20" width="30" height="40"/>').T, corners)
    angles = 2 * np.pi * T
    agree(stroke('<circle cx="50" cy="40" r="30"/>'), np.stack([50 + 30 * np.cos(angles), 40 + 30 * np.sin(angles)]))
    ellipse = stroke('<ellipse cx="25%" cy="40" rx="30" ry="10"/>')
    np.testing.assert_allclose(((ellipse[0] - 50) / 30) ** 2 + ((ellipse[1] - 40) / 10) ** 2, 1)
    rounded = stroke('<rect x="10" y="20" width="30" height="40" rx="5"/>')
    np.testing.assert_allclose([rounded.min(axis=1), rounded.max(axis=1)], [(10, 20), (40, 60)])
    assert np.hypot(rounded[0] - 10, rounded[1] - 20).min() == pytest.approx(5 * (math.sqrt(2) - 1), abs=0.1)


@pytest.mark.parametrize(
    ("transform", "matrix"),
    [
        ("translate(5)", [[1, 0, 5], [0, 1, 0]]),
        ("translate(5, 7)", [[1, 0, 5], [0, 1, 7]]),
        ("scale(2)", [[2, 0, 0], [0, 2, 0]]),
        ("scale(2 .5)", [[2, 0, 0], [0, 0.5, 0]]),
        ("matrix(1 2 3 4 5 6)", [[1, 3, 5], [2, 4, 6]]),
        ("rotate(90)", [[0, -1, 0], [1, 0, 0]]),
        ("rotate(90 10 0)", [[0, -1, 10], [1, 0, -10]]),
        ("skewX(45)", [[1, 1, 0], [0, 1, 0]]),
        ("skewY(45)", [[1, 0, 0], [1, 1, 0]]),
        ("translate(5,7) scale(2)", [[2, 0, 5], [0, 2, 7]]),
    ],
)
def test_transforms(transform: str, matrix: list[list[float]]):
    points = stroke(f'<g transform="translate(50 50)"><path transform="{transform}" d="M10 20 L 13 14"/></g>') - 50
    np.testing.assert_allclose(points, np.array(matrix) @ [[10, 13], [20, 14], [1, 1]], atol=1e-9)


def test_transforms_compose_through_the_groups():
    points = stroke('<g transform="translate(10 0)"><g transform="scale(2)"><path d="M1 2L3 4"/></g></g>')
    np.testing.assert_allclose(points.T, [(12, 4), (16, 8)])


def test_enlarged_curves_are_cut_finer():
    curve = '<path d="M1 8 C 4 1, 6 1, 9 8" transform="scale({})"/>'
    assert stroke(curve.format(20)).shape[1] > 3 * stroke(curve.format(1)).shape[1]


@pytest.mark.parametrize(
    ("head", "size", "point"),
    [
        ('viewBox="0 0 400 200"', (400, 200), (40, 20)),
        ('width="4in" height="48pt"', (384, 64), (40, 20)),
        ('width="50mm" height="2.54cm"', (189, 96), (40, 20)),
        ('width="200px" height="100px" viewBox="0 0 400 200"', (200, 100), (20, 10)),
        ('width="100%" height="100%" viewBox="30 10 400 200"', (400, 200), (10, 10)),
        ('width="200" viewBox="0 0 400 200"', (200, 100), (20, 10)),
        ('width="200" height="200" viewBox="0 0 400 200"', (200, 200), (20, 60)),
        ('width="200" height="200" viewBox="0 0 400 200" preserveAspectRatio="none"', (200, 200), (20, 20)),
        ('width="200" height="200" viewBox="0 0 400 200" preserveAspectRatio="xMinYMin slice"', (200, 200), (40, 20)),
    ],
)
def test_the_canvas(head: str, size: tuple[int, int], point: tuple[float, float]):
    sketch = read('<path d="M40 20 L 60 30"/>', head)
    assert (sketch.width, sketch.height) == size
    assert sketch.objects[0].strokes[0][:, 0] == pytest.approx(point, rel=0.01)


LINE = '<path d="M1 1L9 9"/>'


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (f'<g id="dog">{LINE}</g><g id="cat">{LINE}{LINE}</g>', ["dog", "cat"]),
        (LINE * 3, [None, None, None]),
        (f'<g id="dog"><g id="head">{LINE}</g><g>{LINE}</g>{LINE}</g>', ["dog"]),
        (f'<g id="layer1"><g id="dog">{LINE}</g><g id="cat">{LINE}</g></g>', ["dog", "cat"]),
        (f'<g id="dog"><g>{LINE}</g></g>', ["dog"]),
        (f'<g id="g12" aria-label="dog">{LINE}</g>', ["dog"]),
        (f'<g id="g12"><title>a dog &amp; bone</title>{LINE}</g>', ["a dog & bone"]),
        (f'<g xmlns:inkscape="i" inkscape:label="dog">{LINE}</g>', ["dog"]),
        (f'<g id="x" data-label="dog">{LINE}</g>', ["dog"]),
        (f'<path id="dog" d="M1 1L9 9"/>{LINE}', ["dog", None]),
        (f'<rect width="100%" height="100%" fill="white"/><g id="layer"><g id="dog">{LINE}</g></g>', ["dog"]),
        (f'<g id="a" display="none">{LINE}</g><g id="b">{LINE}</g>', ["b"]),
        (f'<g id="a" style="fill:red; display:none">{LINE}</g><g id="b">{LINE}</g>', ["b"]),
        (f'<g id="b"><g visibility="hidden">{LINE}</g>{LINE}</g>', ["b"]),
        (f"<defs><g>{LINE}</g></defs><text>hello</text><g id='b'>{LINE}</g>", ["b"]),
        (f'<g id="b">{LINE}</g><g xmlns:inkscape="i" inkscape:groupmode="layer"/>', ["b"]),
    ],
)
def test_what_is_an_object_and_what_it_is_called(body: str, labels: list[str | None]):
    assert [item.label for item in read(body).objects] == labels


def test_hidden_ink_is_no_ink():
    (item,) = read(f'<g><g visibility="hidden">{LINE}<g visibility="visible">{LINE}</g></g>{LINE}</g>').objects
    assert len(item.strokes) == 2


HOSTILE = [
    ('<!DOCTYPE svg [<!ENTITY a "b">]><svg/>', "DOCTYPE"),
    ('<!DOCTYPE svg SYSTEM "http://x/y.dtd"><svg/>', "DOCTYPE"),
    ('<?xml-stylesheet href="http://x/y.css"?><svg/>', "another file"),
    (f'{SVG}><image href="http://x/y.png"/></svg>', "<image> in line 1 is not strokes"),
    (f"{SVG}><script>alert(1)</script></svg>", "script"),
    (f"{SVG}><foreignObject/></svg>", "foreignObject"),
    (f'{SVG}><use href="#a"/></svg>', "unlink the clone"),
    (f'{SVG}><path xlink:href="file:///etc/passwd" d="M1 1h5"/></svg>', "'file:///etc/passwd' outside the file"),
    (f'{SVG}><a href="//x/y">{LINE}</a></svg>', "outside the file"),
    (f"{SVG}><g style=\"fill:url('http://x/y#z')\">{LINE}</g></svg>", "outside the file"),
    (f"{SVG}><style>@import 'x.css';</style>{LINE}</svg>", "outside the file"),
    (f"{SVG}>{'<g>' * MAX_DEPTH}{LINE}{'</g>' * MAX_DEPTH}</svg>", "nested deeper than 64"),
    (f"{SVG}>{'<g/>' * MAX_ELEMENTS}</svg>", "more than 50000 elements"),
    (f"{SVG}><path", "no valid SVG: unclosed token in line 1"),
    ("<html><body/></html>", "has to be <svg>, found <html>"),
    ('<?xml version="1.0" encoding="klingon"?><svg/>', "no valid SVG: unknown encoding"),
    ("<svg>&bomb;</svg>", "undefined entity"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_hostile_documents_are_refused(text: str, message: str):
    with pytest.raises(SketchError, match=f"^sketch: .*{message}"):
        Sketch.from_bytes(text.encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<path id="tail" d="L1 1"/>', "<path id='tail'>: path data has to begin with M, found 'L'"),
        ('<path d="M1 1 L2"/>', "<path> in line 1: expected a number for 'L'"),
        ('<path d="M1 1 X2 2"/>', "expected a command at 'X2 2'"),
        ('<path d="M1 1 a5 5 0 2 0 9 9"/>', "expected a flag 0 or 1 for 'a' at '2 0 9 9'"),
        ('<path d="M1e999 1 L 2 2"/>', "absurdly far"),
        ('<path d="M1 1 C 1e308 1e308 -1e308 1e308 9 9"/>', "<path> in line 1"),
        ('<path d="M1 1 A 1e-300 1e-300 0 0 0 9 9"/>', "<path> in line 1"),
        ('<polygon points="1 2 3"/>', "odd number of coordinates"),
        ('<polygon points="1 b"/>', "expected a number at 'b'"),
        ('<circle r="wide"/>', "its r 'wide' is no length"),
        (f'<g transform="spin(3)">{LINE}</g>', "its transform 'spin"),
        (f'<g transform="rotate(1 2)">{LINE}</g>', "its transform 'rotate"),
        ('<g id="dog"/><g>' + LINE + "</g>", "object 0, <g id='dog'>, has no ink"),
        ("<text>only words</text>", "the sketch is empty"),
        (f'<g data-weight="much">{LINE}</g>', "its data-weight cannot be read: expected a number at 'much'"),
        (f'<g data-weight="1 2">{LINE}</g>', "its data-weight has to be one number, found 2"),
        (f'<g data-weight="0">{LINE}</g>', "its weight has to be a number from -4 to 4, but not 0"),
        ('<g><rect id="b" width="9"/><text>dog</text></g>', "<rect id='b'>: the box of the word \"dog\" has no size"),
        ("", "the sketch is empty"),
        ('<path d="M900 900 h5"/>', "wholly outside the canvas"),
        ("<path d='M1 1" + " L2 2" * 100_001 + "'/>", "simplify it"),
        (f"<g><svg>{LINE}</svg></g>", "make it a group"),
    ],
)
def test_drawings_that_cannot_be_read_name_the_element(body: str, message: str):
    with pytest.raises(SketchError) as caught:
        read(body)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("", "neither width and height nor a viewBox"),
        ('width="wide" height="3"', "its width 'wide' is no length"),
        ('viewBox="0 0 5"', "four numbers"),
        ('viewBox="0 0 5 0"', "positive"),
        ('width="-5" height="9"', "impossible"),
        ('width="1e7" height="9"', "impossible"),
    ],
)
def test_impossible_canvases(head: str, message: str):
    with pytest.raises(SketchError, match=message):
        read(LINE, head)


BOX = '<rect x="10" y="20" width="30" height="40"/>'


@pytest.mark.parametrize(
    ("body", "label", "box"),
    [
        (f"<g>{BOX}<text>dog</text></g>", "dog", (10, 20, 40, 60)),
        (f'<g id="cat" data-label="cat">{BOX}<text>dog</text></g>', "dog", (10, 20, 40, 60)),  # what one reads
        (f"<g>{BOX}<text>\n  <tspan>ice</tspan>\n  <tspan>cream &amp; co</tspan>\n</text></g>", "ice cream & co", None),
        (f'<g transform="scale(2)">{BOX}<text>dog</text></g>', "dog", (20, 40, 80, 120)),
        ('<g><rect width="100%" height="100%"/><text>sky</text></g>', "sky", (0, 0, 200, 200)),  # no background
        (f"<g id='layer'><g>{BOX}<text>dog</text></g></g>", "dog", (10, 20, 40, 60)),
    ],
)
def test_a_box_and_a_text_are_a_word_over_a_box(body: str, label: str, box: tuple[float, ...] | None):
    (item,) = read(body).objects
    assert (item.strokes, item.label) == ((), label)
    assert item.box == pytest.approx(box or (10, 20, 40, 60))


@pytest.mark.parametrize(
    "body",
    [f"<g>{BOX}</g>", f"<g>{BOX}<text> </text></g>", f"<g>{BOX}{LINE}<text>dog</text></g>", f"{BOX}<text>dog</text>",
     f'<g>{BOX}<text display="none">dog</text></g>'],
)  # fmt: skip
def test_any_other_rectangle_is_drawn(body: str):
    assert all(item.strokes and item.label is None for item in read(body).objects)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (f'<g data-weight="-1">{LINE}</g><g data-weight=" 2.5 ">{LINE}</g>{LINE}', [-1, 2.5, 1]),
        (f'<path data-weight=".5" d="M1 1L9 9"/>{LINE}', [0.5, 1]),
        (f'<g data-weight="2"><g data-weight="-1">{LINE}</g><g>{LINE}</g></g>', [-1, 2]),  # a layer's own
        (f'{LINE}<g data-weight="-1">{BOX}<text>dog</text></g>', [1, -1]),
    ],
)
def test_weights(body: str, weights: list[float]):
    assert [item.weight for item in read(body).objects] == weights


coordinates = st.floats(0, 400)


words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=10)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5), max_size=3),
            st.none() | words,
            st.none() | st.just((1 / 3, 2.0, 50.0, 60.0)),
            st.sampled_from([1.0, 2.5, -1.0]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_svg_round_trip(drawing):
    from encoders.formats import svg

    objects = [
        SketchObject([np.array(s).T for s in ink], label, box, weight) if ink
        else SketchObject((), f"a {label}", (1 / 3, 2.0, 50.0, 60.0), weight)
        for ink, label, box, weight in drawing
    ]  # fmt: skip
    sketch = Sketch(400, 400, (*objects, SketchObject((), "b", (0, 0, 400, 400))))
    again = Sketch.from_bytes(svg.write(sketch.to_dict()))
    assert (again.width, again.height) == (400, 400)
    for old, new in zip(sketch.objects, again.objects, strict=True):
        assert (new.label, new.weight, len(new.strokes)) == (old.label, old.weight, len(old.strokes))
        assert new.box == pytest.approx(old.box, abs=0.001)
        for a, b in zip(old.strokes, new.strokes, strict=True):
            np.testing.assert_allclose(b, a, atol=0.00051)
