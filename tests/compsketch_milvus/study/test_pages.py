"""The rating page's endpoints: who gets in, what is told, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from compsketch_milvus.study.pages import STATIC, create_app
from compsketch_milvus.study.store import Store

CONSENT = {"agree": True}


@pytest.fixture
def browse(folder: Path, plan) -> Iterator[Callable[..., TestClient]]:
    """Another browser at the page; keywords are those of `create_app`."""
    with ExitStack() as stack:

        def browse_(base_url: str = "http://localhost", **options) -> TestClient:
            browser = TestClient(create_app(folder, Store(folder, plan), **options), base_url=base_url)
            browser.headers["X-Compsketch"] = "1"
            return stack.enter_context(browser)

        yield browse_


@pytest.fixture
def rater(browse) -> TestClient:
    """A browser whose user agreed to take part."""
    browser = browse()
    assert browser.post("/api/login", json=CONSENT).status_code == 200
    return browser


def test_a_rater_does_all_of_the_tasks(rater, plan, store, knows):
    work = rater.post("/api/work", json={}).json()
    assert set(work) == {"tasks", "done", "left"}
    while work["tasks"]:
        (task, *_), before = work["tasks"], work["done"]
        assert rater.get(task["sketch"]).headers["content-type"] == "image/png"
        for photo in task["photos"]:
            answer = rater.get(photo)
            assert answer.headers["content-type"] == "image/jpeg"
            assert "immutable" in answer.headers["cache-control"]
        scores = knows(plan.by_id[task["id"]])
        work = rater.post("/api/ratings", json={"task": task["id"], "scores": scores, "revision": 1}).json()
        assert work["done"] == before + 1
    assert work["left"] == 0
    rated = {rating.task for rating in store.ratings()}
    assert {task.id for task in plan.tasks} <= rated


def test_a_rater_is_known_again(rater, browse):
    assert rater.get("/api/session").json()["rater"] is True
    task = rater.post("/api/work", json={}).json()["tasks"][0]
    later = browse()  # another process: the store remembers
    later.cookies = rater.cookies
    assert later.post("/api/work", json={}).json()["tasks"][0] == task
    assert later.post("/api/login", json=CONSENT).status_code == 200
    assert later.post("/api/work", json={}).json()["tasks"][0] == task  # agreeing again makes nobody new


def test_nothing_tells_a_method_a_rank_or_a_check(rater, plan):
    seen = [rater.get(path).text for path in ("/", "/rating.js", "/server.js", "/rating.css", "/api/session")]
    work = rater.post("/api/work", json={}).json()
    shapes = set()
    while work["tasks"]:
        task = work["tasks"][0]
        shapes.add(tuple(sorted(task)))
        seen.append(json.dumps(work))
        answers = [rater.get(path) for path in (task["sketch"], *task["photos"])]
        seen += [str(answer.headers) for answer in answers]
        scores = [3] * len(task["photos"])
        answer = rater.post("/api/ratings", json={"task": task["id"], "scores": scores, "revision": 1})
        seen.append(str(answer.headers))
        work = answer.json()
    assert shapes == {("id", "photos", "sketch")}
    text = "\n".join(seen).lower()
    for word in (*plan.methods, "toy 0123", "expected", "is_check", "rank", ".png", ".jpg", "q0-", "good", '"bad"'):
        assert word not in text, word


def test_no_picture_but_the_studys_own_and_only_for_raters(rater, browse, plan):
    photo = next(iter(plan.photos))
    assert browse().get(f"/api/photo/{photo}").status_code == 401
    names = ("0" * 16, "..%2fstudy.json", "%2e%2e%2fratings.db", f"{photo}.jpg", "%00", f"../photos/{photo}")
    for name in names:
        for kind in ("photo", "sketch"):
            answer = rater.get(f"/api/{kind}/{name}")
            assert answer.status_code == 404, name
            assert "study" not in answer.text
    for path in ("/study.json", "/ratings.db", "/static/../study.json", "/..%2fstudy.json"):
        assert rater.get(path).status_code == 404


def test_nobody_rates_before_they_agree(browse):
    browser = browse()
    assert browser.get("/api/session").json()["rater"] is False
    for path, body in (("/api/work", {}), ("/api/logout", {}), ("/api/ratings", {"task": "t", "scores": [1]})):
        answer = browser.post(path, json=body)
        assert answer.status_code == 401
        assert "agree" in answer.json()["error"]
    assert browser.post("/api/login", json={"agree": False}).status_code == 422
    assert browser.post("/api/login", json={}).status_code == 422


def test_other_machines_need_the_invitation(browse, store):
    browser = browse("http://lab.example", invited=True)
    assert browser.get("/").status_code == 200
    assert browser.post("/api/login", json=CONSENT).status_code == 401
    assert browser.post("/api/login", json={**CONSENT, "invitation": "guess"}).status_code == 401
    assert browser.post("/api/work", json={}).status_code == 401
    assert browser.post("/api/login", json={**CONSENT, "invitation": store.invitation}).status_code == 200
    assert len(browser.post("/api/work", json={}).json()["tasks"]) == 2
    assert browse("http://lab.example").get("/").status_code == 421  # on this machine alone, by its names alone


@pytest.mark.parametrize(
    "body",
    [
        {"scores": [0, 3, 3]}, {"scores": [6, 3, 3]}, {"scores": [3.5, 3, 3]}, {"scores": ["3", 3, 3]},
        {"scores": [True, 3, 3]}, {"scores": []}, {"scores": [3] * 50}, {"scores": [3] * 5000}, {"scores": None},
        {"revision": 0}, {"revision": 2**40}, {"task": "x" * 5000}, {"task": "0" * 16}, {"task": ["a"]},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(rater, store, body):
    task = rater.post("/api/work", json={}).json()["tasks"][0]
    good = {"task": task["id"], "scores": [3] * len(task["photos"]), "revision": 1}
    answer = rater.post("/api/ratings", json={**good, **body})
    assert answer.status_code in (404, 422)
    assert "\n" not in answer.json()["error"]
    assert store.ratings() == []


def test_another_site_cannot_rate(rater, store):
    task = rater.post("/api/work", json={}).json()["tasks"][0]
    body = {"task": task["id"], "scores": [3] * len(task["photos"]), "revision": 1}
    assert rater.post("/api/ratings", json=body, headers={"Origin": "https://evil.example"}).status_code == 403
    del rater.headers["X-Compsketch"]
    assert rater.post("/api/ratings", json=body).status_code == 403
    assert store.ratings() == []


def test_the_page_is_guarded(rater):
    answer = rater.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    page = (STATIC / "index.html").read_text()
    assert "style=" not in page
    assert "onclick" not in page
    assert "http" not in page.replace("http-equiv", "")  # nothing from elsewhere
    joined = rater.post("/api/login", json=CONSENT)
    assert "set-cookie" not in joined.headers  # who is known keeps their name


def test_the_cookie_is_for_the_server_alone(browse):
    cookie = browse().post("/api/login", json=CONSENT).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_leaving_gives_tasks_back(make, tmp_path):
    plan = make("one", raters=1, queries=1, depth=2, checks=False)
    folder = tmp_path / "one"
    store = Store(folder, plan)
    app = create_app(folder, store)
    with TestClient(app, base_url="http://localhost", headers={"X-Compsketch": "1"}) as first:
        first.post("/api/login", json=CONSENT)
        assert len(first.post("/api/work", json={}).json()["tasks"]) == 2
        second = store.join()
        assert store.work(second).tasks == ()
        assert first.post("/api/logout", json={}).status_code == 200
        assert len(store.work(second).tasks) == 2


def test_the_page_is_light():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 40_000
