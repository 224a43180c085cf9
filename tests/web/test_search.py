"""Drawing and finding in a real browser: photo n is dark where `serving.layout(n)` says, the toy finds dark places."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.web.serving import fill, judging_encoder, serving

expect = pytest.importorskip("playwright.sync_api").expect

# Two objects that one photo alone has: photo 34 at the top left and the bottom right, photo 31 in the middle and ...
TOP_LEFT, CENTRE, BOTTOM_RIGHT, TOP = (
    (0.03, 0.03, 0.3, 0.3),
    (0.36, 0.36, 0.63, 0.63),
    (0.7, 0.7, 0.97, 0.97),
    (0.36, 0.03, 0.63, 0.3),
)


@pytest.fixture
def drawn(visit):
    """The page with photo 34's layout drawn."""
    page = visit()
    page.place(TOP_LEFT, BOTTOM_RIGHT)
    page.first("photo-34.jpg")
    page.settled()
    return page


def test_an_empty_canvas_asks_for_nothing_and_says_what_to_do(visit):
    page = visit().page

    expect(page.locator(".blank")).to_contain_text("Photos gather here")
    assert page.locator(".card").count() == 0


def test_two_objects_drawn_with_the_mouse_bring_the_photo_of_that_layout_first(visit):
    drawn = visit()
    drawn.draw(*TOP_LEFT)
    drawn.draw(*BOTTOM_RIGHT)

    drawn.first("photo-34.jpg")
    expect(drawn.page.locator(".count")).to_have_text("24 photos")
    latency = drawn.page.locator(".latency").text_content()
    assert re.search(r"^\d+(\.\d)? ms", latency)
    assert all(part in latency for part in ("network", "encode", "search", "re-rank"))


def test_two_objects_drawn_with_a_finger_do_the_same(visit):
    page = visit(width=420, height=900, has_touch=True, is_mobile=True)
    finger = page.page.context.new_cdp_session(page.page)
    for box in (TOP_LEFT, BOTTOM_RIGHT):
        if page.page.locator("#chips .next").is_visible():
            page.page.locator("#chips .next").click()
        x0, y0, x1, y1 = box
        touch = [page.at(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))]
        for kind, points in [("touchStart", touch[:1]), *[("touchMove", [at]) for at in touch[1:]], ("touchEnd", [])]:
            finger.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
            )

    page.first("photo-34.jpg")


def test_undo_and_redo_change_the_photos(visit):
    drawn = visit()
    drawn.draw(*TOP_LEFT)
    drawn.draw(*BOTTOM_RIGHT)
    drawn.first("photo-34.jpg")

    drawn.page.keyboard.press("Control+z")
    expect(drawn.page.locator(".card .name").first).not_to_have_text("photo-34.jpg")

    drawn.page.keyboard.press("Control+Shift+z")
    drawn.first("photo-34.jpg")


def test_the_photos_rearrange_while_an_object_moves(visit):
    page = visit()
    page.place(CENTRE, BOTTOM_RIGHT)
    page.first("photo-31.jpg")
    page.page.keyboard.press("v")
    asked = []
    page.page.on("request", lambda request: "api/search" in request.url and asked.append(request.post_data))

    page.page.mouse.move(*page.at(0.7, 0.8))
    page.page.mouse.down()
    page.page.mouse.move(*page.at(0.36, 0.13), steps=20)  # to the top, above the other one
    page.first("photo-25.jpg")
    page.page.mouse.up()

    page.first("photo-25.jpg")
    page.settled()
    assert 1 <= len(asked) < 20  # not for every step of the pointer


def test_a_reload_finds_the_drawing_and_its_photos_again(drawn):
    drawn.page.wait_for_timeout(600)  # the browser is given the time in which the page saves
    drawn.page.reload()

    drawn.first("photo-34.jpg")


def test_the_querys_boxes_lie_over_the_photo_under_the_pointer_or_the_focus(drawn):
    first, second = drawn.page.locator(".photo").nth(0), drawn.page.locator(".photo").nth(1)

    first.hover()
    expect(first.locator(".boxes")).to_have_css("opacity", "1")
    expect(second.locator(".asked")).to_have_count(0)
    boxes = first.locator(".asked")
    expect(boxes).to_have_count(2)
    x, y = (float(boxes.first.get_attribute(name)) for name in ("x", "y"))
    assert (x, y) == pytest.approx(TOP_LEFT[:2], abs=0.02)
    colours = [boxes.nth(n).evaluate("(box) => getComputedStyle(box).stroke") for n in (0, 1)]
    assert colours[0] != colours[1]
    assert colours[0] == drawn.page.locator(".object .ink").first.evaluate("(ink) => getComputedStyle(ink).stroke")

    second.focus()
    drawn.page.keyboard.press("ArrowLeft")
    drawn.page.keyboard.press("ArrowRight")
    expect(second.locator(".boxes")).to_have_css("opacity", "1")


