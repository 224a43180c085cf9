"""A table: figures with their intervals, and what they were made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A mean over queries with its 95 % bootstrap interval.

    Attributes:
        value: The mean.
        low: The interval's lower end; None where fewer than two queries say nothing of their spread.
        high: Its upper end, likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None


Cell = str | int | float | Figure | None


@dataclass(frozen=True)
class Provenance:
    """What makes a table again. Without a date: tables of two runs are equal where their figures are.

    Attributes:
        command: That made it.
        seed: Of queries, bootstrap and training.
        data: Names, counts and a digest of what was measured on.
        encoders: Fingerprint of each bundle by its role.
        machine: Processor and versions, for what depends on them: times, and the last digits of all else.
    """

    command: str
    seed: int
    data: Mapping[str, Any]
    encoders: Mapping[str, str]
    machine: str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: As the command line knows it.
        title: What it shows.
        columns: Headings.
        rows: Their cells, as many as headings; None for what there is not.
        notes: What a reader has to know, a sentence each.
        provenance: See there.

    Raises:
        ValueError: A row has another number of cells than there are headings.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} of {self.name} has {len(row)} cells for {len(self.columns)} columns")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; a figure is ``{"value", "low", "high"}``."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[_plain(cell) for cell in row] for row in self.rows],
            "notes": list(self.notes),
            "provenance": _plain(self.provenance),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Table:
        """What ``to_dict`` gave."""
        rows = tuple(tuple(Figure(**cell) if isinstance(cell, dict) else cell for cell in row) for row in data["rows"])
        return cls(
            data["name"], data["title"], tuple(data["columns"]), rows, tuple(data["notes"]),
            Provenance(**data["provenance"]),
        )  # fmt: skip


def _plain(part: Any) -> Any:
    if isinstance(part, Figure | Provenance):
        return {field.name: getattr(part, field.name) for field in fields(part)}
    return part
