"""What indexes cost and give: bytes recomputed by hand, and words about recall."""

from __future__ import annotations

import pytest

from compsketch_milvus.consequences import consequences
from compsketch_milvus.index import SERVER_TYPES, ServerFacts, choose

PAPER = {"nlist": 1600, "m": 16, "nbits": 8}


@pytest.mark.parametrize(
    ("kind", "params", "per_row", "per_segment"),
    [
        ("FLAT", {}, 1024, 0),
        ("IVF_PQ", PAPER, 16 + 8, 4 * 256 * (1600 + 256)),
        ("IVF_PQ", {**PAPER, "m": 8, "nbits": 4}, 4 + 8, 4 * 256 * (1600 + 16)),
        ("GPU_IVF_PQ", PAPER, 16 + 8, 4 * 256 * (1600 + 256)),
        ("GPU_IVF_PQ", {**PAPER, "cache_dataset_on_device": "true"}, 1024 + 16 + 8, 4 * 256 * (1600 + 256)),
        ("IVF_FLAT", {"nlist": 128}, 1024 + 8, 4 * 256 * 128),
        ("IVF_SQ8", {"nlist": 128}, 256 + 8, 4 * 256 * 128),
        ("HNSW", {"M": 16}, 1024 + 128, 0),
        ("HNSW_SQ", {"M": 16}, 256 + 128, 0),
        ("GPU_CAGRA", {"graph_degree": 32}, 1024 + 128, 0),
        ("AUTOINDEX", {}, None, 0),
    ],
)
def test_bytes_of_256_dimensions(kind, params, per_row, per_segment) -> None:
    found = consequences(kind, params, 256)
    assert (found.bytes_per_row, found.bytes_per_segment) == (per_row, per_segment)


def test_report() -> None:
    report = consequences("IVF_PQ", PAPER, 256).report(rows=100_000, dim=256)
    assert report.pop("recall").startswith("the true top 10 are among the 200 that are ranked again")
    assert report == {
        "lossy": True,
        "bytes_per_row": 24,
        "bytes_per_segment": 1_900_544,
        "max_hits": 16384,
        "index_bytes": 2_400_000 + 1_900_544,
        "raw_bytes": 102_400_000,
    }


def test_nothing_stored_takes_nothing_and_what_is_unknown_is_not_guessed() -> None:
    assert consequences("IVF_PQ", PAPER, 256).report(0, 256)["index_bytes"] == 0
    assert consequences("SCANN", {"nlist": 128}, 256).report(1000, 256)["index_bytes"] is None


@pytest.mark.parametrize("kind", SERVER_TYPES)
def test_each_type_says_what_it_loses(kind) -> None:
    found = choose(ServerFacts("server", "v2.6.4", gpu="yes", dim=256), kind).consequences
    assert found.recall
    assert found.lossy == (kind not in ("FLAT", "HNSW", "IVF_FLAT", "GPU_BRUTE_FORCE", "GPU_CAGRA", "GPU_IVF_FLAT"))
