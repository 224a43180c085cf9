"""Operations apart from who carries them out: a generator yields each step and is sent what came of it.

So one text serves threads, which take the steps one after the other, and event loops, which are not held up by them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from encoders import tracing

__all__ = ["Done", "Work", "advance"]

S = TypeVar("S")


@dataclass(frozen=True)
class Work:
    """Something to compute, for long enough to be kept off an event loop.

    Args:
        compute: does it.
        name: of its span in traces; empty where it is not worth one.
    """

    compute: Callable[[], Any]
    name: str = ""

    def run(self) -> Any:
        """What it comes to."""
        with tracing.span(self.name) if self.name else tracing.OFF:
            return self.compute()


@dataclass(frozen=True)
class Done:
    """The end of an operation, and its result."""

    result: Any


def advance(steps: Generator[S, Any, Any], outcome: Any = None) -> S | Done:
    """The next step, given the outcome of the one before it."""
    try:
        return steps.send(outcome)
    except StopIteration as end:
        return Done(end.value)
