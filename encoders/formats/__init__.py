"""Readers and writers of sketches: bytes to the plain dict of stroke JSON and back. Nothing here knows `Sketch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoders.errors import SketchError
from encoders.formats import masks, png, strokes_json, svg

MAX_BYTES = 64 * 2**20


def read_file(path: Path) -> bytes:
    """Read a sketch's file, at most ``MAX_BYTES``.

    Raises:
        SketchError: It is missing, no regular file, unreadable or too large.
    """
    try:
        if path.is_dir():
            raise SketchError(f"{path}: is a directory; name one sketch file (.json, .svg, .png or .npz)")
        if path.exists() and not path.is_file():
            raise SketchError(f"{path}: is no regular file; name a sketch file (.json, .svg, .png or .npz)")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SketchError(f"{path}: has {size} bytes, and {MAX_BYTES} is the limit; simplify the drawing")
        return path.read_bytes()
    except FileNotFoundError:
        raise SketchError(f"{path}: there is no such file; check the name") from None
    except (OSError, ValueError) as error:
        if isinstance(error, SketchError):
            raise
        raise SketchError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def parse(data: bytes) -> dict[str, Any]:
    """Tell the format from the content and read it to the dict that ``Sketch.from_dict`` takes.

    Raises:
        SketchError: Too large, empty, of no known format, or malformed.
    """
    if len(data) > MAX_BYTES:
        raise SketchError(f"has {len(data)} bytes, and {MAX_BYTES} is the limit; simplify the drawing")
    head = data[:4096].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n").replace(b"\x00", b"")
    if not data or not head:
        raise SketchError("is empty; save the sketch again")
    if data.startswith(png.MAGIC):
        return png.read(data)
    if data.startswith(masks.MAGIC):
        return masks.read(data)
    if head.startswith(b"{"):
        return strokes_json.read(data)
    if head.startswith(b"<"):
        return svg.read(data)
    if head.startswith(b"["):
        raise SketchError('is a JSON list; a sketch is an object: {"width", "height", "objects": […]}')
    raise SketchError("is no sketch that can be read: it is neither stroke JSON, SVG, PNG nor .npz masks")


def compose(sketch: dict[str, Any], suffix: str) -> bytes:
    """Write the dict of ``Sketch.to_dict`` as the suffix says.

    Raises:
        SketchError: The suffix is unknown, or the format cannot hold this sketch.
    """
    writers = {".json": strokes_json.write, ".svg": svg.write, ".png": png.write}
    if suffix.lower() not in writers:
        raise SketchError(f'cannot write "{suffix}"; use one of {", ".join(writers)}')
    return writers[suffix.lower()](sketch)
