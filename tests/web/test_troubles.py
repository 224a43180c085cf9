"""A server that goes away and comes back, a login, an empty collection: what the page says, and what it keeps."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from compsketch_milvus.web.app import Options, create_app
from compsketch_milvus.web.opened import Where
from tests.web.serving import fill, judging_encoder, serving

expect = pytest.importorskip("playwright.sync_api").expect

NOBODY_THERE = "ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED"


class Server:
    """The page's server, which can go away and come back at the same address."""

    def __init__(self, folder: Path) -> None:
        self.uri, self.cache = fill(folder, judging_encoder()), folder / "cache"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self) -> None:
        app = create_app(judging_encoder(), Options(Where(self.uri), cache=self.cache))
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def test_a_server_that_goes_away_and_comes_back_is_waited_for_and_the_photos_stay(visit: Any, server: Server):
    page = visit(address=f"http://127.0.0.1:{server.port}")
    page.excuse(NOBODY_THERE)
    page.draw(0.03, 0.03, 0.3, 0.3)
    page.page.wait_for_selector(".card")
    page.settled()
    before = page.names

    server.stop()
    page.draw(0.7, 0.7, 0.97, 0.97)
    expect(page.page.locator(".note.bad")).to_contain_text("cannot be reached")
    expect(page.page.locator(".note.bad")).to_contain_text("Trying again")
    expect(page.page.locator("[role=status]", has_text="cannot be reached")).to_be_attached()
    assert page.names == before

    server.start()
    page.first("photo-34.jpg")
    expect(page.page.locator(".note")).to_be_hidden()


def test_a_page_whose_server_is_gone_at_first_starts_once_it_is_there(visit: Any, server: Server):
    page = visit(address=f"http://127.0.0.1:{server.port}")
    page.excuse(NOBODY_THERE)
    page.page.route("**/api/session", lambda route: route.abort("connectionrefused"))
    page.page.reload()
    expect(page.page.locator(".note.bad")).to_contain_text("cannot be reached")

    page.page.unroute("**/api/session")
    expect(page.page.locator(".blank")).to_be_visible(timeout=10_000)


def test_an_error_of_the_server_names_the_reference_in_its_log(visit: Any):
    page = visit()
    page.excuse("500")
    told = {"error": "this failed inside the server; its log says why", "reference": "3f2a9c"}
    page.page.route("**/api/search", lambda route: route.fulfill(status=500, json=told))
    page.draw(0.03, 0.03, 0.3, 0.3)
    expect(page.page.locator(".note.bad")).to_contain_text("its log says why (reference 3f2a9c)")


def test_a_login_is_asked_for_where_one_is_needed(visit: Any, tmp_path: Path):
    with serving(tmp_path, token="open sesame") as address:
        page = visit(address=address, ready=".login")
        page.excuse("401|403")

        page.page.get_by_label("Token").fill("guessed")
        page.page.get_by_role("button", name="Log in").click()
        expect(page.page.get_by_role("alert")).not_to_be_empty()

        page.page.get_by_label("Token").fill("open sesame")
        page.page.get_by_label("Token").press("Enter")
        page.page.wait_for_selector(".blank")
        page.draw(0.03, 0.03, 0.3, 0.3)
        page.page.wait_for_selector(".card")

        page.page.get_by_role("button", name="Log out").click()
        expect(page.page.locator(".login")).to_be_visible()
        page.page.close()  # before its server goes


def test_a_photo_that_cannot_be_read_any_more_says_so(visit: Any, tmp_path: Path):
    with serving(tmp_path) as address:
        for path in (tmp_path / "photos").glob("*.jpg"):
            path.unlink()
        page = visit(address=address)
        page.excuse("404|410|Not Found|Gone")
        page.draw(0.03, 0.03, 0.3, 0.3)

        expect(page.page.locator(".card.unread").first).to_be_visible()
        assert re.search(
            "not readable",
            page.page.locator(".shot").first.evaluate("(shot) => getComputedStyle(shot, '::before').content"),
        )
        page.page.close()
