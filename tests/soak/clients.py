"""Those who use the system while it is struck, each a program: `python -m tests.soak.clients NAME PLACE`.

    searcher    searches through the SDK, and looks for what must not be found and for what must
    deleter     deletes a part of each finished batch, files first
    people      draw on the pages, over HTTP

What goes against an invariant is a line `violation` of its ledger; `ok` and `away` tell of answers and of their want.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import connect
from compsketch_milvus.errors import ServerError
from compsketch_milvus.search import SearchResult
from compsketch_milvus.sources.naming import source_id
from encoders.sketch import Sketch
from tests.soak.ledger import Ledger, Tail
from tests.web.serving import drawing

__all__ = ["Place", "doomed"]

REST = 0.3  # seconds between two requests of one client
SLOW = 60.0  # seconds within which a page answers, whatever has become of those behind it
STALE = 60.0  # seconds after which also a search that need not see all has seen a deletion
PASSING = {409, 429, 502, 503}  # what a page answers while somebody behind it is away


@dataclass(frozen=True)
class Place:
    """Where everything of a run is.

    Args:
        folder: of the run; ledgers lie in it.
        uri: of Milvus.
        collection: its name.
        encoder: address of the encoder's service.
        pages: addresses of the pages; only the last one is never struck.
        seed: of the run.
    """

    folder: str
    uri: str
    collection: str
    encoder: str
    pages: list[str]
    seed: int

    def ledger(self, name: str) -> Path:
        """The file of one writer."""
        return Path(self.folder) / f"{name}.jsonl"

    def argument(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


def doomed(paths: Iterable[str]) -> list[str]:
    """Those of a finished batch that are deleted: a third, by their names."""
    return [path for path in paths if int(source_id(path), 16) % 3 == 0]


def boxes(rng: random.Random) -> list[list[float]]:
    """Where somebody draws: one to three boxes, in parts of the canvas."""
    corners = [(rng.uniform(0, 0.6), rng.uniform(0, 0.6)) for _ in range(rng.randint(1, 3))]
    return [[x, y, x + rng.uniform(0.1, 0.4), y + rng.uniform(0.1, 0.4)] for x, y in corners]


class Client:
    """What they have in common: a ledger, a way to tell a server that is away from one that is wrong."""

    def __init__(self, name: str, place: Place) -> None:
        self.place, self.ledger, self.rng = place, Ledger(place.ledger(name)), random.Random(f"{name} {place.seed}")

    def violation(self, what: str) -> None:
        """Write down what must not be."""
        self.ledger.write("violation", what=what)

    def attempt(self, work: Callable[[], Any]) -> Any:
        """What work gives, or None where a server is away for the moment."""
        started = time.monotonic()
        try:
            result = work()
        except ServerError as error:
            self.ledger.write("away", why=str(error)[:300], transient=error.transient)
            return None
        except Exception as error:
            self.violation(f"{type(error).__name__}: {error}")
            return None
        self.ledger.write("ok", seconds=round(time.monotonic() - started, 3))
        return result

    def opened(self, *, encodes: bool) -> SketchCollection:
        """The collection, as soon as it can be had."""
        while True:
            found: SketchCollection | None = self.attempt(lambda: self.open(encodes=encodes))
            if found is not None:
                return found
            time.sleep(1)

    def open(self, *, encodes: bool) -> SketchCollection:
        """The collection, with the encoder's service or with none."""
        encoder = connect(self.place.encoder) if encodes else None
        return SketchCollection.open(self.place.collection, encoder, uri=self.place.uri, create=False)


class Searcher(Client):
    """Searches in the surest way, so that what was deleted or stored before a search began must count."""

    def run(self) -> None:
        """For ever."""
        photos = self.opened(encodes=True)
        deletions, batches = Tail(self.place.ledger("deleter")), Tail(self.place.ledger("jobs"))
        deleted: set[str] = set()
        stored: list[str] = []
        while True:
            deleted |= {source_id(path) for line in deletions.new("deleted") for path in line["paths"]}
            for line in batches.new("batch"):
                kept = set(line["paths"]) - set(doomed(line["paths"]))
                stored += sorted(kept)
            limit = self.rng.choice([1, 20, 200])
            sought = self.rng.choice(stored) if stored and self.rng.random() < 0.5 else None
            result = self.attempt(lambda: self.ask(photos, sought, limit))  # noqa: B023
            if result is not None:
                self.check(result, limit, deleted, sought)
            time.sleep(REST)

    def ask(self, photos: SketchCollection, sought: str | None, limit: int) -> SearchResult:
        """Search for a photo that has to be there, or for a drawing."""
        from compsketch_milvus.search import search, search_image

        if sought is not None:
            return search_image(photos, sought, limit, consistency="Strong")
        sketch = Sketch.from_dict(drawing(*boxes(self.rng)))
        return search(photos, sketch, limit, consistency="Strong")

    def check(self, result: SearchResult, limit: int, deleted: set[str], sought: str | None) -> None:
        """Compare an answer with what has to be in it and what must not be."""
        ids, scores = [hit.id for hit in result], [hit.score for hit in result]
        if len(ids) != limit and result.short is None:
            self.violation(f"{len(ids)} hits in place of {limit}")
        if len(set(ids)) != len(ids):
            self.violation(f"a photo is twice among the hits: {sorted(one for one in ids if ids.count(one) > 1)[:4]}")
        if scores != sorted(scores, reverse=True) or not np.isfinite(scores).all():
            self.violation(f"scores in no order: {scores[:8]}")
        if back := deleted.intersection(ids):
            self.violation(f"found although deleted before: {sorted(back)[:4]}, {len(back)} in all")
        if sought is not None and (not ids or ids[0] != source_id(sought)):
            self.violation(f"{sought} is not the first of those found by itself: {result.hits[:2]}")


