"""The boxes that a collection knows of its photos: a field `objects` or `boxes`, as a list or as its JSON.

    objects: [{"label": "cat", "box": [x0, y0, x1, y1]}, ...]     "class" or "name" for the label, "bbox" for the box
    boxes:   [[x0, y0, x1, y1], ...]                              or as above

Corners are fractions of the photo where none is above 1, else pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from compsketch_milvus.web.models import KnownBox

__all__ = ["FIELDS", "known_boxes"]

FIELDS = ("objects", "boxes")
LABELS, BOXES = ("label", "class", "name", "category"), ("box", "bbox")
MOST = 100


def known_boxes(fields: Mapping[str, Any]) -> list[KnownBox] | None:
    """The boxes among a photo's fields.

    None where there is no such field. What is in it that is no box is left out.
    """
    given = next((fields[name] for name in FIELDS if name in fields), None)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    if not isinstance(given, list):
        return None
    sides = (fields.get("width"), fields.get("height"))
    found = [_box(item, sides) for item in given[:MOST]]
    return [one for one in found if one is not None]


def _box(item: Any, sides: tuple[Any, Any]) -> KnownBox | None:
    told = item if isinstance(item, Mapping) else {"box": item}
    corners = next((told[name] for name in BOXES if name in told), None)
    if not isinstance(corners, list) or len(corners) != 4 or not all(map(_finite, corners)):
        return None
    if max(map(abs, corners)) > 1:
        if not all(_finite(side) and side > 0 for side in sides):
            return None
        corners = [corner / sides[place % 2] for place, corner in enumerate(corners)]
    x0, y0, x1, y1 = (min(1.0, max(0.0, float(corner))) for corner in corners)
    if not (x0 < x1 and y0 < y1):
        return None
    label = next((told[name] for name in LABELS if isinstance(told.get(name), str)), None)
    return KnownBox(label=label, box=[x0, y0, x1, y1])


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
