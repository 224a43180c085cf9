"""A table as Markdown and JSON, by example."""

import json

import pytest

from encoders.evaluation.tables.table import Figure, Provenance, Table
from encoders.evaluation.tables.writing import shown, to_json, to_markdown, write

PROVENANCE = Provenance("compsketch tables small --data DATA", 7, {"queries": 2}, {"ssbir": "tiny cs1-0"}, "a machine")
TABLE = Table(
    "small",
    "A small table",
    ("method", "mAP", "queries", "p"),
    (("ssbir|x", Figure(0.25, 0.125, 0.5), 2, 0.04), ("random", Figure(1.0), 2, None)),
    ("Two queries.",),
    PROVENANCE,
)
MARKDOWN = """\
# A small table

| method | mAP | queries | p |
| --- | ---: | ---: | ---: |
| ssbir\\|x | .250 [.125, .500] | 2 | .040 |
| random | 1 | 2 | – |

- Two queries.
- In brackets: 95 % bootstrap intervals over queries (BCa; percentiles where a ratio is shown).

`compsketch tables small --data DATA`, seed 7. Data: queries 2. Encoders: ssbir tiny cs1-0. Machine: a machine.
"""


def test_markdown_by_example():
    assert to_markdown(TABLE) == MARKDOWN


def test_json_keeps_every_digit_and_comes_back():
    data = json.loads(to_json(TABLE))
    assert data["rows"][0] == ["ssbir|x", {"value": 0.25, "low": 0.125, "high": 0.5}, 2, 0.04]
    assert data["provenance"]["data"] == {"queries": 2}
    assert Table.from_dict(data) == TABLE


def test_both_files_are_written_into_a_new_folder(tmp_path):
    text, data = write(TABLE, tmp_path / "results" / "new")
    assert text.read_text(encoding="utf-8") == MARKDOWN
    assert (text.name, data.name) == ("small.md", "small.json")
    assert json.loads(data.read_text(encoding="utf-8"))["title"] == "A small table"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.4271, ".427"),
        (-0.0312, "-.031"),
        (0.0, ".000"),
        (1.2e-7, "1.2e-07"),
        (12.345, "12.3"),
        (6272, "6272"),
        (1234.5, "1234"),
        ("yes", "yes"),
        (None, "–"),
        (Figure(0.98, 0.97, 1.0), ".980 [.970, 1]"),
    ],
)
def test_three_digits_are_shown(cell, text):
    assert shown(cell) == text


def test_a_row_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="row 0 of small has 1 cells for 4 columns"):
        Table("small", "", TABLE.columns, (("ssbir",),), (), PROVENANCE)
