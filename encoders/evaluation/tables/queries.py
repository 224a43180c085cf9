"""What an object may be asked with: strokes, a word, or both; and objects that weigh more, or are not wanted."""

from __future__ import annotations

from encoders.evaluation.scores import METRICS
from encoders.evaluation.tables.figures import reported
from encoders.evaluation.tables.study import Study
from encoders.evaluation.tables.table import Cell, Figure, Table

ASKED = {"ssbir": "strokes only", "words": "label only", "ssbir+words": "strokes and label"}


def table(study: Study) -> Table:
    """Scores of each way to ask, and every two compared."""
    found = study.comparison
    counts = sorted(found["methods"]["ssbir"]["by_objects"], key=int)
    rows: list[tuple[Cell, ...]] = []
    for method, said in ASKED.items():
        scores = found["methods"][method]
        by_objects = (reported(scores["by_objects"][count], "mAP") for count in counts)
        rows.append((said, *(reported(scores, metric) for metric in METRICS), *by_objects, None, None))
    for pair in found["pairs"]:
        if pair["metric"] == "mAP" and pair["a"] in ASKED and pair["b"] in ASKED:
            gain = Figure(pair["difference"], *(pair["interval"] or ()))
            said = f"{ASKED[pair['a']]}, less {ASKED[pair['b']]}"
            rows.append((said, gain, *(None for _ in (*METRICS[1:], *counts)), pair["p"], pair["effect_size"]))
    notes = ("One encoder and the same boxes for all; p and d_z: paired t-test of AP.",)
    columns = ("asked with", *METRICS, *(f"mAP, {count} object(s)" for count in counts), "p", "d_z")
    title = "What an object is asked with"
    return Table("queries", title, columns, tuple(rows), notes, study.provenance("queries"))
