"""The study of tau (section 4.2, supplementary material): how much layout a photo has to share to count as relevant."""

from __future__ import annotations

from encoders.evaluation.tables.figures import reported
from encoders.evaluation.tables.study import Study
from encoders.evaluation.tables.table import Cell, Table

COMPARED = ("ssbir", "ssbir+words", "semir", "msbir", "random")


def table(study: Study) -> Table:
    """mAP and NDCG of each method, a column a tau."""
    found = study.comparison
    taus = [f"{tau:g}" for tau in found["taus"]]
    rows: list[tuple[Cell, ...]] = [
        (method, metric, *(reported(found["methods"][method]["by_tau"][tau], metric) for tau in taus))
        for metric in ("mAP", "NDCG")
        for method in COMPARED
        if method in found["methods"]
    ]
    scored = next(iter(found["methods"].values()))["by_tau"]
    rows.append(("", "queries", *(int(scored[tau]["queries"]) for tau in taus)))
    relevant = study.unseen.possible(found["taus"]).mean(axis=1)
    rows.append(("", "relevant photos a query", *(float(mean) for mean in relevant)))
    notes = ("A photo is relevant if R > tau (eq. 9). With a small tau one object of three suffices.",)
    columns = ("method", "metric", *taus)
    return Table("tau", "The threshold of relevance, tau", columns, tuple(rows), notes, study.provenance("tau"))
