"""The rating page in a real browser: keyboard and touch, undo, reload, a server that goes and comes back, phones."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from compsketch_milvus.study.pages import create_app
from compsketch_milvus.study.plan import Plan
from compsketch_milvus.study.prepare import prepare
from compsketch_milvus.study.store import Store
from tests.compsketch_milvus.study.small import rankings
from tests.web.conftest import WAIT, Visit

READY = "#grades button:enabled"
INTRO = "#agree:visible"


@contextmanager
def at(app: Any, port: int = 0) -> Iterator[str]:
    """The app at a port of this machine, in a thread."""
    taken = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)
        taken.close()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Three queries, each of two ranks; two people a task, and three checks."""
    return prepare(rankings(tmp_path / "photos", depth=2), tmp_path / "study", raters=2, every=3)


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "study", plan)
    yield opened
    opened.close()


@pytest.fixture
def study(plan: Plan, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve the study; keywords are those of `create_app`. Returns its address."""
    with ExitStack() as stack:

        def study_(**options: Any) -> str:
            folder = tmp_path / "study"
            return stack.enter_context(at(create_app(folder, Store(folder, plan), **options)))

        yield study_


@pytest.fixture
def enter(visit: Callable[..., Visit], study: Callable[..., str]) -> Callable[..., Visit]:
    """Open the page, and agree with the Enter key."""

    def enter_(*size: int, **options: Any) -> Visit:
        entered = visit(*size, address=study(), ready=INTRO, **options)
        entered.page.keyboard.press("Enter")
        entered.page.wait_for_selector(READY)
        return entered

    return enter_


def press(page: Any, keys: str) -> None:
    """Press keys, one for each photo as it is there to be seen."""
    for key in keys:
        page.wait_for_selector(READY)
        before = place(page)
        page.keyboard.press(key)
        moved(page, before)


def place(page: Any) -> str:
    """Set and photo, as a screen reader says them."""
    return page.locator("#where").text_content()


def moved(page: Any, before: str) -> None:
    """Wait until another photo is there, or the end."""
    from playwright.sync_api import expect

    expect(page.locator("#where")).not_to_have_text(before, timeout=WAIT)


def wait_for_set(page: Any, number: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#where")).to_have_text(re.compile(f"Set {number} "), timeout=2 * WAIT)


def said(store: Store) -> list[tuple[int, ...]]:
    return [rating.scores for rating in store.ratings()]


def test_keyboard_only_from_the_consent_to_the_thanks(enter, store, plan):
    page = enter().page
    page.wait_for_selector(READY)
    keys = "12345"
    turn = 0
    while page.locator("#rating").is_visible():
        press(page, keys[turn % 5])
        turn += 1
    assert page.locator("#end-title").text_content() == "Thank you"
    tasks = [plan.by_id[rating.task] for rating in store.ratings()]
    assert {task.id for task in plan.tasks} <= {task.id for task in tasks}
    scores = [score for one in said(store) for score in one]
    assert scores == [int(keys[place % 5]) for place in range(turn)]  # in the order in which they were pressed
    assert turn == sum(len(task.photos) for task in tasks)


def test_the_buttons_by_tabulator_and_space(enter, store):
    page = enter().page
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent"))
    assert [name for name in names if name in "12345"] == ["1", "2", "3", "4", "5"]
    page.locator("#grades button").nth(3).focus()
    before = place(page)
    page.keyboard.press("Space")
    moved(page, before)


def test_fingers(enter, store):
    page = enter(390, 780, has_touch=True, is_mobile=True).page
    while not said(store):
        page.wait_for_selector(READY)
        before = place(page)
        page.locator("#grades button").nth(1).tap()
        moved(page, before)
    assert set(said(store)[0]) == {2}


def test_undo_within_a_set_and_back_into_the_one_before(enter, store):
    page = enter().page
    assert page.locator("#undo").is_disabled()
    press(page, "1")
    assert "Photo 2" in place(page)
    press(page, "u")
    assert "Photo 1" in place(page)
    while not said(store):
        press(page, "5")
    (first,) = said(store)
    assert "Set 2" in place(page)
    page.keyboard.press("Backspace")
    wait_for_set(page, 1)
    page.wait_for_selector(READY)
    press(page, "1")
    assert "Set 2" in place(page)
    assert said(store) == [(*first[:-1], 1)]  # changed, and there once
    assert [rating.revision for rating in store.ratings()] == [2]


def test_a_reload_goes_on_where_one_was(enter, store):
    page = enter().page
    press(page, "4")
    before = place(page)
    sketch, photo = (page.locator(name).get_attribute("src") for name in ("#sketch", "#photo"))
    page.reload()
    page.wait_for_selector(READY)
    assert place(page) == before
    assert [page.locator(name).get_attribute("src") for name in ("#sketch", "#photo")] == [sketch, photo]
    while not said(store):
        press(page, "2")
    assert said(store)[0][0] == 4


def test_a_reload_in_the_middle_of_taking_back(enter, store):
    page = enter().page
    while not said(store):
        press(page, "5")
    page.keyboard.press("Backspace")
    wait_for_set(page, 1)
    page.reload()
    page.wait_for_selector(READY)
    assert "Set 1 " in place(page)
    press(page, "1")
    assert said(store)[0][-1] == 1
    assert len(said(store)) == 1


def test_a_server_that_is_away_loses_nothing(visit, plan, store, tmp_path):
    folder = tmp_path / "study"
    with at(create_app(folder, Store(folder, plan))) as address:
        entered = visit(address=address, ready=INTRO)
        entered.excuse("Failed to load resource|ERR_CONNECTION")
        page = entered.page
        page.keyboard.press("Enter")
        page.wait_for_selector(READY)
        page.wait_for_load_state("networkidle")  # the pictures of this set and the next are there
        photos = int(page.locator("#place").text_content().rpartition(" ")[2])
        press(page, "3" * (photos - 1))
        port = int(address.rstrip("/").rpartition(":")[2])
    page.keyboard.press("3")
    page.wait_for_selector("#status.error")
    assert "trying again" in page.locator("#status").text_content()
    assert said(store) == []
    with at(create_app(folder, Store(folder, plan)), port):
        wait_for_set(page, 2)
        assert page.locator("#status").text_content() == ""
        assert said(store) == [(3,) * photos]


def test_a_key_held_down_rates_once(enter):
    page = enter().page
    before = place(page)
    page.keyboard.down("3")
    moved(page, before)
    page.wait_for_selector(READY)
    after = place(page)
    for _ in range(5):
        page.keyboard.down("3")  # repeats, as the key is still down
    page.wait_for_selector(READY)
    assert place(page) == after


def test_stopping_and_going_on(enter, store, plan):
    page = enter().page
    page.locator("#stop").click()
    page.wait_for_selector("#end:visible")
    assert "Until later" in page.locator("#end-title").text_content()
    others = [store.join(), store.join()]
    assert all(len(store.work(one).tasks) == 2 for one in others)  # what was given back is there for them
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)


def test_the_link_with_the_invitation_is_needed_where_one_is(visit, study, store):
    address = study(invited=True)
    entered = visit(address=address, ready=INTRO)
    entered.excuse("401")
    entered.page.keyboard.press("Enter")
    entered.page.wait_for_selector("#refused:not(:empty)")
    assert "not complete" in entered.page.locator("#refused").text_content()
    page = visit(address=f"{address}#{store.invitation}", ready=INTRO).page
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    assert store.invitation not in page.url


@pytest.mark.parametrize("size", [(320, 568), (390, 780), (740, 360), (1280, 800), (3840, 2160)])
def test_nothing_is_cut_off_and_both_pictures_are_whole(enter, size):
    page = enter(*size).page
    width, height = size
    assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        width,
        height,
    ]
    for name in (
        "#sketch",
        "#photo",
        *(f"#grades button:nth-child({n})" for n in range(1, 6)),
        "#undo",
        "#stop",
        "#high",
    ):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0, name
        assert box["y"] >= 0, name
        assert box["x"] + box["width"] <= width + 0.5, name
        assert box["y"] + box["height"] <= height + 0.5, name
    assert page.locator("#photo").bounding_box()["height"] >= 75
    for button in page.locator("#grades button, #undo, #stop").all():
        assert min(button.bounding_box()["height"], button.bounding_box()["width"]) >= 40  # a finger's


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(visit, study, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(address=study(contact="a@example.org"), ready=INTRO, color_scheme=scheme).page
    found = [axe.run(page)]
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    page.wait_for_timeout(WAIT / 50)  # the buttons' fading
    found.append(axe.run(page))
    page.locator("#stop").click()
    page.wait_for_selector("#end:visible")
    found.append(axe.run(page))
    for result in found:
        assert [one["id"] for one in result.response["violations"]] == []
