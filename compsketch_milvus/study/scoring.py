"""Ratings to figures: relevance of each query and photo, the metrics of Table 2, paired tests, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from compsketch_milvus.study.plan import Plan
from compsketch_milvus.study.store import SCORES, Rating
from encoders.evaluation.agreement import alpha
from encoders.evaluation.metrics import average_precision, ndcg, precision_at
from encoders.evaluation.statistics import intervals, paired_t

__all__ = ["TAU", "Scoring"]

TAU = 2.0  # a photo whose mean rating is above this is relevant (section 4.4)
SHARE = 3  # the ratings from this one up are those that section 4.4 counts, "3-5"
ALL = "all"


@dataclass(frozen=True)
class Scoring:
    """What the ratings of a study say.

    Args:
        plan: the study.
        ratings: those that count.
    """

    plan: Plan
    ratings: Sequence[Rating]

    @cached_property
    def given(self) -> dict[tuple[int, str], list[int]]:
        """By query and photo, all that was said of the pair, in checks too where it is also in a task."""
        given: dict[tuple[int, str], list[int]] = {}
        for rating in self.ratings:
            task = self.plan.by_id[rating.task]
            if task.rank is not None:
                for photo, score in zip(task.photos, rating.scores, strict=True):
                    given.setdefault((task.query, photo), []).append(score)
        return given

    @cached_property
    def relevance(self) -> dict[tuple[int, str], float]:
        """R of section 4.4: the mean rating of each query and photo."""
        return {pair: float(np.mean(scores)) for pair, scores in self.given.items()}

    @cached_property
    def answered(self) -> list[int]:
        """Queries of which every photo was rated."""
        return [
            number
            for number, query in enumerate(self.plan.queries)
            if all((number, photo) in self.relevance for photo in query.photos)
        ]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns of `scores`."""
        return (f"P@{self.plan.depth}", "mAP", "NDCG", "mean rating", "rated 3-5")

    @cached_property
    def scores(self) -> np.ndarray:
        """(n, M, 5) float64: each answered query's metrics by method; NaN where no photo is relevant to a query.

        mAP and NDCG measure against the pool: all photos that were rated for the query, whoever found them.
        """
        k, rows = self.plan.depth, []
        for number in self.answered:
            query = self.plan.queries[number]
            pool = np.array([self.relevance[number, photo] for photo in sorted(query.photos)])
            any_relevant = bool((pool > TAU).any())
            for method in self.plan.methods:
                ranked = np.array([self.relevance[number, photo] for photo in query.ranked[method]])
                said = [score for photo in query.ranked[method] for score in self.given[number, photo]]
                rows.append([
                    precision_at(ranked, tau=TAU, k=k),
                    average_precision(ranked, pool, tau=TAU, k=k) if any_relevant else np.nan,
                    ndcg(ranked, pool, tau=TAU, k=k) if any_relevant else np.nan,
                    np.mean(said),
                    np.mean(np.array(said) >= SHARE),
                ])  # fmt: skip
        return np.array(rows, np.float64).reshape(len(self.answered), len(self.plan.methods), len(self.metrics))

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Rows of `scores` of all queries, and of those of each number of objects."""
        groups: dict[str, list[int]] = {ALL: list(range(len(self.answered)))}
        for count in self.objects:
            groups[str(count)] = [
                row for row, number in enumerate(self.answered) if self.plan.queries[number].objects == count
            ]
        return groups

    @cached_property
    def objects(self) -> list[int]:
        """The numbers of objects that queries have."""
        return sorted({query.objects for query in self.plan.queries})

    def means(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By group and method: each metric's mean, with its bootstrap interval, and of how many queries."""
        return {
            group: {
                method: {
                    metric: _mean(self.scores[rows, place, column], self.plan.seed)
                    for column, metric in enumerate(self.metrics)
                }
                for place, method in enumerate(self.plan.methods)
            }
            for group, rows in self.groups.items()
        }

    def pairs(self) -> list[dict[str, Any]]:
        """Every two methods compared by every metric, in every group: paired t-tests over queries, with d_z."""
        found = []
        for group, rows in self.groups.items():
            for (one, a), (other, b) in combinations(enumerate(self.plan.methods), 2):
                for column, metric in enumerate(self.metrics):
                    scores = self.scores[rows][:, [one, other], column]
                    scores = scores[~np.isnan(scores).any(axis=1)]
                    if len(scores):
                        test = asdict(paired_t(scores[:, 0], scores[:, 1]))
                        found.append({"objects": group, "metric": metric, "a": a, "b": b, **test})
        return found

    def histograms(self) -> dict[str, dict[str, list[int]]]:
        """Fig. 4: by number of objects and method, how often each of the ratings 1 to 5 was given.

        A photo that a method has found counts for it with all that was said of it; one that two have found, for both.
        """
        counts = {str(count): {method: [0] * len(SCORES) for method in self.plan.methods} for count in self.objects}
        for number, query in enumerate(self.plan.queries):
            for method, photos in query.ranked.items():
                for score in (score for photo in photos for score in self.given.get((number, photo), ())):
                    counts[str(query.objects)][method][score - 1] += 1
        return counts

    def agreement(self) -> dict[str, float | None]:
        """Krippendorff's alpha, ordinal, of all pairs of query and photo, and of those of each number of objects."""
        units = {ALL: list(self.given.values())}
        for count in self.objects:
            units[str(count)] = [
                scores for (number, _), scores in self.given.items() if self.plan.queries[number].objects == count
            ]
        return {group: alpha(values) for group, values in units.items()}

    def counts(self) -> dict[str, int]:
        """How far the study is."""
        tasks = [task.id for task in self.plan.tasks]
        people = _people(self.ratings)
        return {
            "queries": len(self.plan.queries),
            "queries_answered": len(self.answered),
            "queries_without_relevant": int(np.isnan(self.scores[:, 0, 1]).sum()) if len(self.answered) else 0,
            "tasks": len(tasks),
            "tasks_complete": sum(len(people.get(task, ())) >= self.plan.raters for task in tasks),
            "ratings": sum(len(scores) for scores in self.given.values()),
            "pairs": len(self.given),
        }


def _people(ratings: Iterable[Rating]) -> Mapping[str, set[str]]:
    people: dict[str, set[str]] = {}
    for rating in ratings:
        people.setdefault(rating.task, set()).add(rating.rater)
    return people


def _mean(scores: np.ndarray, seed: int) -> dict[str, Any]:
    """Of the scores (n,) that are defined."""
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return {"value": None, "interval": None, "queries": 0}
    ends = intervals(scores[:, None], seed=seed)
    return {
        "value": float(scores.mean()),
        "interval": None if ends is None else ends[0].tolist(),
        "queries": len(scores),
    }
