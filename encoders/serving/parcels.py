"""Photos and sketches as they travel: packed for the service, and what comes back made of it.

A photo goes as its file where that is smaller than the pixels the network takes, else decoded here, the same pixels
either way. A file that the server cannot take is decoded here, too: then either its pixels go, or the error is the one
that an encoder on this machine would raise.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import CompsketchError, ImageError
from encoders.images import load_photo
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.calls import CallFailed
from encoders.serving.faults import Reason

__all__ = ["Outcome", "Parcel", "Photos", "Sketches", "check_busy"]

BUSY_SECONDS = 0.1  # to wait, where one item met a full queue

# A vector (d,) or features (F,), or why there are none.
Outcome = np.ndarray | CompsketchError


@dataclass(frozen=True)
class Parcel:
    """One item, packed.

    Args:
        message: for the service; None if it could not be packed.
        error: why not.
        source: what it was packed of, where that may be needed again.
    """

    message: Any = None
    error: CompsketchError | None = None
    source: Any = None


class Photos:
    """Photos to vectors, or to features.

    Args:
        size: side of the square, in pixels, to which the model stretches a photo.
        width: values of a row that comes back.
        options: for the service.
    """

    unary, stream = "EncodeImages", "StreamImages"

    def __init__(self, size: int, width: int, options: pb.Options) -> None:
        self.size, self.width, self.options = size, width, options

    def light(self, source: Any) -> bool:
        """Whether packing it takes no time to speak of."""
        return _is_square(source, self.size)

    def pack(self, source: Any) -> Parcel:
        """A path, encoded bytes, a Pillow image or pixels, ready to be sent."""
        content = None if _is_square(source, self.size) else _small_file(source, self.size * self.size * 3)
        if content is not None:
            return Parcel(wire.image_message(content), source=source)
        try:
            return Parcel(wire.image_message(load_photo(source, self.size).pixels))
        except ImageError as error:
            return Parcel(error=error)

    def unpack(self, parcel: Parcel, answer: pb.Vector) -> Outcome | Parcel:
        """The row that came back, or an error; or what to send instead."""
        if answer.WhichOneof("result") == "values":
            return _row(answer, self.width)
        reason, message = answer.fault.reason, answer.fault.message
        if reason in (Reason.INVALID, Reason.TOO_LARGE) and parcel.source is not None:
            return self._decoded_here(parcel.source)
        if reason in (Reason.INVALID, Reason.TOO_LARGE, Reason.CRASHED):
            name = f"{parcel.source}: " if isinstance(parcel.source, (str, Path)) else ""
            return ImageError(f"{name}{message or 'the encoder service refuses it; leave the photo out'}")
        return _not_its_own(answer)

    def _decoded_here(self, source: Any) -> Outcome | Parcel:
        try:
            return Parcel(wire.image_message(load_photo(source, self.size).pixels))
        except ImageError as error:
            return error

    def few(self, parcels: Sequence[Parcel]) -> pb.EncodeImagesRequest:
        """All in one request."""
        return pb.EncodeImagesRequest(options=self.options, images=[parcel.message for parcel in parcels])

    def part(self, keyed: Sequence[tuple[int, Parcel]], *, first: bool) -> pb.StreamImagesRequest:
        """A part of a stream."""
        images = [pb.KeyedImage(key=key, image=parcel.message) for key, parcel in keyed]
        return pb.StreamImagesRequest(options=self.options if first else None, images=images)


class Sketches:
    """Sketches to vectors.

    Args:
        width: d.
        options: for the service.
    """

    unary, stream = "EncodeSketches", "StreamSketches"

    def __init__(self, width: int, options: pb.Options) -> None:
        self.width, self.options = width, options

    def light(self, source: Any) -> bool:
        """See `Photos.light`."""
        return True

    def pack(self, source: Any) -> Parcel:
        """A `Sketch`, ready to be sent."""
        return Parcel(wire.sketch_message(source))

    def unpack(self, parcel: Parcel, answer: pb.Vector) -> Outcome | Parcel:
        """The row that came back, or an error."""
        if answer.WhichOneof("result") == "values":
            return _row(answer, self.width)
        if answer.fault.reason in (Reason.INVALID, Reason.TOO_LARGE):
            return CompsketchError(answer.fault.message)
        return _not_its_own(answer)

    def few(self, parcels: Sequence[Parcel]) -> pb.EncodeSketchesRequest:
        """All in one request."""
        return pb.EncodeSketchesRequest(options=self.options, sketches=[parcel.message for parcel in parcels])

    def part(self, keyed: Sequence[tuple[int, Parcel]], *, first: bool) -> pb.StreamSketchesRequest:
        """A part of a stream."""
        sketches = [pb.KeyedSketch(key=key, sketch=parcel.message) for key, parcel in keyed]
        return pb.StreamSketchesRequest(options=self.options if first else None, sketches=sketches)


def _row(answer: pb.Vector, width: int) -> np.ndarray:
    rows = wire.unpack(answer.values, width)
    if len(rows) != 1:
        raise wire.WireError(f"the service answered {len(rows)} rows for one item; is it of another version?")
    return rows[0]


def check_busy(answer: pb.Vector) -> None:
    """Raise CallFailed for an item that met a full queue: it is to be sent again, as if the call had been refused."""
    if answer.fault.reason == Reason.BUSY:
        raise CallFailed("RESOURCE_EXHAUSTED", answer.fault.message or "busy", BUSY_SECONDS)


def _not_its_own(answer: pb.Vector) -> CompsketchError:
    check_busy(answer)
    return CompsketchError(f"the encoder service failed ({answer.fault.message}); its log says more")


def _is_square(source: Any, size: int) -> bool:
    return isinstance(source, np.ndarray) and source.shape == (size, size, 3) and source.dtype == np.uint8


def _small_file(source: Any, most: int) -> bytes | None:
    """The photo's file, if it is one and smaller than so many bytes; what cannot be read is left to `load_photo`."""
    if isinstance(source, bytes):
        return source if 0 < len(source) < most else None
    if not isinstance(source, (str, Path)):
        return None
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size < most:
            return None
        with open(source, "rb", buffering=0) as file:
            return file.read(status.st_size)
    except (OSError, ValueError):
        return None
