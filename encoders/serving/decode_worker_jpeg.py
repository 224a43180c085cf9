"""A decode worker that has JPEGs decoded by a GPU, through torchvision's nvJPEG: for machines of few cores a GPU.

It imports torch, and each worker takes its own context on the GPU, some hundred megabytes; it is a process of its own
like the others, so a hostile file ends no more than that. Whatever is no plain JPEG goes the way of `load_photo`, also
what must be turned upright. Pixels are nvJPEG's and the resizing's, a grey level or two from `load_photo`'s; vectors
differ by less than half precision's error. Its code is tested on the CPU; on a GPU it was not run.
"""

from __future__ import annotations

import io
import warnings
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from encoders.images import Limits, Photo, load_photo
from encoders.serving.decode_worker import serve

JPEG = b"\xff\xd8\xff"
ORIENTATION = 0x0112


def main(descriptor: int, size: int, max_bytes: int, max_pixels: int, seconds: float, device: str) -> None:
    """Runs the worker at its end of the socket; CUDA maps more address space than a limit could allow."""
    load = partial(load_jpeg, size=size, limits=Limits(max_bytes, max_pixels), device=device)
    load(_probe())  # the context is made before the first photo's time runs
    serve(descriptor, load, seconds)


def load_jpeg(content: bytes, size: int, *, limits: Limits, device: str) -> Photo:
    """A photo stretched to size x size: by the device if it is a plain JPEG, else by `load_photo`.

    Raises:
        ImageError: As for `load_photo`.
    """
    plain = _plain(content, limits)
    if plain is None:
        return load_photo(content, size, limits=limits)
    width, height = plain
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    try:
        with warnings.catch_warnings():  # torchvision 0.29 points to TorchCodec, which would be one library more
            warnings.simplefilter("ignore", DeprecationWarning)
            pixels = decode_jpeg(encoded, ImageReadMode.RGB, device=device)  # (3, H, W)
    except RuntimeError:  # damaged, or of a kind that nvJPEG lacks: Pillow says which
        return load_photo(content, size, limits=limits)
    square = interpolate(pixels[None].float(), (size, size), mode="bilinear", antialias=True)  # (1, 3, size, size)
    rounded = square[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()  # (size, size, 3)
    return Photo(rounded.cpu().numpy(), width, height)


def _plain(content: bytes, limits: Limits) -> tuple[int, int] | None:
    """Width and height of an upright JPEG in RGB or grey within the limits; None for all else."""
    if not content.startswith(JPEG) or len(content) > limits.max_bytes:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as header:
            upright = header.getexif().get(ORIENTATION, 1) == 1
            width, height = header.size
            known = header.mode in ("RGB", "L") and width * height <= limits.max_pixels
    except Exception:  # a damaged header: `load_photo` says how
        return None
    return (width, height) if upright and known else None


def _probe() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()
