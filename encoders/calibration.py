"""Scores that can be read as probabilities: Platt's logistic on the cosine, fitted on held-out photos and sketches.

    P(R > tau | score) = 1 / (1 + exp(-(slope score + intercept)))

with R of eq. 9. What a cosine means depends on how a query is asked, so there is one logistic for each mode (strokes,
strokes and words, words) and number of objects. It is fitted on all pairs of a query and a photo of the gallery, none
weighted, so that the number is that of a photo picked from such a gallery by its score alone. That is its limit, too:
the share of relevant photos (`Sigmoid.base_rate`) is that of the held-out gallery, which holds, as in section 4.1, a
photo of each layout that is asked for. A collection with rarer matches deserves lower numbers, at the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoders.errors import BundleError
from encoders.sketch import Sketch

MANY = 3  # objects: queries of more are read like those of three
FEWEST = 20  # relevant pairs that a logistic is fitted on; with fewer a group stays without
BINS = 10
STEPS, PRECISION = 100, 1e-10  # of Newton's method; some ten steps are usual

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sigmoid:
    """Platt's logistic, and what it was fitted on.

    Attributes:
        slope: By which the cosine is multiplied, above 0.
        intercept: What is added.
        pairs: Pairs of a query and a photo.
        relevant: How many of them are relevant.
    """

    slope: float
    intercept: float
    pairs: int
    relevant: int

    @property
    def base_rate(self) -> float:
        """The share of relevant pairs: what the probabilities are on average."""
        return self.relevant / self.pairs

    def apply(self, scores: ArrayLike) -> Floats:
        """Probabilities, of the scores' shape."""
        return _logistic(self.slope * np.asarray(scores, np.float64) + self.intercept)


@dataclass(frozen=True)
class Reliability:
    """How often what is said to have a probability turns out to be so.

    Attributes:
        predicted: Mean probability in each bin that is not empty; bins are equally wide, from 0 to 1.
        observed: Share of relevant pairs in each.
        counts: Pairs in each.
        ece: Expected calibration error: the mean of abs(predicted - observed) over pairs.
        brier: Mean squared difference of probability and relevance.
    """

    predicted: list[float]
    observed: list[float]
    counts: list[int]
    ece: float
    brier: float


@dataclass(frozen=True)
class Calibration:
    """Logistics by group of queries, as `group` names them.

    Attributes:
        groups: A group that had too little to fit on is left out.
        tau: A photo is relevant with R above it.
        photos: In the gallery.
        reliability: By group, then by which pairs: measured on queries and photos that were not fitted on.
    """

    groups: Mapping[str, Sigmoid]
    tau: float = 0.5
    photos: int = 0
    reliability: Mapping[str, Mapping[str, Reliability]] = field(default_factory=dict)

    def apply(self, scores: ArrayLike, group: str | None) -> Floats | None:
        """Probabilities of relevance, or None for queries of a group that was not fitted."""
        fitted = None if group is None else self.groups.get(group)
        return None if fitted is None else fitted.apply(scores)

    def to_dict(self) -> dict[str, Any]:
        """As a bundle's configuration keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            BundleError: It is not what `to_dict` writes.
        """
        try:
            groups = {name: Sigmoid(**one) for name, one in data["groups"].items()}
            curves = {
                name: {pairs: Reliability(**curve) for pairs, curve in one.items()}
                for name, one in data.get("reliability", {}).items()
            }
            return cls(groups, float(data["tau"]), int(data["photos"]), curves)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"the bundle's calibration cannot be read ({error!r}): calibrate it again, or remove it"
            ) from error


def group(sketch: Sketch, *, words: bool = False) -> str | None:
    """How a sketch is asked, such as "strokes/1" or "strokes+words/3", where 3 stands for three and more objects.

    None for weighted objects, such as are not wanted, and photos: what is fitted says nothing of them.
    """
    if any(item.weight != 1 or item.photo is not None for item in sketch.objects):
        return None
    drawn = any(item.strokes for item in sketch.objects)
    named = any(item.label and (words or not item.strokes) for item in sketch.objects)
    mode = "+".join(name for name, used in (("strokes", drawn), ("words", named)) if used)
    return f"{mode}/{min(len(sketch.objects), MANY)}"


