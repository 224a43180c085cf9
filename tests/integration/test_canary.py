"""A canary on a real server: what it says of an index that looks at too few lists, against a brute force."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from compsketch_milvus import SketchCollection
from compsketch_milvus.canary.asking import ask
from compsketch_milvus.canary.prepare import prepare
from compsketch_milvus.canary.questions import Canary
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search_vectors

pytestmark = pytest.mark.xdist_group("milvus")

ROWS, DIM = 6000, 32
LISTS = 8  # of some 750 photos each: where a search finds fewer than the 200 that it ranks again, it looks at all


class Narrow:
    """An encoder of 32-D that is given its vectors."""

    name, dim, fingerprint, device, image_size = "narrow", DIM, "narrow-0000000000000000", "cpu", 32

    def encode_images(self, images):
        raise NotImplementedError

    encode_sketches = embed_images = encode_images


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def photos_of(stored: dict[str, np.ndarray]) -> Iterator[PhotoVector]:
    return (PhotoVector(id, "s", 1, 1, row) for id, row in stored.items())


@pytest.fixture
def stored() -> dict[str, np.ndarray]:
    """Photos' vectors by id, in no groups, so that the nearest lie in several lists."""
    rows = unit(np.random.default_rng(0).normal(size=(ROWS, DIM)))
    return {f"p{number:05}": row for number, row in enumerate(rows)}


@pytest.fixture
def open_(milvus_server: str) -> Iterator[Callable[..., SketchCollection]]:
    """`SketchCollection.open` on one collection."""
    name, opened = f"c_{secrets.token_hex(6)}", []

    def at(index: str, **params: int) -> SketchCollection:
        opened.append(SketchCollection.open(name, Narrow(), uri=milvus_server, index=index, index_params=params))
        return opened[-1]

    yield at
    for collection in opened[1:]:
        collection.close()
    opened[0].drop()


def recall(collection: SketchCollection, canary: Canary, stored: dict[str, np.ndarray]) -> float:
    """Of the true ten nearest that a canary can know of, the share that the same searches find; the truth by numpy."""
    ids, rows = list(stored), np.stack(list(stored.values())).astype(np.float64)
    known = found = 0
    for question in canary.questions:
        nearest = {ids[place] for place in np.argsort(np.linalg.norm(rows - question.vector, axis=1))[:10]}
        true = nearest & {answer.id for answer in question.answers}
        known += len(true)
        found += len(true & {hit.id for hit in search_vectors(collection, question.vector, 10)[0]})
    return found / known


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.5)


def test_an_index_that_looks_at_too_few_lists_is_seen_and_recall_is_that_of_a_brute_force(open_, stored) -> None:
    every = open_("IVF_PQ", nlist=LISTS, nprobe=LISTS)
    every.upsert(photos_of(stored))
    every.flush()
    every.optimize(wait=120)
    canary, few = prepare(every, "photos", photos=12), open_("IVF_PQ", nlist=LISTS, nprobe=1)
    assert (canary.rows, few.index.search_params) == (ROWS, {"nprobe": 1})
    # The server goes over to the index in its own time: before, it looks at every row, then for a moment at some.
    eventually(lambda: ask(every, canary).recall > 0.97 and ask(few, canary).recall < 0.9)
    good, bad = ask(every, canary), ask(few, canary)
    assert good.recall == pytest.approx(recall(every, canary, stored))
    assert bad.recall == pytest.approx(recall(few, canary, stored))
    assert good.recall > 0.97
    assert bad.recall < 0.9
    assert (bad.found + bad.missed, bad.displaced, bad.gone) == (120, 0, 0)

    # Milvus 2.3 searches its IVF_PQ wrongly once rows are left out of it: whatever it makes of them, the two agree.
    gone = sorted(stored)[::10]
    every.delete(gone)
    later = ask(every, canary)
    left = {id: row for id, row in stored.items() if id not in set(gone)}
    assert later.recall == pytest.approx(recall(every, canary, left))
    assert (later.rows, later.gone) == (len(left), 120 - later.found - later.missed)
    assert later.gone > 3


def test_photos_that_come_and_go_do_not_lower_the_recall_of_an_exact_index(open_, stored) -> None:
    photos = open_("FLAT")
    photos.upsert(photos_of(dict(list(stored.items())[:500])))
    canary = prepare(photos, "photos", photos=12)
    photos.delete(sorted(stored)[:500:10])
    near = [unit(question.vector + aside) for question in canary.questions for aside in (0.01, -0.01)]
    photos.upsert(photos_of({f"n{number}": row for number, row in enumerate(near)}))
    score = ask(photos, canary)
    assert (score.recall, score.missed, score.rows) == (1.0, 0, 474)
    assert min(score.gone, score.displaced) > 2
