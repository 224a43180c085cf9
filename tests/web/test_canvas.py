"""The canvas in a real browser: mouse, finger, pen and keyboard; kept, shared, saved and opened again."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoders.sketch import Sketch

Place = tuple[float, float]

PEN = """([kind, type, id, x, y]) => document.getElementById("board").dispatchEvent(new PointerEvent(kind, {
    pointerType: type, pointerId: id, clientX: x, clientY: y, pressure: 0.5, bubbles: true, cancelable: true,
    isPrimary: true, button: kind === "pointermove" ? -1 : 0, buttons: kind === "pointerup" ? 0 : 1 }))"""


class Canvas:
    """What people do on a canvas; places are parts of it, 0 to 1."""

    def __init__(self, visit: Any) -> None:
        self.visit, self.page = visit, visit.page

    def ask(self, expression: str) -> Any:
        """What an expression over the page's store is worth."""
        return self.page.evaluate(f"import('/document.js').then((store) => {expression})")

    @property
    def objects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("store.current().objects")
        return found

    @property
    def labels(self) -> list[str]:
        return [one["label"] for one in self.objects]

    def box(self, index: int) -> list[float]:
        """Of the n-th object that is searched for, in parts of the canvas."""
        found: list[float] = Sketch.from_dict(self.ask("store.sketch()")).boxes[index].tolist()
        return found

    def drag(self, *places: Place, steps: int = 6) -> None:
        """Press at the first place, go through all, let go at the last."""
        mouse = self.page.mouse
        mouse.move(*self.visit.at(*places[0]))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.visit.at(*place), steps=steps)
        mouse.up()

    def pointer(self, kind: str, place: Place, type: str = "pen", id: int = 7) -> None:
        """One event of a pen or a finger that playwright cannot hold."""
        self.page.evaluate(PEN, [f"pointer{kind}", type, id, *self.visit.at(*place)])

    def use(self, tool: str) -> None:
        self.page.click(f".tool[data-tool={tool}]")

    def chip(self, index: int) -> None:
        self.page.locator("#chips .chip:not(.next)").nth(index).click()

    def grip(self, selector: str, by: tuple[float, float], modifier: str | None = None) -> None:
        """Drag a handle of the frame by screen pixels."""
        handle = self.page.locator(selector).bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        if modifier:
            self.page.keyboard.down(modifier)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by[0], y + by[1], steps=5)
        self.page.mouse.up()
        if modifier:
            self.page.keyboard.up(modifier)

    def download(self, selector: str, folder: Path) -> Path:
        self.page.click("[popovertarget=files-menu]")
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def kept(self) -> None:
        """Wait until the browser has kept what is drawn."""
        self.page.wait_for_function(
            """() => import('/document.js').then((store) => new Promise((resolve) => {
                const opening = indexedDB.open('compsketch');
                opening.onsuccess = () => {
                    const database = opening.result;
                    const reading = database.transaction('documents').objectStore('documents').get('current');
                    reading.onsuccess = () => {
                        database.close();
                        resolve(JSON.stringify(reading.result) === JSON.stringify(store.current()));
                    };
                };
            }))"""
        )


SQUARE = ((0.2, 0.2), (0.4, 0.2), (0.4, 0.5), (0.2, 0.5), (0.2, 0.2))
OTHER = ((0.6, 0.5), (0.8, 0.5), (0.8, 0.8), (0.6, 0.8), (0.6, 0.5))


def near(actual: Sequence[float], expected: Sequence[float], within: float = 0.01) -> None:
    np.testing.assert_allclose(actual, expected, atol=within)


@pytest.fixture
def canvas(visit: Callable[..., Any]) -> Canvas:
    return Canvas(visit())


@pytest.fixture
def drawn(canvas: Canvas) -> Canvas:
    """Two squares, the second selected."""
    canvas.drag(*SQUARE)
    canvas.page.click("#chips .next")
    canvas.drag(*OTHER)
    return canvas


