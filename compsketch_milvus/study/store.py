"""Who rates what, and what they said: one SQLite file beside ``study.json``.

A rating is one row: a task, a rater, a score for each of its photos. It is there once, or it is not there: the key is
task and rater, the transaction is on disk before the rater is told, and sending it again changes nothing. A rater who
takes something back sends the task with a higher revision; an older one that arrives late does not undo it.

A task is lent to a rater for a while. It is given to no more people than it still needs, until a lease runs out.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.plan import GOOD, Plan, Task

__all__ = ["LEASE", "Progress", "Rating", "Store", "StudyError"]

LEASE = 15 * 60  # seconds in which a rater who does nothing still has their tasks
AHEAD = 2  # tasks lent at once: the one at hand, and the next, so that its pictures are there
TOLERATED = 1 / 3  # of the checks that a rater may fail
SCORES = range(1, 6)

_SCHEMA = """
CREATE TABLE study (fingerprint TEXT NOT NULL, invitation TEXT NOT NULL) STRICT;
CREATE TABLE rater (id TEXT PRIMARY KEY, joined REAL NOT NULL) STRICT;
CREATE TABLE task (id TEXT PRIMARY KEY, place INTEGER NOT NULL, is_check INTEGER NOT NULL) STRICT;
CREATE TABLE lease (
    task TEXT NOT NULL REFERENCES task, rater TEXT NOT NULL REFERENCES rater, until REAL NOT NULL,
    PRIMARY KEY (task, rater)
) STRICT;
CREATE TABLE rating (
    task TEXT NOT NULL REFERENCES task, rater TEXT NOT NULL REFERENCES rater,
    revision INTEGER NOT NULL, scores TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (task, rater)
) STRICT;
"""


class StudyError(CompsketchError):
    """What a rater's page asked for that cannot be; `status` is HTTP's word for it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Rating:
    """What one rater said of one task.

    Args:
        task: its name.
        rater: theirs.
        scores: 1 to 5 for each photo of the task.
        revision: 1, and one more for each time it was changed.
        at: seconds since the epoch.
    """

    task: str
    rater: str
    scores: tuple[int, ...]
    revision: int
    at: float


@dataclass(frozen=True)
class Progress:
    """Where a rater is.

    Args:
        tasks: the task at hand and the next one; none when there is nothing left to do.
        done: tasks that this rater has done.
        left: tasks that this rater could still do.
    """

    tasks: tuple[Task, ...]
    done: int
    left: int


