"""What the messages of `encoder.proto` hold, as numpy arrays, `Sketch` and `Explanation`; for both ends, without torch.

What comes from the other end is counted before it is turned into Python's objects, which take many times its bytes.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from encoders.calibration import Calibration
from encoders.errors import CompsketchError, SketchError
from encoders.explain import Explanation
from encoders.formats import strokes_json
from encoders.query import MAX_OBJECTS
from encoders.serving import encoder_pb2 as pb
from encoders.sketch import MAX_POINTS, Sketch

__all__ = [
    "MAX_JSON",
    "WireError",
    "calibration",
    "explanation",
    "explanation_message",
    "image_content",
    "image_message",
    "model_message",
    "pack",
    "sketch",
    "sketch_message",
    "unpack",
]

MAX_VALUE = 65504.0  # half precision's largest: each vector may have to be sent in it
MAX_JSON = 8 * 2**20  # bytes of one sketch's text; a Canvas says the same in fewer
_TYPES: dict[int, np.dtype[Any]] = {
    pb.PRECISION_UNSPECIFIED: np.dtype("<f4"),
    pb.PRECISION_FLOAT32: np.dtype("<f4"),
    pb.PRECISION_FLOAT16: np.dtype("<f2"),
}


class WireError(CompsketchError):
    """A message that is not what the protocol says."""


# --- vectors ---


def pack(rows: np.ndarray, precision: int = pb.PRECISION_FLOAT32) -> bytes:
    """Rows (B, n), or one (n,), as little-endian bytes.

    Raises:
        WireError: an unknown precision.
    """
    return np.ascontiguousarray(rows, _type(precision)).tobytes()


def unpack(data: bytes, width: int, precision: int = pb.PRECISION_FLOAT32) -> np.ndarray:
    """The inverse of `pack`: (B, width) float32, the caller's own.

    Raises:
        WireError: an unknown precision, no whole number of rows, or numbers that no vector holds.
    """
    kind = _type(precision)
    if width < 1 or len(data) % (width * kind.itemsize):
        raise WireError(f"{len(data)} bytes are no whole number of rows of {width} {kind.name} values")
    rows = np.frombuffer(data, kind).reshape(-1, width).astype(np.float32)  # (B, width)
    if not np.abs(rows).max(initial=0.0) <= MAX_VALUE:  # true for NaN, too
        raise WireError(f"a vector holds a number that is not finite, or beyond {MAX_VALUE:g}")
    return rows


def _type(precision: int) -> np.dtype[Any]:
    if precision not in _TYPES:
        raise WireError(f"precision {precision} is unknown; choose PRECISION_FLOAT32 or PRECISION_FLOAT16")
    return _TYPES[precision]


# --- photos ---


def image_message(content: bytes | np.ndarray) -> pb.Image:
    """A photo's file as bytes, or its decoded pixels (S, S, 3) uint8."""
    if isinstance(content, bytes):
        return pb.Image(encoded=content)
    return pb.Image(pixels=np.ascontiguousarray(content, np.uint8).tobytes())


def image_content(message: pb.Image, size: int) -> bytes | np.ndarray:
    """The inverse of `image_message`; pixels are read-only.

    Args:
        message: the photo.
        size: S, the model's `image_size`.

    Raises:
        WireError: no content, or pixels of another size.
    """
    which = message.WhichOneof("content")
    if which == "encoded":
        return message.encoded
    if which is None:
        raise WireError("the photo has neither encoded bytes nor pixels; send one of them")
    if len(message.pixels) != size * size * 3:
        raise WireError(
            f"the photo's pixels are {len(message.pixels)} bytes; this model takes {size} x {size} x 3 RGB, "
            f"{size * size * 3} bytes"
        )
    return np.frombuffer(message.pixels, np.uint8).reshape(size, size, 3)


# --- sketches ---


def sketch_message(drawn: Sketch) -> pb.Sketch:
    """A sketch as a typed canvas, every number exact."""
    objects = [
        pb.SketchObject(
            strokes=[pb.Stroke(x=x.tolist(), y=y.tolist()) for x, y in item.strokes],
            label=item.label or "",
            bbox=item.bbox or (),
            weight=item.weight,
            photo=item.photo or b"",
        )
        for item in drawn.objects
    ]
    return pb.Sketch(canvas=pb.Canvas(width=drawn.width, height=drawn.height, objects=objects))