# --- drawing ---


def test_strokes_go_into_one_object_until_a_new_one_is_begun(canvas: Canvas) -> None:
    canvas.drag(*SQUARE)
    canvas.drag((0.25, 0.3), (0.35, 0.3))
    assert [len(one["strokes"]) for one in canvas.objects] == [2]
    canvas.page.keyboard.press("n")
    canvas.drag(*OTHER)
    assert [(len(one["strokes"]), one["colour"]) for one in canvas.objects] == [(2, 0), (1, 1)]
    near(canvas.box(0), [0.2, 0.2, 0.4, 0.5])
    near(canvas.box(1), [0.6, 0.5, 0.8, 0.8])


def test_a_tap_is_a_dot_and_straight_lines_need_few_points(canvas: Canvas) -> None:
    canvas.drag((0.3, 0.3))
    canvas.drag(*SQUARE, steps=40)
    dot, square = canvas.objects[0]["strokes"]
    assert len(dot[0]) == 1
    assert len(square[0]) <= 9  # of 160 that were drawn


def test_fingers_draw(visit: Callable[..., Any]) -> None:
    canvas = Canvas(visit(has_touch=True))
    fingers = canvas.page.context.new_cdp_session(canvas.page)
    for kind, place in [("touchStart", SQUARE[0]), *(("touchMove", place) for place in SQUARE[1:]), ("touchEnd", None)]:
        x, y = canvas.visit.at(*place) if place else (0, 0)
        points = [{"x": x, "y": y}] if place else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    near(canvas.box(0), [0.2, 0.2, 0.4, 0.5])


def test_two_fingers_zoom_and_leave_no_stroke(visit: Callable[..., Any]) -> None:
    canvas = Canvas(visit(has_touch=True))
    fingers = canvas.page.context.new_cdp_session(canvas.page)

    def touch(kind: str, *places: Place) -> None:
        points = [{"x": x, "y": y, "id": id} for id, (x, y) in enumerate(canvas.visit.at(*place) for place in places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.4, 0.5))
    touch("touchMove", (0.42, 0.5))
    touch("touchStart", (0.42, 0.5), (0.58, 0.5))
    for spread in (0.12, 0.16):
        touch("touchMove", (0.5 - spread, 0.5), (0.5 + spread, 0.5))
    touch("touchEnd")
    assert canvas.objects == []
    assert canvas.page.locator("#zoom-reset").text_content() == "200 %"
    canvas.page.keyboard.press("0")
    assert canvas.page.locator("#zoom-reset").text_content() == "100 %"


def test_a_pen_draws_and_the_resting_hand_does_not(canvas: Canvas) -> None:
    canvas.pointer("down", (0.9, 0.9), "touch", 2)  # the hand comes first
    canvas.pointer("down", SQUARE[0])
    for place in SQUARE[1:]:
        canvas.pointer("move", place)
        canvas.pointer("move", (0.95, 0.95), "touch", 2)
    canvas.pointer("up", SQUARE[-1])
    canvas.pointer("down", (0.9, 0.8), "touch", 3)  # and stays a moment longer
    canvas.pointer("move", (0.8, 0.8), "touch", 3)
    canvas.pointer("up", (0.8, 0.8), "touch", 3)
    assert [len(one["strokes"]) for one in canvas.objects] == [1]
    near(canvas.box(0), [0.2, 0.2, 0.4, 0.5])


def test_a_pens_pressure_shows_only_if_asked_for(canvas: Canvas) -> None:
    for is_shown in (False, True):
        canvas.ask(f"document.getElementById('pressure').checked = {str(is_shown).lower()}")
        canvas.pointer("down", SQUARE[0])
        for place in SQUARE[1:]:
            canvas.pointer("move", place)
        canvas.pointer("up", SQUARE[-1])
    plain, pressed = canvas.objects[0]["strokes"]
    assert (len(plain), len(pressed)) == (2, 3)
    assert [len(one) for one in canvas.ask("store.sketch()")["objects"][0]["strokes"]] == [2, 2]


