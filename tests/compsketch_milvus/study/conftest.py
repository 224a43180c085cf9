"""Small studies: every photo has a number, which is what is true of it, so that raters can be simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.study.plan import Plan, Task
from compsketch_milvus.study.prepare import prepare
from compsketch_milvus.study.rankings import Check, Found, Rankings
from compsketch_milvus.study.store import Store
from encoders.sketch import Sketch

METHODS = ("ssbir", "semir", "random")
DEPTH, QUERIES = 3, 3


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def truth_of(source: str) -> int:
    """What a photo deserves, 1 to 5; it is in its file's name, which no rater sees."""
    return int(Path(source).stem.rpartition("-")[2])


def drawing(objects: int) -> Sketch:
    """Boxes beside one another."""
    items = [
        {"label": "cup", "strokes": [[[20 + 90 * i, 90 + 90 * i, 90 + 90 * i, 20 + 90 * i], [60, 60, 200, 60]]]}
        for i in range(objects)
    ]
    return Sketch.from_dict({"width": 320, "height": 240, "objects": items})


def rankings(
    folder: Path, *, queries: int = QUERIES, depth: int = DEPTH, checks: bool = True, seed: int = 0
) -> Rankings:
    """Photos whose truth falls with the rank for ssbir, is 3 or 2 for semir, 1 for chance; one photo shared."""
    folder.mkdir(exist_ok=True)
    rng, found = np.random.default_rng(seed), []
    for number in range(queries):

        def photo(name: str, truth: int, number: int = number) -> str:
            path = folder / f"q{number}-{name}-{truth}.png"
            if not path.exists():
                pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
                Image.fromarray(pixels).save(path)
            return str(path)

        ranked = {
            "ssbir": [photo(f"a{rank}", max(1, 5 - rank)) for rank in range(depth)],
            "semir": [photo("a0", 5), *(photo(f"b{rank}", 2 + rank % 2) for rank in range(1, depth))],
            "random": [photo(f"r{rank}", 1) for rank in range(depth)],
        }
        check = Check(photo("good", 5), (photo("bad", 1), photo("worse", 1))) if checks else None
        found.append(Found(drawing(1 + number % 3), ranked, check))
    return Rankings(found, {"ssbir": "toy 0123", "semir": "toy 4567"}, {"photos": 99})


@pytest.fixture
def found(tmp_path: Path) -> Rankings:
    """What the study ``make`` prepares is made of."""
    return rankings(tmp_path / "photos")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """Prepare a study in the folder ``study``; arguments of `rankings` and of `prepare`."""

    def make_(name: str = "study", *, raters: int = 3, every: int = 4, seed: int = 0, **options) -> Plan:
        return prepare(rankings(tmp_path / "photos", **options), tmp_path / name, raters=raters, every=every, seed=seed)

    return make_


@pytest.fixture
def plan(make) -> Plan:
    return make()


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    return tmp_path / "study"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(folder: Path, plan: Plan, clock: Clock):
    opened = Store(folder, plan, clock)
    yield opened
    opened.close()


@pytest.fixture
def knowing() -> Callable[[Plan], Callable[[Task], list[int]]]:
    """A rater of a study who knows the truth."""
    return lambda plan: lambda task: [truth_of(plan.photos[photo]) for photo in task.photos]


@pytest.fixture
def knows(plan: Plan, knowing) -> Callable[[Task], list[int]]:
    """The same, of the study in the folder ``study``."""
    return knowing(plan)


@pytest.fixture
def rate_all() -> Callable[..., str]:
    """Let a new rater do all that they are given, by a function of the task; returns who it was."""

    def rate(store: Store, says: Callable[[Task], list[int]], most: int = 10_000) -> str:
        rater = store.join()
        work = store.work(rater)
        while work.tasks and most:
            task, most = work.tasks[0], most - 1
            work = store.rate(rater, task.id, says(task), 1)
        return rater

    return rate
