"""The making of a canary: queries are drawn, and compared with every vector that the collection stores.

The collection is read page by page, and of each query the nearest photos so far are kept, so that memory does not grow
with the collection: one page of vectors, and `DEPTH` ids a query. Photos that are stored or deleted meanwhile do no
harm: `scoring` says how they count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compsketch_milvus.canary.questions import DEPTH, Answer, Canary, Question
from compsketch_milvus.contents import LONG
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.paging import pages
from compsketch_milvus.search import checked_vectors

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from encoders.sketch import Sketch

__all__ = ["MOVED", "portion", "prepare"]

MOVED = 0.2  # length of what is added to a photo's vector of length 1: it stays the nearest by far, but is no copy
IDS = 8192  # a page without vectors
PAGE_BYTES = 8 * 1024 * 1024  # of vectors; as Python's floats a page takes eight times the memory

Progress = Callable[[str, int, int], None]


def portion(dim: int, most: int = 4096) -> int:
    """How many rows with their vectors go into one answer of Milvus."""
    return max(1, min(most, PAGE_BYTES // (4 * dim)))


def prepare(
    collection: SketchCollection,
    name: str,
    *,
    photos: int,
    sketches: Mapping[Path, Sketch] | None = None,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Canary:
    """Draw queries, and find the exact answers of each.

    Args:
        collection: open; with its encoder where there are sketches.
        name: by which it was asked for.
        photos: queries that are vectors of random photos moved a little; fewer where there are fewer photos.
        sketches: queries that are drawings, by file.
        seed: of the photos, and of how they are moved: with the same one the same collection gives the same queries.
        progress: told a stage and how far it is.

    Raises:
        CollectionError: the collection holds no photo.
        ServerError: Milvus cannot be reached or refuses.
    """
    rows = collection.count()
    if not rows:
        raise CollectionError(f"collection {collection.name!r} holds no photo; ingest some, then prepare the canary")
    queries = dict(_moved_photos(collection, photos, rows, seed, progress)) if photos else {}
    if sketches:
        encoded = collection.encoder.encode_sketches(list(sketches.values()))  # (n, d)
        queries |= zip(map(str, sketches), checked_vectors(encoded, collection.dim), strict=True)
    compared, answers = _nearest(collection, np.stack(list(queries.values())), rows, progress)
    return Canary(
        collection=name,
        encoder=collection.identity.encoder,
        fingerprint=collection.identity.fingerprint,
        dim=collection.dim,
        rows=compared,
        prepared=time.time(),
        questions=tuple(
            Question(origin, vector, nearest)
            for (origin, vector), nearest in zip(queries.items(), answers, strict=True)
        ),
    )


def _moved_photos(
    collection: SketchCollection, wanted: int, rows: int, seed: int, progress: Progress
) -> Iterator[tuple[str, np.ndarray]]:
    """Random photos by id, with a vector near theirs."""
    ids = _drawn(collection, wanted, rows, random.Random(seed), progress)
    noise, step = np.random.default_rng(seed), portion(collection.dim)
    for start in range(0, len(ids), step):
        stored = collection.stored(ids[start : start + step], ["vector"])
        for id in ids[start : start + step]:
            aside = noise.normal(size=collection.dim)
            if id in stored:  # or it was deleted since it was drawn
                vector = np.asarray(stored[id]["vector"], np.float64) + MOVED * aside / np.linalg.norm(aside)
                yield id, (vector / np.linalg.norm(vector)).astype(np.float32)


def _drawn(
    collection: SketchCollection, wanted: int, rows: int, chance: random.Random, progress: Progress
) -> list[str]:
    """So many ids, each as likely as any other, without holding them all: a reservoir."""
    held: list[str] = []
    seen = 0
    for page in pages(partial(collection.call, timeout=LONG), "id", [], size=IDS):
        for row in page:
            place = seen if seen < wanted else chance.randrange(seen + 1)
            if seen < wanted:
                held.append(row["id"])
            elif place < wanted:
                held[place] = row["id"]
            seen += 1
        progress("draw", min(seen, rows), rows)
    return held


def _nearest(
    collection: SketchCollection, queries: np.ndarray, rows: int, progress: Progress
) -> tuple[int, list[tuple[Answer, ...]]]:
    """How many photos were compared, and the nearest ones of each of the (Q, d) queries."""
    queries = queries.astype(np.float64)
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    compared = 0
    for page in pages(partial(collection.call, timeout=LONG), "id", ["vector"], size=portion(collection.dim)):
        stored = np.array([row["vector"] for row in page], np.float64)  # (n, d)
        squares = (queries**2).sum(axis=1)[:, None] + (stored**2).sum(axis=1) - 2 * queries @ stored.T  # (Q, n)
        for held, row in zip(best, np.maximum(squares, 0.0), strict=True):
            near = np.argsort(row)[:DEPTH]
            held[:] = sorted([*held, *((float(row[place]), page[place]["id"]) for place in near)])[:DEPTH]
        compared += len(page)
        progress("compare", min(compared, rows), rows)
    return compared, [tuple(Answer(id, float(np.sqrt(square))) for square, id in held) for held in best]
