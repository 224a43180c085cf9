"""The worker for nvJPEG, with torchvision's decoder for the CPU in its place: what it does by itself, and what not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from encoders.errors import ImageError, ImageLimitError
from encoders.images import Limits, load_photo
from encoders.serving import decode_worker_jpeg
from encoders.serving.decode_worker_jpeg import load_jpeg
from encoders.serving.decoding import Decoders, jpeg_command
from encoders.serving.lanes import Lane
from tests.encoders.serving.stage import on_a_loop

SIZE = 224


def encoded(form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(load_sample_images().images[0]).convert(mode).save(file, form, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(exif=exif)


def load(content: bytes, limits: Limits | None = None):
    return load_jpeg(content, SIZE, limits=limits or Limits(), device="cpu")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_is_decoded_as_load_photo_would_but_for_a_grey_level(mode, monkeypatch):
    content = encoded(mode=mode)
    expected = load_photo(content, SIZE)
    monkeypatch.setattr(decode_worker_jpeg, "load_photo", None)  # it is not asked
    photo = load(content)
    assert (photo.width, photo.height) == (expected.width, expected.height)
    assert photo.pixels.shape == (SIZE, SIZE, 3)
    assert photo.pixels.dtype == np.uint8
    assert np.abs(photo.pixels.astype(int) - expected.pixels).mean() < 1


@pytest.mark.parametrize("content", [turned(), encoded("PNG"), encoded(mode="CMYK")], ids=["turned", "png", "cmyk"])
def test_all_else_goes_the_way_of_load_photo(content):
    expected, photo = load_photo(content, SIZE), load(content)
    assert (photo.width, photo.height) == (expected.width, expected.height)
    assert np.array_equal(photo.pixels, expected.pixels)


def test_errors_are_those_of_load_photo():
    content = encoded()
    with pytest.raises(ImageLimitError, match="640 x 427 pixels, over the limit of 1000"):
        load(content, Limits(max_pixels=1000))
    with pytest.raises(ImageError, match="damaged or truncated"):
        load(content[:3000])
    with pytest.raises(ImageError, match="damaged"):
        load(content[:20] + b"\xff" * 50)


@on_a_loop
async def test_it_serves_as_a_worker():
    decoders = Decoders(SIZE, Limits(), workers=1, run=jpeg_command(SIZE, Limits(), 20.0, "cpu"))
    await decoders.start()
    photo = await decoders.decode(encoded(), lane=Lane.BULK)
    await decoders.close()
    assert np.array_equal(photo.pixels, load(encoded()).pixels)
