"""Stroke JSON: ``{"width", "height", "objects": [{"label"?, "bbox"?, "weight"?, "strokes"?, "photo"?}]}``.

Strokes ``[[[x…], [y…]], …]`` as in Quick, Draw!, in canvas pixels; an object without strokes is its label over its
bbox, or a photo there, as base64.
"""

from __future__ import annotations

import json
from typing import Any

from encoders.errors import SketchError


def read(data: bytes) -> dict[str, Any]:
    """Parse JSON text to a dict; what is in it is checked by ``Sketch.from_dict``.

    Raises:
        SketchError: It is no JSON, or no object.
    """
    try:
        parsed = json.loads(data)
    except json.JSONDecodeError as error:
        raise SketchError(f"is no valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise SketchError(f"is no valid JSON: not UTF-8 text at byte {error.start}") from None
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise SketchError(f"is no valid stroke JSON: {reason}") from None
    if not isinstance(parsed, dict):
        raise SketchError('is no stroke JSON: expected {"width", "height", "objects": […]}')
    return parsed


def write(sketch: dict[str, Any]) -> bytes:
    """One line of JSON in UTF-8, every number exact."""
    return (json.dumps(sketch, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()
