"""What was measured: figures.json beside this module, each entry with its unit, machine and command.

    {"setting": {"dim", "m", "nbits", "nlist", "features"},
     "figures": [{"name", "rows", "value", "unit", "machine", "command"}, ...]}

`rows` is how many photos the measured collection had, null where that makes no difference. The names:

    memory         bytes that a server with the collection loaded holds more than an empty one
    storing        seconds to store the rows
    building       seconds to build their index
    loading        seconds to load them
    other_storage  bytes a photo in storage beside its vector and its index
    kept_features  bytes a photo of kept features
    encoding       photos a second of one encoder on a CPU

`python -m tests.benchmarks.figures` writes the file from what the benchmarks have measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.plan.quantities import MEASURED, Quantity

__all__ = ["UNITS", "Figure", "Figures"]

UNITS = {
    "memory": "bytes",
    "storing": "s",
    "building": "s",
    "loading": "s",
    "other_storage": "bytes/photo",
    "kept_features": "bytes/photo",
    "encoding": "photos/s",
}


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Args:
        name: one of `UNITS`.
        rows: photos in the collection that was measured; None where that makes no difference.
        value: in `unit`.
        unit: as `UNITS` has it.
        machine: processor, cores and versions.
        command: that measures it again.
    """

    name: str
    rows: int | None
    value: float
    unit: str
    machine: str
    command: str


@dataclass(frozen=True)
class Figures:
    """All measurements.

    Args:
        setting: what the collections were measured with: `dim`, `m`, `nbits`, `nlist`; `features` of kept features.
        figures: the measurements.
    """

    setting: Mapping[str, int]
    figures: tuple[Figure, ...]

    @classmethod
    def read(cls, path: Path | None = None) -> Figures:
        """Of a file; without one, those that are shipped.

        Raises:
            CompsketchError: it cannot be read, or a figure lacks something.
        """
        where = files("compsketch_milvus.plan") / "figures.json" if path is None else path
        try:
            data = json.loads(where.read_text(encoding="utf-8"))
            found = tuple(Figure(**figure) for figure in data["figures"])
            wrong = [one.name for one in found if one.unit != UNITS[one.name] or not one.value > 0]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CompsketchError(f"{where}: no file of measured figures ({error})") from error
        if wrong:
            raise CompsketchError(f"{where}: {wrong[0]} has another unit than {UNITS[wrong[0]]}, or is not above 0")
        return cls(data["setting"], found)

    def of(self, name: str) -> Quantity:
        """A figure that does not depend on the number of photos."""
        found = self._named(name)
        if not found:
            return Quantity.unknown(f"{name} was not measured: make bench-peers")
        return Quantity.of(found[-1].value, MEASURED)

    def at(self, name: str, rows: float) -> Quantity:
        """A total at a number of photos, never less for more of them.

        Between two sizes that were measured it grows evenly. Outside, which is extrapolated, it is in proportion to the
        smallest; beyond the largest it grows as steeply as on the last stretch or as on the whole, whichever is more.
        """
        points = self._points(name)
        if not points:
            return Quantity.unknown(f"{name} was not measured: make bench-scale")
        (first, least), (last, most) = points[0], points[-1]
        if rows <= first:
            return Quantity.of(least * rows / first, MEASURED).outside(rows < first)
        if rows > last:
            before = points[-2] if len(points) > 1 else (0, 0.0)
            slope = max((most - before[1]) / (last - before[0]), most / last)
            return Quantity.of(most + slope * (rows - last), MEASURED).outside()
        (a, low), (b, high) = next((one, two) for one, two in pairwise(points) if one[0] < rows <= two[0])
        return Quantity.of(low + (high - low) * (rows - a) / (b - a), MEASURED)

    def report(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [asdict(figure) for figure in self.figures]

    def _points(self, name: str) -> list[tuple[int, float]]:
        """(rows, value) by size; a size that took less than a smaller one counts as much as that."""
        points: list[tuple[int, float]] = []
        for figure in sorted(self._named(name), key=lambda one: one.rows or 0):
            points.append((figure.rows or 0, max(figure.value, points[-1][1] if points else 0.0)))
        return points

    def _named(self, name: str) -> list[Figure]:
        return [figure for figure in self.figures if figure.name == name]
