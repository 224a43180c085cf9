"""From the benchmarks' files to the plan's figures, and from those to a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compsketch_milvus.plan.figures import Figures
from compsketch_milvus.plan.parameters import Parameters
from compsketch_milvus.plan.sizing import needs
from tests.benchmarks.figures import RESULTS, SERVER, TARGET, collected

INDEX = {"type": "IVF_PQ", "params": {"nlist": 1600, "m": 16, "nbits": 8}}
SIZE = {
    "rows": 100_000, "dim": 256, "index": INDEX, "idle_mib": 200.0, "server_mib": 500.0, "store_seconds": 8.0,
    "build_seconds": 90.0, "load_seconds": 3.0,
}  # fmt: skip
PEERS = {
    "comparisons": [{}, {"rows": {SERVER: {"bytes a photo stored": 1200.0, "bytes a photo in the index": 42.0}}}],
    "costs": {"encoding": 57.0, "kept_features": 8720.0},
    "features": 6272,
    "dim": 256,
    "machine": "two cores",
    "command": "make bench-peers",
}


def test_a_plan_can_be_made_from_what_the_benchmarks_wrote(tmp_path: Path) -> None:
    (path := tmp_path / "figures.json").write_text(json.dumps(collected([SIZE], PEERS, "here")))
    figures = Figures.read(path)
    assert figures.setting == {"dim": 256, "m": 16, "nbits": 8, "nlist": 1600, "features": 6272}
    assert figures.at("memory", 100_000).value == 300 * 2**20
    assert figures.of("other_storage").value == 1200 - 42 - 1024
    assert {one.machine for one in figures.figures} == {"here", "two cores"}
    known = needs(100_000, Parameters(keep_features=True), figures)
    assert all(need.quantity.value is not None and not need.quantity.extrapolated for need in known[:5])


def test_what_was_not_measured_is_not_there() -> None:
    assert collected([], None, "here") == {"setting": {}, "figures": []}
    names = {figure["name"] for figure in collected([SIZE], None, "here")["figures"]}
    assert names == {"memory", "storing", "building", "loading"}


def test_sizes_of_different_indexes_are_refused() -> None:
    other = {**SIZE, "index": {"params": {**INDEX["params"], "nlist": 1024}}}
    with pytest.raises(ValueError, match="different indexes"):
        collected([SIZE, other], None, "here")


def test_the_shipped_figures_are_those_of_the_results() -> None:
    """Where this fails: python -m tests.benchmarks.figures."""
    sizes, peers = (json.loads((RESULTS / name).read_text()) for name in ("scale.json", "peers.json"))
    shipped = json.loads(TARGET.read_text())
    assert shipped == collected(sizes, peers, shipped["figures"][0]["machine"])
