"""Pixels to strokes: connected components, thinning to lines one pixel wide, and tracing those as polylines."""

from __future__ import annotations

from itertools import cycle

import numpy as np

from encoders.errors import SketchError

MAX_SKELETON = 300_000  # pixels; a drawing has a few thousand, a photo millions

_AROUND = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # clockwise from the top: P2…P9


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the 8-connected components of a mask.

    Works on horizontal runs: those of neighbouring rows that touch are joined, each round by hooking the larger
    root to the smaller.

    Args:
        mask: bool (H, W).

    Returns:
        int32 (H, W), 0 outside and 1…n inside, numbered by their first pixel in reading order; and n.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)  # (H, W + 1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)  # exclusive
    count = len(rows)
    if count == 0:
        return np.zeros((height, width), dtype=np.int32), 0
    stride = width + 3
    # Runs of the row above that touch run i: start < end_i + 1 and end > start_i - 1, as one sorted search.
    first = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, side="left")
    last = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, side="right")
    touching = np.maximum(last - first, 0)
    below = np.repeat(np.arange(count), touching)
    above = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    roots = np.arange(count)
    while True:
        a, b = roots[below], roots[above]
        if np.array_equal(a, b):
            break
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
    _, numbers = np.unique(roots, return_inverse=True)
    labels = np.zeros((height, width), dtype=np.int32)
    labels[mask] = np.repeat(numbers + 1, ends - starts)
    return labels, int(numbers.max()) + 1


def thin(mask: np.ndarray) -> np.ndarray:
    """Thin a mask to lines one pixel wide (Zhang and Suen 1984), looking only at pixels that can change.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W), a part of ``mask`` that keeps at least one pixel of each of its components.
    """
    height, width = mask.shape
    wide = width + 2
    image = np.zeros((height + 2, wide), dtype=np.uint8)
    image[1:-1, 1:-1] = mask
    flat = image.ravel()
    offsets = np.array([dy * wide + dx for dy, dx in _AROUND])
    removable = [_removable(step) for step in (0, 1)]
    bits = (1 << np.arange(8)).astype(np.int64)
    # What a table says of a pixel changes where a neighbour went since it was last asked: in either of the two
    # sub-iterations before.
    candidates = earlier = np.flatnonzero(flat)
    for table in cycle(removable):
        code = flat[candidates[:, None] + offsets] @ bits  # (n,) the eight neighbours as one byte
        gone = candidates[table[code]]
        flat[gone] = 0
        near = (gone[:, None] + offsets).ravel()
        candidates, earlier = np.unique(np.concatenate([earlier, near])), near
        candidates = candidates[flat[candidates] == 1]
        if not candidates.size:
            break
    thinned: np.ndarray = image[1:-1, 1:-1].astype(bool)
    return thinned | _lost(mask, thinned)


def _removable(step: int) -> np.ndarray:
    """For each byte of neighbours, whether sub-iteration ``step`` of Zhang and Suen removes the pixel."""
    table = np.zeros(256, dtype=bool)
    for code in range(256):
        p = [code >> k & 1 for k in range(8)]  # P2…P9
        rises = sum(p[k] == 0 and p[(k + 1) % 8] == 1 for k in range(8))
        top, right, bottom, left = p[0], p[2], p[4], p[6]
        edges = (
            (top * right * bottom, right * bottom * left) if step == 0 else (top * right * left, top * bottom * left)
        )
        table[code] = 2 <= sum(p) <= 6 and rises == 1 and edges == (0, 0)
    return table


def _lost(mask: np.ndarray, thinned: np.ndarray) -> np.ndarray:
    """One middle pixel of each component that thinning wiped out (it does so to a square of 2 x 2)."""
    labels, count = components(mask)
    kept = np.zeros(count + 1, dtype=bool)
    kept[labels[thinned]] = True
    kept[0] = True
    back = np.zeros(mask.shape, dtype=bool)
    if not kept.all():
        order = np.argsort(labels, axis=None, kind="stable")
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        middles = np.cumsum(sizes) - sizes + sizes // 2
        back.ravel()[order[middles[~kept]]] = True
    return back


def outline(mask: np.ndarray) -> np.ndarray:
    """bool (H, W): the mask's pixels that have a 4-neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: np.ndarray = mask & ~inner
    return edge


def trace(lines: np.ndarray, tolerance: float = 0.75) -> list[np.ndarray]:
    """Follow lines one pixel wide from end to end and from fork to fork.

    Args:
        lines: bool (H, W), as of ``thin``.
        tolerance: How far, in pixels, a polyline may leave the pixels' middles.

    Returns:
        float64 (2, n) polylines through the pixels' middles (pixel (0, 0) has its middle at 0.5, 0.5).

    Raises:
        SketchError: More than ``MAX_SKELETON`` pixels.
    """
    ys, xs = np.nonzero(lines)
    if len(ys) > MAX_SKELETON:
        raise SketchError(f"its lines have {len(ys)} pixels, {MAX_SKELETON} is the limit; is it a photo? draw strokes")
    links = _links(lines, ys, xs)
    used: set[tuple[int, int]] = set()
    paths: list[list[int]] = []
    # Ends and forks first, each branch once; what is left are closed curves, and single pixels.
    for begin in [n for n, near in enumerate(links) if len(near) not in (0, 2)]:
        paths += [_follow(links, used, begin, after) for after in links[begin] if (begin, after) not in used]
    for begin, near in enumerate(links):
        if not near:
            paths.append([begin])
        elif len(near) == 2 and (begin, near[0]) not in used and (begin, near[1]) not in used:
            paths.append(_follow(links, used, begin, near[0]))
    points = np.stack([xs, ys]) + 0.5  # (2, N)
    return [simplify(points[:, path], tolerance) for path in paths]


def _links(lines: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> list[list[int]]:
    """Each pixel's neighbours by number; a diagonal one only where no straight step leads there."""
    height, width = lines.shape
    number = np.full((height + 2, width + 2), -1, dtype=np.int64)
    number[ys + 1, xs + 1] = np.arange(len(ys))
    around = np.stack([number[ys + 1 + dy, xs + 1 + dx] for dy, dx in _AROUND])  # (8, N), clockwise
    for k in (1, 3, 5, 7):
        beside = (around[k - 1] >= 0) | (around[(k + 1) % 8] >= 0)
        around[k][beside] = -1
    return [[n for n in near if n >= 0] for near in around.T.tolist()]


def _follow(links: list[list[int]], used: set[tuple[int, int]], begin: int, after: int) -> list[int]:
    path = [begin]
    here, there = begin, after
    while True:
        used.add((here, there))
        used.add((there, here))
        path.append(there)
        near = links[there]
        if len(near) != 2 or there == begin:
            return path
        here, there = there, near[0] if near[1] == here else near[1]


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Drop points (2, n) that lie within ``tolerance`` of the line without them (Douglas and Peucker 1973)."""
    count = points.shape[1]
    keep = np.zeros(count, dtype=bool)
    keep[[0, -1]] = True
    spans = [(0, count - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        start = points[:, first, None]
        chord = points[:, last, None] - start
        rest = points[:, first + 1 : last] - start
        length = float((chord**2).sum())
        along = np.clip((rest * chord).sum(axis=0) / length, 0.0, 1.0) if length > 0 else np.zeros(rest.shape[1])
        distance = np.hypot(*(rest - along * chord))
        furthest = int(distance.argmax())
        if distance[furthest] > tolerance:
            middle = first + 1 + furthest
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return points[:, keep]
