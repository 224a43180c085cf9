"""What an object may be asked with: strokes, a word, or both; and objects that weigh more, or are not wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encoders.evaluation.data import read_class_map
from encoders.evaluation.negatives import TAU, Boxes, heavier, negatives
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


def weights(study: Study) -> Table:
    """What an object that is not wanted keeps out, and what a weight moves."""
    encoder, benchmark = study.encoder, study.unseen
    gallery = encoder.projection.apply(study.embedded(benchmark.paths))
    held = Boxes.of(study.photos, read_class_map(), set(study.sketches.words))
    rows: list[tuple[Cell, ...]] = []

    def add(what: str, found: Mapping[str, Any]) -> None:
        for name, part in found.items():
            if name != "queries":
                gain = None if part["difference"] is None else Figure(part["difference"], *(part["interval"] or ()))
                rows.append((what, name, part["plain"], part["changed"], gain, part["p"], found["queries"]))

    told = negatives(encoder.encode_sketches, gallery, held, benchmark.queries, encoder.vocabulary)
    for place, found in told.items():
        add(f"b not wanted, over {'its own box' if place == 'box' else 'the whole canvas'}", found)
    double = heavier(encoder.encode_sketches, gallery, held, benchmark.queries)
    add("two objects, the first with weight 2", {f"IoU of the {k}" if k != "queries" else k: double[k] for k in double})
    notes = (
        "a: the query's first object, drawn; b: a word, the largest other object of the same photo, with weight -1.",
        f"In top n: the part of the photos found in which b lies there. AP of a: over photos that meet a's box with "
        f"IoU > {TAU}; without b: over those of them in which no b lies there.",
        "IoU: with the best box of the object's class, the mean over the top 20.",
        "p: paired t-test over queries. The interval is of the difference.",
    )
    columns = ("asked", "measured", "without", "with", "difference", "p", "queries")
    title = "Objects that are not wanted, and objects that weigh more"
    return Table("weights", title, columns, tuple(rows), notes, study.provenance("weights"))
