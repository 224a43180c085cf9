"""A study as a folder: ``study.json``, ``sketches/`` and ``photos/`` as pictures, ``ratings.db`` beside them.

``study.json`` knows which method found which photo at which rank. Raters only ever see names that are made of a keyed
hash: of a task, of a drawing, of a photo. A photo has one name, whoever found it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CompsketchError

__all__ = ["BAD", "CONTROL", "GOOD", "Plan", "Query", "Task"]

FORMAT = 1
CONTROL = "random"
GOOD, BAD = "good", "bad"


@dataclass(frozen=True)
class Query:
    """One drawing and what each method found for it.

    Args:
        picture: name of the drawing's picture.
        sketch: the drawing, as stroke JSON.
        ranked: names of photos by method, best first.
    """

    picture: str
    sketch: Mapping[str, Any]
    ranked: Mapping[str, tuple[str, ...]]

    @property
    def objects(self) -> int:
        """How many objects are drawn."""
        return len(self.sketch["objects"])

    @property
    def photos(self) -> frozenset[str]:
        """All photos that a method, or chance, brought."""
        return frozenset(photo for found in self.ranked.values() for photo in found)


@dataclass(frozen=True)
class Task:
    """What one rater judges in one go: photos for one drawing.

    Args:
        id: its name.
        query: place of the query.
        photos: names of photos, in the order in which they are shown.
        rank: at which the methods found them, from 1; None of a check.
        expected: of a check, ``good`` or ``bad`` for each photo.
    """

    id: str
    query: int
    photos: tuple[str, ...]
    rank: int | None = None
    expected: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """All of a study but its ratings.

    Args:
        queries: the drawings.
        tasks: in the order in which they are given out.
        checks: tasks whose answer is known, each given to a rater once at most.
        photos: by the name of a photo, where it came from.
        raters: how many people judge a task.
        every: one task in so many is a check.
        seed: of everything that was drawn.
        encoders: by method, the name and fingerprint of its encoder.
        data: what was searched, in a few facts.
    """

    queries: tuple[Query, ...]
    tasks: tuple[Task, ...]
    checks: tuple[Task, ...]
    photos: Mapping[str, str]
    raters: int
    every: int
    seed: int
    encoders: Mapping[str, str]
    data: Mapping[str, Any]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, chance last."""
        return tuple(self.queries[0].ranked)

    @property
    def depth(self) -> int:
        """Results of each method that are judged."""
        return max(len(found) for query in self.queries for found in query.ranked.values())

    @cached_property
    def by_id(self) -> dict[str, Task]:
        """Tasks and checks by name."""
        return {task.id: task for task in (*self.tasks, *self.checks)}

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with anything that raters see, and with what is known of it."""
        return blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=8).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As ``study.json`` has it."""
        return {"format": FORMAT, **asdict(self)}

    def save(self, folder: Path) -> None:
        """Write ``study.json``, whole or not at all."""
        new = folder / "study.json.new"
        new.write_text(json.dumps({**self.to_dict(), "fingerprint": self.fingerprint}, indent=1), encoding="utf-8")
        new.replace(folder / "study.json")

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read the study of a folder.

        Raises:
            CompsketchError: there is none, it is of another version, or was changed by hand.
        """
        path = folder / "study.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise CompsketchError(f"{folder}: there is no study here; `compsketch study prepare` makes one") from None
        except ValueError as error:
            raise CompsketchError(f"{path}: damaged ({error}); prepare the study again") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise CompsketchError(f"{path}: not a study of this version; prepare it again")
        try:
            plan = cls._from_dict(data)
        except (KeyError, TypeError) as error:
            raise CompsketchError(f"{path}: damaged ({error}); prepare the study again") from None
        if plan.fingerprint != data.get("fingerprint"):
            raise CompsketchError(f"{path}: changed since it was prepared, so that ratings no longer fit; restore it")
        return plan

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> Plan:
        queries = (
            Query(one["picture"], one["sketch"], {name: tuple(found) for name, found in one["ranked"].items()})
            for one in data["queries"]
        )
        kept = {name: data[name] for name in ("photos", "raters", "every", "seed", "encoders", "data")}
        return cls(tuple(queries), _tasks(data["tasks"]), _tasks(data["checks"]), **kept)


def _tasks(rows: list[dict[str, Any]]) -> tuple[Task, ...]:
    return tuple(_task(**row) for row in rows)


def _task(photos: list[str], expected: list[str] | None, **others: Any) -> Task:
    return Task(photos=tuple(photos), expected=None if expected is None else tuple(expected), **others)