def test_everything_can_be_done_with_the_keyboard(visit):
    page = visit()
    press = page.page.keyboard.press
    page.page.locator("#board").focus()
    press("a")  # a box with a word
    page.page.keyboard.type("cup")
    press("Enter")
    page.page.wait_for_selector(".card")
    page.settled()
    before = page.names

    for _ in range(60):
        press("Tab")
        if page.page.evaluate("document.activeElement.classList.contains('photo')"):
            break
    focused = page.page.locator(".photo:focus .name")
    expect(focused).to_have_text(before[0])
    press("ArrowRight")
    expect(focused).to_have_text(before[1])
    press("End")
    expect(focused).to_have_text(before[-1])
    press("Home")
    press("ArrowDown")
    press("ArrowUp")
    expect(focused).to_have_text(before[0])

    press("Enter")
    expect(page.page.locator("dialog.details")).to_be_visible()
    expect(page.page.locator("#details-title")).to_have_text(before[0])
    press("ArrowRight")
    expect(page.page.locator("#details-title")).to_have_text(before[1])
    press("Escape")
    expect(page.page.locator("dialog.details")).to_be_hidden()
    expect(focused).to_have_text(before[1])


def test_a_photo_says_what_is_known_of_it(drawn):
    drawn.page.locator(".photo").first.click()

    dialog = drawn.page.locator("dialog.details")
    expect(dialog.locator(".fields tr", has_text="tag")).to_contain_text("dog")  # photo 34: WORDS[34 % 4]
    expect(dialog.locator(".fields tr", has_text="size")).to_contain_text("320 × 240")
    expect(dialog.locator("img")).to_have_js_property("naturalWidth", 320)


def test_the_heat_map_shows_an_object_at_a_time(drawn):
    drawn.page.locator(".photo").first.click()
    why = drawn.page.locator(".why")
    expect(why.locator(".part")).to_have_count(4)  # none, each object, all

    def warm(column: slice) -> float:
        alpha = drawn.page.locator(".heat").evaluate(
            "(heat) => [...heat.getContext('2d').getImageData(0, 0, heat.width, heat.height).data]"
        )[3::4]
        side = int(len(alpha) ** 0.5)
        return sum(sum(alpha[row * side : (row + 1) * side][column]) for row in range(side))

    why.get_by_label("object 1").check()
    assert warm(slice(0, 4)) > 4 * warm(slice(4, 8))  # the object at the left
    why.get_by_label("object 2").check()
    assert warm(slice(4, 8)) > 4 * warm(slice(0, 4))
    why.get_by_label("no heat map").check()
    expect(drawn.page.locator(".heat")).to_have_count(0)


def test_more_like_this_layout_asks_with_the_photo_itself_until_something_is_drawn(drawn):
    drawn.page.locator(".photo", has_text="photo-27.jpg").click()
    drawn.page.get_by_role("button", name="More like this layout").click()

    expect(drawn.page.locator(".like")).to_contain_text("photo-27.jpg")
    drawn.first("photo-30.jpg")  # the other one with its layout
    assert "photo-27.jpg" not in drawn.names

    drawn.page.get_by_role("button", name="Back to the drawing").click()
    drawn.first("photo-34.jpg")
    expect(drawn.page.locator(".like")).to_be_hidden()


@pytest.mark.parametrize("way", ["press", "drag from the dialog", "drag from the grid"])
def test_a_known_object_of_a_photo_goes_into_the_drawing(drawn, way):
    objects = drawn.page.locator("#board .object")
    mouse = drawn.page.mouse
    if way == "drag from the grid":
        card = drawn.page.locator(".shot").first.bounding_box()
        mouse.move(card["x"] + 0.15 * card["width"], card["y"] + 0.15 * card["height"])
    else:
        drawn.page.locator(".photo").first.click()
        chip = drawn.page.locator(".known-object").first
        if way == "press":
            chip.click()
        else:
            chip.hover()
    if way != "press":
        mouse.down()
        mouse.move(*drawn.at(0.5, 0.5), steps=5)
        expect(drawn.page.locator(".ghost")).to_be_visible()
        mouse.up()

    expect(objects).to_have_count(3)
    expect(objects.last.locator("image")).to_have_attribute("href", re.compile("^data:image/jpeg;base64,"))
    x, y = (float(objects.last.locator("image").get_attribute(name)) for name in ("x", "y"))
    width, height = (float(drawn.page.locator("#board .paper").get_attribute(name)) for name in ("width", "height"))
    where = (x / width, y / height)
    assert where == pytest.approx((0.697, 0.697) if way == "press" else (0.365, 0.365), abs=0.02)


