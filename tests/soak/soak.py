"""The whole system at work while its parts are killed, and what has to be true all the same.

    Milvus 2.3.5      `compsketch serve`      `compsketch web` twice      `compsketch watch` on a folder that changes
    `compsketch ingest` of batches by several workers      a searcher and a deleter through the SDK, people on the pages

A seed says who is struck, when and how (`killing`); an operator starts again what ended (`operating`). All that is
done is a line in a ledger. When the blows have ended and all is quiet, disk, ledgers and collection have to agree
(`checks`).
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.paging import pages
from compsketch_milvus.records import PhotoVector
from tests.integration.standalone import Standalone
from tests.integration.toy_program import REPOSITORY, command
from tests.soak.checks import examine
from tests.soak.clients import Place, doomed
from tests.soak.folder import Folder, photos_below
from tests.soak.jobs import Jobs, answer_of
from tests.soak.killing import Blow, schedule
from tests.soak.ledger import Ledger, Tail
from tests.soak.milvus import Struck
from tests.soak.operating import Operator, Service
from tests.soak.watching import Sampler, belonging

__all__ = ["COLLECTION", "Soak"]

COLLECTION = "soaked"
BESIDE = 300  # rows that nothing may touch
PROGRAM = Path(sys.executable).parent / "compsketch"
READY, QUIET = 180.0, 240.0  # seconds for all to be up, and to come to rest
STEP = (0.1, 0.6)  # seconds between two changes of the folder


class Soak:
    """One run, in a folder of its own.

    Args:
        folder: empty; ledgers, logs and photos lie in it afterwards.
        program: `milvus-server`.
        encoder: the toy, in this process, for comparison.
        seconds: for which parts are struck.
        seed: of all that is left to chance.
    """

    def __init__(self, folder: Path, program: Path, encoder: Any, seconds: float, seed: int) -> None:
        self.folder, self.encoder, self.seconds, self.seed = folder, encoder, seconds, seed
        self.watched, self.batches, self.temporary = folder / "watched", folder / "batches", folder / "tmp"
        for path in (folder / "logs", folder / "home", self.temporary):
            path.mkdir(parents=True)
        self.ledger = Ledger(folder / "soak.jsonl")
        self.milvus = Struck(Standalone(program, folder / "milvus"), self.ledger)
        self.operator = Operator(folder / "logs", self._environment(), self.ledger)
        self.sampler = Sampler(self._processes, self.temporary)
        self.ports = _free_ports(3)
        self.rows: list[PhotoVector] = []
        self.left: list[int] = []
        self.held = 0

    def run(self) -> None:
        """All of it. What goes against an invariant is in the ledgers."""
        self.ledger.write("begin", seed=self.seed, seconds=self.seconds)
        self.milvus.start()
        try:
            self._prepare()
            self.operator.start()
            if self._start_all():
                self._work()
                self._check()
                self._end_all()
        finally:
            self.sampler.over.set()
            self.operator.close()
            self.milvus.close(self.folder / "logs")
            self.ledger.close()

    def counts(self) -> dict[str, Any]:
        """What is counted beside the ledgers."""
        temporary, crowd = self.sampler.temporary, self.sampler.crowd
        return {
            "rows_at_the_end": self.held,
            "temporary_files": int(temporary[-1][1]) if temporary else 0,
            "most_temporary_files": int(max((value for _, value in temporary), default=0)),
            "most_processes": int(max((value for _, value in crowd), default=0)),
            "processes_left": len(self.left),
        }

    # --- before ---

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMPSKETCH_", "MILVUS_"))}
        places = {"HOME": "home", "XDG_CACHE_HOME": "home/cache", "XDG_CONFIG_HOME": "home/config", "TMPDIR": "tmp"}
        paths = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}", "PYTHONUNBUFFERED": "1"}
        return kept | {name: str(self.folder / path) for name, path in places.items()} | paths

    def _prepare(self) -> None:
        """A collection with rows of no file, and a folder with photos."""
        rng = np.random.default_rng(self.seed)
        vectors = np.abs(rng.normal(size=(BESIDE, self.encoder.dim))).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.rows = [PhotoVector(f"beside-{i}", f"/elsewhere/{i}.jpg", 8, 8, row) for i, row in enumerate(vectors)]
        with SketchCollection.open(COLLECTION, self.encoder, uri=self.milvus.uri, gpu_wait=1) as collection:
            collection.upsert(self.rows)
            collection.flush()
        self.files = Folder(self.watched, random.Random(self.seed), Ledger(self.folder / "folder.jsonl"))

    def _where(self, *more: object) -> list[object]:
        encoder = f"grpc://127.0.0.1:{self.ports[0]}"
        return [*more, "--uri", self.milvus.uri, "--collection", COLLECTION, "--encoder", encoder, "--json"]

    def ingest(self, folder: Path, share: str) -> list[object]:
        """The command line of one worker."""
        return self._where(PROGRAM, "ingest", folder, "--shard", share, "--batch-size", 8)

    def _start_all(self) -> bool:
        """Everything; whether it came up."""
        port, *doors = self.ports
        addresses = [f"http://127.0.0.1:{door}" for door in doors]
        self.place = Place(
            str(self.folder), self.milvus.uri, COLLECTION, f"grpc://127.0.0.1:{port}", addresses, self.seed
        )
        serve = command("serve", "--port", port, "--metrics-port", 0, "--decode-workers", 1, "--json")
        encoder = self.operator.add(Service("encoder", serve, ready='"port"'))
        if not self._until("the encoder is up", READY, lambda: '"port"' in self.operator.out(encoder)):
            return False
        for name, door in zip(("page", "unstruck-page"), doors, strict=True):
            cache = self.folder / f"cache-{name}"
            page = self._where(PROGRAM, "web", "--port", door, "--cache", cache)
            self.operator.add(Service(name, page, ready='"url"'))
        watch = self._where(PROGRAM, "watch", self.watched, "--settle", 0.5, "--rescan", 15)
        self.watch = self.operator.add(Service("watch", watch, ready="watching "))
        if not self._until("the pages answer", READY, self._pages_answer):
            return False
        for name in ("searcher", "people", "deleter"):
            client = [sys.executable, "-m", "tests.soak.clients", name, self.place.argument()]
            self.operator.add(Service(name, client, ready=""))
        return True

    def _processes(self) -> list[tuple[str, int]]:
        ours = [(one.kind, one.process.pid) for one in self.operator.running() if one.process is not None]
        return [*ours, *self.milvus.processes()]

    # --- while it is struck ---

    def _work(self) -> None:
        self.sampler.start()
        jobs = Jobs(self.batches, self.operator, self.ingest, self.ledger_of("jobs"), self.seed)
        over = threading.Event()
        changing = threading.Thread(target=self._change, args=[over], name="folder", daemon=True)
        jobs.start()
        changing.start()
        self._strike()
        self.ledger.write("quiet")
        over.set()
        jobs.over.set()
        changing.join(30)
        jobs.join(QUIET)
        if jobs.is_alive():
            self.ledger.write("violation", what=f"batch {jobs.batches} is not ingested after {QUIET:.0f} s of peace")

    def ledger_of(self, name: str) -> Ledger:
        """A new ledger."""
        return Ledger(self.folder / f"{name}.jsonl")

    def _change(self, over: threading.Event) -> None:
        rng = random.Random(self.seed + 1)
        while not over.wait(rng.uniform(*STEP)):
            self.files.step()

    def _strike(self) -> None:
        begun, rng = time.monotonic(), random.Random(self.seed + 2)
        for blow in schedule(self.seed, self.seconds):
            time.sleep(max(0.0, begun + blow.at - time.monotonic()))
            if blow.victim == "milvus":
                self.milvus.strike(blow)
            else:
                self._strike_program(blow, rng)
        time.sleep(max(0.0, begun + self.seconds - time.monotonic()))
        self.milvus.wait()

    def _strike_program(self, blow: Blow, rng: random.Random) -> None:
        if there := self.operator.running(blow.victim):
            self.operator.strike(rng.choice(there), blow.signal, blow.hold)
        else:
            self.ledger.write("missed", victim=blow.victim)

    # --- at the end ---

    def _check(self) -> None:
        self._until("the deleter has done its work", QUIET, self._deleted)
        with SketchCollection.open(COLLECTION, self.encoder, uri=self.milvus.uri, create=False) as collection:
            self._until("the watch has caught up", QUIET, lambda: self._in_step(collection))
            self._until("the pages answer", QUIET, self._pages_answer)
            time.sleep(2)  # for the searcher and the people to see it
            photos = [*photos_below(self.watched), *photos_below(self.batches)]
            self.held, faults = examine(collection, photos, self.rows)
        for fault in faults:
            self.ledger.write("violation", what=fault)
        for folder in sorted(self.batches.iterdir()):
            again = self._once(f"again-{folder.name}", self.ingest(folder, "1/1"))
            if again is None or again["indexed"]:
                self.ledger.write("violation", what=f"{folder.name}, ingested again: {again}")

    def _deleted(self) -> bool:
        finished = {path for line in Tail(self.place.ledger("jobs")).new("batch") for path in doomed(line["paths"])}
        gone = {path for line in Tail(self.place.ledger("deleter")).new("deleted") for path in line["paths"]}
        return finished == gone

    def _in_step(self, collection: SketchCollection) -> bool:
        below = f"{self.watched}/"
        rows = [row for page in pages(collection.call, "id", ["source", "bytes", "mtime"]) for row in page]
        held = {row["source"]: (row["bytes"], row["mtime"]) for row in rows if row["source"].startswith(below)}
        return held == {str(path): _facts(path) for path in photos_below(self.watched)}

    def _pages_answer(self) -> bool:
        return all(_answers(page) for page in self.place.pages)

    def _once(self, name: str, arguments: list[object]) -> dict[str, Any] | None:
        """Run a program to its end; its answer."""
        service = self.operator.add(Service(name, arguments, lambda out: True))
        if not service.finished.wait(QUIET):
            return None
        return answer_of(self.operator.out(service))

    def _end_all(self) -> None:
        """Everything ends when it is asked to, and nothing is left of it."""
        good = {"watch": (0, 1), "encoder": (0,), "page": (0,), "unstruck-page": (0,)}
        rank = ("people", "searcher", "deleter")  # those who ask, before those who answer
        for service in sorted(self.operator.running(), key=lambda one: one.name not in rank):
            status = self.operator.end(service)
            if service.name in good and status not in good[service.name]:
                self.ledger.write("violation", what=f"{service.name}: status {status} after SIGTERM")
        step = answer_of_watch(self.operator.out(self.watch))
        if step is None or step["kept"] or step["unsettled"]:
            self.ledger.write("violation", what=f"the watch's last words: {step}")
        self._until("all processes have gone", 30, lambda: not belonging(self.temporary))
        self.left = belonging(self.temporary)
        for port in self.ports:
            with closing(socket.socket()) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))

    def _until(self, what: str, seconds: float, there: Callable[[], bool]) -> bool:
        """Wait for something, which is a violation if it does not come. Returns whether it came."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if there():
                    return True
            except ServerError as error:
                self.ledger.write("waiting", what=what, why=str(error))
            time.sleep(0.5)
        self.ledger.write("violation", what=f"not within {seconds:.0f} s: {what}")
        return False


def answer_of_watch(out: str) -> dict[str, Any] | None:
    """The summary of a watch that has ended."""
    lines = out.splitlines()
    return json.loads(lines[-1]) if lines else None


def _answers(page: str) -> bool:
    try:
        return httpx.get(f"{page}/healthz", timeout=20).status_code == 200
    except httpx.HTTPError:
        return False


def _facts(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns // 1_000_000


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