def test_a_stroke_that_the_system_takes_away_is_none(canvas: Canvas) -> None:
    canvas.pointer("down", SQUARE[0])
    canvas.pointer("move", SQUARE[1])
    canvas.pointer("cancel", SQUARE[1])
    assert canvas.objects == []
    assert canvas.page.locator("#board .live > *").count() == 0


def test_the_eraser_takes_whole_strokes_in_one_step(drawn: Canvas) -> None:
    drawn.use("eraser")
    drawn.drag((0.3, 0.1), (0.3, 0.3), (0.7, 0.4), (0.7, 0.6))
    assert drawn.objects == []
    drawn.page.keyboard.press("Control+z")
    assert len(drawn.objects) == 2


def test_undo_and_redo_of_everything(drawn: Canvas) -> None:
    states = [drawn.ask("store.current()")]

    def done() -> None:
        state = drawn.ask("store.current()")
        assert state != states[-1]
        states.append(state)

    drawn.page.fill("#label", "cup")
    drawn.page.keyboard.press("Enter")
    done()
    for selector in (
        ".swatch >> nth=5",
        ".switch",
        "[aria-label='Send back']",
        "[aria-label=Duplicate]",
        "[aria-label=Hide]",
    ):
        drawn.page.click(selector)
        done()
    drawn.page.locator(".weight input").press("ArrowRight")
    done()
    drawn.page.click("[popovertarget=canvas-menu]")
    drawn.page.check(".aspect input[value='16:9']")
    done()
    drawn.page.keyboard.press("Escape")
    drawn.page.click("[aria-label=Delete]")
    done()
    drawn.page.click("[popovertarget=files-menu]")
    drawn.page.click("#clear")
    done()
    for state in states[-2::-1]:
        drawn.page.click("#undo")
        assert drawn.ask("store.current()") == state
    for state in states[1:]:
        drawn.page.keyboard.press("Control+Shift+z")
        assert drawn.ask("store.current()") == state
    assert drawn.page.locator("#redo").is_disabled()


# --- selecting ---


def test_move_resize_and_turn(drawn: Canvas) -> None:
    drawn.use("select")
    drawn.drag((0.65, 0.5), (0.55, 0.4))  # by its ink
    near(drawn.box(1), [0.5, 0.4, 0.7, 0.7])
    wide = drawn.page.locator("#board").bounding_box()["width"]
    drawn.grip(".handle >> nth=4", (0.1 * wide, 0))  # the lower right corner
    near(drawn.box(1), [0.5, 0.4, 0.8, 0.7])
    drawn.chip(0)
    before = drawn.box(0)
    drawn.grip(".handle >> nth=0", (-0.05 * wide, 0), "Shift")
    x0, y0, x1, y1 = drawn.box(0)
    near([(x1 - x0) / (y1 - y0)], [(before[2] - before[0]) / (before[3] - before[1])])
    tall, high = (y1 - y0) * 0.75, (x1 - x0) / 0.75  # the canvas is 4:3
    knob = drawn.page.locator(".knob").bounding_box()
    _, cy = drawn.visit.at((x0 + x1) / 2, (y0 + y1) / 2)
    away = cy - knob["y"] - knob["height"] / 2
    drawn.grip(".knob", (away, away), "Shift")  # a quarter turn
    u0, v0, u1, v1 = drawn.box(0)
    near([u1 - u0, v1 - v0], [tall, high])
    near([(u0 + u1) / 2, (v0 + v1) / 2], [(x0 + x1) / 2, (y0 + y1) / 2])
    for _ in range(4):
        drawn.page.keyboard.press("Control+z")
    near(drawn.box(0), [0.2, 0.2, 0.4, 0.5])


