"""One round of a canary: its queries are searched as people search, and the answers compared with those it knows."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from compsketch_milvus.canary.prepare import portion
from compsketch_milvus.canary.questions import DEPTH, Canary
from compsketch_milvus.canary.scoring import Score, judge
from compsketch_milvus.errors import FingerprintError
from compsketch_milvus.retrieval import retrieve
from compsketch_milvus.terms import Terms

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.ranking import Hit

__all__ = ["ask"]


def ask(collection: SketchCollection, canary: Canary) -> Score:
    """Search each query alone, through the collection's index, and score what was found.

    Args:
        collection: open; no encoder is needed.
        canary: prepared with the encoder that the collection has now.

    Raises:
        FingerprintError: the collection has another encoder; the message names both.
        ServerError: Milvus cannot be reached or refuses.
    """
    _check(collection, canary)
    found, seconds = [], []
    for question in canary.questions:
        started = time.perf_counter()
        (one,) = collection.carry_out(retrieve(collection, question.vector[None], Terms(DEPTH)))
        seconds.append(time.perf_counter() - started)
        found.append(one.hits)
    counts = _judged(collection, canary, found)
    return Score(
        counts["found"], counts["missed"], counts["displaced"], counts["gone"],
        tuple(seconds), collection.count(), canary.rows,
    )  # fmt: skip


def _check(collection: SketchCollection, canary: Canary) -> None:
    has = collection.identity
    if (has.fingerprint, has.dim) != (canary.fingerprint, canary.dim):
        raise FingerprintError(
            f"collection {collection.name!r} was made by encoder {has.encoder!r} ({has.fingerprint}, {has.dim}-D), the "
            f"canary's queries by {canary.encoder!r} ({canary.fingerprint}, {canary.dim}-D), and they cannot be "
            "compared; run `compsketch canary prepare` again"
        )


def _judged(collection: SketchCollection, canary: Canary, found: list[list[Hit]]) -> Counter[str]:
    """All queries' answers, by the vectors that are stored for them now, looked up after the searches."""
    asking: defaultdict[str, list[int]] = defaultdict(list)  # by id, the queries that have it for an answer
    for place, question in enumerate(canary.questions):
        for answer in question.answers:
            asking[answer.id].append(place)
    now: list[dict[str, float]] = [{} for _ in canary.questions]
    ids, step = list(asking), portion(canary.dim)
    for start in range(0, len(ids), step):
        for id, row in collection.stored(ids[start : start + step], ["vector"]).items():
            vector = np.asarray(row["vector"], np.float64)
            for place in asking[id]:
                now[place][id] = float(((vector - canary.questions[place].vector) ** 2).sum())
    counts: Counter[str] = Counter()
    for question, hits, squares in zip(canary.questions, found, now, strict=True):
        counts += judge((answer.id for answer in question.answers), hits, squares, DEPTH)
    return counts
