"""What has to be done for a search, an upsert and so on, apart from who does it.

Such an operation is a generator: it yields each step and is sent what came of it. A `SketchCollection` takes the steps
one after the other in its caller's thread, an `AsyncSketchCollection` without holding up its event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

__all__ = ["Call", "Done", "Steps", "Work", "advance"]

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A method of the MilvusClient to call on the collection.

    Args:
        doing: the verb for an error's message.
        method: its name.
        arguments: for it.
        expression: the user's filter, where one is sent, for an error's message.
    """

    doing: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    expression: str = ""


@dataclass(frozen=True)
class Work:
    """Something to compute, for long enough to be kept off an event loop."""

    run: Callable[[], Any]


@dataclass(frozen=True)
class Done:
    """The end of an operation, and its result."""

    result: Any


Steps: TypeAlias = Generator[Call | Work, Any, T]


def advance(steps: Steps[T], outcome: Any = None) -> Call | Work | Done:
    """The next step, given the outcome of the one before it."""
    try:
        return steps.send(outcome)
    except StopIteration as end:
        return Done(end.value)
