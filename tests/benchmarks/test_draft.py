"""What decoding JPEGs at reduced scale gains."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from encoders.images import load_photo, read_image

pytestmark = pytest.mark.benchmark


def photo_like(width: int, height: int) -> bytes:
    """A JPEG with detail at every scale, of about the bytes a camera's photo has."""
    random = np.random.default_rng(0)
    layers = [random.integers(0, 255, (height // step, width // step, 3), dtype=np.uint8) for step in (160, 40, 10)]
    scaled = [Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC) for layer in layers]
    stream = io.BytesIO()
    Image.blend(Image.blend(scaled[0], scaled[1], 0.4), scaled[2], 0.2).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def best_of(function: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_a_12_megapixel_photo_is_decoded_at_less_than_half_the_cost():
    data = photo_like(4000, 3000)
    whole = best_of(lambda: read_image(data).resize((224, 224), Image.Resampling.BILINEAR), 5)
    drafted = best_of(lambda: load_photo(data, 224), 5)
    print(
        f"\n4000 x 3000, {len(data) / 1e6:.1f} MB: whole {whole * 1e3:.0f} ms, draft {drafted * 1e3:.0f} ms, "
        f"{whole / drafted:.1f} x"
    )
    assert whole / drafted > 2


def test_the_checks_cost_little_beside_pillow():
    data = photo_like(352, 264)

    def bare() -> None:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))

    ours = best_of(lambda: load_photo(data, 224), 200)
    theirs = best_of(bare, 200)
    print(f"\n352 x 264: {1 / ours:.0f} photos/s a thread, bare Pillow {1 / theirs:.0f}")
    assert ours < 1.25 * theirs
