"""Untrusted bytes to RGB: what a folder holds becomes 8-bit RGB pixels, or an ImageError that says why not."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from encoders.errors import ImageError, ImageLimitError

try:  # Pillow 11.3 and later
    from PIL import AvifImagePlugin
except ImportError:  # pragma: no cover
    AvifImagePlugin = None  # type: ignore[assignment]

__all__ = ["FORMATS", "ImageSource", "Limits", "Photo", "load_photo", "read_image"]

ImageSource = str | Path | bytes | Image.Image | np.ndarray

# The allow-list, by the names of Pillow's readers. Importing a plugin above registers its reader. MPO (two
# JPEGs in one file) is opened by the reader of JPEG; HEIF is there after `pillow_heif.register_heif_opener()`.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_PLUGINS = (
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    TiffImagePlugin,
    AvifImagePlugin,
)

# EXIF tag 274 -> what turns the stored pixels upright (EXIF 2.3, section 4.6.4 A).
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)


@dataclass(frozen=True)
class Limits:
    """What one photo may cost at most.

    Args:
        max_bytes: ceiling on the encoded file, checked before it is read.
        max_pixels: ceiling on width x height, checked from the header before a pixel is decoded.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000


@dataclass(frozen=True)
class Photo:
    """A photo as the trunk sees it.

    Args:
        pixels: (size, size, 3) uint8 RGB, read-only, stretched to the square: canvas and photo share one frame, so the
            aspect is not kept.
        width: of the original in pixels, after its EXIF orientation.
        height: of the original in pixels, after its EXIF orientation.
    """

    pixels: np.ndarray
    width: int
    height: int


def read_image(source: ImageSource, *, limits: Limits | None = None, draft: int | None = None) -> Image.Image:
    """Decode one photo to an upright RGB image.

    The first frame of an animation is taken, transparency is laid on white, 16-bit gray and float are scaled to 8 bits.

    Args:
        source: a path, the encoded bytes, a PIL image, or a (H, W, 3) uint8 RGB array.
        limits: ceilings on bytes and pixels.
        draft: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 scale, with both sides still >= draft.

    Returns:
        An image of mode "RGB". It may be `source` itself, where that is an upright RGB image.

    Raises:
        ImageError: the photo cannot be read, is damaged or truncated, is of no allowed format, or passes a limit.
    """
    return _decode(source, limits or Limits(), draft)[0]


def load_photo(source: ImageSource, size: int, *, limits: Limits | None = None) -> Photo:
    """Decode one photo and stretch it to size x size (bilinear, antialiased).

    A JPEG much larger than `size` is decoded at reduced scale, which costs a fraction of the time and of the memory.

    Args:
        source: as for `read_image`; an array of (size, size, 3) is passed through untouched.
        size: side of the square that the network takes, in pixels.
        limits: ceilings on bytes and pixels.

    Raises:
        ImageError: as for `read_image`.
    """
    if isinstance(source, np.ndarray) and source.shape == (size, size, 3) and source.dtype == np.uint8:
        return Photo(source, size, size)
    image, (width, height) = _decode(source, limits or Limits(), size)
    try:
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return Photo(np.asarray(image), width, height)
    except Exception as error:  # MemoryError for one: a photo at the limit on a small machine
        raise _damaged(_name(source), error) from error


def _decode(source: ImageSource, limits: Limits, draft: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """The upright RGB image, possibly at reduced scale, and its (width, height) at full scale."""
    if isinstance(source, np.ndarray):
        image = _from_array(source, limits)
        return image, image.size
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            image, draft = source, None  # draft would change the caller's image
        else:
            image = _open(source if isinstance(source, bytes) else _read_file(source, limits), name, limits)
        _check_pixels(image.size, name, limits)
        full = image.size
        reduced = draft is not None and image.draft("RGB", (draft, draft)) is not None
        image.load()
        if not reduced:
            full = image.size  # TIFF turns itself upright while it loads
        orientation = _orientation(image)  # after load: PNG and WebP may carry EXIF behind the pixels
        image = _to_rgb(image)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
            full = full[::-1] if orientation in _SWAPS_SIDES else full
        return image, full
    except ImageError:
        raise
    except Exception as error:
        # Pillow's readers answer hostile bytes with OSError, SyntaxError, ValueError, struct.error, zlib.error,
        # MemoryError, TypeError and more; to the caller all of them mean that this photo is no good.
        raise _damaged(name, error) from error


def _name(source: ImageSource) -> str:
    """How messages call the source: its path, or what kind of thing it is."""
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, np.ndarray):
        return f"<array {source.shape} {source.dtype}>"
    return f"<{type(source).__name__}>"


