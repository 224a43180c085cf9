"""One query of three objects, end to end on Milvus Lite, beside the sum of its encoding and the raw search."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import Encoder, connect
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search
from encoders.sketch import Sketch, SketchObject

pytestmark = pytest.mark.benchmark

PHOTOS, REPEATS = 2000, 60


def square(x: float, y: float, side: float) -> SketchObject:
    return SketchObject([[[x, x + side, x + side, x, x], [y, y, y + side, y + side, y]]])


@pytest.fixture(params=["toy", "default"])
def encoder(request, toy_encoder) -> Encoder:
    """The toy with 256 dimensions, which costs next to nothing, and the bundle that is shipped."""
    if request.param == "toy":
        return type(toy_encoder)(grid=16)
    try:
        return connect()
    except CompsketchError as error:
        pytest.skip(f"no default bundle here: {error}")


def seconds_of(*steps: Callable[[], object]) -> list[float]:
    """The median of each step's seconds, the steps taken in turn so that a busy machine is fair to all."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(REPEATS):
        for step, times in zip(steps, taken, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return [median(times) for times in taken]


def test_a_query_costs_little_more_than_its_parts(encoder, tmp_path: Path, capsys) -> None:
    rows = np.random.default_rng(0).normal(size=(PHOTOS, encoder.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sketch = Sketch(640, 480, (square(10, 10, 200), square(300, 40, 150), square(200, 300, 120)))
    with SketchCollection.open("photos", encoder, uri=str(tmp_path / "photos.db")) as photos:
        photos.upsert(PhotoVector(f"p{i:06}", f"/photos/{i}.jpg", 640, 480, row) for i, row in enumerate(rows))
        photos.flush()
        vector = encoder.encode_sketches([sketch])[0]

        def raw() -> None:
            photos.client.search(
                "photos",
                data=[vector],
                limit=20,
                search_params={"metric_type": "L2"},
                output_fields=["source", "width", "height"],
            )

        for warm in (raw, lambda: search(photos, sketch)):
            warm()
        encode, searched, whole = seconds_of(
            lambda: encoder.encode_sketches([sketch]), raw, lambda: search(photos, sketch)
        )
    ratio = whole / (encode + searched)
    with capsys.disabled():
        print(
            f"\n{encoder.name}: encode {encode * 1e3:.2f} ms + raw search {searched * 1e3:.2f} ms; "
            f"whole query {whole * 1e3:.2f} ms, ratio {ratio:.2f} (limit 1.5)"
        )
    assert ratio < 1.5
