"""What every request passes: hosts, origins, the header, sizes, and the headers of every answer."""

from __future__ import annotations

import asyncio

import pytest

from compsketch_milvus.web import protection
from compsketch_milvus.web.login import Login
from compsketch_milvus.web.protection import MAX_BODY, Protection, is_loopback
from compsketch_milvus.web.rates import Rates
from tests.web.serving import drawing

BODY = {"sketch": drawing([0.1, 0.1, 0.4, 0.4])}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/session"),
        ("GET", "/api/thumbnail/p01"),
        ("GET", "/api/nothing"),
        ("GET", "/nothing"),
        ("POST", "/api/search"),
        ("DELETE", "/api/search"),
    ],
)
def test_every_answer_has_the_headers(page, method, path) -> None:
    headers = page.request(method, path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'self'",
        "img-src": "'self' blob: data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_an_error_that_nobody_foresaw_has_them_too_and_tells_nothing(page, monkeypatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail at /home/me")

    monkeypatch.setattr("compsketch_milvus.web.searching.by_sketches", broken)
    answer = page.post("/api/search", json=BODY)
    assert answer.status_code == 500
    assert answer.json()["error"] == "this failed inside the server; its log says why"
    assert "Content-Security-Policy" in answer.headers
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8420", "127.0.0.1:1", "[::1]:8420", "127.1.2.3", "LOCALHOST."]
)
def test_names_of_this_machine_are_served_without_a_login(page, host) -> None:
    assert page.get("/api/words", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.0.2", "", "[", "evil@localhost.example"],
)
def test_other_names_are_not_so_that_no_page_can_rebind_one(page, host) -> None:
    for path in ("/", "/api/session", "/healthz"):
        assert page.get(path, headers={"Host": host}).status_code == 421


def test_with_a_login_any_name_is_served(public_page) -> None:
    assert public_page.get("/api/session", headers={"Host": "photos.example:8420"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_other_sites_get_nothing(page, headers) -> None:
    assert page.post("/api/search", json=BODY, headers=headers).status_code == 403
    assert page.get("/api/thumbnail/p01", headers=headers).status_code == 403
    assert page.get("/", headers=headers).status_code == 200  # a link to the page works


def test_the_page_itself_gets_its_answers(page) -> None:
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert page.post("/api/search", json=BODY, headers=own).status_code == 200


def test_without_the_header_that_no_form_can_send_nothing_is_done(page) -> None:
    del page.headers["X-Compsketch"]
    for path in ("search", "login", "logout", "convert"):
        answer = page.post(f"/api/{path}", json=BODY)
        assert answer.status_code == 403
        assert "X-Compsketch" in answer.json()["error"]
    assert page.get("/api/words").status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(page) -> None:
    def endless():
        for _ in range(MAX_BODY // 2**20 + 2):
            yield b" " * 2**20

    for content in (b" " * (MAX_BODY + 1), endless()):
        answer = page.post("/api/search", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json() == {"error": "more than the 8 MB that a request may have"}
    for length in ("-1", "1e3", "9" * 30):
        refused = page.post("/api/search", content=b"{}", headers={"Content-Length": length})
        assert refused.status_code == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(protection, "BODY_SECONDS", 0.01)
    sent = []

    async def never() -> dict:
        await asyncio.Event().wait()
        raise AssertionError

    async def keep(message: dict) -> None:
        sent.append(message)

    async def app(*_: object) -> None:
        raise AssertionError("a request without its body got in")

    headers = [(b"host", b"localhost"), (b"x-compsketch", b"1"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/api/search", "headers": headers, "client": ("1.2.3.4", 5)}
    asyncio.run(Protection(app, Login(None, secure=False), Rates())(scope, never, keep))
    assert sent[0]["status"] == 408


def test_web_sockets_are_closed() -> None:
    sent = []

    async def keep(message: dict) -> None:
        sent.append(message)

    asyncio.run(Protection(None, Login(None, secure=False), Rates())({"type": "websocket"}, None, keep))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "", "localhost.example", "127.0.0.1.example")),
    ],
)
def test_loopback(host, is_this_machine) -> None:
    assert is_loopback(host) is is_this_machine


def test_who_waits_when_the_server_ends_is_told_so() -> None:
    sent = []

    async def keep(message: dict) -> None:
        sent.append(message)

    async def endless(*_: object) -> None:
        await asyncio.Event().wait()

    async def scene() -> None:
        scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": [(b"host", b"localhost")]}
        waiting = asyncio.ensure_future(Protection(endless, Login(None, secure=False), Rates())(scope, None, keep))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    asyncio.run(scene())
    assert sent[0]["status"] == 503
    assert b"being stopped" in sent[1]["body"]
