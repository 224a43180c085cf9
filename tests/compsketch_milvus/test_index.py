"""Which index is chosen, as a table: a function of facts, parameters and wishes, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.consequences import consequences
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.index import GPU_TYPES, LITE_TYPES, SERVER_TYPES, IndexChoice, ServerFacts, choose, pays

LITE = ServerFacts("lite", "3.2.2", gpu="no", dim=256)
SERVER = ServerFacts("server", "v2.6.4", dim=256)
GPU = ServerFacts("server", "v2.6.4", gpu="yes", dim=256, gpu_reason="the server built one")
CPU = ServerFacts("server", "v2.4.5", gpu="no", dim=256, gpu_reason="the server refuses one")
OLD = replace(CPU, version="v2.3.5")  # whose IVF_PQ is wrong where rows are left out
LOSES = "IVF_PQ of a server before 2.4 loses answers once photos are deleted or filtered out"
PAPER = {"nlist": 1600, "m": 16, "nbits": 8}
CACHED = {"cache_dataset_on_device": "true"}


def at(facts: ServerFacts, rows: int, dim: int = 256) -> ServerFacts:
    return replace(facts, rows=rows, dim=dim)


@pytest.mark.parametrize(
    ("facts", "want", "params", "expected"),
    [
        (LITE, "auto", None, (
            "FLAT", {}, {}, "Milvus Lite, 0 rows when chosen: up to 20000 an exact search is fast enough",
        )),
        (at(LITE, 20_000), "auto", None, (
            "FLAT", {}, {}, "Milvus Lite, 20000 rows when chosen: up to 20000 an exact search is fast enough",
        )),
        (at(LITE, 20_001), "auto", None, (
            "HNSW", {"M": 16, "efConstruction": 200}, {"ef": 256},
            "Milvus Lite, 20001 rows when chosen: over 20000 an exact search is too slow",
        )),
        (SERVER, "auto", None, (
            "IVF_PQ", PAPER, {"nprobe": 64},
            "Milvus v2.6.4, GPU indexes: unknown; the paper's quantiser on the CPU, "
            "nlist 1600 for a collection that is about to be filled",
        )),
        (at(CPU, 5000), "auto", None, (
            "IVF_PQ", {**PAPER, "nlist": 128}, {"nprobe": 64},
            "Milvus v2.4.5, GPU indexes: no (the server refuses one); the paper's quantiser on the CPU, "
            "nlist 128, the largest power of two that leaves 39 of 5000 rows to each list",
        )),
        (OLD, "auto", None, (
            "IVF_SQ8", {"nlist": 1600}, {"nprobe": 64},
            f"Milvus v2.3.5, GPU indexes: no (the server refuses one); {LOSES}, "
            "nlist 1600 for a collection that is about to be filled",
        )),
        (OLD, "IVF_PQ", None, ("IVF_PQ", PAPER, {"nprobe": 64}, f"asked for by name, although {LOSES}")),
        (OLD, "auto", {"m": 32}, (
            "IVF_PQ", {**PAPER, "m": 32}, {"nprobe": 64},
            "Milvus v2.3.5, GPU indexes: no (the server refuses one); the paper's quantiser on the CPU, "
            f"nlist 1600 for a collection that is about to be filled, although {LOSES}",
        )),
        (OLD, "GPU_IVF_PQ", {"nlist": 32, "nbits": 4}, (
            "IVF_SQ8", {"nlist": 32}, {"nprobe": 32},
            f"GPU_IVF_PQ was wanted, but the server refuses one: the nearest there is on the CPU, as {LOSES}",
        )),
        (replace(GPU, version="v2.3.5"), "auto", None, (
            "GPU_IVF_PQ", PAPER, {"nprobe": 64},
            "Milvus v2.3.5, GPU indexes: yes (the server built one); the paper's quantiser, "
            "nlist 1600 for a collection that is about to be filled",
        )),
        (at(GPU, 100_000), "auto", None, (
            "GPU_IVF_PQ", PAPER, {"nprobe": 64},
            "Milvus v2.6.4, GPU indexes: yes (the server built one); the paper's quantiser, "
            "nlist 1600, 100000 rows when chosen",
        )),
        (SERVER, "gpu_ivf_pq", {"nlist": 32}, (
            "GPU_IVF_PQ", {**PAPER, "nlist": 32}, {"nprobe": 32}, "asked for by name",
        )),
        (CPU, "GPU_IVF_PQ", {"nbits": 6, "cache_dataset_on_device": True, "refine_ratio": 2}, (
            "IVF_PQ", {**PAPER, "nbits": 6}, {"nprobe": 64},
            "GPU_IVF_PQ was wanted, but the server refuses one: the nearest there is on the CPU",
        )),
        (CPU, "GPU_CAGRA", {"graph_degree": 32}, (
            "HNSW", {"M": 16, "efConstruction": 200}, {"ef": 256},
            "GPU_CAGRA was wanted, but the server refuses one: the nearest there is on the CPU",
        )),
        (GPU, "GPU_IVF_PQ", {"cache_dataset_on_device": True, "refine_ratio": 2}, (
            "GPU_IVF_PQ", {**PAPER, **CACHED}, {"nprobe": 64, "refine_ratio": 2}, "asked for by name",
        )),
        (LITE, "hnsw", {"M": 32, "ef": 512}, (
            "HNSW", {"M": 32, "efConstruction": 200}, {"ef": 512}, "asked for by name",
        )),
        (LITE, "IVF_SQ8", None, ("IVF_SQ8", {"nlist": 128}, {"nprobe": 16}, "asked for by name")),
        (SERVER, "IVF_FLAT", None, ("IVF_FLAT", {"nlist": 1600}, {"nprobe": 64}, "asked for by name")),
        (GPU, "GPU_IVF_FLAT", None, ("GPU_IVF_FLAT", {"nlist": 128}, {"nprobe": 16}, "asked for by name")),
        (SERVER, "IVF_PQ", {"nprobe": 8}, ("IVF_PQ", PAPER, {"nprobe": 8}, "asked for by name")),
    ],
)  # fmt: skip
def test_choice(facts, want, params, expected) -> None:
    kind, building, searching, reason = expected
    follows = consequences(kind, building, 256)
    assert choose(facts, want, params) == IndexChoice(kind, building, searching, reason, follows)


@pytest.mark.parametrize(
    ("rows", "nlist"),
    [
        (0, 1600),
        (1, 1),
        (38, 1),
        (78, 2),
        (39 * 64 - 1, 32),
        (39 * 64, 64),
        (62_399, 1024),
        (62_400, 1600),
        (10**8, 1600),
    ],
)
def test_lists_keep_39_points_each(rows, nlist) -> None:
    assert choose(at(SERVER, rows)).params["nlist"] == nlist
    assert rows == 0 or nlist == 1 or rows // nlist >= 39


@pytest.mark.parametrize(("dim", "m"), [(256, 16), (128, 16), (100, 10), (24, 12), (17, 1)])
def test_parts_divide_the_dimension(dim, m) -> None:
    assert choose(at(SERVER, 0, dim)).params["m"] == m


@pytest.mark.parametrize(
    ("facts", "want", "message"),
    [
        (LITE, "IVF_PQ", r"index 'IVF_PQ': Milvus Lite 3\.2\.2 has no such type; it has FLAT, BRUTE_FORCE, HNSW"),
        (LITE, "GPU_IVF_PQ", r"Milvus Lite 3\.2\.2 has no such type"),
        (SERVER, "FLATT", r"index 'FLATT': Milvus v2\.6\.4 has no such type; it has .*IVF_PQ.*GPU_IVF_PQ"),
    ],
)
def test_a_type_the_backend_lacks_lists_those_it_has(facts, want, message) -> None:
    with pytest.raises(CollectionError, match=message):
        choose(facts, want)


@pytest.mark.parametrize(
    ("want", "params", "message"),
    [
        ("GPU_IVF_PQ", {"refine_ratio": 2}, "refine_ratio and cache_dataset_on_device: one is of no use without the"),
        ("GPU_IVF_PQ", CACHED, "refine_ratio and cache_dataset_on_device: one is of no use without the other"),
        ("GPU_IVF_PQ", {"nbits": 3}, "nbits is 3: GPU_IVF_PQ takes whole numbers, 4 to 8"),
        ("IVF_PQ", {"nlists": 3}, "index parameter 'nlists': IVF_PQ has nlist, m, nbits, nprobe"),
        ("IVF_PQ", {"refine_ratio": 2}, "index parameter 'refine_ratio': IVF_PQ has nlist, m, nbits, nprobe"),
        ("IVF_PQ", {"nlist": "64"}, "nlist is '64': IVF_PQ takes whole numbers, 1 to 65536"),
        ("IVF_PQ", {"nlist": 65537}, "nlist is 65537"),
        ("IVF_PQ", {"nlist": True}, "nlist is 'true'"),
        ("IVF_PQ", {"m": 12}, "m is 12: it has to cut vectors of 256 into equal parts"),
        ("FLAT", {"nlist": 64}, "index parameter 'nlist': FLAT has no parameters"),
        ("HNSW", {"M": [16]}, r"M is \[16\]: give a number"),
        ("HNSW", {"M": "many"}, "M is 'many': HNSW takes whole numbers, 1 to"),
        ("HNSW", {"ef": "64"}, "ef is '64': HNSW takes whole numbers, 1 to"),
        ("GPU_CAGRA", {"graph_degree": 0.5}, r"graph_degree is 0\.5: GPU_CAGRA takes whole numbers, 1 to"),
        ("auto", {"ef": 64}, "index parameter 'ef': IVF_PQ has"),
    ],
)
def test_a_parameter_that_a_server_would_ignore_or_refuse_is_refused(want, params, message) -> None:
    with pytest.raises(CollectionError, match=message):
        choose(SERVER, want, params)


@pytest.mark.parametrize("kind", SERVER_TYPES)
def test_an_index_on_a_gpu_brings_1024_hits_at_most(kind) -> None:
    limited = kind in GPU_TYPES and kind != "GPU_BRUTE_FORCE"
    assert choose(GPU, kind).max_hits == (1024 if limited else 16384)


@given(
    facts=st.builds(
        ServerFacts,
        kind=st.just("server"),
        version=st.just("v2.6.4"),
        gpu=st.sampled_from(["yes", "no", "unknown"]),
        rows=st.integers(0, 10**9),
        dim=st.integers(1, 32768),
    ),
    want=st.sampled_from(["auto", *SERVER_TYPES]),
)
def test_whatever_is_chosen_a_server_can_build(facts, want) -> None:
    choice = choose(facts, want)
    assert choice.type in SERVER_TYPES
    assert not (choice.type in GPU_TYPES and facts.gpu == "no")
    assert not (want == "auto" and choice.type in GPU_TYPES and facts.gpu == "unknown")
    assert 1 <= choice.params.get("nlist", 1) <= 1600
    assert choice.search_params.get("nprobe", 1) <= choice.params.get("nlist", 1)
    assert facts.dim % choice.params.get("m", 1) == 0
    assert choose(facts, choice.type, {**choice.params, **choice.search_params}).params == choice.params


@pytest.mark.parametrize(
    ("facts", "before", "after", "expected"),
    [
        (LITE, 0, 20_000, False),
        (LITE, 0, 20_001, True),
        (LITE, 20_001, 10, False),  # an approximate index that is there costs nothing more
        (CPU, 1000, 100_000, True),  # 16 lists become 1600
        (CPU, 10_000, 39_935, False),  # 256 would become 512: not worth it
        (CPU, 0, 5000, False),  # Milvus itself trains 128 of the 1600
        (GPU, 0, 5000, True),  # a GPU trains all 1600
        (GPU, 0, 62_400, False),
    ],
)
def test_when_building_again_pays(facts, before, after, expected) -> None:
    assert pays(choose(at(facts, before)), choose(at(facts, after))) == expected


def test_a_gpu_that_came_or_went_pays() -> None:
    assert pays(choose(CPU), choose(GPU))
    assert pays(choose(GPU), choose(CPU))


def test_the_lists_of_both_kinds_of_server_are_complete() -> None:
    assert set(LITE_TYPES) - set(SERVER_TYPES) == {"BRUTE_FORCE"}
    assert {kind for kind in SERVER_TYPES if kind.startswith("GPU_")} == set(GPU_TYPES)
