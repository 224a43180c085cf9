"""How often what the calibrated score calls probable is relevant."""

from __future__ import annotations

from scipy.stats import binomtest

from encoders.calibration import Calibration, Reliability
from encoders.evaluation.data import read_class_map
from encoders.evaluation.statistics import LEVEL
from encoders.evaluation.tables.study import TAU, Study
from encoders.evaluation.tables.table import Cell, Figure, Table
from encoders.training.calibration import FOLDS, calibrate, read_data


def table(study: Study) -> Table:
    """Each group's curve, measured on pairs whose query and photo the fit has not seen."""
    sources, sketches = read_data(study.data)
    found = calibrate(study.remembering, sources, sketches, read_class_map(), tau=TAU, progress=study.progress)
    notes = (
        f"A pair is a query and one of {found.photos} held-out photos, relevant if R > {found.tau:g} (eq. 9); measured "
        f"in {FOLDS} folds, by query and by photo.",
        "Brackets are Wilson's, of pairs as if they were independent: those of one query are not, so true ones are "
        "wider.",
        "Error: the mean over pairs of how far a bin's probability is from what was observed.",
    )
    columns = ("asked with", "pairs of", "said", "observed", "pairs", "error", "Brier score")
    title = "The calibrated score: what it says, and what is observed"
    return Table("reliability", title, columns, tuple(lines(found)), notes, study.provenance("reliability"))


def lines(calibration: Calibration) -> list[tuple[Cell, ...]]:
    """For each group and kind of pairs a line for all of them, then one a bin."""
    return [
        row
        for group, curves in calibration.reliability.items()
        for pairs, curve in curves.items()
        for row in _curve(group, pairs, curve)
    ]


def _curve(group: str, pairs: str, curve: Reliability) -> list[tuple[Cell, ...]]:
    whole = (group, pairs, "all", None, sum(curve.counts), curve.ece, curve.brier)
    return [whole, *(
        (group, pairs, f"{said:.3f}", share(round(seen * count), count), count, None, None)
        for said, seen, count in zip(curve.predicted, curve.observed, curve.counts, strict=True)
    )]  # fmt: skip


def share(hits: int, count: int) -> Figure:
    """A part of so many pairs, with Wilson's interval."""
    ends = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return Figure(hits / count, float(ends.low), float(ends.high))
