"""The losses of section 3.3, each left out in turn: eq. 5, 6 and 7 with the paper's weights, on a small budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.evaluation.scores import METRICS
from encoders.evaluation.tables import trial
from encoders.evaluation.tables.figures import difference, mean
from encoders.evaluation.tables.study import Budget, Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.training.recipes import paper
from encoders.training.spatial import Weights

PAPER = paper().spatial.weights
ABLATION = {
    "the paper's: .80 eq. 5 + .15 eq. 6 + .05 eq. 7": PAPER,
    "without eq. 5 (similarity)": replace(PAPER, sim=0.0),
    "without eq. 6 (classes)": replace(PAPER, ce=0.0),
    "without eq. 7 (contrast)": replace(PAPER, con=0.0),
    "the paper's, and the in-batch contrast": replace(PAPER, in_batch=1.0),
}


def table(study: Study, budget: Budget, ablation: dict[str, Weights] = ABLATION) -> Table:
    """One row a set of weights, each compared with the first."""
    rows: list[tuple[Cell, ...]] = []
    first: np.ndarray | None = None
    for done, (name, weights) in enumerate(ablation.items(), start=1):
        scores = trial.scores(study, replace(trial.config(study, budget), weights=weights, head=4096), budget)
        against: tuple[Cell, Cell, Cell] = (None, None, None)
        if first is not None:
            against = difference(scores[:, 0], first[:, 0], study.seed)
        first = scores if first is None else first
        means = [mean(scores[:, i], study.seed) for i in range(len(METRICS))]
        rows.append((name, weights.sim, weights.ce, weights.con, weights.in_batch, *means, *against))
        study.progress("losses", done, len(ablation))
    notes = (
        f"Each row: stage 2 for {budget.epochs} epochs of {budget.views} views, photos at {budget.image_size} px, "
        "everything but the weights alike.",
        "Difference, p and d_z: AP against the first row, paired.",
    )
    columns = ("loss", "eq. 5", "eq. 6", "eq. 7", "in-batch", *METRICS, "mAP - first", "p", "d_z")
    title = "The losses, each left out in turn (eq. 5, 6, 7)"
    return Table("losses", title, columns, tuple(rows), notes, study.provenance("losses", budget))
