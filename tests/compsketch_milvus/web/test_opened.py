"""Collections of the page: opened when asked for, again after a failure, and the server gone and back."""

from __future__ import annotations

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.web import opened
from compsketch_milvus.web.opened import Opened, Where
from compsketch_milvus.web.refusals import Refusal
from tests.web.serving import drawing, judging_encoder


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(opened, "time", clock)
    return clock


@pytest.fixture
def own(filled, clock):
    own = Opened(judging_encoder(), Where(filled))
    yield own
    own.close()


def test_a_collection_is_opened_once_and_anew_when_it_is_old(own, clock) -> None:
    first = own.use(None, lambda collection: collection)
    assert own.use("photos", lambda collection: collection) is first
    clock.now += opened.AGE + 1
    second = own.use(None, lambda collection: collection)
    assert second is not first
    assert first.count() == 40  # somebody may still be at it
    clock.now += opened.AGE + 1
    own.use(None, SketchCollection.count)
    with pytest.raises(ServerError, match="closed"):
        first.count()


def test_an_alias_that_moves_to_another_encoder_s_photos_leaves_the_page_where_it_was(
    filled, clock, caplog, toy
) -> None:
    page, other = Opened(judging_encoder(), Where(filled, "pictures")), toy.ToyEncoder(grid=2, fingerprint="toy-other")
    with SketchCollection.open("photos", None, uri=filled) as photos:
        photos.client.create_alias("photos", "pictures")
        assert page.use(None, lambda collection: collection.name) == "photos"
        with SketchCollection.open("photos_2", other, uri=filled) as second:
            second.client.alter_alias("photos_2", "pictures")
            clock.now += opened.AGE + 1
            assert page.use(None, SketchCollection.count) == 40
            assert "until the page is started with that encoder it stays with 'photos'" in caplog.text
            second.client.drop_alias("pictures")
            second.drop()
    page.close()


def test_one_that_failed_for_good_is_opened_anew(own) -> None:
    first = own.use(None, lambda collection: collection)

    def full(collection: SketchCollection) -> None:
        raise ServerError("the disk is full")

    def busy(collection: SketchCollection) -> None:
        raise ServerError("too busy", transient=True)

    for work, again in ((busy, True), (full, False)):
        with pytest.raises(ServerError):
            own.use(None, work)
        assert (own.use(None, lambda collection: collection) is first) is again


def test_a_server_that_is_away_is_not_asked_by_every_request(own, clock, monkeypatch) -> None:
    tried = []

    def away(*_: object, **__: object) -> SketchCollection:
        tried.append(clock.now)
        raise ServerError("no Milvus answers", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(SketchCollection, "open", away)
        for _ in range(3):
            with pytest.raises(ServerError, match="no Milvus answers"):
                own.use(None, SketchCollection.count)
        clock.now += opened.PAUSE
        with pytest.raises(ServerError):
            own.use(None, SketchCollection.count)
        assert tried == [1000.0, 1000.0 + opened.PAUSE]
    clock.now += opened.PAUSE
    assert own.use(None, SketchCollection.count) == 40


def test_names_that_are_not_there_open_nothing(own) -> None:
    for name in ("nowhere", "photos2"):
        with pytest.raises(Refusal) as refused:
            own.use(name, SketchCollection.count)
        assert refused.value.status == 404


def test_the_page_starts_before_its_collection_is_there(open_page, lite) -> None:
    page = open_page(uri=lite)
    assert page.get("/").status_code == 200
    assert page.get("/healthz").status_code == 503
    missing = page.post("/api/search", json={"sketch": drawing([0.1, 0.1, 0.4, 0.4])})
    assert missing.status_code == 404
    assert lite not in missing.text
    with SketchCollection.open("photos", judging_encoder(), uri=lite):
        pass
    assert page.get("/api/session").json()["count"] == 0
