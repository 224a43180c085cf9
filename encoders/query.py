"""Query tensors: every object's vector painted over its box, then max-pooled (section 3.1, eq. 1 and 2).

Boxes are rectangles, so the painted field is constant on the regions of the grid that their edges cut. Each region is
labelled with the set of objects over it, the vectors are averaged once a label, and a cell takes the maximum over the
labels that occur in it. That is exactly eq. 1, without ever holding its W x H x C field.

The geometry does not depend on the vectors: compute a `layout` once, `paint` it with as many sets of vectors as needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoders.errors import CompsketchError

MAX_OBJECTS = 32  # a label is a set of objects, kept as the bits of one integer
CELLS = 31  # N in eq. 1
PIXELS_PER_CELL = 8  # see `layout`


@dataclass(frozen=True)
class Layout:
    """Where the boxes lie on the canvas and in the cells, without any vectors.

    The row and column cuts are the edges of the boxes and of the canvas; between them lie R x K regions.

    Attributes:
        labels: (L, n) float32, one row a set of objects that occurs: 1/kappa for each of its kappa objects, else 0.
            The row of the empty set is all zeros.
        regions: (R, K) integers in [0, L), the label of each region.
        rows: (P, 2) half-open ranges of region rows, every distinct one that a row of cells meets.
        columns: (Q, 2) half-open ranges of region columns, every distinct one that a column of cells meets.
        kinds: (cells, cells) integers in [0, Q P): q P + p for the cell that meets rows[p] and columns[q]. neighbours
            are of one kind: the maximum is taken once a kind, not once a cell.
    """

    labels: NDArray[np.float32]
    regions: NDArray[np.intp]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    kinds: NDArray[np.intp]

    @property
    def shown(self) -> NDArray[np.bool_]:
        """(L, Q P) bool: whether any pixel of a cell of a kind carries a label."""
        here = self.regions == np.arange(len(self.labels))[:, None, None]  # (L, R, K)
        count = np.pad(here.astype(np.int32), ((0, 0), (1, 0), (1, 0)))
        for axis in (1, 2):
            count = count.cumsum(axis=axis, dtype=np.int32)  # by itself it would take 64 bits
        (top, bottom), (left, right) = self.rows.T, self.columns.T
        below, above = count[:, bottom], count[:, top]  # (L, P, K + 1)
        found = (below[:, :, right] - below[:, :, left]) > (above[:, :, right] - above[:, :, left])  # (L, P, Q)
        return found.swapaxes(1, 2).reshape(len(self.labels), -1)


@dataclass(frozen=True)
class Painting:
    """A query tensor before it is spread over its cells, few of which differ: (C, 31, 31) as a picture of K colours.

    Attributes:
        cells: (cells, cells) integers in [0, K).
        vectors: (K, C) float32, what the cells of each number hold.
    """

    cells: NDArray[np.intp]
    vectors: NDArray[np.float32]

    def spread(self) -> NDArray[np.float32]:
        """The query tensor, (C, cells, cells)."""
        return np.ascontiguousarray(self.vectors.T).take(self.cells, axis=1)


def layout(boxes: ArrayLike, cells: int = CELLS, resolution: tuple[int, int] | None = None) -> Layout:
    """Cut the canvas at the edges of the boxes and find which sets of objects lie where.

    A pixel belongs to a box if its centre does: pixel i of W has its centre at (i + 0.5) / W and belongs to [x0, x1).
    A box in which no centre falls still owns, along that axis, the one pixel that its middle is in: no object is
    lost.
    The cells' windows are those of adaptive max-pooling: pixels floor(i W / N) up to ceil((i + 1) W / N).

    Args:
        boxes: (n, 4) corners x0, y0, x1, y1 in [0, 1], of 1 to 32 objects; x to the right, y downwards.
        cells: N, the cells along each side.
        resolution: W, H of the canvas in pixels. The default, 8 pixels a cell (248 x 248 at N = 31), makes the windows
            equal and disjoint and places edges to 0.4 % of the canvas, an eighth of what a cell resolves. It is the
            same for every sketch and photo on purpose: a layout gives one tensor, whatever size it was drawn at.

    Raises:
        CompsketchError: wrong shape or number of boxes, a value not finite, a box outside [0, 1] or without area.
    """
    corners = _checked_boxes(boxes)
    if cells < 1:
        raise CompsketchError(f"cells is {cells}: a query tensor needs at least 1 cell a side")
    width, height = resolution if resolution is not None else (PIXELS_PER_CELL * cells, PIXELS_PER_CELL * cells)
    if width < 1 or height < 1:
        raise CompsketchError(f"resolution is {width} x {height}: the canvas needs at least 1 pixel a side")
    columns, column_of, column_bits = _cut(corners[:, 0], corners[:, 2], width, cells)  # (Q, 2), (cells,), (K,)
    rows, row_of, row_bits = _cut(corners[:, 1], corners[:, 3], height, cells)  # (P, 2), (cells,), (R,)
    sets = row_bits[:, None] & column_bits  # (R, K): an object covers a region if it covers its row and its column
    found, index = np.unique(sets.ravel(), return_inverse=True)
    member = (found[:, None] >> np.arange(len(corners))) & 1  # (L, n)
    labels = member / np.maximum(member.sum(axis=1, keepdims=True), 1)  # (L, n): 1 / kappa
    kinds = column_of * len(rows) + row_of[:, None]  # (cells, cells)
    return Layout(labels.astype(np.float32), index.reshape(sets.shape), rows, columns, kinds)


def paint(layout: Layout, vectors: ArrayLike) -> Painting:
    """Fill a layout with vectors: average them in each region, then take each cell's maximum (eq. 1).

    The maximum is over signed values, channel by channel: a cell that is partly empty gets max(0, v), one that is
    wholly covered gets v, negative or not.

    Args:
        layout: of n boxes.
        vectors: (n, C) real numbers, row i for box i.

    Returns:
        The query tensor; ``spread()`` has its (C, cells, cells) float32, rows from the top, columns from the left.

    Raises:
        CompsketchError: the vectors do not fit the layout or are not finite.
    """
    given = _checked_vectors(vectors, layout.labels.shape[1])
    # The weights again from the sets, in float64: 1/3 in float32 would cost the last digit of every average.
    member = (layout.labels > 0).astype(np.float64)
    averages = (member @ given / np.maximum(member.sum(axis=1, keepdims=True), 1)).astype(np.float32)  # (L, C)
    shown = layout.shown  # (L, Q P)
    _, first, which = np.unique(np.packbits(shown, axis=0), axis=1, return_index=True, return_inverse=True)
    # Cells in which the same labels occur hold the same, wherever they lie.
    colours = np.stack([averages[shown[:, kind]].max(axis=0) for kind in first])  # (K, C)
    return Painting(which.reshape(-1)[layout.kinds], colours)


def join(paintings: Sequence[Painting]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """B paintings as one: their cells (B, cells, cells), which count on through the vectors (V, C) of all."""
    starts = np.cumsum([0, *(len(painting.vectors) for painting in paintings[:-1])])
    cells = [painting.cells + start for painting, start in zip(paintings, starts, strict=True)]
    return np.stack(cells), np.concatenate([painting.vectors for painting in paintings])


def query_tensor(
    vectors: ArrayLike, boxes: ArrayLike, cells: int = CELLS, resolution: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """The query tensor of one sketch, T_Q (eq. 1), or of one photo's objects, T_Q' (eq. 2).

    Args:
        vectors: (n, C) features of the n objects, from f_s for a sketch and from f_i for a photo.
        boxes: (n, 4) corners x0, y0, x1, y1 in [0, 1]; overlaps are averaged.
        cells: N, the cells along each side (the paper's 31).
        resolution: W, H of the canvas the vectors are painted on; see `layout` for the default.

    Returns:
        (C, cells, cells) float32.

    Raises:
        CompsketchError: shapes that do not fit, values that are not finite, a box outside [0, 1] or without area.
    """
    return paint(layout(boxes, cells, resolution), vectors).spread()


def query_tensors(
    vectors: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike],
    cells: int = CELLS,
    resolution: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """The query tensors of B sketches or photos, which may hold different numbers of objects.

    Args:
        vectors: B arrays (n_b, C).
        boxes: B arrays (n_b, 4).
        cells: as in `query_tensor`.
        resolution: as in `query_tensor`.

    Returns:
        (B, C, cells, cells) float32.

    Raises:
        CompsketchError: as `query_tensor`, naming the item; also no items, or items that differ in C.
    """
    if len(vectors) != len(boxes) or not len(vectors):
        raise CompsketchError(f"got vectors of {len(vectors)} items and boxes of {len(boxes)}: give both, one an item")
    for i, (item_vectors, item_boxes) in enumerate(zip(vectors, boxes, strict=True)):
        try:
            tensor = query_tensor(item_vectors, item_boxes, cells, resolution)
        except CompsketchError as error:
            raise CompsketchError(f"item {i}: {error}") from error
        if i == 0:
            batch = np.empty((len(vectors), *tensor.shape), dtype=np.float32)  # (B, C, cells, cells)
        if tensor.shape != batch.shape[1:]:
            raise CompsketchError(
                f"item {i} has {len(tensor)} channels, item 0 has {batch.shape[1]}: give all the same"
            )
        batch[i] = tensor
    return batch


def _cut(
    low: NDArray[np.float64], high: NDArray[np.float64], pixels: int, cells: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Cut one axis into strips at the edges: the distinct ranges of strips, each cell's range, each strip's objects."""
    centres = (np.arange(pixels) + 0.5) / pixels
    first = np.searchsorted(centres, low)
    stop = np.searchsorted(centres, high)
    middle = np.minimum(((low + high) / 2 * pixels).astype(np.intp), pixels - 1)
    thin = stop <= first
    first, stop = np.where(thin, middle, first), np.where(thin, middle + 1, stop)
    cuts = np.unique(np.concatenate([[0, pixels], first, stop]))
    strips = cuts[:-1, None]  # (strips, 1)
    covered = (first <= strips) & (strips < stop)  # (strips, n)
    bits = covered @ (1 << np.arange(len(low), dtype=np.int64))  # (strips,)
    cell = np.arange(cells)
    window_first, window_stop = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
    start = np.searchsorted(cuts, window_first, "right") - 1
    stop = np.searchsorted(cuts, window_stop)
    distinct, range_of = np.unique(start * len(cuts) + stop, return_inverse=True)
    return np.stack(np.divmod(distinct, len(cuts)), axis=1), range_of, bits  # (distinct, 2), (cells,), (strips,)


def _checked_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4 or not 1 <= len(corners) <= MAX_OBJECTS:
        raise CompsketchError(f"boxes have shape {corners.shape}: give (n, 4), n from 1 to {MAX_OBJECTS}")
    inside = (corners >= 0) & (corners <= 1)  # false for NaN, too
    sound = inside.all(axis=1) & (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    if not sound.all():
        bad = int(np.argmin(sound))
        raise CompsketchError(
            f"box {bad} is {corners[bad].tolist()}: give x0 < x1 and y0 < y1, each a fraction of the canvas in [0, 1]"
        )
    return corners


def _checked_vectors(vectors: ArrayLike, count: int) -> NDArray[np.float64]:
    given = np.asarray(vectors, dtype=np.float64)
    if given.ndim != 2 or len(given) != count or not given.shape[1]:
        raise CompsketchError(f"vectors have shape {given.shape}: give ({count}, C), one row a box")
    finite = np.isfinite(given).all(axis=1)
    if not finite.all():
        raise CompsketchError(f"vector {int(np.argmin(finite))} holds a value that is not finite: check its encoder")
    return given
