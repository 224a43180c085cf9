"""Table 1, upper part, and its pairwise tests (section 4.3): SSBIR, with words and without, against the baselines."""

from __future__ import annotations

from encoders.evaluation.scores import METRICS
from encoders.evaluation.tables.figures import reported
from encoders.evaluation.tables.study import TAU, Study
from encoders.evaluation.tables.table import Cell, Figure, Table

SAID = {
    "ssbir": "strokes alone",
    "words": "class names alone, through the same f_t",
    "ssbir+words": "strokes and class names",
    "semir": "class names, by an encoder trained for them",
    "msbir": "the whole canvas as one object",
    "random": "control",
}


def table(study: Study) -> Table:
    """Means of each method over all queries, and its mAP by the number of objects."""
    found = study.comparison
    counts = sorted({count for scores in found["methods"].values() for count in scores["by_objects"]}, key=int)
    rows: list[tuple[Cell, ...]] = []
    for method, scores in found["methods"].items():
        by_objects = [reported(scores["by_objects"][count], "mAP") for count in counts]
        rows.append((method, _said(method), *(reported(scores, metric) for metric in METRICS), *by_objects))
    numbers = {count: next(iter(found["methods"].values()))["by_objects"][count]["queries"] for count in counts}
    notes = [
        f"{found['queries']} queries, {found['gallery']} photos, {found['relevant_per_query']:.1f} relevant a query "
        f"(R > {TAU}, eq. 9); mAP and NDCG of the top {found['k']}.",
        "Queries by objects: " + ", ".join(f"{count}: {number}" for count, number in numbers.items()) + ".",
    ]
    if found["index"] is not None:
        facts = dict(found["index"])
        told = f"{facts.pop('kind')} (" + ", ".join(f"{name} {value}" for name, value in facts.items()) + ")"
        notes.append(f"@pq: ranked by {told}; +rerank: its top 200 again by the vectors themselves.")
    if study.semir is None:
        notes.append("No SemIR bundle was given (--semir): its rows are missing.")
    columns = ("method", "is asked with", *METRICS, *(f"mAP, {count} object(s)" for count in counts))
    title = "Methods (Table 1, upper part)"
    return Table("methods", title, columns, tuple(rows), tuple(notes), study.provenance("methods"))


def pairs(study: Study) -> Table:
    """Every two methods: the difference of their scores, query by query."""
    found = study.comparison
    rows: list[tuple[Cell, ...]] = []
    for pair in found["pairs"]:
        ends = pair["interval"] or ()
        if pair["metric"] in ("mAP", "NDCG"):
            rows.append((
                pair["a"], pair["b"], pair["metric"], Figure(pair["difference"], *ends),
                pair["t"], pair["p"], pair["effect_size"], pair["n"],
            ))  # fmt: skip
    notes = (
        found["statistics"]["test"].capitalize() + ".",
        f"Effect size: {found['statistics']['effect_size']}.",
    )
    columns = ("a", "b", "metric", "a - b", "t", "p", "d_z", "queries")
    return Table("pairs", "Methods in pairs", columns, tuple(rows), notes, study.provenance("pairs"))


def _said(method: str) -> str:
    base, _, index = method.partition("@")
    return SAID.get(base, base) + {"": "", "pq": ", through the index", "pq+rerank": ", index and re-rank"}[index]
