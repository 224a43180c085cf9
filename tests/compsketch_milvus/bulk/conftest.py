"""Milvus as an import sees it, small enough to be read: a server of REST whose jobs insert what files hold."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from compsketch_milvus.bulk import CollectionFacts
from compsketch_milvus.bulk.jobs import RestJobs
from compsketch_milvus.identity import Identity
from compsketch_milvus.index import ServerFacts
from compsketch_milvus.records import PhotoVector

FACTS = CollectionFacts("photos", "toy-0000000000000000", 16)


@dataclass
class Server:
    """Rows, jobs, and what it does wrong.

    Args:
        asked: of the jobs, how often a client asks before one is at its end.
        said: requests, as (action, body), in their order.
        fails: reasons of the jobs to come; an empty one lets the job be.
        answers: HTTP statuses, or "hang up" once the work is done, of the requests to come to an action.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    hidden: list[dict[str, Any]] = field(default_factory=list)  # imported, and not to be seen yet
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: int = 2
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    lost: int = 0  # rows that a job leaves out
    files: Path = Path("/")
    address: str = ""

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        job = str(448761313698322011 + len(self.jobs))
        reason = self.fails.pop(0) if self.fails else ""
        self.jobs[job] = {"files": body["files"], "left": self.asked, "reason": reason, "rows": 0}
        return {"jobId": job}

    def describe(self, body: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs[body["jobId"]]
        job["left"] -= 1
        if job["left"] == 0 and not job["reason"]:
            self.run(job)
        return self.state(body["jobId"], job)

    def list(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"records": [self.state(name, job) for name, job in self.jobs.items()]}

    def state(self, name: str, job: dict[str, Any]) -> dict[str, Any]:
        ended = job["left"] <= 0
        state = ("Failed" if job["reason"] else "Completed") if ended else "Importing"
        said = {"jobId": name, "collectionName": "photos", "state": state, "progress": 100 if ended else 50}
        return said | ({"reason": job["reason"]} if job["reason"] else {"importedRows": job["rows"]})

    def run(self, job: dict[str, Any]) -> None:
        for [path] in job["files"]:
            found = [{**row, **json.loads(row["$meta"])} for row in pq.read_table(self.files / path).to_pylist()]
            self.hidden += found[: len(found) - self.lost]
            job["rows"] += len(found) - self.lost

    def counts(self) -> Counter[str]:
        return Counter(row["id"] for row in self.rows)


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        prefix, action = self.path.rsplit("/", 1)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.said.append((action, body))
        self.state.headers.append(dict(self.headers))
        assert prefix == "/v2/vectordb/jobs/import"
        planned = self.state.answers.get(action, [])
        answer = planned.pop(0) if planned else 200
        if isinstance(answer, dict):
            said: dict[str, Any] = answer
            answer = 200
        else:
            said = {"code": 0, "data": getattr(self.state, action)(body)} if answer in (200, "hang up") else {"code": 1}
        if answer == "hang up":
            self.close_connection = True
            return
        content = json.dumps(said).encode()
        self.send_response(answer)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def milvus() -> Iterator[Server]:
    """A server that answers as Milvus' documentation of REST says; one was not there to be tried."""
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


class Photos:
    """A collection on that server: upsert replaces, import does not, and imported rows are seen after a refresh."""

    def __init__(self, server: Server, version: str = "2.5.4", encoder: Any = None) -> None:
        self.server, self.name, self.uri, self.encoder = server, "photos", server.address, encoder
        self.facts = ServerFacts("server", version, dim=16)
        self.identity = Identity("toy", FACTS.fingerprint, 16, {})
        self.upserts = self.refreshes = 0

    def stored(self, ids: Any, fields: Any) -> dict[str, dict[str, Any]]:
        found = {row["id"]: row for row in self.server.rows if row["id"] in set(ids)}
        return {one: {name: row.get(name) for name in fields if name in row} for one, row in found.items()}

    def existing(self, ids: Any) -> set[str]:
        return set(self.stored(ids, ()))

    def upsert(self, photos: Any) -> int:
        new = {photo.id: {"id": photo.id, "source": photo.source, **photo.fields} for photo in photos}
        self.server.rows = [row for row in self.server.rows if row["id"] not in new] + list(new.values())
        self.upserts += len(new)
        return len(new)

    def flush(self) -> None:
        pass

    def call(self, doing: str, method: str, **arguments: Any) -> Any:
        if method == "refresh_load":
            self.refreshes += 1
            self.server.rows += self.server.hidden
            self.server.hidden = []
            return None
        assert method == "query"
        asked = json.loads(arguments["filter"].removeprefix("id in ").replace("'", '"'))
        counts = self.server.counts()
        return [{"count(*)": sum(counts[one] for one in asked)}]


@pytest.fixture
def photos(milvus: Server, toy_encoder: Any) -> Photos:
    return Photos(milvus, encoder=toy_encoder)


@pytest.fixture
def jobs(milvus: Server) -> RestJobs:
    return RestJobs("photos", {"uri": milvus.address, "token": "root:Milvus", "db_name": "shop"})


@pytest.fixture
def make_photos() -> Callable[..., list[PhotoVector]]:
    """`make_photos(3, first=5)`: photos p5, p6, p7."""

    def make(count: int, *, first: int = 0, dim: int = 16, **fields: Any) -> list[PhotoVector]:
        rows = np.random.default_rng(first).normal(size=(count, dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return [
            PhotoVector(f"p{first + i}", f"/photos/Käthe/{first + i}.jpg", 640, 480, row, {"mtime": i, **fields})
            for i, row in enumerate(rows)
        ]

    return make


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compsketch_milvus.bulk.importing.POLL", 0.005)


@pytest.fixture
def facts() -> CollectionFacts:
    return FACTS


@pytest.fixture
def photos_folder(noise: Callable[[int], Path]) -> Path:
    """Three photos."""
    return noise(3)
