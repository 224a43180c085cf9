"""The rule for the boxes of every set: past its photo a box may reach by rounding, and no further."""

from __future__ import annotations

from collections.abc import Sequence

ROUNDING = 0.01  # of the photo, and a pixel: how far a box may reach past it


def fault(corners: Sequence[float], limit: Sequence[float], pixel: Sequence[float]) -> str | None:
    """What is wrong with a box, None if nothing is; what reaches past the photo by rounding is then to be cut to it.

    Args:
        corners: x0, y0, x1, y1 in any unit.
        limit: The photo's width and height in that unit.
        pixel: The width and height of its pixels in that unit, 0 where unknown: then there is none to spare.
    """
    x0, y0, x1, y1 = corners
    if not (x0 <= x1 and y0 <= y1):
        return "inside out or no numbers"
    across, down = (ROUNDING * side + one for side, one in zip(limit, pixel, strict=True))
    if x0 < -across or y0 < -down or x1 > limit[0] + across or y1 > limit[1] + down:
        return "outside its photo"
    return None
