"""The sketch page over a real server that is killed under it and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from compsketch_milvus.collection import SketchCollection
from tests.web.serving import drawing, judging_encoder, layout, serving, write_photos

BODY = {"sketch": drawing(*(one["box"] for one in layout(8))), "limit": 3}


def until(wanted: int, ask: Callable[[], httpx.Response], seconds: float = 180) -> httpx.Response:
    """Ask until an answer has the status."""
    end = time.monotonic() + seconds
    while (answer := ask()).status_code != wanted:
        assert time.monotonic() < end, f"{answer.status_code} for {seconds:.0f} s: {answer.text}"
        time.sleep(0.5)
    return answer


def test_the_page_says_that_its_server_is_gone_and_goes_on_when_it_is_back(restartable_server, tmp_path: Path) -> None:
    server, encoder = restartable_server, judging_encoder()
    with SketchCollection.open("photos", encoder, uri=server.uri) as photos:
        photos.ingest(write_photos(tmp_path / "photos"))
        photos.flush()
    with (
        serving(tmp_path, encoder=encoder, uri=server.uri) as address,
        httpx.Client(base_url=address, headers={"X-Compsketch": "1"}, timeout=60) as browser,
    ):
        before = browser.post("/api/search", json=BODY).json()["hits"]
        assert len(before) == 3
        assert browser.get(f"/api/thumbnail/{before[0]['id']}").status_code == 200
        server.kill()
        gone = browser.post("/api/search", json=BODY)
        assert gone.status_code == 503
        assert gone.headers["Retry-After"] == "2"
        said = gone.json()
        assert said.pop("reference")  # under which the log has it
        assert said == {"error": "the search is away for the moment; it goes on by itself"}
        until(503, lambda: browser.get("/healthz"), seconds=20)
        assert browser.get(f"/api/thumbnail/{before[0]['id']}").status_code == 200, "it is kept here"
        server.start()
        after = until(200, lambda: browser.post("/api/search", json=BODY)).json()["hits"]
        assert [hit["id"] for hit in after] == [hit["id"] for hit in before]
        until(200, lambda: browser.get("/healthz"), seconds=20)
