"""Ways side by side: a table, and for each column who is best and where ours stand, computed from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoders.evaluation.tables.table import Cell, Figure
from encoders.evaluation.tables.writing import section, shown

LEVEL = 0.02  # as much as two runs of one way differ


@dataclass(frozen=True)
class Column:
    """One figure that all ways have.

    Attributes:
        name: its heading, with the unit.
        more_is_better: or less.
    """

    name: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Comparison:
    """Ways by the same columns.

    Attributes:
        title: what they were measured on.
        columns: what was measured.
        rows: the figures of each way; None where it has none.
        ours: which of the ways are this package's.
        notes: what a reader has to know.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Sequence[Cell]]
    ours: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def column(self, column: Column) -> list[Cell]:
        """Its figures, way by way."""
        return [cells[self.columns.index(column)] for cells in self.rows.values()]

    def standings(self) -> list[dict[str, Any]]:
        """For each column the best way, ours' best, and whether ours is best, level with it, or behind.

        `ratio` is how many times as good the best is as ours: 1 where ours is best.
        """
        found = []
        for place, column in enumerate(self.columns):
            values = {way: _value(cells[place]) for way, cells in self.rows.items()}
            known = {way: value for way, value in values.items() if value is not None}
            sign = -1 if column.more_is_better else 1
            order = sorted(known, key=lambda way: (sign * known[way], way not in self.ours))  # a draw is ours
            mine = next((way for way in order if way in self.ours), None)
            if mine is None:
                continue
            best = order[0]
            pair = (known[best], known[mine])
            ratio = max(pair) / min(pair) if min(pair) > 0 else float("inf") if max(pair) > 0 else 1.0
            standing = "best" if best in self.ours else "level" if ratio <= 1 + LEVEL else "behind"
            found.append({"column": column.name, "best": best, "ours": mine, "standing": standing, "ratio": ratio})
        return found

    def markdown(self) -> list[str]:
        """The table, and a line a column."""
        rows = [(way, *cells) for way, cells in self.rows.items()]
        lines = section(self.title, ["way", *(column.name for column in self.columns)], rows, self.notes, level=2)
        lines += ["", "Who is best, column by column:", ""]
        return [*lines, *(self._said(one) for one in self.standings()), ""]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "title": self.title,
            "rows": {
                way: {
                    column.name: cell.__dict__ if isinstance(cell, Figure) else cell
                    for column, cell in zip(self.columns, cells, strict=True)
                }
                for way, cells in self.rows.items()
            },
            "standings": self.standings(),
            "notes": list(self.notes),
        }

    def _said(self, one: Mapping[str, Any]) -> str:
        place = [column.name for column in self.columns].index(one["column"])
        best, mine = (shown(self.rows[one[who]][place]) for who in ("best", "ours"))
        if one["standing"] == "best":
            return f"- {one['column']}: **ours** ({one['ours']}, {mine})"
        far = f"{one['standing']}, {shown(one['ratio'])} x" if one["standing"] == "behind" else "level, within 2 %"
        return f"- {one['column']}: {one['best']} ({best}); ours is {far} ({one['ours']}, {mine})"


def _value(cell: Cell) -> float | None:
    return cell.value if isinstance(cell, Figure) else None if isinstance(cell, str) else cell
