"""What rows cost as a function of their number: fits through results/scale.json, as a table and a picture.

    python -m tests.benchmarks.growth        reads scale.json, writes scale.md and scale.svg beside it

Each figure has two candidates, n rows: affine, a + b n, for what is paid once and by the row; and a power, a n^b. Both
minimise the squares of relative errors (the power those of logarithms), so that a hundred thousand rows count as much
as a million; the one that misses less is kept. What falls is a power: a line would fall below nothing. Past the largest
size that was measured it is an extrapolation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from typing import Any, Literal

import numpy as np

RESULTS = Path(os.environ.get("RESULTS", Path(__file__).parent / "results" / "scale.json"))
AHEAD = (4_500_000, 10_000_000, 45_000_000)  # rows: the paper's largest collection, and beyond


@dataclass(frozen=True)
class Figure:
    """Something measured at every size.

    Attributes:
        key: In scale.json.
        name: In the table and the picture.
        unit: Of its values.
        digits: After the point.
        most: What it cannot exceed.
        share: It is a row's share of what all take, and so the whole is what is fitted: (a + b n) / n.
    """

    key: str
    name: str
    unit: str = ""
    digits: int = 0
    most: float = inf
    share: bool = False

    def write(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:,.{self.digits}f}" + (f" {self.unit}" if self.unit else "")


FIGURES = (
    Figure("store_seconds", "storing", "s"),
    Figure("build_seconds", "building the index", "s"),
    Figure("load_seconds", "loading", "s", 1),
    Figure("index_bytes_a_photo", "index, bytes a photo", "B", 1, share=True),
    Figure("server_mib", "server's memory", "MiB"),
    Figure("p50_ms", "query, p50", "ms", 1),
    Figure("recall_at_10_reranked", "recall@10, re-ranked", digits=3, most=1.0),
    Figure("recall_at_200", "recall@200, as found", digits=3, most=1.0),
)


@dataclass(frozen=True)
class Fit:
    """A figure as a function of the number of rows.

    Attributes:
        kind: "affine", a + b n, or "power", a n^b.
        a: See above.
        b: See above.
        residual: Root mean square of the relative errors at the sizes that were fitted.
        most: What no value exceeds; 0 is what none falls below.
        share: It is the fit of the whole, and the figure a row's share.
    """

    kind: Literal["affine", "power"]
    a: float
    b: float
    residual: float
    most: float = inf
    share: bool = False

    def at(self, rows: float) -> float:
        """The figure for so many rows."""
        value = self.a + self.b * rows if self.kind == "affine" else self.a * rows**self.b
        return min(max(value / rows if self.share else value, 0.0), self.most)

    def __str__(self) -> str:
        if self.kind == "power":
            return f"{_three(self.a)} n^{self.b - self.share:.3f}"
        if self.share:
            return f"{_three(self.b)} {'-' if self.a < 0 else '+'} {_three(abs(self.a))} / n"
        return f"{_three(self.a)} + {_three(self.b * 1e6)} per million rows"


def fit(rows: Sequence[float], values: Sequence[float], most: float = inf, *, share: bool = False) -> Fit:
    """The better of the two candidates; affine where both miss nothing, a power where the figure falls.

    Args:
        rows: Sizes, two at least.
        values: Above 0, one a size.
        most: What the figure cannot exceed.
        share: The values are a row's share of what grows.

    Raises:
        ValueError: Fewer than two sizes, or a value that is not above 0.
    """
    n, y = np.asarray(rows, float), np.asarray(values, float)
    if len(set(rows)) < 2:
        raise ValueError(f"a fit needs two sizes at least, there are {len(set(rows))}: measure more")
    if not (y > 0).all():
        raise ValueError(f"values are {list(values)}: each has to be above 0")
    if share:
        y = y * n  # a relative error is the same in the whole and in a row's share
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / y, n / y], axis=1), np.ones(len(y)), rcond=None)
    slope, intercept = np.polyfit(np.log(n), np.log(y), 1)
    factor = exp(intercept)
    affine = Fit("affine", float(a), float(b), _miss(a + b * n, y), most, share)
    power = Fit("power", factor, float(slope), _miss(factor * n**slope, y), most, share)
    return power if b < 0 or power.residual < affine.residual - 1e-9 else affine


def _miss(found: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found / y - 1) ** 2)))


def fits(measured: Sequence[Mapping[str, Any]]) -> dict[str, Fit]:
    """The fit of each figure by its key; none where fewer than two sizes were measured."""
    if len(measured) < 2:
        return {}
    rows = [one["rows"] for one in measured]
    return {each.key: fit(rows, [one[each.key] for one in measured], each.most, share=each.share) for each in FIGURES}


def ahead(measured: Sequence[Mapping[str, Any]]) -> list[int]:
    """The sizes to extrapolate to: the next two that are larger than any measured."""
    return [rows for rows in AHEAD if rows > max(one["rows"] for one in measured)][:2]


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, and the fits with what they say of larger sizes, as Markdown."""
    first, rows = measured[0], [f"{one['rows']:,}" for one in measured]
    parts = [
        "# What rows cost",
        "Measured with `make bench-scale`: one collection a size, each on a server of its own; "
        f"{first['dim']} dimensions, {first['queries']} queries. The vectors are made up: real photos' embeddings, "
        "moved by noise that has their own spectrum. Recall is against exact search.",
        _markdown(
            ["figure", *(f"{count} rows" for count in rows)],
            [
                ["index", *(_index(one["index"]) for one in measured)],
                *([each.name, *(each.write(one[each.key]) for one in measured)] for each in FIGURES),
            ],
        ),
    ]
    found, sizes = fits(measured), ahead(measured)
    if not found:
        return "\n\n".join([*parts, "One size has no growth: measure more (SIZES)."]) + "\n"
    spread = f"{rows[0]} to {rows[-1]}"
    parts += [
        "## As a function of the number of rows",
        f"n rows, fitted by least squares of relative errors on {len(rows)} sizes, {spread}: affine, a + b n, or a "
        "power, a n^b, whichever misses less; what falls is a power. Bytes a photo are fitted as the bytes of all. The "
        "residual is the root mean square of the relative errors. *Extrapolated* is not measured.",
        _markdown(
            ["figure", "fit", "residual", *(f"*{size:,} extrapolated*" for size in sizes)],
            [
                [
                    each.name, f"{found[each.key].kind}: {found[each.key]}", _residual(found[each.key], len(rows)),
                    *(f"*{each.write(found[each.key].at(size))}*" for size in sizes),
                ]
                for each in FIGURES
            ],
        ),
        "![Each figure by the number of rows](scale.svg)",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _three(value: float) -> str:
    """Three significant digits, without an exponent where there are few zeros."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _residual(fitted: Fit, sizes: int) -> str:
    return f"{fitted.residual:.1%}" if sizes > 2 else "none: two sizes"


def _index(facts: Mapping[str, Any]) -> str:
    """Type and lists, as `SketchCollection.info` gives them."""
    given = {**(facts.get("params") or {}), **(facts.get("search_params") or {})}
    named = [f"{name} {given[name]}" for name in ("nlist", "m", "nprobe") if name in given]
    return ", ".join([str(facts["type"]), *named])


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(results: Path = RESULTS) -> list[Path]:
    """The table and the picture beside `results`.

    Raises:
        SystemExit: Nothing was measured.
    """
    from tests.benchmarks.growth_picture import draw

    if not results.is_file():
        raise SystemExit(f"{results}: no such file; `make bench-scale` measures and writes it")
    measured = sorted(json.loads(results.read_text()), key=lambda one: one["rows"])
    files = {results.with_suffix(".md"): table(measured), results.with_suffix(".svg"): draw(measured)}
    for file, text in files.items():
        file.write_text(text)
    return list(files)


if __name__ == "__main__":
    print(*write(*map(Path, sys.argv[1:2])), sep="\n")
