"""The formulas of `compsketch plan`, against a plan worked by hand on figures that are easy to compute with."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.plan.figures import UNITS, Figure, Figures
from compsketch_milvus.plan.parameters import Parameters, photo_counts
from compsketch_milvus.plan.quantities import GIVEN, MEASURED, Quantity
from compsketch_milvus.plan.sizing import GIB, Need, needs

SETTING = {"dim": 256, "m": 16, "nbits": 8, "nlist": 1600, "features": 6272}
SERIES = {
    "memory": {100_000: 1e9, 1_000_000: 2e9},
    "storing": {100_000: 10, 1_000_000: 100},
    "building": {100_000: 60, 1_000_000: 1800},
    "loading": {100_000: 5, 1_000_000: 4},  # the larger one happened to be quicker
}
ONCE = {"other_storage": 100.0, "kept_features": 9000.0, "encoding": 50.0}


def figure(name: str, rows: int | None, value: float) -> Figure:
    return Figure(name, rows, value, UNITS[name], "a machine", "make bench-scale")


FIGURES = Figures(
    SETTING,
    (
        *(figure(name, rows, value) for name, sizes in SERIES.items() for rows, value in sizes.items()),
        *(figure(name, None, value) for name, value in ONCE.items()),
    ),
)


def by_name(found: list[Need]) -> dict[str, float | None]:
    return {need.name: need.quantity.value for need in found}


def test_a_plan_worked_by_hand() -> None:
    given = Parameters(keep_features=True, replicas=2, growth=0.5, node_memory=4, fill=0.5, encoders=2, index_nodes=2,
                       node_price=1, encoder_price=0.5, storage_price=0.1)  # fmt: skip
    assert by_name(needs(2_000_000, given, FIGURES)) == pytest.approx(
        {
            # 16 parts of 8 bits and an id of 8 bytes; two segments of 1600 centroids and 256 codes of 256 x 4 bytes.
            "index": 2e6 * 24 + 2 * (1600 + 256) * 1024,
            "vectors": 2e6 * 1024,
            "storage": 2e6 * (24 + 1024 + 100) + 2 * (1600 + 256) * 1024,
            "kept features": 2e6 * 9000,
            # From 1,000,000 on, 2 GB more a million: the mean is steeper than the last stretch, 1 GB in 900,000.
            "memory of a replica": 4e9,
            # Half as many photos more: 6e9 bytes, by half of 4 GiB: 2.8, so 3 nodes a replica.
            "query nodes": 6,
            "encoding": 2e6 / (50 * 2) / 3600,
            "storing": 200 / 3600,
            # The last stretch is the steeper: 1740 s for 900,000. Two nodes share it.
            "building": (1800 + 1740 * 1e6 / 9e5) / 2 / 3600,
            # A million took no less than 100,000, whatever the clock said.
            "loading": 10 / 3600,
            "once": 2e6 / 100 / 3600 * 2 * 0.5 + (1800 + 1740 * 1e6 / 9e5) / 3600,
            "running": 6 * 730 + (2e6 * (24 + 1024 + 100 + 9000) + 2 * 1856 * 1024) / GIB * 0.1,
        }
    )


def test_on_gpus_what_nobody_has_measured_is_not_known_until_it_is_given() -> None:
    found = {need.name: need for need in needs(1_000_000, Parameters(gpu=True), FIGURES)}
    assert found["GPU memory of a replica"].quantity.value == 1e6 * 24 + 1856 * 1024 + 4 * GIB
    assert (found["encoding"].quantity.value, found["building"].quantity.value) == (None, None)
    assert "--encode-rate" in found["once"].quantity.lacking
    given = Parameters(gpu=True, encode_rate=1000, build_rate=10_000)
    found = {need.name: need for need in needs(1_000_000, given, FIGURES)}
    assert found["encoding"].quantity == Quantity(1000 / 3600, frozenset([GIVEN]))
    assert found["once"].quantity.value == pytest.approx(1000 / 3600 * 0.1 + 100 / 3600 * (0.25 + 0.75))


def test_a_gpu_that_is_too_small_for_the_index_is_joined_by_others_each_in_a_node() -> None:
    given = Parameters(gpu=True, gpu_memory=10, fill=1, gpu_pool=4, replicas=2)
    found = by_name(needs(10**9, given, FIGURES))
    assert found["GPUs"] == 2 * math.ceil((1.3e9 * 24 + 1300 * 1856 * 1024) / (6 * GIB))
    assert found["query nodes"] >= found["GPUs"]


counts = st.integers(1, 10**12)


@given(counts, counts, st.booleans())
def test_more_photos_never_need_less(one: int, other: int, gpu: bool) -> None:
    given = Parameters(gpu=gpu, encode_rate=500 if gpu else None, build_rate=5000 if gpu else None, index_nodes=3)
    fewer, more = (by_name(needs(photos, given, FIGURES)) for photos in sorted((one, other)))
    for name, least in fewer.items():
        assert least <= more[name] * (1 + 1e-12), name


@given(st.sampled_from(sorted(SERIES)), st.integers(1, 10**9))
def test_only_between_the_sizes_that_were_measured_nothing_is_extrapolated(name: str, rows: int) -> None:
    found = FIGURES.at(name, rows)
    assert found.sources == {MEASURED}
    assert found.extrapolated == (not 100_000 <= rows <= 1_000_000)


def test_at_a_measured_size_the_figure_is_the_measured_one() -> None:
    assert [FIGURES.at("building", rows).value for rows in (100_000, 550_000, 1_000_000)] == [60, 930, 1800]
    assert FIGURES.at("building", 50_000).value == 30


def test_another_index_than_the_measured_one_counts_as_extrapolated_and_never_as_smaller() -> None:
    usual = {need.name: need.quantity for need in needs(1_000_000, Parameters(), FIGURES)}
    assert not usual["memory of a replica"].extrapolated
    for change, memory in (({"dim": 128}, 2e9), ({"dim": 512}, 4e9), ({"m": 32}, 2e9 + 16e6)):
        other = {need.name: need.quantity for need in needs(1_000_000, Parameters(**change), FIGURES)}
        assert other["memory of a replica"].value == memory
        assert other["memory of a replica"].extrapolated
        assert other["building"].value >= usual["building"].value


def test_every_line_that_is_known_says_where_it_comes_from() -> None:
    for parameters in (Parameters(keep_features=True), Parameters(gpu=True)):
        for need in needs(1000, parameters, FIGURES):
            assert need.how
            assert need.quantity.sources if need.quantity.value is not None else need.quantity.lacking


def test_without_any_measurement_only_arithmetic_is_left() -> None:
    known = [need.name for need in needs(1000, Parameters(), Figures({}, ())) if need.quantity.value is not None]
    assert known == ["index", "vectors"]


def test_the_shipped_figures_have_unit_machine_and_command() -> None:
    shipped = Figures.read()
    assert {figure.name for figure in shipped.figures} <= set(UNITS)
    for one in shipped.figures:
        assert one.machine
        assert one.command.startswith("make ")
    if shipped.figures:
        assert set(shipped.setting) == set(SETTING)


@pytest.mark.parametrize(
    "content",
    ["[]", "no JSON", '{"setting": {}, "figures": [{"name": "memory"}]}', json.dumps(
        {"setting": {}, "figures": [{**figure("memory", 1, 2.0).__dict__, "unit": "MiB"}]}
    )],
)  # fmt: skip
def test_a_damaged_file_of_figures_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(CompsketchError, match=r"figures\.json"):
        Figures.read(path)


@pytest.mark.parametrize("text", ["0", "-5", "1e99", "nonsense", "1,,2", "", "9" * 21, "1000000000001", "٣", "1.5"])
def test_what_is_no_number_of_photos_is_refused(text: str) -> None:
    with pytest.raises(CompsketchError, match="--photos"):
        photo_counts(text)


def test_numbers_of_photos() -> None:
    assert photo_counts("100000, 1_000_000") == [100_000, 1_000_000]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"growth": math.nan}, "--growth nan: it has to be from 0 to 1,000"),
        ({"node_memory": 0.0}, "--node-memory 0: it has to be above 0"),
        ({"encode_rate": -1.0}, "--encode-rate -1: it has to be above 0"),
        ({"storage_price": math.inf}, "--storage-price inf"),
        ({"fill": 1.5}, "--fill 1.5: it has to be above 0, up to 1"),
        ({"replicas": 0}, "--replicas 0: it has to be from 1"),
        ({"gpu": True, "gpu_pool": 20.0}, "--gpu-pool 20"),
    ],
)
def test_a_parameter_that_cannot_be_names_its_flag(values: dict, said: str) -> None:
    with pytest.raises(CompsketchError, match=said):
        Parameters(**values)