def _damaged(name: str, error: Exception) -> ImageError:
    detail = str(error) or type(error).__name__
    return ImageError(
        f"{name}: cannot be decoded ({detail}); the file is damaged or truncated, save it again or leave it out"
    )


def _read_file(source: Any, limits: Limits) -> bytes:
    """The whole file, never more than the ceiling."""
    if not isinstance(source, (str, Path)):
        raise ImageError(f"{_name(source)}: not a photo; give a path, bytes, a PIL image or a (H, W, 3) uint8 array")
    try:
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{source}: a directory, not a photo; give the files in it")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe could wait for ever
            raise ImageError(f"{source}: not a regular file; copy the photo to a file first")
        _check_bytes(status.st_size, str(source), limits)
        with open(source, "rb", buffering=0) as file:
            return file.read(status.st_size)  # no more than was allowed, should the file be growing
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{source}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{source!s}: cannot be read ({reason}); check the path and its permissions") from error


def _check_bytes(count: int, name: str, limits: Limits) -> None:
    if count > limits.max_bytes:
        raise ImageLimitError(
            f"{name}: {count} bytes, over the limit of {limits.max_bytes}; save it smaller or raise max_bytes"
        )


def _check_pixels(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: an image of {width} x {height} holds no pixels; leave it out")
    if width * height > limits.max_pixels:
        raise ImageLimitError(
            f"{name}: {width} x {height} pixels, over the limit of {limits.max_pixels}; "
            "scale it down or raise max_pixels"
        )


def _open(data: bytes, name: str, limits: Limits) -> ImageFile.ImageFile:
    """Read the header with the one allowed reader that knows it.

    Not `Image.open`: its own ceiling is a module global that only warns up to twice its value; ours is an argument.
    """
    _check_bytes(len(data), name, limits)
    if not data:
        raise ImageError(f"{name}: empty (0 bytes); fetch it again or leave it out")
    refusal: Exception | None = None
    for format_name in FORMATS:
        factory, accept = Image.OPEN.get(format_name, (None, None))
        known = accept(data[:16]) if accept is not None else False
        # A sentence instead of True: this build of Pillow lacks the library.
        if factory is not None and known and not isinstance(known, str):
            try:
                return factory(io.BytesIO(data), "")
            except SyntaxError as error:  # not its format after all: AVIF and HEIF share prefixes
                refusal = error
    if refusal is not None:
        raise _damaged(name, refusal) from refusal
    formats = ", ".join(format_name for format_name in FORMATS if format_name in Image.OPEN)
    raise ImageError(f"{name}: not a photo in a known format; convert it to one of {formats}")


def _from_array(array: np.ndarray, limits: Limits) -> Image.Image:
    name = _name(array)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ImageError(f"{name}: expected (H, W, 3) uint8 RGB; convert it first")
    _check_pixels((array.shape[1], array.shape[0]), name, limits)
    return Image.fromarray(np.ascontiguousarray(array))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none. Damaged EXIF does not cost the photo: viewers ignore it."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to RGB, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits, or float, to mode "L"; `convert` would clip at 255.

    A 16-bit file is scaled by its depth. Elsewhere the depth is not known: white is the least of 1 (float), 255, 65535
    and the image's own maximum that holds every pixel. Negative values and NaN are black.
    """
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16") or getattr(image, "format", None) == "PNG":
        white = 65535.0
    else:
        top = float(values.max())
        white = next((depth for depth in ((1.0,) if image.mode == "F" else ()) + (255.0, 65535.0) if top <= depth), top)
    values *= 255.0 / white  # in place: these images are large
    values += 0.5
    return Image.fromarray(values.clip(0.0, 255.0, out=values).astype(np.uint8))
