"""How often a client may ask."""

from __future__ import annotations

import pytest

from compsketch_milvus.web import rates
from compsketch_milvus.web.rates import Rate, Rates
from compsketch_milvus.web.refusals import Refusal
from tests.web.serving import drawing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_so_many_a_second() -> None:
    clock = Clock()
    own = Rates({"search": Rate(2, 3)}, clock)
    for _ in range(3):
        own.take("search", "a")
    with pytest.raises(Refusal) as refused:
        own.take("search", "a")
    assert (refused.value.status, refused.value.retry_after) == (429, 0.5)
    own.take("search", "b")
    clock.now = 0.5
    own.take("search", "a")
    with pytest.raises(Refusal):
        own.take("search", "a")
    clock.now = 1000.0
    for _ in range(3):
        own.take("search", "a")
    with pytest.raises(Refusal):
        own.take("search", "a")


def test_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(rates, "MOST_BUCKETS", 2)
    own = Rates({"search": Rate(0.001, 1)}, Clock())
    for client in "abc":
        own.take("search", client)
    own.take("search", "a")  # forgotten
    with pytest.raises(Refusal):
        own.take("search", "c")


def test_a_client_that_asks_too_often_is_told_when_to_go_on(open_page) -> None:
    page = open_page(rates={**rates.RATES, "search": Rate(0.5, 2)})
    body = {"sketch": drawing([0.1, 0.1, 0.4, 0.4])}
    assert [page.post("/api/search", json=body).status_code for _ in range(2)] == [200, 200]
    refused = page.post("/api/search", json=body)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "2"
    assert refused.json() == {"error": "too many requests; go on in a moment"}
    assert page.get("/api/words").status_code == 200


def test_people_behind_one_address_are_told_apart_by_their_visits(open_page) -> None:
    page = open_page(rates={**rates.RATES, "search": Rate(0.01, 1)})
    body = {"sketch": drawing([0.1, 0.1, 0.4, 0.4])}
    for _ in range(2):
        page.cookies.clear()
        page.get("/api/session")
        assert page.post("/api/search", json=body).status_code == 200
        assert page.post("/api/search", json=body).status_code == 429
