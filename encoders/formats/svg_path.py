"""The path data of SVG (M L H V C S Q T A Z, absolute and relative) to polylines; curves are cut as finely as needed.

A parsed path is a list of subpaths, each a list of segments in the element's own coordinates. Bézier segments are
transformed before they are cut, so the tolerance holds on the canvas.
"""

from __future__ import annotations

import math
import re

import numpy as np

MAX_POINTS = 100_000  # of one element; the whole sketch is checked again later
FARTHEST = 1e9  # pixels from the canvas' corner; keeps all sums finite
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_FLAG = re.compile("[01]")
_SPACE = re.compile(r"[\s,]*")
_ARITY = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}

Matrix = np.ndarray  # (2, 3): canvas = matrix @ (x, y, 1)


class PathError(ValueError):
    """Malformed path data: what was found, and where."""


class Flattener:
    """Collects polylines on the canvas.

    Args:
        matrix: (2, 3), from the element's coordinates to the canvas.
        tolerance: How far, in canvas pixels, a polyline may leave its curve, > 0.
    """

    def __init__(self, matrix: Matrix, tolerance: float) -> None:
        self.matrix = matrix
        self.tolerance = tolerance
        self.strokes: list[np.ndarray] = []  # finished, each (2, n)
        self._parts: list[np.ndarray] = []
        self._count = 0

    def move(self, x: float, y: float) -> None:
        """Begin a stroke."""
        self.finish()
        self._parts = [self._place(np.array([[x], [y]]))]

    def line(self, x: float, y: float) -> None:
        """Straight to (x, y)."""
        self._add(self._place(np.array([[x], [y]])))

    def bezier(self, controls: list[tuple[float, float]]) -> None:
        """A quadratic or cubic curve; ``controls`` are its 3 or 4 points, the current one first."""
        points = self._place(np.array(controls, dtype=np.float64).T)  # (2, degree + 1)
        degree = points.shape[1] - 1
        bend = float(np.hypot(*np.diff(points, 2, axis=1)).max())
        # Wang: n equal steps of t leave a curve of this degree by at most degree (degree - 1) / 8 * bend / n^2.
        steps = math.sqrt(degree * (degree - 1) / 8 * bend / self.tolerance)
        t = np.linspace(0.0, 1.0, self._steps(steps) + 1)[1:]
        weights = [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]
        self._add(points @ np.array(weights))  # (2, steps)

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], turn: float, start: float, sweep: float
    ) -> None:
        """An elliptic arc from angle ``start`` over ``sweep`` (radians), its axes turned by ``turn``."""
        radius = max(radii) * float(np.linalg.norm(self.matrix[:, :2], 2))
        step = 2 * math.acos(max(0.0, 1 - self.tolerance / radius)) if radius > self.tolerance else math.pi / 2
        angles = start + sweep * np.linspace(0.0, 1.0, self._steps(abs(sweep) / step) + 1)[1:]
        self._add(self._place(ellipse_points(centre, radii, turn, angles)))

    def close(self) -> None:
        """Back to where the stroke began; the next one begins there."""
        first = self._parts[0][:, :1]
        if len(self._parts) == 1:
            self.strokes.append(first)  # "M x y Z" is a dot
        elif not np.array_equal(self._parts[-1][:, -1:], first):
            self._add(first)
        self.finish()
        self._parts = [first]

    def finish(self) -> None:
        """End the stroke; a move that drew nothing is none."""
        if len(self._parts) > 1:
            self.strokes.append(np.concatenate(self._parts, axis=1))
        self._parts = []

    def _place(self, points: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            placed: np.ndarray = self.matrix[:, :2] @ points + self.matrix[:, 2:]
        if not (np.abs(placed) <= FARTHEST).all():  # NaN too
            raise PathError("its coordinates lie absurdly far from the canvas")
        return placed

    def _add(self, points: np.ndarray) -> None:
        self._count += points.shape[1]
        if self._count > MAX_POINTS:
            raise PathError(f"it has more than {MAX_POINTS} points; simplify it")
        self._parts.append(points)

    def _steps(self, steps: float) -> int:
        return max(1, min(math.ceil(steps), MAX_POINTS))


def ellipse_points(
    centre: tuple[float, float], radii: tuple[float, float], turn: float, angles: np.ndarray
) -> np.ndarray:
    """(2, n) points of an ellipse at parametric ``angles``."""
    x, y = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    cosine, sine = math.cos(turn), math.sin(turn)
    return np.stack([centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y])


def numbers(text: str) -> list[float]:
    """The numbers of a list such as ``points``.

    Raises:
        PathError: Something else stands in it.
    """
    found, position = [], _SPACE.match(text).end()  # type: ignore[union-attr]
    while position < len(text):
        match = _NUMBER.match(text, position)
        if match is None:
            raise PathError(f"expected a number at {text[position : position + 12]!r}")
        found.append(float(match[0]))
        position = _SPACE.match(text, match.end()).end()  # type: ignore[union-attr]
    return found


def draw_path(data: str, out: Flattener) -> None:
    """Draw path data.

    Raises:
        PathError: An unknown command, a missing number, or data that does not begin with a move.
    """
    x = y = start_x = start_y = 0.0
    control: tuple[float, float] | None = None  # the last curve's last control point, for S and T
    before = ""
    moved = False
    for command, values in _commands(data):
        upper = command.upper()
        if not moved and upper != "M":
            raise PathError(f"path data has to begin with M, found {command!r}")
        ox, oy = (x, y) if command.islower() else (0.0, 0.0)
        if upper == "Z":
            out.close()
            x, y = start_x, start_y
        elif upper == "M":
            x, y = start_x, start_y = ox + values[0], oy + values[1]
            out.move(x, y)
            moved = True
        elif upper in "LHV":
            x = ox + values[0] if upper in "LH" else x
            y = oy + values[-1] if upper in "LV" else y
            out.line(x, y)
        elif upper == "A":
            end = ox + values[5], oy + values[6]
            _arc(out, (x, y), (abs(values[0]), abs(values[1])), values[2], bool(values[3]), bool(values[4]), end)
            x, y = end
        else:
            points = [(ox + a, oy + b) for a, b in zip(values[::2], values[1::2], strict=True)]
            if upper in "ST":  # the first control point mirrors the last one of a curve of the same kind
                smooth = control is not None and before in ("CS" if upper == "S" else "QT")
                points.insert(0, (2 * x - control[0], 2 * y - control[1]) if smooth and control else (x, y))
            out.bezier([(x, y), *points])
            control, (x, y) = points[-2], points[-1]
        before = upper
    out.finish()


def _commands(data: str) -> list[tuple[str, list[float]]]:
    """Cut path data into (command, its numbers); repeated numbers repeat the command, after M as L."""
    out: list[tuple[str, list[float]]] = []
    position = _SPACE.match(data).end()  # type: ignore[union-attr]
    while position < len(data):
        command = data[position]
        if command.upper() not in _ARITY:
            raise PathError(f"expected a command at {data[position : position + 12]!r}")
        arity = _ARITY[command.upper()]
        position = _SPACE.match(data, position + 1).end()  # type: ignore[union-attr]
        while True:
            values = []
            for place in range(arity):
                flag = arity == 7 and place in (3, 4)  # flags may stand without space: "a1 1 0 0110 10"
                match = (_FLAG if flag else _NUMBER).match(data, position)
                if match is None:
                    what = "a flag 0 or 1" if flag else "a number"
                    raise PathError(f"expected {what} for {command!r} at {data[position : position + 12]!r}")
                values.append(float(match[0]))
                position = _SPACE.match(data, match.end()).end()  # type: ignore[union-attr]
            out.append((command, values))
            if len(out) > MAX_POINTS:
                raise PathError(f"it has more than {MAX_POINTS} segments; simplify it")
            if arity == 0 or position >= len(data) or data[position] not in "+-.0123456789":
                break
            command = {"M": "L", "m": "l"}.get(command, command)
    return out


def _arc(
    out: Flattener,
    start: tuple[float, float],
    radii: tuple[float, float],
    degrees: float,
    large: bool,
    sweep: bool,
    end: tuple[float, float],
) -> None:
    """From endpoints to a centre, as SVG's implementation notes B.2.4 have it; radii too small are enlarged."""
    rx, ry = radii
    if start == end:
        return
    if rx == 0 or ry == 0:
        out.line(*end)
        return
    turn = math.radians(degrees % 360)
    cosine, sine = math.cos(turn), math.sin(turn)
    dx, dy = (start[0] - end[0]) / 2, (start[1] - end[1]) / 2
    px, py = cosine * dx + sine * dy, cosine * dy - sine * dx
    excess = (px / rx) ** 2 + (py / ry) ** 2
    if excess > 1:
        rx, ry = rx * math.sqrt(excess), ry * math.sqrt(excess)
        excess = 1.0
    root = math.sqrt(max(0.0, 1 / excess - 1)) * (-1 if large == sweep else 1)
    cx, cy = root * rx * py / ry, -root * ry * px / rx
    centre = (
        cosine * cx - sine * cy + (start[0] + end[0]) / 2,
        sine * cx + cosine * cy + (start[1] + end[1]) / 2,
    )
    first = math.atan2((py - cy) / ry, (px - cx) / rx)
    last = math.atan2((-py - cy) / ry, (-px - cx) / rx)
    span = last - first
    if sweep and span < 0:
        span += 2 * math.pi
    elif not sweep and span > 0:
        span -= 2 * math.pi
    out.ellipse(centre, (rx, ry), turn, first, span)
