"""axe-core finds nothing serious, whatever the page shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

GRAVE = ("serious", "critical")
CORNERS = [(0.03, 0.03, 0.3, 0.3), (0.7, 0.7, 0.97, 0.97)]  # photo 34


def nothing(visit: Any) -> None:
    expect(visit.page.locator(".blank")).to_be_visible()


def photos(visit: Any) -> None:
    visit.place(*CORNERS)
    visit.first("photo-34.jpg")
    visit.settled()


def settings(visit: Any) -> None:
    photos(visit)
    visit.page.get_by_role("button", name="Settings").click()
    visit.page.get_by_role("button", name="Add a condition").click()


def one_photo(visit: Any) -> None:
    photos(visit)
    visit.page.locator(".photo").first.click()
    visit.page.locator(".why").get_by_label("object 1").check()


def no_good_match(visit: Any) -> None:
    visit.place((0.4, 0.1, 0.9, 0.2))
    expect(visit.page.locator(".note")).to_contain_text("No good match")
    visit.settled()


def help_sheet(visit: Any) -> None:
    visit.page.locator("#help-open").click()
    expect(visit.page.locator("#help")).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("show", [nothing, photos, settings, one_photo, no_good_match, help_sheet])
def test_axe_finds_nothing_serious(visit: Any, show: Callable[[Any], None], colours: str):
    page = visit(color_scheme=colours)
    show(page)

    assert grave(page.page) == []


def test_axe_finds_nothing_serious_on_a_phone(visit: Any):
    page = visit(390, 844, has_touch=True)
    photos(page)

    assert grave(page.page) == []


def grave(page: Any) -> list[str]:
    """What axe calls serious or critical, and where."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]
