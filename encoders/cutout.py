"""The cut-out of a photo in place of strokes: an object of a query that is not drawn (eq. 2, f_i of it)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from encoders.errors import SketchError
from encoders.images import Limits

MAX_BYTES = 1 << 20  # encoded; a cut-out of 512 x 512 pixels takes a tenth of that
LIMITS = Limits(max_bytes=MAX_BYTES, max_pixels=4_000_000)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")


def check(photo: Any) -> bytes | None:
    """The bytes of a JPEG, PNG or WebP, of these bytes or their base64, as stroke JSON has it; None of None.

    Whether they can be decoded shows when they are encoded.

    Raises:
        SketchError: Neither, another format, or more than ``MAX_BYTES``.
    """
    if photo is None:
        return None
    if isinstance(photo, str):
        if len(photo) > MAX_BYTES * 4 // 3 + 4:
            raise SketchError(f"its photo has more than {MAX_BYTES} bytes; scale the cut-out down")
        try:
            photo = base64.b64decode(photo, validate=True)
        except (binascii.Error, ValueError):
            raise SketchError("its photo has to be base64 of a JPEG, PNG or WebP") from None
    if not isinstance(photo, bytes) or not photo.startswith(_MAGIC):
        raise SketchError("its photo has to be the bytes of a JPEG, PNG or WebP, in JSON as base64")
    if len(photo) > MAX_BYTES:
        raise SketchError(f"its photo has {len(photo)} bytes, and {MAX_BYTES} is the limit; scale the cut-out down")
    return photo


def text(photo: bytes) -> str:
    """As stroke JSON has it: base64."""
    return base64.b64encode(photo).decode("ascii")