def platt(scores: ArrayLike, relevant: ArrayLike) -> tuple[float, float]:
    """Slope and intercept of greatest likelihood, by Newton's method.

    As Platt (1999) has it, targets lie slightly inside 0 and 1, so that there is an answer even where scores part
    relevant from irrelevant without error.

    Args:
        scores: (N,).
        relevant: (N,) bool.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    positive, negative = np.count_nonzero(y), np.count_nonzero(~y)
    targets = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = x.mean(), x.std() or 1.0
    design = np.stack([(x - centre) / spread, np.ones_like(x)])  # (2, N)

    def loss(weights: Floats) -> float:
        logits = weights @ design
        return float((np.logaddexp(0, logits) - targets * logits).sum())

    weights = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    for _ in range(STEPS):
        chances = _logistic(weights @ design)
        curvature = (design * (chances * (1 - chances))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, design @ (chances - targets))
        while loss(weights - step) > loss(weights) and np.abs(step).max() > PRECISION:
            step /= 2
        weights = weights - step
        if np.abs(step).max() <= PRECISION:
            break
    slope = weights[0] / spread
    return float(slope), float(weights[1] - slope * centre)


def fit(scores: ArrayLike, relevant: ArrayLike, groups: Sequence[str | None]) -> Calibration:
    """A logistic for each group.

    A group is left out that has fewer than `FEWEST` relevant pairs, or whose scores do not rise with relevance.

    Args:
        scores: (Q, G) cosines of queries and photos.
        relevant: (Q, G) bool.
        groups: (Q,) the group of each query.
    """
    scores, relevant, names = np.asarray(scores), np.asarray(relevant, bool), np.asarray(groups, object)
    fitted = {}
    for name in sorted({name for name in groups if name is not None}):
        mine, hits = scores[names == name].ravel(), relevant[names == name].ravel()
        if np.count_nonzero(hits) < FEWEST:
            continue
        slope, intercept = platt(mine, hits)
        if slope > 0:
            fitted[name] = Sigmoid(slope, intercept, hits.size, int(hits.sum()))
    return Calibration(fitted)


def cross_fitted(
    scores: ArrayLike, relevant: ArrayLike, groups: Sequence[str | None], query_folds: ArrayLike, photo_folds: ArrayLike
) -> Floats:
    """Probabilities of all pairs, each from a fit that has seen neither its query nor its photo.

    Args:
        scores: (Q, G), and the next two, as for `fit`.
        relevant: See ``scores``.
        groups: See ``scores``.
        query_folds: (Q,) which fold each query is in; put those of one photo in that photo's fold.
        photo_folds: (G,) likewise.

    Returns:
        (Q, G); NaN where a group could not be fitted.
    """
    scores, relevant = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    of_query, of_photo, names = np.asarray(query_folds), np.asarray(photo_folds), np.asarray(groups, object)
    chances = np.full(scores.shape, np.nan)
    for asked in np.unique(of_query):
        for shown in np.unique(of_photo):
            others = np.ix_(of_query != asked, of_photo != shown)
            fitted = fit(scores[others], relevant[others], names[of_query != asked].tolist())
            for name in fitted.groups:
                block = np.ix_((of_query == asked) & (names == name), of_photo == shown)
                chances[block] = fitted.groups[name].apply(scores[block])
    return chances


def reliability(chances: ArrayLike, relevant: ArrayLike, bins: int = BINS) -> Reliability:
    """Compare probabilities with what happened.

    Args:
        chances: (N,) in [0, 1].
        relevant: (N,) bool.
        bins: Equally wide.
    """
    said, was = np.asarray(chances, np.float64).ravel(), np.asarray(relevant, bool).ravel()
    place = np.minimum((said * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    predicted = np.bincount(place, said, bins)[used] / counts[used]
    observed = np.bincount(place, was, bins)[used] / counts[used]
    ece = float(np.abs(predicted - observed) @ counts[used] / max(len(said), 1))
    brier = float(((said - was) ** 2).mean()) if len(said) else 0.0
    return Reliability(predicted.tolist(), observed.tolist(), counts[used].tolist(), ece, brier)


def _logistic(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))  # without overflow, wherever x is