class Deleter(Client):
    """Deletes a third of each finished batch. Which one is no chance, so that it goes on where it was killed."""

    def run(self) -> None:
        """For ever."""
        own, batches = Tail(self.place.ledger("deleter")), Tail(self.place.ledger("jobs"))
        done = {path for line in own.new("deleted") for path in line["paths"]}
        photos = self.opened(encodes=False)
        waiting: list[str] = []
        while True:
            waiting += [one for line in batches.new("batch") for one in doomed(line["paths"]) if one not in done]
            some, waiting = waiting[:16], waiting[16:]
            if some:
                self.delete(photos, some)
            time.sleep(REST)

    def delete(self, photos: SketchCollection, paths: list[str]) -> None:
        """Files first: what has no file any more is never read again."""
        for path in paths:
            Path(path).unlink(missing_ok=True)
        ids = [source_id(path) for path in paths]
        by_source: dict[str, Any] = {"filter": "source in {sources}", "filter_params": {"sources": paths}}
        way: dict[str, Any] = self.rng.choice([{"ids": ids}, by_source])
        while self.attempt(lambda: photos.delete(**way)) is None:
            time.sleep(1)
        self.ledger.write("deleted", paths=paths, by=next(iter(way)))


class People(Client):
    """Draw on each page in turn, look at a thumbnail now and then, and read what a page says that cannot search."""

    def run(self) -> None:
        """For ever."""
        deletions = Tail(self.place.ledger("deleter"))
        deleted: dict[str, float] = {}
        visits = {
            page: httpx.Client(base_url=page, headers={"X-Compsketch": "1"}, timeout=SLOW) for page in self.place.pages
        }
        while True:
            deleted |= {source_id(path): line["at"] for line in deletions.new("deleted") for path in line["paths"]}
            for page, browser in visits.items():
                long_ago = {one for one, at in deleted.items() if at < time.monotonic() - STALE}
                self.visit(page, browser, long_ago)
                time.sleep(REST)

    def visit(self, page: str, browser: httpx.Client, deleted: set[str]) -> None:
        """One search, and one thumbnail of what it found."""
        body = {"sketch": drawing(*boxes(self.rng)), "limit": 20}
        answer = self.request(page, lambda: browser.post("/api/search", json=body), {200})
        if answer is None:
            return
        ids = [hit["id"] for hit in answer.json()["hits"]]
        if len(ids) != 20 or len(set(ids)) != 20:
            self.violation(f"{page}: {len(ids)} hits, {len(set(ids))} of them different, in place of 20")
        if back := deleted.intersection(ids):
            self.violation(f"{page}: found {STALE:.0f} s after it was deleted: {sorted(back)[:4]}")
        if ids and self.rng.random() < 0.3:
            one = self.rng.choice(ids)
            self.request(page, lambda: browser.get(f"/api/thumbnail/{one}"), {200, 404})

    def request(self, page: str, ask: Callable[[], httpx.Response], good: set[int]) -> httpx.Response | None:
        """A good answer; None for a page that says in one line that it cannot, or that is away itself."""
        started = time.monotonic()
        try:
            answer = ask()
        except httpx.HTTPError as error:
            self.ledger.write("away", page=page, why=f"{type(error).__name__}: {error}"[:300], dead=True)
            if page == self.place.pages[-1]:
                self.violation(f"{page}, which nobody struck, does not answer: {type(error).__name__}: {error}")
            return None
        took = round(time.monotonic() - started, 3)
        if answer.status_code in good:
            self.ledger.write("ok", page=page, seconds=took)
            return answer if answer.status_code == 200 else None
        line = answer.json().get("error") if answer.headers.get("content-type") == "application/json" else None
        if answer.status_code not in PASSING or not isinstance(line, str) or not line or "\n" in line:
            self.violation(f"{page}: status {answer.status_code}, {answer.text[:300]!r}")
        self.ledger.write("away", page=page, why=f"{answer.status_code}: {line}", seconds=took)
        return None


CLIENTS = {"searcher": Searcher, "deleter": Deleter, "people": People}


if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[1], Place(**json.loads(sys.argv[2]))).run()