class Store:
    """The ratings of one study; for many threads, and many processes.

    Args:
        folder: of the study.
        plan: of the study.
        clock: seconds since the epoch.

    Raises:
        CompsketchError: the ratings are missing, damaged, or another study's.
    """

    def __init__(self, folder: Path, plan: Plan, clock: Callable[[], float] = time.time) -> None:
        self.plan, self._clock, self._lock = plan, clock, threading.Lock()
        path = folder / "ratings.db"
        if not path.is_file():
            raise CompsketchError(f"{path}: missing; bring it back, or prepare the study again")
        self._base = _connect(path)
        try:
            row = self._base.execute("SELECT fingerprint, invitation FROM study").fetchone()
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise CompsketchError(f"{path}: no ratings of a study ({error}); bring the file back") from None
        if row is None or row[0] != plan.fingerprint:
            self._base.close()
            raise CompsketchError(f"{path}: the ratings of another study; bring this study's file back")
        self.invitation = str(row[1])

    @classmethod
    def create(cls, folder: Path, plan: Plan, clock: Callable[[], float] = time.time) -> Store:
        """Make an empty ``ratings.db``, and open it."""
        base = _connect(folder / "ratings.db")
        rows = [(task.id, place, 0) for place, task in enumerate(plan.tasks)]
        rows += [(task.id, place, 1) for place, task in enumerate(plan.checks)]
        try:
            base.executescript(_SCHEMA)
            with base:
                base.execute("BEGIN IMMEDIATE")
                base.execute("INSERT INTO study VALUES (?, ?)", (plan.fingerprint, secrets.token_urlsafe(12)))
                base.executemany("INSERT INTO task VALUES (?, ?, ?)", rows)
        finally:
            base.close()
        return cls(folder, plan, clock)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._base:  # commits, or rolls back
            self._base.execute("BEGIN IMMEDIATE")
            yield self._base

    # --- raters ---

    def join(self) -> str:
        """A new rater's name, which nobody can guess."""
        rater = secrets.token_urlsafe(16)
        with self._transaction() as base:
            base.execute("INSERT INTO rater VALUES (?, ?)", (rater, self._clock()))
        return rater

    def knows(self, rater: str) -> bool:
        """Whether there is such a rater."""
        with self._lock:
            return self._base.execute("SELECT 1 FROM rater WHERE id = ?", (rater,)).fetchone() is not None

    def work(self, rater: str) -> Progress:
        """The tasks that a rater has at hand, lent to them anew; see the module for how many people get one."""
        with self._transaction() as base:
            return self._lend(base, rater)

    def leave(self, rater: str) -> None:
        """Give a rater's tasks back."""
        with self._transaction() as base:
            base.execute("UPDATE lease SET until = 0 WHERE rater = ?", (rater,))

    def rate(self, rater: str, task: str, scores: Sequence[int], revision: int) -> Progress:
        """Store what a rater says of a task that they were given, and lend them the next one.

        Args:
            rater: theirs.
            task: its name.
            scores: 1 to 5 for each of its photos, in the order in which they were shown.
            revision: 1, or more to replace what was sent before; what was sent again, or late, changes nothing.

        Raises:
            StudyError: the task was never theirs, or the scores do not fit it.
        """
        known = self.plan.by_id.get(task)
        if known is None:
            raise StudyError("there is no such task; load the page again", 404)
        if len(scores) != len(known.photos) or any(score not in SCORES for score in scores):
            raise StudyError(f"a rating has to hold {len(known.photos)} scores from 1 to 5", 422)
        with self._transaction() as base:
            theirs = base.execute(
                "SELECT 1 FROM lease WHERE task = :task AND rater = :rater "
                "UNION SELECT 1 FROM rating WHERE task = :task AND rater = :rater",
                {"task": task, "rater": rater},
            ).fetchone()
            if theirs is None:
                raise StudyError("this task was given to somebody else; load the page again", 409)
            base.execute(
                "INSERT INTO rating VALUES (?, ?, ?, ?, ?) ON CONFLICT (task, rater) DO UPDATE "
                "SET revision = excluded.revision, scores = excluded.scores, at = excluded.at "
                "WHERE excluded.revision > rating.revision",
                (task, rater, revision, json.dumps(list(scores)), self._clock()),
            )
            base.execute("DELETE FROM lease WHERE task = ? AND rater = ?", (task, rater))
            return self._lend(base, rater)

    # --- results ---

    def ratings(self) -> list[Rating]:
        """All that was said, in the order of time."""
        with self._lock:
            return _ratings(self._base, "")

    def raters(self) -> list[str]:
        """All raters, in the order in which they joined."""
        with self._lock:
            return _column(self._base, "SELECT id FROM rater ORDER BY rowid")

    def checks(self) -> dict[str, tuple[int, int]]:
        """By rater, how many checks they passed and failed.

        A check is passed by rating the known-good photo above each of the known-bad ones, however strict one is.
        """
        with self._lock:
            return self._judged(self._base)

    def marked(self) -> set[str]:
        """Raters who have failed more than a third of their checks."""
        with self._lock:
            return self._marked(self._base)

    def _marked(self, base: sqlite3.Connection) -> set[str]:
        judged = self._judged(base).items()
        return {rater for rater, (passed, failed) in judged if failed > TOLERATED * (passed + failed)}

    def _judged(self, base: sqlite3.Connection) -> dict[str, tuple[int, int]]:
        judged: dict[str, tuple[int, int]] = {}
        for rating in _ratings(base, "WHERE task IN (SELECT id FROM task WHERE is_check)"):
            passed, failed = judged.get(rating.rater, (0, 0))
            right = _passed(self.plan.by_id[rating.task], rating.scores)
            judged[rating.rater] = (passed + right, failed + (not right))
        return judged

    # --- lending ---

    def _lend(self, base: sqlite3.Connection, rater: str) -> Progress:
        now = self._clock()
        base.execute("UPDATE lease SET until = ? WHERE rater = ? AND until > ?", (now + LEASE, rater, now))
        held = _column(base, "SELECT task FROM lease WHERE rater = ? AND until > ? ORDER BY rowid", rater, now)
        done = _column(base, "SELECT task FROM rating WHERE rater = ?", rater)
        free = self._free(base, rater, now)
        unseen = [task.id for task in self.plan.checks if task.id not in (*done, *held)]
        while len(held) < AHEAD and free:
            kind = unseen if unseen and self._is_check(rater, len(done) + len(held)) else free
            held.append(kind.pop(0))
            base.execute(
                "INSERT INTO lease VALUES (?, ?, ?) ON CONFLICT (task, rater) DO UPDATE SET until = excluded.until",
                (held[-1], rater, now + LEASE),
            )
        left = len(held) + self._ahead(rater, len(done) + len(held), len(free), len(unseen))
        return Progress(tuple(self.plan.by_id[task] for task in held), len(done), left)

    def _free(self, base: sqlite3.Connection, rater: str, now: float) -> list[str]:
        """Tasks that a rater could be given: those they had before first, then those that most people have done.

        What those said who fail the checks counts for nothing: their tasks are given out again.
        """
        idle = self._marked(base)
        marks = ", ".join("?" * len(idle))
        rows = base.execute(
            f"""
            SELECT task.id, task.place,
                (SELECT count(*) FROM rating WHERE task = task.id AND rater NOT IN ({marks})) AS rated,
                (SELECT count(*) FROM lease WHERE task = task.id AND until > ? AND rater != ?) AS lent,
                EXISTS (SELECT 1 FROM lease WHERE task = task.id AND rater = ?) AS had
            FROM task
            WHERE NOT is_check
                AND NOT EXISTS (SELECT 1 FROM rating WHERE task = task.id AND rater = ?)
                AND NOT EXISTS (SELECT 1 FROM lease WHERE task = task.id AND rater = ? AND until > ?)
                AND rated + lent < ?
            ORDER BY had DESC, rated DESC, task.place
            """,
            (*idle, now, rater, rater, rater, rater, now, self.plan.raters),
        )
        return [str(row[0]) for row in rows]

    def _is_check(self, rater: str, turn: int) -> bool:
        """Whether a rater's task number ``turn``, from 0, is a check: one of every so many, at a place of their own."""
        block, place = divmod(turn, self.plan.every)
        digest = blake2b(f"{self.plan.fingerprint}:{rater}:{block}".encode(), digest_size=4).digest()
        return place == int.from_bytes(digest, "big") % self.plan.every

    def _ahead(self, rater: str, turn: int, tasks: int, checks: int) -> int:
        """How many turns a rater still has, checks among them, so that the count does not tell which they were."""
        start = turn
        while tasks:
            if checks and self._is_check(rater, turn):
                checks -= 1
            else:
                tasks -= 1
            turn += 1
        return turn - start


def _passed(check: Task, scores: Sequence[int]) -> bool:
    pairs = list(zip(check.expected or (), scores, strict=True))
    good = [score for kind, score in pairs if kind == GOOD]
    return min(good) > max(score for kind, score in pairs if kind != GOOD)


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")  # on disk before it is answered for
        base.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError:
        pass  # not a database: the first question says so
    return base


def _ratings(base: sqlite3.Connection, where: str) -> list[Rating]:
    rows = base.execute(f"SELECT task, rater, scores, revision, at FROM rating {where} ORDER BY at, task, rater")
    return [Rating(task, rater, tuple(json.loads(scores)), revision, at) for task, rater, scores, revision, at in rows]


def _column(base: sqlite3.Connection, query: str, *values: object) -> list[str]:
    return [str(row[0]) for row in base.execute(query, values)]
