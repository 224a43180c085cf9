"""Whatever is sent: one line and a 4xx, nothing executed, nothing told of this machine."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.query import MAX_OBJECTS
from encoders.sketch import MAX_POINTS
from tests.web.serving import drawing

SQUARE = [[0, 9, 9, 0, 0], [0, 0, 9, 9, 0]]
KEYS = ["sketch", "width", "height", "objects", "strokes", "label", "bbox", "weight", "photo", "limit", "filter", "id"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(KEYS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=30,
)
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(answer: Any) -> str:
    """The line that a refusal has."""
    assert 400 <= answer.status_code < 500, answer.text
    assert list(answer.json()) == ["error"]
    line = answer.json()["error"]
    assert line
    assert "\n" not in line
    assert len(line) < 500
    for trace in ("Traceback", 'File "', "/site-packages/", "/tmp/"):
        assert trace not in line
    return line


@OFTEN
@given(value=JSON, path=st.sampled_from(["search", "similar", "explain", "login"]))
def test_any_json_is_answered_or_refused(page, value, path) -> None:
    answer = page.post(f"/api/{path}", content=json.dumps(value), headers={"Content-Type": "application/json"})
    if answer.status_code not in (200, 429):
        refused(answer)


@OFTEN
@given(part=JSON, place=st.sampled_from(["width", "height", "objects", "label", "bbox", "weight", "strokes", "photo"]))
def test_a_sketch_with_any_part_is_answered_or_refused(page, part, place) -> None:
    sketch = {"width": 10, "height": 10, "objects": [{"strokes": [SQUARE]}]}
    target = sketch if place in sketch else sketch["objects"][0]
    target[place] = part
    answer = page.post(
        "/api/search", content=json.dumps({"sketch": sketch}), headers={"Content-Type": "application/json"}
    )
    if answer.status_code not in (200, 429):
        refused(answer)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sketch":' * 50_000,
        b'{"sketch": NaN}',
        b'{"limit": ' + b"9" * 10_000 + b"}",
        b'{"sketch": {"width": 1e999, "height": 1, "objects": []}}',
        b'"\\ud800"',
        b"<svg/>",
    ],
)
def test_what_is_no_sketch_in_json(page, content) -> None:
    refused(page.post("/api/search", content=content, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_what_is_not_sent_as_json(page, kind) -> None:
    body = json.dumps({"sketch": drawing([0.1, 0.1, 0.4, 0.4])})
    refused(page.post("/api/search", content=body, headers={"Content-Type": kind}))


@pytest.mark.parametrize(
    ("sketch", "words"),
    [
        ({"width": 10, "height": 10, "objects": [{"strokes": [SQUARE]}] * 10_000}, f"at most {MAX_OBJECTS} items"),
        ({"width": 10, "height": 10, "objects": [{"strokes": [SQUARE] * 10_000}]}, "at most 5000 items"),
        (
            {"width": 10, "height": 10, "objects": [{"strokes": [[[1.5] * 40_000] * 2]}] * 3},
            f"120000 points are more than {MAX_POINTS}",
        ),
        ({"width": 10, "height": 10, "objects": [{"label": "x" * 10_000, "bbox": [0, 0, 9, 9]}]}, "label"),
        ({"width": 10**9, "height": 10, "objects": [{"strokes": [SQUARE]}]}, "sketch.width"),
        ({"width": 10, "height": 10, "objects": [{"strokes": [[[0, 1], [0]]]}]}, "stroke 0"),
        ({"width": 10, "height": 10, "objects": [{"strokes": [SQUARE], "weight": -1}]}, "no object is wanted"),
        ({"width": 10, "height": 10, "objects": [{"label": "\u0007", "bbox": [0, 0, 9, 9]}]}, "control characters"),
    ],
)
def test_too_much_of_anything(page, sketch, words) -> None:
    assert words in refused(page.post("/api/search", json={"sketch": sketch}))


def converted(page, content: bytes, name: str = "sketch") -> Any:
    return page.post("/api/convert", files={"file": (name, content)})


def test_files_become_stroke_json(page) -> None:
    sketch = drawing([0.1, 0.1, 0.4, 0.4])
    assert converted(page, json.dumps(sketch).encode()).json() == sketch
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="80"><g><path d="M10 10H60V50Z"/></g></svg>'
    assert (converted(page, svg).json()["width"], len(converted(page, svg).json()["objects"])) == (100, 1)
    picture, png = Image.new("RGB", (60, 60), "white"), io.BytesIO()
    picture.paste((200, 0, 0), (10, 10, 30, 12))
    picture.save(png, "PNG")
    assert len(converted(page, png.getvalue()).json()["objects"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><g><path d="M0 0H9"/></g></svg>',
        b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>',
        b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 100_000,
        b"<html><body onload=alert(1)>",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
        b"GIF89a",
        b"",
        b"[]",
        b"{}",
    ],
)
def test_files_that_are_no_sketch_or_more_than_one(page, content) -> None:
    line = refused(converted(page, content, name="../../<script>.svg"))
    assert "root:" not in line
    assert "<script>." not in line


def test_an_upload_that_is_too_large(page) -> None:
    assert converted(page, b" " * 9 * 2**20).status_code == 413
    assert page.post("/api/convert", files=[("file", ("a", b"{}"))] * 2000).status_code < 500
    assert refused(page.post("/api/convert", data={"file": "text"}))
    assert refused(page.post("/api/convert", content=b"nonsense", headers={"Content-Type": "multipart/form-data"}))


def test_a_picture_that_would_fill_the_memory_is_refused(page) -> None:
    png = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(png, "PNG")
    refused(converted(page, png.getvalue()))


@pytest.mark.parametrize(
    "filter",
    ["id in [", "1 == 1; drop", "source like '%'" * 200, "\x00", "vector == 1", '"' * 1999, "{x}", "((((" * 400],
)
def test_filters_that_are_none(page, filter) -> None:
    answer = page.post("/api/search", json={"sketch": drawing([0.1, 0.1, 0.4, 0.4]), "filter": filter})
    refused(answer)


def test_a_file_that_is_not_the_pages_is_not_served(page) -> None:
    for path in (
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "//etc/passwd",
        "/static/../../app.py",
        "/.git/config",
    ):
        answer = page.get(path)
        assert answer.status_code == 404
        assert "FastAPI" not in answer.text
