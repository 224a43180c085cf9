"""Who is best in which column is computed from the figures."""

from __future__ import annotations

from encoders.evaluation.tables.table import Figure
from tests.benchmarks.standing import Column, Comparison

COMPARED = Comparison(
    "100 photos",
    (Column("bytes"), Column("recall", True), Column("mAP", True), Column("rate", True), Column("memory")),
    {
        "exact": [4000.0, 1.0, Figure(0.5, 0.4, 0.6), 10.0, None],
        "codes": [24.0, 0.5, Figure(0.3, 0.2, 0.4), 300.0, None],
        "ours": [1000.0, 0.99, Figure(0.6, 0.5, 0.7), 100.0, None],
        "ours, small": [900.0, 0.98, None, 50.0, None],
    },
    ("ours", "ours, small"),
    ("Made up.",),
)


def test_the_best_of_each_column_and_the_best_of_ours() -> None:
    found = {one["column"]: (one["best"], one["ours"], one["standing"]) for one in COMPARED.standings()}
    assert found == {
        "bytes": ("codes", "ours, small", "behind"),
        "recall": ("exact", "ours", "level"),
        "mAP": ("ours", "ours", "best"),
        "rate": ("codes", "ours", "behind"),
    }
    assert [one["ratio"] for one in COMPARED.standings()] == [900 / 24, 1 / 0.99, 1.0, 3.0]


def test_the_note_says_where_ours_is_not_ahead() -> None:
    text = "\n".join(COMPARED.markdown())
    assert "| ours | 1000 | .990 | .600 [.500, .700] | 100 | – |" in text
    assert "- rate: codes (300); ours is behind, 3 x (ours, 100)" in text
    assert "- recall: exact (1); ours is level, within 2 % (ours, .990)" in text
    assert "- mAP: **ours** (ours, .600 [.500, .700])" in text


def test_a_draw_is_ours_also_of_nothing_against_nothing() -> None:
    both = Comparison("", (Column("recall", True),), {"exact": [0.0], "ours": [0.0]}, ("ours",))
    assert both.standings() == [
        {"column": "recall", "best": "ours", "ours": "ours", "standing": "best", "ratio": 1.0},
    ]