def test_escape_gives_a_drag_up(drawn: Canvas) -> None:
    drawn.use("select")
    drawn.page.mouse.move(*drawn.visit.at(0.65, 0.5))
    drawn.page.mouse.down()
    drawn.page.mouse.move(*drawn.visit.at(0.2, 0.2), steps=4)
    drawn.page.keyboard.press("Escape")
    drawn.page.mouse.up()
    near(drawn.box(1), [0.6, 0.5, 0.8, 0.8])


def test_overlapping_objects_are_reached_by_their_ink_and_order(canvas: Canvas) -> None:
    canvas.drag(*SQUARE)
    canvas.page.keyboard.press("n")
    canvas.drag((0.25, 0.25), (0.35, 0.25), (0.35, 0.4), (0.25, 0.4), (0.25, 0.25))
    canvas.use("select")
    ids = [one["id"] for one in canvas.objects]
    for place, expected in (((0.2, 0.4), ids[0]), ((0.3, 0.25), ids[1]), ((0.3, 0.3), ids[1]), ((0.22, 0.45), ids[0])):
        canvas.drag(place)
        assert canvas.ask("store.selection().id") == expected
    canvas.drag((0.9, 0.9))
    assert canvas.ask("store.selection()") is None


def test_hidden_objects_are_not_searched_for_and_unwanted_ones_have_a_negative_weight(drawn: Canvas) -> None:
    drawn.page.click(".switch")
    assert [one.get("weight") for one in drawn.ask("store.sketch()")["objects"]] == [None, -1]
    drawn.page.click("[aria-label=Hide]")
    assert len(drawn.ask("store.sketch()")["objects"]) == 1
    drawn.chip(0)
    drawn.page.click("[aria-label=Hide]")
    assert drawn.ask("store.sketch()") is None


def test_a_label_offers_the_words_that_the_encoder_knows(drawn: Canvas) -> None:
    assert "cup" in drawn.page.locator("#words option").evaluate_all("(all) => all.map((one) => one.value)")
    drawn.page.fill("#label", "cup")
    assert drawn.ask("store.sketch()")["objects"][1]["label"] == "cup"


# --- the keyboard alone ---


def test_the_keyboard_alone_adds_moves_resizes_and_deletes(canvas: Canvas) -> None:
    press = canvas.page.keyboard.press
    for word in ("cat", "dog"):
        press("a")
        canvas.page.keyboard.type(word)
        press("Enter")
    assert canvas.labels == ["cat", "dog"]
    assert canvas.page.evaluate("document.activeElement.id") == "board"
    press("Tab")
    assert canvas.page.evaluate("document.activeElement.getAttribute('aria-label')") == "cat, box"
    before = canvas.box(0)
    for _ in range(3):
        press("Control+ArrowLeft")
    press("Shift+Control+ArrowDown")
    near(canvas.box(0), [before[0] - 0.12, before[1], before[2] - 0.12, before[3] + 0.04 * 4 / 3])
    assert "across" in canvas.page.locator("#announcer").text_content()
    press("Tab")
    press("x")
    press("Tab")  # on to what follows the canvas
    press("Shift+Tab")
    assert [one["weight"] for one in canvas.objects] == [1, -1]
    press("Delete")
    assert canvas.labels == ["cat"]
    assert canvas.page.evaluate("document.activeElement.id") == "board"


def test_pressing_arrows_apart_makes_steps_of_their_own(canvas: Canvas) -> None:
    press = canvas.page.keyboard.press
    press("a")
    canvas.page.keyboard.type("cat")
    press("Enter")
    press("Tab")
    before = canvas.box(0)
    press("ArrowRight")
    press("ArrowRight")
    press("Control+z")
    near(canvas.box(0), [before[0] + 0.005, before[1], before[2] + 0.005, before[3]], 1e-3)


def test_the_help_sheet_tells_the_keys_and_letters_can_be_switched_off(canvas: Canvas) -> None:
    canvas.page.keyboard.press("?")
    assert "Duplicate" in canvas.page.locator("#help").inner_text()
    canvas.page.uncheck("#help input")
    canvas.page.keyboard.press("Escape")
    canvas.page.keyboard.press("e")
    assert canvas.page.locator(".tool[data-tool=pen]").get_attribute("aria-pressed") == "true"


