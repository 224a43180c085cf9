"""Masks to objects: which pieces of ink belong together, which are stray, and what strokes they are."""

from __future__ import annotations

import numpy as np

from encoders.formats.skeleton import components, outline, thin, trace

DOT = 0.02  # of the longest side (at least 6 pixels): a piece no larger is a dot
GAP = 0.03  # of the longest side: pieces of one-colour ink nearer than this are one object
STRAY = 0.15  # of the rest's longest side: a dot further off than this from the rest's box is stray
SPECK = 4  # pixels of the longest side: smaller pieces on the edge of another ink are its antialiasing
FILLED = 0.2  # of a piece's longest side: a mean width above this (and 8 pixels) is a filled shape, not a line

Piece = tuple[slice, slice]


def strokes_of(mask: np.ndarray, pen: float | None = None) -> tuple[list[np.ndarray], list[float]]:
    """The strokes of one object's pixels: lines by their middle, filled shapes by their outline.

    Thinning cuts sharp corners and ends short, so the box is not that of the strokes but the pixels' own, less half
    the pen's width.

    Args:
        mask: bool (H, W) with at least one pixel.
        pen: The width that lines were drawn with; by default it is estimated.

    Returns:
        float64 (2, n) polylines in the mask's coordinates, pixel (0, 0) centred at (0.5, 0.5); and the box
        x0, y0, x1, y1, at least one pixel wide and high.
    """
    (y0, x0), crop = _crop(mask)
    labels, count = components(crop)
    lines = thin(crop)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    lengths = np.maximum(np.bincount(labels[lines], minlength=count + 1), 1)
    boxes = _boxes(labels, count)
    extents = np.concatenate([[0], (boxes[:, 2:] - boxes[:, :2]).max(axis=1) + 1])
    filled = areas / lengths > np.maximum(8, FILLED * extents)
    filled[0] = False
    if filled.any():
        inside = filled[labels]
        lines = np.where(inside, thin(outline(crop) & inside), lines)
    drawn = ~filled
    drawn[0] = False
    if pen is None:
        pen = float(areas[drawn].sum() / max(1, lengths[drawn].sum()))
    edge = np.where(filled, 0.5, pen / 2)[1:, None]
    low, high = boxes[:, :2] + edge, boxes[:, 2:] + 1 - edge
    middle = (boxes[:, :2] + boxes[:, 2:] + 1) / 2
    low, high = np.minimum(low, middle).min(axis=0), np.maximum(high, middle).max(axis=0)
    middle, half = (low + high) / 2, np.maximum(high - low, 1.0) / 2
    corner = np.array([x0, y0])
    box = [*(corner + middle - half).tolist(), *(corner + middle + half).tolist()]
    return [stroke + corner[:, None] for stroke in trace(lines)], box


def without_stray_dots(mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mask of one ink without what is not part of its drawing.

    That is dots far off the rest, and specks on the edge of another ink, whose antialiasing they are. Where all is
    dots nothing is taken away.

    Args:
        mask: bool (H, W), this ink.
        others: bool (H, W), all other inks.
    """
    labels, count = components(mask)
    if count < 2:
        return mask
    boxes = _boxes(labels, count)
    specks = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < SPECK
    specks &= np.isin(np.arange(count) + 1, labels[mask & _widen(others, 1)])
    if specks.any() and not specks.all():
        mask = mask & np.concatenate([[False], ~specks])[labels]
        labels, count = components(mask)
        boxes = _boxes(labels, count)
    dots = _are_dots(boxes, mask.shape)
    if dots.all() or not dots.any():
        return mask
    low, high = boxes[~dots, :2].min(axis=0), boxes[~dots, 2:].max(axis=0)
    reach = max(STRAY * float((high - low).max()), dot_size(mask.shape))
    far = (boxes[:, 2:] < low - reach).any(axis=1) | (boxes[:, :2] > high + reach).any(axis=1)
    keep = np.concatenate([[False], ~(dots & far)])
    result: np.ndarray = keep[labels]
    return result


def is_dot(mask: np.ndarray) -> bool:
    """Whether all of its ink fits a dot."""
    _, crop = _crop(mask)
    return max(crop.shape) <= dot_size(mask.shape)


def dot_size(shape: tuple[int, ...]) -> float:
    """The longest side, in pixels, of what is a dot in a picture of this shape."""
    return max(6.0, DOT * max(shape[:2]))


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    """One-colour ink to objects: ink that touches or nearly does, with what lies inside its box; dots apart go.

    Args:
        mask: bool (H, W) with at least one pixel.

    Returns:
        bool (H, W) masks, in reading order.
    """
    reach = max(1, round(GAP * max(mask.shape) / 2))
    labels, count = components(_widen(mask, reach))
    labels = np.where(mask, labels, 0)
    boxes = _boxes(labels, count)
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1), kind="stable")
    home = np.arange(count)
    for place, number in enumerate(order):  # the larger first: eyes into the face, the face's box is the face's
        for other in order[:place]:
            if home[other] == other and _mostly_inside(boxes[number], boxes[other]):
                home[number] = other
                break
    small = _are_dots(boxes, mask.shape)
    roots = [n for n in range(count) if home[n] == n]
    kept = [n for n in roots if not small[n]] or roots
    owner = np.concatenate([[-1], home])[labels]
    return [owner == number for number in kept]


def _mostly_inside(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether at least nine tenths of a box lie in another."""
    size = box[2:] - box[:2] + 1
    shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) + 1
    return bool((shared > 0).all() and np.prod(shared) >= 0.9 * np.prod(size))


def _are_dots(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    small: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) + 1 <= dot_size(shape)
    return small


def _boxes(labels: np.ndarray, count: int) -> np.ndarray:
    """int (count, 4): x0, y0, x1, y1 of components 1…count, inclusive."""
    ys, xs = np.nonzero(labels)
    which = labels[ys, xs] - 1
    boxes = np.empty((count, 4), dtype=np.int64)
    boxes[:, :2], boxes[:, 2:] = 2**40, -1
    for column, values, pick in ((0, xs, np.minimum), (1, ys, np.minimum), (2, xs, np.maximum), (3, ys, np.maximum)):
        pick.at(boxes[:, column], which, values)
    return boxes


def _widen(mask: np.ndarray, reach: int) -> np.ndarray:
    """Each pixel whose square of ``2 * reach + 1`` holds ink."""
    for axis in (0, 1):
        edge = [(0, 0), (0, 0)]
        edge[axis] = (reach + 1, reach)
        sums = np.cumsum(np.pad(mask, edge), axis=axis, dtype=np.int32)
        sums = np.moveaxis(sums, axis, 0)
        mask = np.moveaxis(sums[2 * reach + 1 :] > sums[: -2 * reach - 1], 0, axis)
    return mask


def _crop(mask: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, x0 = int(rows[0]), int(columns[0])
    return (y0, x0), mask[y0 : int(rows[-1]) + 1, x0 : int(columns[-1]) + 1]
