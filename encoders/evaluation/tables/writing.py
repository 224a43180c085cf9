"""Tables as files: Markdown to read, JSON to compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from encoders.evaluation.tables.table import Cell, Figure, Table


def write(table: Table, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.md`` and ``<name>.json``; the folder is made where there is none.

    Returns:
        The two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / f"{table.name}.md", folder / f"{table.name}.json"
    text.write_text(to_markdown(table), encoding="utf-8")
    data.write_text(to_json(table), encoding="utf-8")
    return text, data


def to_json(table: Table) -> str:
    """One object, every float in full."""
    return json.dumps(table.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(table: Table) -> str:
    """A heading, the table, its notes and what made it."""
    made = table.provenance
    data = ", ".join(f"{name} {value}" for name, value in made.data.items())
    encoders = ", ".join(f"{role} {fingerprint}" for role, fingerprint in made.encoders.items())
    lines = [
        *section(table.title, table.columns, table.rows, table.notes),
        "- In brackets: 95 % bootstrap intervals over queries (BCa; percentiles where a ratio is shown).",
        "",
        f"`{made.command}`, seed {made.seed}. Data: {data}. Encoders: {encoders}. Machine: {made.machine}.",
    ]
    return "\n".join(lines) + "\n"


def section(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = (), *, level: int = 1
) -> list[str]:
    """Lines of Markdown: a heading of some level, a table, and notes."""
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    return [
        f"{'#' * level} {title}",
        "",
        _line(columns),
        _line(["---:" if right else "---" for right in numeric]),
        *(_line([shown(cell) for cell in row]) for row in rows),
        "",
        *(f"- {note}" for note in notes),
    ]


def shown(cell: Cell) -> str:
    """A cell as people read it: three digits, no zero before the point, an interval in brackets."""
    if cell is None:
        return "–"
    if isinstance(cell, Figure):
        around = "" if cell.low is None or cell.high is None else f" [{_digits(cell.low)}, {_digits(cell.high)}]"
        return _digits(cell.value) + around
    return _digits(cell) if isinstance(cell, float) else str(cell)


def _digits(value: float) -> str:
    if value and abs(value) < 5e-4:
        return f"{value:.1e}"
    if abs(value) < 1:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
