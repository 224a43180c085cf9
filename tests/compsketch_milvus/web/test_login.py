"""Logging in: what is open before, what a cookie is, and how it ends."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest
from starlette.responses import Response

from compsketch_milvus.web import login
from compsketch_milvus.web.login import LIFETIME, Login
from compsketch_milvus.web.refusals import Refusal

TOKEN = "a secret that is long enough"


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def test_before_a_login_nothing_is_told_and_after_it_all_is(public_page) -> None:
    before = public_page.get("/api/session").json()
    assert (before["login"], before["user"]) == (True, False)
    assert [before[name] for name in ("collection", "collections", "encoder", "count", "index")] == [
        None,
        [],
        None,
        None,
        None,
    ]
    assert public_page.get("/api/words").status_code == 401
    assert public_page.post("/api/login", json={"token": TOKEN}).json() == {"user": True}
    after = public_page.get("/api/session").json()
    assert (after["login"], after["user"], after["count"]) == (True, True, 40)
    assert public_page.get("/api/thumbnail/p01").status_code == 200
    assert public_page.post("/api/logout").json() == {"user": False}
    assert public_page.get("/api/thumbnail/p01").status_code == 401


def test_everything_but_the_page_and_the_login_needs_one(public_page, page) -> None:
    spec = page.get("/api/openapi.json").json()
    asked = [(method, path) for path, methods in spec["paths"].items() for method in methods]
    assert len(asked) == 14
    answers = {path: public_page.request(method, path.replace("{id}", "p01")).status_code for method, path in asked}
    open_ = {"/healthz": 200, "/api/session": 200, "/api/login": 422, "/api/logout": 200}
    assert answers == {path: open_.get(path, 401) for _, path in asked}
    assert public_page.get("/api/openapi.json").status_code == 401
    assert public_page.get("/").status_code == 200


def test_the_cookie_is_for_this_server_alone(open_page) -> None:
    for secure, base_url in ((False, "http://photos.example"), (True, "https://photos.example")):
        page = open_page(token=TOKEN, secure=secure, base_url=base_url)
        answer = page.post("/api/login", json={"token": TOKEN})
        (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
        assert morsel["httponly"]
        assert morsel["samesite"].lower() == "strict"
        assert morsel["path"] == "/"
        assert morsel["domain"] == ""
        assert bool(morsel["secure"]) is secure
        assert morsel.key == ("__Host-compsketch" if secure else "compsketch")
        assert len(morsel.value) >= 43
        assert TOKEN not in morsel.value
        assert page.get("/api/words").status_code == 200


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + " ", "é" * 20, "\ud800" * 3 + "x"])
def test_another_token_is_refused(public_page, token) -> None:
    answer = public_page.post("/api/login", content=b'{"token": "' + token.encode("unicode_escape") + b'"}')
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers
    assert TOKEN not in answer.text


def test_guessing_is_slow(public_page) -> None:
    tried = [public_page.post("/api/login", json={"token": f"guess {i}"}).status_code for i in range(8)]
    assert tried == [401] * 5 + [429] * 3
    refused = public_page.post("/api/login", json={"token": TOKEN})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 1


def test_a_visit_ends_by_itself() -> None:
    now = [0.0]
    own, response = Login(TOKEN, secure=False, clock=lambda: now[0]), Response()
    own.enter(TOKEN, response)
    assert own.visit(cookie_of(response)).user
    now[0] = LIFETIME - 1
    assert own.visit(cookie_of(response)) is not None
    now[0] = LIFETIME + 1
    assert own.visit(cookie_of(response)) is None


def test_every_login_has_a_cookie_of_its_own_and_a_logout_ends_one() -> None:
    own, first, second = Login(TOKEN, secure=False), Response(), Response()
    own.enter(TOKEN, first)
    own.enter(TOKEN, second)
    assert own.visit(cookie_of(first)).name != own.visit(cookie_of(second)).name
    own.leave(cookie_of(first), Response())
    assert own.visit(cookie_of(first)) is None
    assert own.visit(cookie_of(second)) is not None


def test_a_wrong_token_begins_nothing() -> None:
    own, response = Login(TOKEN, secure=False), Response()
    with pytest.raises(Refusal) as refused:
        own.enter("wrong", response)
    assert refused.value.status == 401
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("header", ["", "compsketch=", "compsketch=x; compsketch=y", "a=b; =;;;", "\x00", "compsketch"])
def test_other_cookies_are_nobody(header) -> None:
    assert Login(TOKEN, secure=False).visit(header) is None


def test_visits_are_bounded_in_number(monkeypatch) -> None:
    monkeypatch.setattr(login, "MOST", 2)
    own, responses = Login(None, secure=False), [Response() for _ in range(3)]
    for response in responses:
        own.begin(response, user=True)
    assert [own.visit(cookie_of(response)) is not None for response in responses] == [False, True, True]
