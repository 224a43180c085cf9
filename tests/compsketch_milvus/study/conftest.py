"""Fixtures of small studies; `small` says what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compsketch_milvus.study.plan import Plan, Task
from compsketch_milvus.study.prepare import prepare
from compsketch_milvus.study.rankings import Rankings
from compsketch_milvus.study.store import Store
from tests.compsketch_milvus.study.small import Clock, rankings, truth_of


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
