"""What counts as found and as missed, in a collection that goes on changing after its answers were taken down.

Each recorded answer of a query is one of four, by what the collection stores now:

    gone        no photo has its id any more. It is not counted.
    found       it is among the photos that the search gave.
    displaced   it is not among them, and none of them is farther from the query than it is now, by the vector stored
                for it now: what was added since, or changed, has rightly taken its place. It is not counted.
    missed      it is not among them although it is nearer than one of them, or they are fewer than were asked for.

Recall is found / (found + missed). In a collection that has not changed that is recall@10 as everybody counts it. In
one that has, an exact search still scores 1, whatever was added, deleted or replaced, as it never gives a photo that is
farther than one it leaves out. Photos added since are among no recorded answers, so a search that misses those alone
scores 1, too: when much has changed, the canary has to be prepared again, and `Score.advice` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compsketch_milvus.ranking import Hit

__all__ = ["CHANGED", "STATES", "Score", "judge"]

STATES = ("found", "missed", "displaced", "gone")
CHANGED = 0.2  # of the answers, or of the photos, after which the answers say little of the collection
ROUNDING = 1e-5  # of the square of a distance, as Milvus computes it in float32


@dataclass(frozen=True)
class Score:
    """How a canary fared once.

    Args:
        found: answers found.
        missed: answers that the search should have given, and did not.
        displaced: answers in whose place nearer photos were found.
        gone: answers that are not in the collection any more.
        seconds: that each query's search took.
        rows: photos in the collection now.
        rows_prepared: photos that there were when the answers were taken down.
    """

    found: int
    missed: int
    displaced: int
    gone: int
    seconds: tuple[float, ...]
    rows: int
    rows_prepared: int

    @property
    def recall(self) -> float | None:
        """0 to 1; None where no answer can be counted."""
        counted = self.found + self.missed
        return self.found / counted if counted else None

    @property
    def changed(self) -> float:
        """How much has changed since: the share of answers not counted, or of photos more or fewer, if that is more."""
        answers = self.found + self.missed + self.displaced + self.gone
        fewer = (self.displaced + self.gone) / answers
        return max(fewer, abs(self.rows - self.rows_prepared) / self.rows_prepared)

    @property
    def advice(self) -> str:
        """What to do about a canary that says little by now; empty while it says enough."""
        if self.recall is not None and self.changed <= CHANGED:
            return ""
        return (
            f"{self.gone + self.displaced} of the answers are gone or displaced, and of {self.rows_prepared} photos "
            f"there are {self.rows} now: run `compsketch canary prepare` again"
        )

    def latency(self, percentile: float) -> float:
        """Seconds within which so many of 100 queries were answered."""
        return float(np.percentile(self.seconds, percentile))


def judge(answers: Iterable[str], hits: Sequence[Hit], now: Mapping[str, float], depth: int) -> Counter[str]:
    """Count one query's recorded answers by `STATES`.

    Args:
        answers: their ids.
        hits: what the search gave, asked for `depth` photos.
        now: by id, the square of the distance of the vector that is stored now; answers that are gone are not in it.
        depth: photos asked for.
    """
    shown = {hit.id for hit in hits}
    farthest = max((hit.distance**2 for hit in hits), default=0.0)

    def state(id: str) -> str:
        if id not in now:
            return "gone"
        if id in shown:
            return "found"
        return "displaced" if len(hits) >= depth and now[id] >= farthest - ROUNDING else "missed"

    return Counter(map(state, answers))