def test_letters_in_a_text_are_no_shortcuts(drawn: Canvas) -> None:
    drawn.page.click("#label")
    drawn.page.keyboard.type("hexed")
    assert drawn.labels == ["", "hexed"]
    assert not drawn.objects[1]["hidden"]


# --- the view ---


def test_what_is_drawn_zoomed_in_lies_where_it_was_drawn(canvas: Canvas) -> None:
    canvas.page.mouse.move(*canvas.visit.at(0.5, 0.5))
    canvas.page.keyboard.down("Control")
    canvas.page.mouse.wheel(0, -1000 * math.log(2) / 1.5)
    canvas.page.keyboard.up("Control")
    canvas.page.wait_for_function("document.getElementById('zoom-reset').textContent === '200 %'")
    canvas.drag(*SQUARE)
    near(canvas.box(0), [0.35, 0.35, 0.45, 0.5])
    canvas.page.keyboard.press("0")
    near(canvas.box(0), [0.35, 0.35, 0.45, 0.5])


@pytest.mark.parametrize(("aspect", "size"), [("1:1", (1024, 1024)), ("16:9", (1024, 576)), ("9:16", (576, 1024))])
def test_the_canvas_takes_other_shapes_and_objects_keep_theirs(
    drawn: Canvas, aspect: str, size: tuple[int, int]
) -> None:
    drawn.page.click("[popovertarget=canvas-menu]")
    drawn.page.check(f".aspect input[value='{aspect}']")
    sketch = drawn.ask("store.sketch()")
    assert (sketch["width"], sketch["height"]) == size
    x0, y0, x1, y1 = drawn.box(0)
    near([(x0 + x1) / 2, (y0 + y1) / 2], [0.3, 0.35])
    near([(x1 - x0) * size[0], (y1 - y0) * size[1]], [0.2 * 1024, 0.3 * 768], 12)
    shown = drawn.page.locator("#board").bounding_box()
    near([shown["width"] / shown["height"]], [size[0] / size[1]], 0.02)


# --- kept, shared, saved, opened ---


def test_a_reload_finds_the_drawing(drawn: Canvas) -> None:
    drawn.page.fill("#label", "cup")
    drawn.page.keyboard.press("Enter")
    before = drawn.ask("store.sketch()")
    drawn.kept()
    drawn.page.reload()
    drawn.page.wait_for_selector("#chips .chip")
    assert drawn.ask("store.sketch()") == before


def test_a_link_brings_the_sketch_and_undo_the_own_drawing(drawn: Canvas, visit: Callable[..., Any]) -> None:
    drawn.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    drawn.page.click("#share")
    drawn.page.wait_for_selector(".notice >> text=copied")
    link = drawn.page.evaluate("navigator.clipboard.readText()")
    other = Canvas(visit())
    other.drag((0.1, 0.1), (0.2, 0.2))
    other.kept()
    other.page.goto("about:blank")
    other.page.goto(link)
    other.page.wait_for_selector("#chips .chip >> nth=1")
    near(other.box(1), drawn.box(1), 0.002)
    assert "#" not in other.page.url
    other.page.click("#undo")
    near(other.box(0), [0.1, 0.1, 0.2, 0.2])


def test_a_broken_link_says_so_and_loses_nothing(drawn: Canvas, site: str) -> None:
    drawn.kept()
    drawn.page.goto("about:blank")
    drawn.page.goto(f"{site}/#s1.nonsense")
    drawn.page.wait_for_selector(".notice.error >> text=damaged")
    assert len(drawn.objects) == 2


