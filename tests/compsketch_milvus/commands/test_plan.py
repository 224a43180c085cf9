"""`compsketch plan`: a table for people, JSON for programs, one line for what cannot be planned."""

from __future__ import annotations

import json

import pytest

from compsketch_milvus.plan.figures import UNITS
from compsketch_milvus.plan.parameters import Parameters


@pytest.fixture
def figures(tmp_path):
    """A file with one measurement: of memory."""
    path = tmp_path / "figures.json"
    memory = {"name": "memory", "rows": 1_000_000, "value": 3 * 2**30, "unit": UNITS["memory"]}
    setting = {"dim": 256, "m": 16, "nbits": 8, "nlist": 1600, "features": 6272}
    content = {"setting": setting, "figures": [{**memory, "machine": "a machine", "command": "make bench-scale"}]}
    path.write_text(json.dumps(content))
    return path


def test_json_has_each_line_with_its_sources_and_each_parameter_with_where_it_is_from(program, figures):
    assert (
        program("plan", "--photos", "1000000,2000000", "--replicas", 3, "--figures", figures, "--json", database=False)
        == 0
    )
    answer = json.loads(program.out)
    assert [one["photos"] for one in answer["plans"]] == [1_000_000, 2_000_000]
    small, large = ({need["name"]: need for need in one["needs"]} for one in answer["plans"])
    assert small["memory of a replica"]["value"] == 3 * 2**30
    assert (small["memory of a replica"]["extrapolated"], large["memory of a replica"]["extrapolated"]) == (False, True)
    assert small["vectors"]["from"] == ["arithmetic"]
    assert (small["loading"]["value"], small["loading"]["lacking"]) == (
        None,
        "loading was not measured: make bench-scale",
    )
    assert set(answer["parameters"]) == set(Parameters.__dataclass_fields__)
    assert answer["parameters"]["replicas"] == {"value": 3, "unit": "", "from": "flag"}
    assert answer["parameters"]["node_memory"] == {"value": 32.0, "unit": "GiB", "from": "default"}
    assert answer["measured"]["figures"][0]["command"] == "make bench-scale"


def test_the_table_has_a_column_a_size_and_says_what_is_extrapolated_measured_and_given(program, figures):
    assert program("plan", "--photos", "1000000,2000000", "--gpu", "--figures", figures, database=False) == 0
    assert "1,000,000   2,000,000" in program.out
    line = next(line for line in program.out.splitlines() if "memory of a replica" in line and "GPU" not in line)
    assert "3 GiB" in line
    assert "6 GiB*" in line
    assert "* extrapolated" in program.out
    assert "measured on a machine:\n  memory, 1,000,000 photos: 3.221e+09 bytes (make bench-scale)" in program.out
    assert "give --encode-rate" in program.out
    assert "gpu=True (flag)" in program.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--photos", "1e99"], "--photos '1e99'"),
        (["--photos", "0"], "--photos '0'"),
        (["--photos", "5", "--m", "7"], "m is 7"),
        (["--photos", "5", "--gpu", "--nbits", "12"], "nbits is 12"),
        (["--photos", "5", "--growth", "nan"], "--growth nan"),
        (["--photos", "5", "--figures", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_planned_is_one_line(program, arguments, said):
    assert program("plan", *arguments, database=False) == 2
    assert said in program.err
    assert len(program.err.splitlines()) == 1
