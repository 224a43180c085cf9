"""Rounds of a canary: one, or one after the other for as long as nobody ends them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from compsketch_milvus.canary.asking import ask
from compsketch_milvus.canary.questions import DEPTH, Canary
from compsketch_milvus.canary.scoring import STATES, Score
from compsketch_milvus.errors import ServerError

if TYPE_CHECKING:
    from compsketch_milvus.canary.metrics import CanaryMetrics
    from compsketch_milvus.collection import SketchCollection

__all__ = ["Rounds", "words"]


class Rounds:
    """Asks the canary that a file holds when a round begins, of the collection that its name stands for then.

    Args:
        file: of the canary.
        open: opens the collection; no encoder is needed.
        floor: recall under which it is too low.
        metrics: is told of each round; None where nobody asks.
        tell: is given lines for the person who watches.

    Attributes:
        summary: `rounds`, how many of them were `low` or `unanswered`, and the `last` one with answers.
    """

    def __init__(
        self,
        file: Path,
        open: Callable[[], AbstractContextManager[SketchCollection]],
        *,
        floor: float,
        metrics: CanaryMetrics | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._file, self._open, self._floor, self._metrics, self._tell = file, open, floor, metrics, tell
        self.summary: dict[str, Any] = {"rounds": 0, "low": 0, "unanswered": 0, "last": None}

    def once(self) -> dict[str, Any]:
        """One round, as a JSON object; `good` in it says whether recall is at the floor or over it.

        Raises:
            CollectionError: the file is no canary, or there is no such collection.
            FingerprintError: the collection has another encoder than the canary.
            ServerError: Milvus cannot be reached or refuses.
        """
        canary = Canary.read(self._file)
        with self._open() as collection:
            score = ask(collection, canary)
            index = {"type": collection.index.type, "search_params": dict(collection.index.search_params)}
            name = collection.name
        good = score.recall is not None and score.recall >= self._floor
        if self._metrics is not None:
            self._metrics.answered(canary, score, good)
        return {"collection": name, "index": index} | _figures(canary, score) | {"floor": self._floor, "good": good}

    def go_on(self, every: float) -> NoReturn:
        """Rounds for ever, `every` seconds from the beginning of one to that of the next.

        A server that is away is waited for; one that has never answered only where its error says that it may pass.

        Raises:
            CollectionError, FingerprintError, ServerError: as of `once`, where waiting is of no use.
        """
        while True:
            began = time.monotonic()
            self.summary["rounds"] += 1
            try:
                answer = self.once()
            except ServerError as error:
                if not error.transient and self.summary["last"] is None:
                    raise
                self.summary["unanswered"] += 1
                if self._metrics is not None:
                    self._metrics.unanswered()
                self._tell(f"no answer: {error}; asking again in {every:g} s")
            else:
                self.summary["last"] = answer
                self.summary["low"] += not answer["good"]
                self._tell(words(answer))
            time.sleep(max(0.0, began + every - time.monotonic()))


def words(answer: dict[str, Any]) -> str:
    """A round in one line."""
    recall = "unknown" if answer["recall"] is None else f"{answer['recall']:.3f}"
    low = "" if answer["good"] else f", under {answer['floor']:g}"
    states = ", ".join(f"{answer[state]} {state}" for state in STATES)
    line = "{}: recall@{k} {}{}: {}; p50 {:.0f} ms, p99 {:.0f} ms".format(
        answer["collection"], recall, low, states, 1000 * answer["p50"], 1000 * answer["p99"], k=answer["k"]
    )
    return f"{line}; {answer['advice']}" if answer["advice"] else line


def _figures(canary: Canary, score: Score) -> dict[str, Any]:
    return {
        "fingerprint": canary.fingerprint,
        "queries": len(canary.questions),
        "k": DEPTH,
        "recall": score.recall,
        **{state: getattr(score, state) for state in STATES},
        "p50": score.latency(50),
        "p99": score.latency(99),
        "rows": score.rows,
        "rows_prepared": score.rows_prepared,
        "prepared": canary.prepared,
        "changed": score.changed,
        "advice": score.advice,
    }
