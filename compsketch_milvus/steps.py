"""What has to be done for a search, an upsert and so on, apart from who does it.

A `SketchCollection` takes the steps one after the other in its caller's thread, an `AsyncSketchCollection` without
holding up its event loop.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from encoders import tracing
from encoders.request import current
from encoders.steps import Done, Work, advance

if TYPE_CHECKING:
    from compsketch_milvus.index import IndexChoice

__all__ = ["Call", "Done", "Steps", "Work", "advance", "operation"]

OF_ROWS = ("search", "query", "upsert", "insert", "delete")
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

    def sent(self, timeout: int) -> Call:
        """The same with an end to waiting for it, and with the request's id, for the log of a Milvus from 2.5 on."""
        id = {"client_request_id": current()} if self.method in OF_ROWS else {}
        return replace(self, arguments={"timeout": timeout, **id, **self.arguments})

    def span(self, collection: str, index: IndexChoice | None = None) -> tracing.Span:
        """Its span in traces: what is asked of which collection and how much of it, as OpenTelemetry names these."""

        def facts() -> dict[str, tracing.Value]:
            asked, data = self.arguments, self.arguments.get("data")
            told = {
                "milvus.queries" if self.method == "search" else "milvus.rows": None if data is None else len(data),
                "milvus.limit": asked.get("limit"),
                "milvus.filtered": bool(asked.get("filter")),
                "milvus.consistency_level": asked.get("consistency_level"),
                "milvus.index": index.type if index is not None and self.method == "search" else None,
            }
            named = {"system.name": "milvus", "collection.name": collection, "operation.name": self.method}
            known = {f"db.{name}": value for name, value in named.items()}
            return known | {name: value for name, value in told.items() if value is not None}

        return tracing.span(f"{self.method} {collection}", facts, kind="client")


Steps: TypeAlias = Generator[Call | Work, Any, T]


def operation(steps: Steps[Any], collection: str) -> AbstractContextManager[None]:
    """Around all steps of an operation on a collection, which is called as the steps are; see `tracing.operation`."""
    return tracing.operation(getattr(steps, "__name__", "steps"), {"db.collection.name": collection})
