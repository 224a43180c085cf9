"""A real browser on the real page: Debian's chromium, the app on a free port, the toy encoder, photos of known layout.

A test fails for what a browser complains of: an error on the console, a broken script, a breach of the content policy.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.web.serving import serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 10_000  # ms that any one thing may take
PLACE = """(boxes) => import("/document.js").then(({ replace }) => replace({ width: 400, height: 300,
  objects: boxes.map(([x0, y0, x1, y1]) => ({
    strokes: [[[x0, x1, x1, x0, x0].map((x) => 400 * x), [y0, y0, y1, y1, y0].map((y) => 300 * y)]] })) }))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, a module at a time: Playwright's loop must not outlive the tests that need it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason='playwright is missing: pip install -e ".[dev]"')
    if CHROMIUM is None:
        pytest.skip("chromium is not on the PATH: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page."""
    with serving(tmp_path_factory.mktemp("site")) as address:
        yield address


@dataclass
class Visit:
    """A page in a browser, what went wrong in it, and what people do there."""

    page: Any
    excused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def excuse(self, pattern: str) -> None:
        """A problem that the test brings about itself."""
        self.excused.append(pattern)

    @property
    def unexcused(self) -> list[str]:
        return [one for one in self.problems if not any(re.search(pattern, one) for pattern in self.excused)]

    # --- the canvas ---

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place of the canvas, in parts of it, on the screen."""
        box = self.page.locator("#board").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def draw(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A square as a new object, with the mouse."""
        mouse = self.page.mouse
        if self.page.locator("#chips .next").is_visible():
            self.page.locator("#chips .next").click()
        mouse.move(*self.at(x0, y0))
        mouse.down()
        for corner in ((x1, y0), (x1, y1), (x0, y1), (x0, y0)):
            mouse.move(*self.at(*corner), steps=2)
        mouse.up()

    def place(self, *boxes: Sequence[float]) -> None:
        """The same without a hand: squares in place of what is drawn."""
        self.page.evaluate(PLACE, list(boxes))

    # --- the results ---

    @property
    def names(self) -> list[str]:
        """The photos shown, best first."""
        return self.page.locator(".card .name").all_text_contents()

    def first(self, name: str) -> None:
        """Wait until a photo is the first."""
        from playwright.sync_api import expect

        expect(self.page.locator(".card .name").first).to_have_text(name, timeout=WAIT)

    def settled(self) -> None:
        """Wait until nothing is being asked and nothing moves."""
        self.page.wait_for_selector(".panel[aria-busy=false]", timeout=WAIT)
        self.page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")


@pytest.fixture
def visit(browser: Any, site: str) -> Iterator[Callable[..., Visit]]:
    """``visit(width, height, address=…, **options of the context)`` opens the page and waits until it is ready."""
    open_visits: list[tuple[Any, Visit]] = []

    def open_page(
        width: int = 1280, height: int = 800, *, address: str = site, ready: str = ".panel[data-state]", **options: Any
    ) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        visit = Visit(page)
        page.on("console", lambda message: message.type == "error" and visit.problems.append(message.text))
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        open_visits.append((context, visit))
        page.goto(address)
        page.wait_for_selector(ready)
        return visit

    yield open_page
    for context, _ in open_visits:
        context.close()
    problems = [problem for _, visit in open_visits for problem in visit.unexcused]
    assert problems == []


@pytest.fixture(scope="session")
def layout() -> Callable[[int], list[list[float]]]:
    """The boxes of the n-th photo."""
    from tests.web.serving import layout

    return lambda number: [one["box"] for one in layout(number)]
