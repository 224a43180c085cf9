"""What has to be done for a search, an upsert and so on, apart from who does it.

A `SketchCollection` takes the steps one after the other in its caller's thread, an `AsyncSketchCollection` without
holding up its event loop.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from encoders.steps import Done, Work, advance

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


Steps: TypeAlias = Generator[Call | Work, Any, T]
