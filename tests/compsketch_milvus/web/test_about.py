"""What the page learns before it searches."""

from __future__ import annotations

import pytest

from compsketch_milvus.errors import ServerError
from compsketch_milvus.web.opened import Opened
from tests.web.serving import drawing


def test_a_session_tells_what_there_is(page) -> None:
    session = page.get("/api/session").json()
    assert (session["login"], session["user"], session["collection"], session["count"]) == (False, True, "photos", 40)
    assert session["limits"] == {"objects": 32, "points": 100_000, "label": 200, "limit": 200}
    told = session["encoder"]
    assert (told["name"], told["dim"], told["words"], told["explains"], told["calibrated"]) == (
        "toy",
        64,
        True,
        True,
        True,
    )
    assert session["index"]["type"] == "FLAT"
    assert session["index"]["reason"]


def test_fields_are_told_with_their_kinds_and_examples(page) -> None:
    fields = {one["name"]: one for one in page.get("/api/fields").json()}
    assert fields["rating"] == {"name": "rating", "type": "number", "examples": [0, 4]}
    assert fields["tag"]["type"] == "text"
    assert sorted(fields["tag"]["examples"]) == ["cat", "cup", "dog", "flower"]
    assert "vector" not in fields
    assert "source" not in fields


def test_health_is_that_searches_can_be_answered(page, monkeypatch) -> None:
    assert page.get("/healthz").json() == {"status": "ok"}
    monkeypatch.setattr("compsketch_milvus.web.about.HEALTH_SECONDS", 0.0)

    def away(*_: object) -> None:
        raise ServerError("http://10.1.2.3:19530: no Milvus answers", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(Opened, "use", away)
        answer = page.get("/healthz")
        assert (answer.status_code, answer.json()["error"][:4]) == (503, "away")
        search = page.post("/api/search", json={"sketch": drawing([0.1, 0.1, 0.5, 0.5])})
        assert search.status_code == 503
        assert search.headers["Retry-After"] == "2"
        assert "10.1.2.3" not in search.text + answer.text
    assert page.get("/healthz").status_code == 200
    assert page.post("/api/search", json={"sketch": drawing([0.1, 0.1, 0.5, 0.5])}).status_code == 200


def test_openapi_names_every_endpoint_and_no_page_of_it_is_served(page) -> None:
    paths = set(page.get("/api/openapi.json").json()["paths"])
    assert paths == {
        "/healthz",
        *(f"/api/{name}" for name in ("session", "login", "logout", "fields", "search", "similar", "explain")),
        *(f"/api/{name}" for name in ("convert", "examples", "words")),
        *(f"/api/{name}/{{id}}" for name in ("thumbnail", "photo", "details")),
    }
    assert page.get("/docs").status_code == page.get("/redoc").status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(page, method) -> None:
    assert page.request(method, "/api/search").status_code == 405
