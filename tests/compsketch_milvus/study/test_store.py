"""Ratings: there once or not at all, three people a task, tasks given back, checks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.plan import GOOD, Plan, Query, Task
from compsketch_milvus.study.store import LEASE, Store, StudyError

ROOT = Path(__file__).parents[3]


def counts(plan, store) -> Counter:
    """How many people rated each task that is no check."""
    return Counter(rating.task for rating in store.ratings() if plan.by_id[rating.task].rank is not None)


# --- who gets what ---


def test_three_people_rate_each_task_and_the_fourth_gets_none(plan, store, rate_all, knows):
    raters = [rate_all(store, knows) for _ in range(4)]
    assert counts(plan, store) == {task.id: 3 for task in plan.tasks}
    given = Counter((rating.task, rating.rater) for rating in store.ratings())
    assert set(given.values()) == {1}
    assert store.work(raters[3]).tasks == ()
    assert store.raters() == raters


def test_one_task_in_so_many_is_a_check_at_a_place_of_each_raters_own(make, tmp_path, rate_all, knowing):
    plan = make(raters=12, every=3)
    store = Store(tmp_path / "study", plan)
    orders = []
    for _ in range(12):
        rater = rate_all(store, knowing(plan))
        orders.append([plan.by_id[one.task].rank is None for one in store.ratings() if one.rater == rater])
    store.close()
    for order in orders:
        blocks = [order[start : start + 3] for start in range(0, len(order) - len(order) % 3, 3)]
        assert all(block.count(True) == 1 for block in blocks[:3])  # there are three checks
    assert len({tuple(order) for order in orders}) > 1


def test_progress_counts_down_by_one_whatever_is_a_check(store, knows):
    rater = store.join()
    work, seen = store.work(rater), []
    while work.tasks:
        seen.append((work.done, work.left))
        work = store.rate(rater, work.tasks[0].id, knows(work.tasks[0]), 1)
    total = sum(seen[0])
    assert seen == [(done, total - done) for done in range(total)]
    assert (work.done, work.left) == (total, 0)


def test_a_rater_has_the_same_task_at_hand_until_it_is_done(store, knows):
    rater = store.join()
    first = store.work(rater).tasks
    assert len(first) == 2
    assert store.work(rater).tasks == first
    assert store.rate(rater, first[0].id, knows(first[0]), 1).tasks[0] == first[1]


def test_who_leaves_gives_their_tasks_back(make, tmp_path, clock):
    plan = make(raters=1, checks=False)
    store = Store(tmp_path / "study", plan, clock)
    others = [store.join() for _ in range(4)]
    lent = [task for rater in others for task in store.work(rater).tasks]
    assert len({task.id for task in lent}) == 8  # of nine, and nobody has another's
    late = store.join()
    assert len(store.work(late).tasks) == 1
    store.leave(others[0])
    assert [task.id for task in store.work(late).tasks[1:]] == [lent[0].id]
    clock.now += LEASE + 1  # all leases but the one just given have run out
    assert {task.id for task in store.work(store.join()).tasks} <= {task.id for task in plan.tasks}
    store.close()


def test_a_lease_goes_on_while_its_rater_is_there(make, tmp_path, clock):
    plan = make(raters=1, checks=False, queries=1, depth=2)
    store = Store(tmp_path / "study", plan, clock)
    here, waiting = store.join(), store.join()
    mine = store.work(here).tasks
    for _ in range(5):
        clock.now += LEASE - 10
        assert store.work(here).tasks == mine
        assert store.work(waiting).tasks == ()
    clock.now += LEASE + 1
    assert {task.id for task in store.work(waiting).tasks} == {task.id for task in mine}
    store.close()


def test_who_comes_back_late_is_still_heard(make, tmp_path, clock, knowing):
    plan = make(raters=1, checks=False)
    store = Store(tmp_path / "study", plan, clock)
    rater = store.join()
    task = store.work(rater).tasks[0]
    clock.now += 10 * LEASE
    store.rate(rater, task.id, knowing(plan)(task), 1)
    assert counts(plan, store) == {task.id: 1}
    store.close()


def test_nobody_rates_what_was_not_given_to_them(plan, store, knows):
    rater = store.join()
    mine = {task.id for task in store.work(rater).tasks}
    other = next(task for task in plan.tasks if task.id not in mine)
    with pytest.raises(StudyError, match="given to somebody else") as caught:
        store.rate(rater, other.id, knows(other), 1)
    assert caught.value.status == 409
    with pytest.raises(StudyError, match="no such task"):
        store.rate(rater, "0" * 16, [1, 2, 3], 1)
    task = store.work(rater).tasks[0]
    for scores in ([], [3] * (len(task.photos) + 1), [0] * len(task.photos), [6] * len(task.photos)):
        with pytest.raises(StudyError, match="scores from 1 to 5"):
            store.rate(rater, task.id, scores, 1)
    assert store.ratings() == []


# --- exactly once ---


def test_sending_again_changes_nothing_and_a_late_old_one_undoes_nothing(store, knows):
    rater = store.join()
    task = store.work(rater).tasks[0]
    ones, fives = [1] * len(task.photos), [5] * len(task.photos)
    first = store.rate(rater, task.id, ones, 1)
    assert store.rate(rater, task.id, ones, 1) == first
    store.rate(rater, task.id, fives, 2)
    store.rate(rater, task.id, ones, 1)
    (rating,) = store.ratings()
    assert (list(rating.scores), rating.revision) == (fives, 2)


def test_many_at_once_and_each_rating_sent_thrice(make, tmp_path, knowing):
    plan = make(queries=6, checks=True)
    store = Store(tmp_path / "study", plan)

    def rate(rater: str) -> int:
        work, sent = store.work(rater), 0
        while work.tasks:
            task = work.tasks[0]
            for _ in range(3):
                work = store.rate(rater, task.id, knowing(plan)(task), 1)
            sent += 1
        return sent

    with ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(rate, [store.join() for _ in range(8)]))
    assert len(store.ratings()) == sent
    assert counts(plan, store) == {task.id: 3 for task in plan.tasks}
    store.close()


def test_two_processes_share_the_tasks(plan, folder, knows):
    one, other = Store(folder, plan), Store(folder, plan)
    raters = [one.join(), other.join(), one.join(), other.join()]

    def rate(place: int) -> None:
        store = (one, other)[place % 2]
        work = store.work(raters[place])
        while work.tasks:
            work = store.rate(raters[place], work.tasks[0].id, knows(work.tasks[0]), 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rate, range(4)))
    assert counts(plan, one) == {task.id: 3 for task in plan.tasks}
    assert one.ratings() == other.ratings()
    one.close()
    other.close()


RATER = """
import sys
from pathlib import Path
from compsketch_milvus.study.plan import Plan
from compsketch_milvus.study.store import Store
folder = Path(sys.argv[1])
store = Store(folder, Plan.load(folder))
rater = store.join()
work = store.work(rater)
turn = 0
while True:  # until it is killed: the same two tasks over and over, each time with other scores
    task = work.tasks[turn % 2]
    turn += 1
    score = turn % 5 + 1
    store.rate(rater, task.id, [score] * len(task.photos), turn)
    print(task.id, turn, score, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 7, 23])
