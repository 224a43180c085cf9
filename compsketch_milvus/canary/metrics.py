"""What Prometheus is told of a canary."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from compsketch_milvus.canary.questions import Canary
from compsketch_milvus.canary.scoring import STATES, Score

__all__ = ["OUTCOMES", "CanaryMetrics"]

OUTCOMES = ("good", "low", "unanswered")  # of a round: its recall is at the floor or over it, under it, or not known
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
COLLECTION = ("collection",)


class CanaryMetrics:
    """All metrics of one canary.

    Args:
        collection: the one that is asked.
        floor: recall under which it is too low.
    """

    def __init__(self, collection: str, floor: float) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"namespace": "compsketch_canary", "registry": self.registry}
        self._collection = collection
        self._recall = Gauge("recall", "Recall@10 of the last round; NaN where nothing counts", COLLECTION, **known)
        self._floor = Gauge("recall_floor", "Recall under which it is too low", COLLECTION, **known)
        self._answers = Gauge("answers", "Recorded answers by what became of them", (*COLLECTION, "state"), **known)
        self._changed = Gauge("changed_ratio", "How much has changed since it was prepared", COLLECTION, **known)
        self._seconds = Histogram("search_seconds", "How long searches took", COLLECTION, buckets=SECONDS, **known)
        self._rounds = Counter("rounds", "Rounds by how they ended", (*COLLECTION, "outcome"), **known)
        self._prepared = Gauge("prepared_timestamp_seconds", "When its answers were taken down", COLLECTION, **known)
        self._asked = Gauge("last_success_timestamp_seconds", "When it was last answered", COLLECTION, **known)
        self._floor.labels(collection).set(floor)
        for outcome in OUTCOMES:  # there from the start, so that a rate has something to begin from
            self._rounds.labels(collection, outcome)
        self._asked.labels(collection).set(time.time())  # of a search that never answers it tells since when

    def answered(self, canary: Canary, score: Score, good: bool) -> None:
        """A round has ended with answers."""
        name, recall = self._collection, score.recall
        self._recall.labels(name).set(float("nan") if recall is None else recall)
        for state in STATES:
            self._answers.labels(name, state).set(getattr(score, state))
        self._changed.labels(name).set(score.changed)
        for seconds in score.seconds:
            self._seconds.labels(name).observe(seconds)
        self._rounds.labels(name, "good" if good else "low").inc()
        self._prepared.labels(name).set(canary.prepared)
        self._asked.labels(name).set(time.time())

    def unanswered(self) -> None:
        """A round has ended without answers: the server is away."""
        self._rounds.labels(self._collection, "unanswered").inc()
