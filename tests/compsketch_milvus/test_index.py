"""Which index is chosen, as a table, and that Milvus Lite then has it."""

from __future__ import annotations

import pytest

from compsketch_milvus import index as index_module
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.index import LITE_TYPES, IndexChoice, ServerFacts, choose

LITE = ServerFacts("lite", "3.2.2", dim=256)
SERVER = ServerFacts("server", "v2.6.4", dim=256)
GPU = ServerFacts("server", "v2.6.4", gpu=True, dim=256)


def at(facts: ServerFacts, rows: int, dim: int = 256) -> ServerFacts:
    return ServerFacts(facts.kind, facts.version, facts.gpu, rows, dim)


@pytest.mark.parametrize(
    ("facts", "want", "params", "expected"),
    [
        (
            LITE,
            "auto",
            None,
            IndexChoice(
                "FLAT", {}, {}, "Milvus Lite, 0 rows when chosen: up to 20000 an exact search is fast enough", False
            ),
        ),
        (
            at(LITE, 20_000),
            "auto",
            None,
            IndexChoice(
                "FLAT", {}, {}, "Milvus Lite, 20000 rows when chosen: up to 20000 an exact search is fast enough", False
            ),
        ),
        (
            at(LITE, 20_001),
            "auto",
            None,
            IndexChoice(
                "HNSW",
                {"M": 16, "efConstruction": 200},
                {"ef": 256},
                "Milvus Lite, 20001 rows when chosen: over 20000 an exact search is too slow",
                False,
            ),
        ),
        (
            SERVER,
            "auto",
            None,
            IndexChoice(
                "IVF_PQ",
                {"nlist": 1600, "m": 16, "nbits": 8},
                {"nprobe": 64},
                "Milvus v2.6.4 without a GPU: the paper's quantiser on the CPU, nlist 1600",
                True,
            ),
        ),
        (
            at(GPU, 5000),
            "auto",
            None,
            IndexChoice(
                "GPU_IVF_PQ",
                {"nlist": 128, "m": 16, "nbits": 8},
                {"nprobe": 64},
                "Milvus v2.6.4 with a GPU: the paper's quantiser, nlist 128",
                True,
            ),
        ),
        (
            SERVER,
            "gpu_ivf_pq",
            {"nlist": 32},
            IndexChoice("GPU_IVF_PQ", {"nlist": 32, "m": 16, "nbits": 8}, {"nprobe": 32}, "asked for by name", True),
        ),
        (
            LITE,
            "hnsw",
            {"M": 32},
            IndexChoice("HNSW", {"M": 32, "efConstruction": 200}, {"ef": 256}, "asked for by name", False),
        ),
        (
            LITE,
            "IVF_SQ8",
            None,
            IndexChoice("IVF_SQ8", {"nlist": 128}, {"nprobe": 16}, "asked for by name", True),
        ),
    ],
)
def test_choice(facts, want, params, expected) -> None:
    assert choose(facts, want, params) == expected


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


def test_probe_knows_milvus_lite(collection) -> None:
    facts = index_module.probe(collection.client, "./photos.db")
    assert (facts.kind, facts.gpu) == ("lite", False)
    assert facts.version[0].isdigit()


@pytest.mark.parametrize("kind", LITE_TYPES)
def test_milvus_lite_has_each_type(open_collection, photo_vectors, kind) -> None:
    collection = open_collection(index=kind)
    collection.upsert(photo_vectors)
    collection.flush()
    again = open_collection()  # "auto" leaves an index that was asked for alone
    assert again.info()["index"]["type"] == kind
    assert again.info()["index"]["reason"] == "asked for by name"
    assert again.search_vector(photo_vectors[9].vector, 1)[0].id == "p09"


def test_parameters_reach_milvus_lite(open_collection) -> None:
    """Sent flat, as pymilvus does by itself, they are dropped in silence."""
    collection = open_collection(index="HNSW", index_params={"M": 8})
    described = collection.client.describe_index("photos", "vector")
    assert described["params"] == {"M": 8, "efConstruction": 200}
    assert open_collection().info()["index"]["params"] == {"M": 8, "efConstruction": 200}


def test_naming_another_index_rebuilds_it(open_collection, photo_vectors) -> None:
    first = open_collection()
    first.upsert(photo_vectors)
    first.flush()
    second = open_collection(index="IVF_FLAT")
    assert (second.index.type, second.index.params) == ("IVF_FLAT", {"nlist": 1})
    assert second.count() == 60
    assert [hit.id for hit in second.search_vector(photo_vectors[4].vector, 1)] == ["p04"]


def test_an_index_changed_by_another_program_is_used_as_it_is(open_collection, photo_vectors) -> None:
    first = open_collection()
    first.upsert(photo_vectors)
    first.client.release_collection("photos")
    first.client.drop_index("photos", "vector")
    other = first.client.prepare_index_params()
    other.add_index("vector", "HNSW_SQ", "vector", metric_type="L2")
    first.client.create_index("photos", other)
    again = open_collection()
    assert (again.index.type, again.index.lossy) == ("HNSW_SQ", True)
    assert again.index.reason == "made by another program"
    assert again.search_vector(photo_vectors[4].vector, 1)[0].id == "p04"


def test_a_missing_index_is_built(open_collection, photo_vectors) -> None:
    """As after a crash between making the collection and making its index."""
    first = open_collection()
    first.client.release_collection("photos")
    first.client.drop_index("photos", "vector")
    again = open_collection()
    again.upsert(photo_vectors)
    assert again.info()["index"]["state"] == "Finished"


def test_a_metric_that_is_not_l2_is_refused(open_collection) -> None:
    first = open_collection()
    first.client.release_collection("photos")
    first.client.drop_index("photos", "vector")
    other = first.client.prepare_index_params()
    other.add_index("vector", "FLAT", "vector", metric_type="COSINE")
    first.client.create_index("photos", other)
    with pytest.raises(CollectionError, match="indexed by COSINE, not L2"):
        open_collection()


def test_a_flush_past_the_rule_changes_flat_to_hnsw(open_collection, photo_vectors, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "FLAT_ROWS", 50)
    collection = open_collection()
    collection.upsert(photo_vectors[:50])
    collection.flush()
    assert collection.index.type == "FLAT"
    collection.upsert(photo_vectors)
    collection.flush()
    assert collection.index.type == "HNSW"
    assert collection.index.reason == "Milvus Lite, 60 rows when chosen: over 50 an exact search is too slow"
    assert [hit.id for hit in collection.search_vector(photo_vectors[4].vector, 1)] == ["p04"]
    assert open_collection().info()["index"]["reason"] == collection.index.reason


def test_a_flat_index_that_was_asked_for_stays(open_collection, photo_vectors, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "FLAT_ROWS", 50)
    collection = open_collection(index="FLAT")
    collection.upsert(photo_vectors)
    collection.flush()
    assert collection.index.type == "FLAT"
