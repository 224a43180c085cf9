"""Small studies: every photo has a number, which is what is true of it, so that raters can be simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compsketch_milvus.study.rankings import Check, Found, Rankings
from encoders.sketch import Sketch

DEPTH, QUERIES = 3, 3


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def truth_of(source: str) -> int:
    """What a photo deserves, 1 to 5; it is in its file's name, which no rater sees."""
    return int(Path(source).stem.rpartition("-")[2])


def drawing(objects: int) -> Sketch:
    """Boxes beside one another."""
    items = [
        {"label": "cup", "strokes": [[[20 + 90 * i, 90 + 90 * i, 90 + 90 * i, 20 + 90 * i], [60, 60, 200, 60]]]}
        for i in range(objects)
    ]
    return Sketch.from_dict({"width": 320, "height": 240, "objects": items})


def rankings(
    folder: Path, *, queries: int = QUERIES, depth: int = DEPTH, checks: bool = True, seed: int = 0
) -> Rankings:
    """Photos whose truth falls with the rank for ssbir, is 3 or 2 for semir, 1 for chance; one photo shared."""
    folder.mkdir(exist_ok=True)
    rng, found = np.random.default_rng(seed), []
    for number in range(queries):

        def photo(name: str, truth: int, number: int = number) -> str:
            path = folder / f"q{number}-{name}-{truth}.png"
            if not path.exists():
                pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
                Image.fromarray(pixels).save(path)
            return str(path)

        ranked = {
            "ssbir": [photo(f"a{rank}", max(1, 5 - rank)) for rank in range(depth)],
            "semir": [photo("a0", 5), *(photo(f"b{rank}", 2 + rank % 2) for rank in range(1, depth))],
            "random": [photo(f"r{rank}", 1) for rank in range(depth)],
        }
        check = Check(photo("good", 5), (photo("bad", 1), photo("worse", 1))) if checks else None
        found.append(Found(drawing(1 + number % 3), ranked, check))
    return Rankings(found, {"ssbir": "toy 0123", "semir": "toy 4567"}, {"photos": 99})
