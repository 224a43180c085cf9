"""The growth of each figure as SVG: dots measured, a line fitted, dashes extrapolated; a panel a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any
from xml.sax.saxutils import escape

from tests.benchmarks.growth import FIGURES, Figure, Fit, ahead, fits

LINE, DOT, PAPER, INK, FAINT, RULE, BEYOND = (
    "#0072b2", "#1f2328", "#ffffff", "#1f2328", "#5c6168", "#e2dfd9", "#f6f4f0",
)  # fmt: skip
WIDTH, HEIGHT = 270, 150  # of a panel's field
LEFT, TOP, GAP_X, GAP_Y = 74, 124, 84, 100
ACROSS, STEPS = 4, 48
LOGARITHMIC = {"store_seconds", "build_seconds", "load_seconds", "server_mib"}


def draw(measured: Sequence[Mapping[str, Any]]) -> str:
    """The picture.

    Args:
        measured: Figures at one size or more, by rising rows, as test_scale.py keeps them.
    """
    found, larger = fits(measured), ahead(measured)
    first, last = measured[0]["rows"], measured[-1]["rows"]
    down = ceil(len(FIGURES) / ACROSS)
    width = LEFT + ACROSS * (WIDTH + GAP_X) - GAP_X + 24
    height = TOP + down * (HEIGHT + GAP_Y) - GAP_Y + 56
    title = f"What rows cost: measured at {len(measured)} sizes, {first:,} to {last:,} rows"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif"><title>{escape(title)}</title>',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        _text(LEFT, 28, title, size=16, anchor="start"),
        *_legend(LEFT, 52, fitted=bool(found), further=bool(larger)),
    ]
    for place, figure in enumerate(FIGURES):
        left, top = LEFT + place % ACROSS * (WIDTH + GAP_X), TOP + place // ACROSS * (HEIGHT + GAP_Y)
        parts += Panel(figure, measured, found.get(figure.key), (first, last, *larger), (left, top)).parts()
    return "\n".join([*parts, "</svg>"]) + "\n"


class Panel:
    """One figure.

    Args:
        figure: Which.
        measured: At every size.
        fit: Through them, or None.
        rows: The first size, the last, and those to extrapolate to.
        corner: Left and top of the field.
    """

    def __init__(
        self,
        figure: Figure,
        measured: Sequence[Mapping[str, Any]],
        fit: Fit | None,
        rows: tuple[int, ...],
        corner: tuple[int, int],
    ) -> None:
        self.figure, self.fit, self.corner = figure, fit, corner
        self.first, self.last, *self.larger = rows
        self.end = rows[-1]
        self.dots = [(one["rows"], float(one[figure.key])) for one in measured]
        values = [value for _, value in self.dots] + [value for _, value in self._curve(self.first, self.end)]
        self.ticks = _decades(values) if figure.key in LOGARITHMIC else _even(max(values), figure.most)

    def parts(self) -> Iterator[str]:
        """Axes, then the fit, then the dots on it."""
        left, top = self.corner
        unit = f" ({self.figure.unit})" if self.figure.unit else ""
        yield _text(left, top - 28, self.figure.name + unit, size=14, anchor="start")
        if self.fit is not None:
            yield _text(left, top - 11, f"{self.fit.kind}: {self.fit}", size=12, anchor="start", colour=FAINT)
        if self.end > self.last:
            x = self._x(self.last)
            yield f'<rect x="{x:.1f}" y="{top}" width="{left + WIDTH - x:.1f}" height="{HEIGHT}" fill="{BEYOND}"/>'
        yield from self._axes()
        if self.fit is not None:
            yield self._path(self._curve(self.first, self.last), "")
            if self.end > self.last:
                yield self._path(self._curve(self.last, self.end), ' stroke-dasharray="6 5"')
            for rows in self.larger:
                yield self._dot(rows, self.fit.at(rows), ", extrapolated", f'fill="{PAPER}" stroke="{LINE}"')
        for rows, value in self.dots:
            yield self._dot(rows, value, "", f'fill="{DOT}"')

    def _dot(self, rows: int, value: float, said: str, paint: str) -> str:
        at = escape(f"{rows:,} rows: {self.figure.write(value)}{said}")
        return (
            f'<circle cx="{self._x(rows):.1f}" cy="{self._y(value):.1f}" r="4.5" {paint}><title>{at}</title></circle>'
        )

    def _axes(self) -> Iterator[str]:
        left, top = self.corner
        for number, value in enumerate(self.ticks):
            y = self._y(value)
            yield f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="{RULE if number else INK}"/>'
            yield _text(left - 8, y + 4, f"{value:,g}", size=11, anchor="end", colour=FAINT)
        for rows in sorted({self.first, self.last, *self.larger}):
            yield f'<path d="M{self._x(rows):.1f} {top + HEIGHT}v5" stroke="{INK}"/>'
            anchor = "end" if rows == self.end and rows != self.last else "middle"
            yield _text(self._x(rows), top + HEIGHT + 20, _short(rows), size=11, anchor=anchor, colour=FAINT)

    def _curve(self, start: float, end: float) -> list[tuple[float, float]]:
        if self.fit is None:
            return []
        sizes = [start * (end / start) ** (step / STEPS) for step in range(STEPS + 1)]
        return [(rows, self.fit.at(rows)) for rows in sizes]

    def _path(self, points: Sequence[tuple[float, float]], dashes: str) -> str:
        d = "M" + "L".join(f"{self._x(rows):.1f} {self._y(value):.1f}" for rows, value in points)
        return f'<path d="{d}" fill="none" stroke="{LINE}" stroke-width="2"{dashes}/>'

    def _x(self, rows: float) -> float:
        span = log10(self.end / self.first) or 1.0
        return self.corner[0] + WIDTH * log10(rows / self.first) / span

    def _y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        if self.figure.key in LOGARITHMIC:
            part = log10(max(value, low) / low) / log10(high / low)
        else:
            part = (value - low) / (high - low)
        return self.corner[1] + HEIGHT * (1 - part)


def _decades(values: Sequence[float]) -> list[float]:
    """Powers of ten around all values above 0."""
    known = [value for value in values if value > 0]
    low, high = floor(log10(min(known))), ceil(log10(max(known)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _even(largest: float, most: float) -> list[float]:
    """From 0 in about four even steps past the largest, or to what cannot be exceeded."""
    if most < float("inf"):
        return [most * step / 4 for step in range(5)]
    step = next(
        unit for unit in (10.0 ** floor(log10(largest)) * part for part in (0.25, 0.5, 1, 2.5)) if 4 * unit >= largest
    )
    return [step * number for number in range(ceil(largest / step) + 1)]


def _short(rows: int) -> str:
    return f"{rows / 1e6:g} M" if rows >= 1e6 else f"{rows / 1e3:g} K"


def _legend(x: float, y: float, *, fitted: bool, further: bool) -> Iterator[str]:
    yield f'<circle cx="{x + 5}" cy="{y - 4}" r="4.5" fill="{DOT}"/>'
    yield _text(x + 16, y, "measured", anchor="start")
    if fitted:
        yield f'<path d="M{x + 100} {y - 4}h30" stroke="{LINE}" stroke-width="2"/>'
        yield _text(x + 138, y, "fit", anchor="start")
    if fitted and further:
        yield f'<rect x="{x + 192}" y="{y - 14}" width="38" height="20" fill="{BEYOND}"/>'
        yield f'<path d="M{x + 196} {y - 4}h30" stroke="{LINE}" stroke-width="2" stroke-dasharray="6 5"/>'
        yield _text(x + 238, y, "extrapolated, not measured", anchor="start")


def _text(x: float, y: float, text: str, size: int = 13, anchor: str = "middle", colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
    )
