"""One search of the page as one trace and under one id: page, collection, client, encoder service, Milvus."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.trace import StatusCode
from starlette.testclient import TestClient

from compsketch_milvus.errors import ServerError
from encoders.serving.client import RemoteEncoder
from encoders.serving.logs import JsonLines
from encoders.serving.server import Server
from tests.encoders.serving.serving import served
from tests.web.serving import drawing, judging_encoder

SKETCH = drawing([0.1, 0.1, 0.4, 0.4])
FILTER = 'tag != "hidden-word"'
KINDS = {"compsketch", "db", "milvus", "rpc", "server", "http"}  # of attributes
CALL = "compsketch.v1.Encoder/EncodeSketches"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A true service of the page's encoder, on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def carry_out(step):
        return asyncio.run_coroutine_threadsafe(step, loop).result(30)

    service = served(judging_encoder())
    yield carry_out(service.__aenter__())
    carry_out(service.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def page(open_page, server) -> Iterator[TestClient]:
    """The page, whose encoder is the service's; its collection is open."""
    with RemoteEncoder.open(f"grpc://127.0.0.1:{server.port}") as encoder:
        page = open_page(encoder)
        assert page.post("/api/search", json={"sketch": SKETCH}).status_code == 200
        yield page
        page.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The logs of both packages, as lines of JSON."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("encoders", "compsketch_milvus")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield written
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def lines(log: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


# --- traces ---


def test_a_search_is_one_trace_from_the_page_to_milvus(page, spans) -> None:
    theirs = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{theirs}-b7ad6b7169203331-01", "x-request-id": "abc"}
    asked = {"sketch": SKETCH, "filter": FILTER, "limit": 7}
    assert page.post("/api/search", json=asked, headers=headers).status_code == 200
    assert {f"{span.context.trace_id:032x}" for span in spans.all} == {theirs}
    assert {span.attributes["compsketch.request_id"] for span in spans.all if "wait" not in span.name} == {"abc"}
    forward = ("forward", [("forward batch", []), ("forward wait", [])])
    encode = ("encode sketches", [(CALL, [(CALL, [forward])])])  # the client's span, and the service's
    search = ("compsketch by_sketches", [encode, ("rerank", []), ("search photos", [])])
    assert spans.tree(below=0xB7AD6B7169203331) == [("POST /api/search", [search])]


def test_what_its_spans_say_and_what_they_never_do(page, spans) -> None:
    page.post("/api/search", json={"sketch": SKETCH, "filter": FILTER, "limit": 7})
    page.get("/api/thumbnail/no/such/secret.jpg")
    (search,), (request,) = spans.named("search photos"), spans.named("POST /api/search")
    (thumbnail,) = spans.named("GET /api/thumbnail/{id:path}")
    assert dict(search.attributes) == {
        "compsketch.request_id": request.attributes["compsketch.request_id"],
        "db.system.name": "milvus",
        "db.collection.name": "photos",
        "db.operation.name": "search",
        "milvus.queries": 1,
        "milvus.limit": 7,
        "milvus.filtered": True,
        "milvus.consistency_level": "Bounded",
        "milvus.index": "FLAT",
    }  # fmt: skip
    assert request.attributes["http.route"] == "/api/search"
    assert request.attributes["http.response.status_code"] == 200
    assert thumbnail.attributes["http.response.status_code"] == 404
    client, service = spans.named(CALL)
    assert client.attributes["server.port"] > 0
    assert service.attributes["rpc.response.status_code"] == "OK"
    assert spans.named("forward batch")[0].attributes["compsketch.rows"] == 1
    for secret in ("hidden-word", "secret.jpg"):
        assert secret not in spans.everything()
    assert {name.split(".")[0] for span in spans.all for name in span.attributes} == KINDS


def test_a_failure_marks_its_spans_by_its_kind(page, spans, monkeypatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ServerError("http://milvus-7.internal: no Milvus answers", transient=True)

    monkeypatch.setattr("pymilvus.MilvusClient.search", away)
    assert page.post("/api/search", json={"sketch": SKETCH}).status_code == 503
    (search,), (request,) = spans.named("search photos"), spans.named("POST /api/search")
    assert (search.status.status_code, search.attributes["error.type"]) == (StatusCode.ERROR, "ServerError")
    assert (request.status.status_code, request.attributes["error.type"]) == (StatusCode.ERROR, "503")
    assert "internal" not in spans.everything()


# --- one id ---


def test_the_id_goes_from_the_page_to_the_services_log_and_into_the_answer(page, log) -> None:
    answer = page.post("/api/search", json={"sketch": SKETCH}, headers={"X-Request-Id": "from-a-proxy-1"})
    assert answer.headers["X-Request-Id"] == "from-a-proxy-1"
    calls = [line for line in lines(log) if line["event"] == "call"]
    assert [(line["method"], line["request_id"]) for line in calls] == [("EncodeSketches", "from-a-proxy-1")]


def test_a_request_without_one_gets_one_and_so_does_a_forged_one(page, log) -> None:
    for headers in ({}, {"X-Request-Id": 'x" {"event": "forged"}'}, {"X-Request-Id": "x" * 129}):
        answer = page.post("/api/search", json={"sketch": SKETCH}, headers=headers)
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-Id"])
        assert lines(log)[-1]["request_id"] == answer.headers["X-Request-Id"]
    assert "forged" not in log.getvalue()
    assert page.get("/", headers={"X-Request-Id": "a"}).headers["X-Request-Id"] == "a"  # also the page's own files


def test_an_error_tells_the_reference_under_which_the_log_has_it(page, log, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail at /home/me")

    monkeypatch.setattr("compsketch_milvus.web.searching.by_sketches", broken)
    answer = page.post("/api/search", json={"sketch": SKETCH})
    assert answer.json() == {
        "error": "this failed inside the server; its log says why",
        "reference": answer.headers["X-Request-Id"],
    }
    (line,) = [line for line in lines(log) if line["event"] == "a request failed"]
    assert line["request_id"] == answer.json()["reference"]
    assert "reference" not in page.post("/api/search", json={}).json()  # the asker's own fault: all is said