@pytest.mark.parametrize("suffix", ["json", "svg", "png"])
def test_saved_files_are_read_by_the_encoders_and_opened_again(drawn: Canvas, tmp_path: Path, suffix: str) -> None:
    drawn.page.fill("#label", "cup")
    drawn.page.keyboard.press("Enter")
    expected = Sketch.from_dict(drawn.ask("store.sketch()"))
    path = drawn.download(f"[data-save={suffix}]", tmp_path)
    assert path.name == f"cup.{suffix}"
    again = Sketch.open(path)
    assert [one.label for one in again.objects] == [None, "cup"]
    np.testing.assert_allclose(again.boxes, expected.boxes, atol=0.003)
    drawn.page.keyboard.press("Delete")
    drawn.page.set_input_files("#file", path)
    drawn.page.wait_for_selector(".notice >> text=is on the canvas")
    assert drawn.labels == ["", "cup"]
    np.testing.assert_allclose(Sketch.from_dict(drawn.ask("store.sketch()")).boxes, expected.boxes, atol=0.003)


def test_what_a_format_cannot_hold_is_said(drawn: Canvas, tmp_path: Path) -> None:
    drawn.page.click(".switch")
    drawn.download("[data-save=png]", tmp_path)
    assert "weights" in drawn.page.locator(".notice").text_content()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.json", b'{"width": 5', "no JSON"),
        ("list.json", b'{"width": 5, "height": 5, "objects": [{}]}', "neither ink nor a word"),
        ("evil.svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script/></svg>", "refused"),
        ("noise.png", b"nothing like it", "no sketch"),
    ],
)
def test_files_that_cannot_be_opened_say_why_and_change_nothing(
    drawn: Canvas, name: str, content: bytes, message: str
) -> None:
    drawn.visit.excuse("status of 4")
    before = drawn.ask("store.current()")
    drawn.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
    drawn.page.wait_for_selector(f".notice.error >> text={message}")
    assert drawn.ask("store.current()") == before


# --- a photo underneath ---