def test_conditions_and_expressions_filter_the_photos(drawn):
    page = drawn.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Add a condition").click()
    page.get_by_label("Field").select_option("rating")
    page.get_by_label("Value").fill("4")

    expect(page.get_by_label("Expression")).to_have_value("rating == 4")
    drawn.first("photo-34.jpg")
    expect(page.locator(".count")).to_have_text("8 photos")

    page.get_by_label("Expression").fill('tag like "c%" and rating < 3')
    page.get_by_label("Expression").press("Enter")
    expect(page.locator(".count")).to_have_text("12 photos")
    expect(page.locator(".condition")).to_have_count(0)
    assert all(int(name[6:8]) % 5 < 3 and int(name[6:8]) % 4 < 2 for name in drawn.names)


def test_a_filter_that_is_none_is_refused_in_one_line_and_the_photos_stay(drawn):
    drawn.excuse("400")
    drawn.page.get_by_role("button", name="Settings").click()
    drawn.page.get_by_label("Expression").fill("rating ===")
    drawn.page.get_by_label("Expression").press("Enter")

    expect(drawn.page.locator(".note.bad")).to_contain_text("filter")
    assert drawn.names[0] == "photo-34.jpg"
    drawn.page.get_by_role("button", name="Drop the filter").click()
    expect(drawn.page.locator(".note")).to_be_hidden()


def test_a_number_of_photos_can_be_asked_for(drawn):
    drawn.page.get_by_role("button", name="Settings").click()
    drawn.page.get_by_label("How many").select_option("12")

    expect(drawn.page.locator(".card")).to_have_count(12)


def test_another_collection_can_be_searched(visit, tmp_path: Path):
    encoder = judging_encoder()
    fill(tmp_path, encoder, "few", count=10)
    uri = fill(tmp_path, encoder)
    with serving(tmp_path, encoder=encoder, uri=uri) as address:
        page = visit(address=address)
        page.draw(*TOP_LEFT)
        page.page.get_by_role("button", name="Settings").click()
        expect(page.page.locator(".index")).to_contain_text("40 photos in “photos” · index")

        page.page.get_by_label("Collection").select_option("few")
        expect(page.page.locator(".count")).to_have_text("10 photos")
        expect(page.page.locator(".index")).to_contain_text("10 photos in “few” · index")
        page.page.close()  # before its server goes


def test_no_good_match_is_said(visit):
    page = visit()
    page.draw(0.4, 0.1, 0.9, 0.2)  # one object, so that the encoder knows what its scores mean
    page.page.wait_for_selector(".card")
    page.page.get_by_role("button", name="Settings").click()
    page.page.get_by_label("At least this likely").evaluate(
        "(slider) => { slider.value = 99; slider.dispatchEvent(new Event('input')); }"
    )

    expect(page.page.locator(".note")).to_have_text(re.compile("^No good match: .* layout.$"))
    expect(page.page.locator(".card")).to_have_count(0)


def test_a_slow_network_shows_the_newest_answer_and_never_an_older_one_over_it(visit):
    page = visit()
    network = page.page.context.new_cdp_session(page.page)
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 400, "downloadThroughput": 60_000, "uploadThroughput": 30_000},
    )
    page.page.evaluate(
        """() => { window.shown = [];
        new MutationObserver(() => window.shown.push(document.querySelector(".card .name")?.textContent))
          .observe(document.querySelector(".grid"), { childList: true, subtree: true, characterData: true }); }"""
    )
    page.draw(*TOP_LEFT)
    page.draw(*BOTTOM_RIGHT)
    expect(page.page.locator(".panel[aria-busy=true]")).to_be_attached()

    page.first("photo-34.jpg")
    page.settled()
    shown = page.page.evaluate("window.shown")
    assert all(name == "photo-34.jpg" for name in shown[shown.index("photo-34.jpg") :])
    assert int(re.match(r"\d+", page.page.locator(".latency").text_content())[0]) >= 400


def test_a_link_that_is_opened_searches_at_once(visit, site, tmp_path: Path):
    page = visit()
    square = [[[0.03, 0.3, 0.3, 0.03, 0.03], [0.03, 0.03, 0.3, 0.3, 0.03]]]
    sketch = {
        "width": 400,
        "height": 300,
        "objects": [
            {"strokes": [[[400 * x for x in square[0][0]], [300 * y for y in square[0][1]]]]},
            {"strokes": [[[400 * (x + 0.67) for x in square[0][0]], [300 * (y + 0.67) for y in square[0][1]]]]},
        ],
    }
    file = tmp_path / "sketch.json"
    file.write_text(json.dumps(sketch))
    page.page.set_input_files("#file", file)

    page.first("photo-34.jpg")