def test_what_was_acknowledged_outlives_a_kill_in_mid_write(plan, folder, lines):
    process = subprocess.Popen(
        [sys.executable, "-c", RATER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    said = [process.stdout.readline() for _ in range(lines)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.communicate()[0].splitlines()
    told = {}
    for line in said:
        if len(words := line.split()) == 3:
            told[words[0]] = (int(words[1]), int(words[2]))
    store = Store(folder, plan)
    kept = {rating.task: rating for rating in store.ratings()}
    store.close()
    assert set(told) <= set(kept)
    for task, (revision, score) in told.items():
        rating = kept[task]
        assert rating.revision >= revision  # the last one may have been stored and not yet told
        assert len(rating.scores) == len(plan.by_id[task].photos)  # whole
        assert rating.revision > revision or set(rating.scores) == {score}
    with closing(sqlite3.connect(folder / "ratings.db")) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_ratings_of_another_study_are_refused(make, tmp_path):
    one, other = make("one"), make("other", seed=5)
    (tmp_path / "one" / "ratings.db").write_bytes((tmp_path / "other" / "ratings.db").read_bytes())
    with pytest.raises(CompsketchError, match="ratings of another study"):
        Store(tmp_path / "one", one)
    (tmp_path / "other" / "ratings.db").write_bytes(b"no database, but long enough to be looked at as one" * 20)
    with pytest.raises(CompsketchError, match="no ratings of a study"):
        Store(tmp_path / "other", other)
    (tmp_path / "other" / "ratings.db").unlink()
    with pytest.raises(CompsketchError, match="missing"):
        Store(tmp_path / "other", other)


# --- checks ---


def test_a_check_is_passed_by_order_not_by_strictness(make, tmp_path, rate_all):
    plan = make(raters=20, every=2)
    store = Store(tmp_path / "study", plan)

    def by(good: int, bad: int):
        def says(task):
            kinds = task.expected or ("bad",) * len(task.photos)
            return [good if kind == GOOD else bad for kind in kinds]

        return says

    strict, kind = rate_all(store, by(2, 1)), rate_all(store, by(5, 4))
    threes, ones, upside_down = (rate_all(store, by(*scores)) for scores in ((3, 3), (1, 1), (1, 5)))
    checks = store.checks()
    assert checks[strict] == checks[kind] == (3, 0)
    assert checks[threes] == checks[ones] == checks[upside_down] == (0, 3)
    assert store.marked() == {threes, ones, upside_down}
    store.close()


def test_the_tasks_of_a_rater_who_fails_are_given_out_again(plan, store, rate_all, knows):
    careless = [rate_all(store, lambda task: [3] * len(task.photos)) for _ in range(3)]
    assert store.marked() == set(careless)
    good = [rate_all(store, knows) for _ in range(3)]
    assert counts(plan, store) == {task.id: 6 for task in plan.tasks}
    assert not store.marked() & set(good)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["work", "rate", "leave", "later"]), max_size=40), st.randoms())