def photo(width: int = 800, height: int = 400) -> dict[str, Any]:
    """White, its right half red."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste("red", (width // 2, 0, width, height))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"name": "photo.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_a_photo_lies_underneath_and_is_no_part_of_the_search(drawn: Canvas) -> None:
    before = drawn.ask("store.sketch()")
    drawn.page.set_input_files("#photo-file", photo())
    drawn.page.wait_for_selector(".underlay-photo image")
    assert drawn.ask("store.sketch()") == before
    drawn.page.click("[popovertarget=canvas-menu]")
    drawn.page.fill("#underlay-opacity", "0.2")
    assert drawn.page.locator(".underlay-photo").evaluate("(one) => one.style.opacity") == "0.2"
    drawn.page.click("#underlay-remove")
    assert drawn.page.locator(".underlay-photo image").count() == 0


def test_an_object_is_cut_out_of_the_photo(canvas: Canvas) -> None:
    canvas.page.set_input_files("#photo-file", photo())
    canvas.page.wait_for_selector(".underlay-photo image")
    assert canvas.ask("store.current().height") == 576  # 16:9 is nearest to 2:1
    canvas.use("cut")
    canvas.drag((0.6, 0.3), (0.9, 0.7))
    canvas.page.wait_for_selector("#board .cut")
    (item,) = canvas.ask("store.sketch()")["objects"]
    near([item["bbox"][0] / 1024, item["bbox"][2] / 1024], [0.6, 0.9])
    with Image.open(io.BytesIO(base64.b64decode(item["photo"]))) as cut:
        assert max(cut.size) <= 512
        assert cut.convert("RGB").getpixel((cut.width // 2, cut.height // 2))[0] > 240
        assert cut.convert("RGB").getpixel((cut.width // 2, cut.height // 2))[1] < 20


def test_a_cut_out_turns_with_its_pixels_and_back_without_loss(canvas: Canvas) -> None:
    canvas.page.set_input_files("#photo-file", photo())
    canvas.page.wait_for_selector(".underlay-photo image")
    canvas.use("cut")
    canvas.drag((0.6, 0.3), (0.9, 0.7))
    canvas.page.wait_for_selector("#board .cut")
    (before,) = canvas.objects
    sizes = []
    for key in ("r", "r", "Shift+R", "Shift+R"):
        box = canvas.objects[0]["box"]
        canvas.page.keyboard.press(key)
        canvas.page.wait_for_function(
            "(box) => import('/document.js').then((store) => store.current().objects[0].box[0] !== box[0])", arg=box
        )
        sizes.append(canvas.objects[0]["box"])
    assert sizes[1][1] < sizes[0][1] < before["box"][1]
    np.testing.assert_allclose(sizes[-1], before["box"], atol=0.01)


def test_a_file_that_is_no_photo_says_so(canvas: Canvas) -> None:
    canvas.page.set_input_files("#photo-file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    canvas.page.wait_for_selector(".notice.error >> text=no photo")


# --- the page ---


def test_an_empty_canvas_offers_three_sketches(canvas: Canvas) -> None:
    assert canvas.page.locator(".example").count() == 3
    canvas.page.locator(".example").first.click()
    assert len(canvas.objects) > 0
    assert canvas.page.locator(".example").first.is_hidden()
    canvas.page.click("#undo")
    assert canvas.page.locator(".example").first.is_visible()


@pytest.mark.parametrize(("width", "height"), [(320, 640), (1280, 800), (3840, 2160)])
def test_nothing_lies_beside_the_page(visit: Callable[..., Any], width: int, height: int) -> None:
    canvas = Canvas(visit(width, height))
    canvas.drag(*SQUARE)
    assert canvas.page.evaluate("document.documentElement.scrollWidth") <= width
    shown = canvas.page.locator("#board").bounding_box()
    assert shown["width"] > 0.35 * min(width, 1400)


def test_the_toggle_makes_it_dark_and_a_reload_keeps_it(canvas: Canvas) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = canvas.page.evaluate(ground)
    canvas.page.click("#theme")
    dark = canvas.page.evaluate(ground)
    assert dark != light
    canvas.page.reload()
    assert canvas.page.evaluate(ground) == dark


def test_fingers_find_targets_of_44_pixels(visit: Callable[..., Any]) -> None:
    canvas = Canvas(visit(390, 844, has_touch=True, is_mobile=True))
    canvas.drag(*SQUARE)
    targets = canvas.page.locator(
        ".tools button, .chips button, .inspector button, .swatch, .bar-actions button, #label"
    )
    sizes = [target.bounding_box() for target in targets.all() if target.is_visible()]
    assert len(sizes) > 20
    assert min(min(size["width"], size["height"]) for size in sizes) >= 44


@pytest.mark.benchmark
def test_drawing_keeps_the_main_thread_free(canvas: Canvas) -> None:
    """No task of the page while drawing takes longer than a frame of 32 ms; thousands of points are there already."""
    points = [[[100 + n % 400, 50 + n / 8] for n in range(4000)]]
    xs, ys = zip(*points[0], strict=True)
    sketch = {"width": 1024, "height": 768, "objects": [{"strokes": [[list(xs), list(ys)]]} for _ in range(4)]}
    canvas.ask(f"store.replace({json.dumps(sketch)})")
    canvas.visit.settled()
    canvas.page.evaluate(
        """() => {
            window.spent = [];
            const board = document.getElementById("board");
            for (const kind of ["pointerdown", "pointermove"]) {
                let began;
                window.addEventListener(kind, () => (began = performance.now()), { capture: true });
                window.addEventListener(kind, () => window.spent.push(performance.now() - began));
            }
        }"""
    )
    spiral = [(0.5 + 0.004 * n / 4 * math.cos(n / 6), 0.5 + 0.004 * n / 4 * math.sin(n / 6)) for n in range(400)]
    canvas.drag(*spiral, steps=1)
    spent = canvas.page.evaluate("window.spent")
    assert len(spent) > 100
    assert max(spent) < 32