def sketch(message: pb.Sketch) -> Sketch:
    """The sketch of a message, from its JSON or its canvas.

    Raises:
        SketchError: it is none, or passes a limit.
    """
    which = message.WhichOneof("content")
    if which is None:
        raise SketchError("the sketch has neither JSON nor a canvas; send one of them")
    if which == "canvas":
        return Sketch.from_dict(_canvas(message.canvas))
    text = message.json.encode()
    if len(text) > MAX_JSON:
        raise SketchError(f"the sketch has {len(text)} bytes of JSON, and {MAX_JSON} is the limit; send it as a canvas")
    return Sketch.from_dict(strokes_json.read(text))


def _canvas(canvas: pb.Canvas) -> dict[str, Any]:
    """Stroke JSON's dict of a canvas."""
    if len(canvas.objects) > MAX_OBJECTS:
        raise SketchError(f"the sketch has {len(canvas.objects)} objects; keep to {MAX_OBJECTS} or fewer")
    strokes = sum(len(item.strokes) for item in canvas.objects)
    if strokes > MAX_POINTS:
        raise SketchError(f"the sketch has {strokes} strokes; keep to {MAX_POINTS} or fewer")
    points = sum(max(len(stroke.x), len(stroke.y)) for item in canvas.objects for stroke in item.strokes)
    if points > MAX_POINTS:
        raise SketchError(f"the sketch has {points} points; simplify its strokes to {MAX_POINTS} or fewer")
    return {"width": canvas.width, "height": canvas.height, "objects": [_object(item) for item in canvas.objects]}


def _object(item: pb.SketchObject) -> dict[str, Any]:
    return {
        "strokes": [(list(stroke.x), list(stroke.y)) for stroke in item.strokes],
        "label": item.label or None,
        "bbox": item.bbox[:5] or None,  # a fifth is enough to refuse it
        "weight": item.weight if item.HasField("weight") else 1.0,
        "photo": item.photo or None,
    }


# --- explanations ---


def explanation_message(one: Explanation) -> pb.Explanation:
    """The parts of one photo's score."""
    objects, canvas = np.ascontiguousarray(one.objects, "<f8"), np.ascontiguousarray(one.canvas, "<f8")
    return pb.Explanation(objects=objects.tobytes(), canvas=canvas.tobytes(), bias=one.bias)


def explanation(message: pb.Explanation) -> Explanation:
    """The inverse of `explanation_message`.

    Raises:
        WireError: its maps are not whole.
    """
    side = round((len(message.canvas) / 8) ** 0.5)
    cells = side * side * 8
    if not cells or len(message.canvas) != cells or len(message.objects) % cells:
        raise WireError(f"an explanation of {len(message.objects)} and {len(message.canvas)} bytes has no whole maps")
    objects = np.frombuffer(message.objects, "<f8").reshape(-1, side, side).astype(np.float64)
    return Explanation(
        objects, np.frombuffer(message.canvas, "<f8").reshape(side, side).astype(np.float64), message.bias
    )


# --- models ---


def model_message(encoder: Any) -> pb.Model:
    """What there is to know of an encoder; the parts that it may lack are empty."""
    told = getattr(encoder, "calibration", None)
    return pb.Model(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        image_size=encoder.image_size,
        device=encoder.device,
        networks=getattr(encoder, "networks", ""),
        features=getattr(encoder, "features", 0),
        explains=hasattr(encoder, "explain"),
        calibration="" if told is None else json.dumps(told.to_dict(), allow_nan=False),
        vocabulary=getattr(encoder, "vocabulary", ()),
    )


def calibration(model: pb.Model) -> Calibration | None:
    """How the model's scores are read as probabilities, if it says.

    Raises:
        WireError: what it says is no JSON.
        BundleError: it is no calibration.
    """
    if not model.calibration:
        return None
    try:
        return Calibration.from_dict(json.loads(model.calibration))
    except json.JSONDecodeError as error:
        raise WireError(f"model {model.name!r}: its calibration is no JSON ({error.msg})") from None
