"""The methods that are compared (section 4.3): which encoder each asks, for which vectors, and how it ranks by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from encoders.errors import CompsketchError
from encoders.evaluation.ranking import Index, rank, rerank
from encoders.sketch import Sketch

Progress = Callable[[str, int, int], None]


class Encoder(Protocol):
    """What ``ssbir`` needs; ``msbir`` also needs ``embed_photo_objects`` and ``embed_canvas``."""

    @property
    def name(self) -> str: ...

    def encode_images(self, images: Sequence[Any]) -> np.ndarray: ...

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray: ...


@dataclass
class Run:
    """One evaluation's photos, queries and encoders, and what they have encoded: no two methods encode the same twice.

    Attributes:
        encoders: By role: ``encoder``, and perhaps ``semir``.
        photos: (G,) the gallery.
        sketches: (Q,) the queries.
        index: What the methods ``@pq`` rank by.
        batch_size: Photos and sketches encoded at once.
        seed: Of ``random``.
        progress: Called with what is being encoded, how many are done, and of how many.
    """

    encoders: dict[str, Any]
    photos: Sequence[Path]
    sketches: Sequence[Sketch]
    index: Index
    batch_size: int
    seed: int
    progress: Progress
    cache: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)

    def encode(self, role: str, method: str, items: Sequence[Any], stage: str, **options: bool) -> np.ndarray:
        """Call an encoder's method on batches of photos or sketches: (n, d) float32.

        Raises:
            CompsketchError: It returns something else than one finite vector an item.
        """
        encoder, batches = self.encoders[role], []
        encode = partial(getattr(encoder, method), **options)
        for start in range(0, len(items), self.batch_size):
            batch = items[start : start + self.batch_size]
            vectors = np.asarray(encode(list(batch)), np.float32)
            if vectors.ndim != 2 or len(vectors) != len(batch) or not np.isfinite(vectors).all():
                raise CompsketchError(
                    f"encoder {encoder.name!r}, {stage}: expected {len(batch)} finite vectors, "
                    f"found {vectors.shape}" + ("" if np.isfinite(vectors).all() else " with NaN or infinity")
                )
            batches.append(vectors)
            self.progress(stage, start + len(batch), len(items))
        return np.concatenate(batches)

    def once(self, key: tuple[Any, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """What was made under ``key`` before, else ``make()``."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


@dataclass(frozen=True)
class Vectors:
    """Which vectors of queries and photos a method compares.

    Attributes:
        photos: The encoder's method for photos.
        sketches: Its method for sketches.
        role: Which encoder.
        words: Whether the method for sketches uses the objects' labels beside their strokes.
        strokes: Whether it is shown their strokes.
    """

    photos: str = "encode_images"
    sketches: str = "encode_sketches"
    role: str = "encoder"
    words: bool | None = None
    strokes: bool = True

    def of_photos(self, run: Run) -> np.ndarray:
        """(G, d)."""
        stage = f"photos: {self.photos}" + ("" if self.role == "encoder" else f" of {self.role}")
        make = partial(run.encode, self.role, self.photos, run.photos, stage)
        return run.once(("photos", self.role, self.photos), make)

    def of_sketches(self, run: Run) -> np.ndarray:
        """(Q, d)."""
        stage = f"sketches: {self.sketches}" + ("" if self.role == "encoder" else f" of {self.role}")
        sketches = run.sketches if self.strokes else [sketch.without_strokes() for sketch in run.sketches]
        options = {} if self.words is None else {"words": self.words}
        return run.once(("sketches", self), partial(run.encode, self.role, self.sketches, sketches, stage, **options))


@dataclass(frozen=True)
class Method:
    """How a method ranks.

    Attributes:
        rank: (run, depth) -> rankings (Q, depth).
        vectors: What it asks of an encoder; None for nothing.
        indexed: Whether it ranks through an approximate index.
    """

    rank: Callable[[Run, int], np.ndarray]
    vectors: Vectors | None = None
    indexed: bool = False

    def check(self, name: str, encoders: dict[str, Any]) -> None:
        """Refuse, before anything is encoded, an encoder that is missing or can't do what the method asks.

        Raises:
            CompsketchError: Saying which, and what to do.
        """
        if self.vectors is None:
            return
        encoder = encoders.get(self.vectors.role)
        if encoder is None:
            raise CompsketchError(
                f"method {name!r} needs an encoder of its own, trained on class names: give one with --semir, "
                "or semir=..., or leave the method out"
            )
        lacking = [need for need in (self.vectors.photos, self.vectors.sketches) if not hasattr(encoder, need)]
        if lacking:
            raise CompsketchError(
                f"encoder {encoder.name!r} can't do method {name!r}: it has no {' and no '.join(lacking)}; "
                f"leave the method out or take another encoder"
            )


def _exact(run: Run, depth: int, vectors: Vectors) -> np.ndarray:
    return rank(vectors.of_sketches(run), vectors.of_photos(run), depth)


def _indexed(run: Run, depth: int, vectors: Vectors) -> np.ndarray:
    """By the index's own distances, which are those of its codes."""
    return run.once(
        ("index", vectors), lambda: run.index.search(vectors.of_sketches(run), vectors.of_photos(run), depth)
    )


def _reranked(run: Run, depth: int, vectors: Vectors) -> np.ndarray:
    return rerank(vectors.of_sketches(run), vectors.of_photos(run), _indexed(run, depth, vectors))


def _random(run: Run, depth: int) -> np.ndarray:
    rng, size = np.random.default_rng(run.seed), len(run.photos)
    return np.stack([rng.choice(size, min(depth, size), replace=False) for _ in run.sketches])


# In the space of the vectors that a collection stores.
_STORED = {
    "ssbir": Vectors(words=False),
    "words": Vectors(words=True, strokes=False),
    "ssbir+words": Vectors(words=True),
    "semir": Vectors(role="semir"),
}
_CANVAS = Vectors("embed_photo_objects", "embed_canvas")

# ``ssbir``: strokes; ``words``: the labels, strokes hidden; ``ssbir+words``: both; ``semir``: class names at the boxes,
# by an encoder trained for it; ``msbir``: the canvas as one object against the whole photo. The first four also through
# an approximate index: ``ssbir@pq`` by its own distances, ``ssbir@pq+rerank`` its best ranked again on the vectors.
METHODS = {
    **{name: Method(partial(_exact, vectors=vectors), vectors) for name, vectors in _STORED.items()},
    **{f"{name}@pq": Method(partial(_indexed, vectors=vectors), vectors, True) for name, vectors in _STORED.items()},
    **{
        f"{name}@pq+rerank": Method(partial(_reranked, vectors=vectors), vectors, True)
        for name, vectors in _STORED.items()
    },
    "msbir": Method(partial(_exact, vectors=_CANVAS), _CANVAS),
    "random": Method(_random),
}