def test_whatever_raters_do_nobody_rates_twice_and_leases_never_exceed_what_is_needed(actions, chance):
    query = Query("d", {"width": 1, "height": 1, "objects": [{}]}, {"a": ("p", "q"), "random": ("r", "s")})
    tasks = (Task("t0", 0, ("p", "r"), 1), Task("t1", 0, ("q", "s"), 2))
    plan = Plan((query,), tasks, (), {name: name for name in "pqrs"}, 2, 4, 0, {}, {})
    now = [0.0]
    with tempfile.TemporaryDirectory() as place:
        store = Store.create(Path(place), plan, lambda: now[0])
        raters = [store.join() for _ in range(4)]
        for action in actions:
            rater = chance.choice(raters)
            if action == "later":
                now[0] += LEASE / 2 + 1
            elif action == "leave":
                store.leave(rater)
            else:
                work = store.work(rater)
                if action == "rate" and work.tasks:
                    task = chance.choice(work.tasks)
                    store.rate(rater, task.id, [chance.randint(1, 5) for _ in task.photos], 1)
            with closing(sqlite3.connect(Path(place) / "ratings.db")) as base:
                live = Counter(row[0] for row in base.execute("SELECT task FROM lease WHERE until > ?", (now[0],)))
            assert all(number <= plan.raters for number in live.values())
        said = Counter((rating.task, rating.rater) for rating in store.ratings())
        assert set(said.values()) <= {1}
        assert all(number <= plan.raters for number in counts(plan, store).values())
        store.close()
