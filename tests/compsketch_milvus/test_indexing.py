"""The index that a collection ends up with: on Milvus Lite, and on fake servers of each kind that there is."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pymilvus import MilvusException

from compsketch_milvus import index
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.index import LITE_TYPES, choose
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search_vectors
from tests.compsketch_milvus.fake_server import FakeServer

Open = Callable[..., SketchCollection]

# --- Milvus Lite ---


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
    monkeypatch.setattr(index, "FLAT_ROWS", 50)
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
    monkeypatch.setattr(index, "FLAT_ROWS", 50)
    collection = open_collection(index="FLAT")
    collection.upsert(photo_vectors)
    collection.flush()
    assert collection.index.type == "FLAT"


def test_an_index_that_was_asked_for_is_not_built_again_when_rows_have_grown(open_collection, photo_vectors) -> None:
    """Several workers, each with --index, would otherwise take the collection away from each other."""
    open_collection(index="IVF_FLAT").upsert(photo_vectors)
    assert open_collection(index="IVF_FLAT").index.params == {"nlist": 128}
    assert open_collection(index="ivf_flat", index_params={"nlist": 128}).index.params == {"nlist": 128}
    assert open_collection(index="IVF_FLAT", index_params={"nlist": 4}).index.params == {"nlist": 4}


def test_parameters_for_searching_are_kept_without_building_again(open_collection, photo_vectors, caplog) -> None:
    open_collection(index="IVF_FLAT").upsert(photo_vectors)
    changed = open_collection(index="IVF_FLAT", index_params={"nlist": 128, "nprobe": 128})
    assert changed.index.search_params == {"nprobe": 128}
    assert open_collection().index.search_params == {"nprobe": 128}


def test_parameters_for_searching_alone_build_nothing_though_rows_have_grown(on) -> None:
    server = FakeServer()
    collection = filled(on(server)(), 5000)  # for which IVF_PQ would get 128 lists in place of 1600
    built = list(server.builds)
    assert on(server)(index="IVF_PQ", index_params={"nprobe": 200}).index.search_params == {"nprobe": 200}
    collection.reindex("IVF_PQ", {"nprobe": 300})
    assert (collection.index.params["nlist"], collection.index.search_params) == (1600, {"nprobe": 300})
    assert (server.builds, on(server)().index.search_params) == (built, {"nprobe": 300})


def advice(collection: SketchCollection) -> str:
    return collection.info()["index"]["advice"]


def test_a_quantiser_that_loses_answers_is_replaced_when_chosen_anew_and_named_when_wanted(on, caplog) -> None:
    server = FakeServer("v2.3.5-lite")
    collection = filled(on(server)(index="IVF_PQ"), 5000)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "asked for by name, although IVF_PQ of a server before 2.4 loses answers" in said
    assert "loses answers once photos are deleted or filtered out: run `compsketch index auto`" in advice(collection)
    collection.reindex("auto")
    assert advice(collection) == ""
    assert (collection.index.type, collection.index.params) == ("IVF_SQ8", {"nlist": 128})


def test_parameters_for_searching_leave_those_that_were_given_before(on) -> None:
    given = {"nlist": 64, "cache_dataset_on_device": True, "refine_ratio": 2}
    server = FakeServer(gpu="builds")
    filled(on(server)(index="GPU_IVF_PQ", index_params=given), 2000)
    built = list(server.builds)
    for tuned in (on(server)(index_params={"nprobe": 16}), on(server)()):
        assert (tuned.index.params["nlist"], tuned.index.search_params) == (64, {"nprobe": 16, "refine_ratio": 2})
    assert server.builds == built


def test_parameters_without_a_type_are_for_the_type_that_was_asked_for(open_collection, photo_vectors) -> None:
    open_collection(index="IVF_FLAT", index_params={"nlist": 8}).upsert(photo_vectors)
    tuned = open_collection(index_params={"nprobe": 3})
    assert (tuned.index.type, tuned.index.params, tuned.index.search_params) == (
        "IVF_FLAT",
        {"nlist": 8},
        {"nprobe": 3},
    )
    assert open_collection(index_params={"nlist": 4}).index.params == {"nlist": 4}


def test_an_index_that_is_left_to_us_stays_when_only_its_search_is_told(on) -> None:
    server = FakeServer()
    filled(on(server)(), 50_000)  # 1024 lists would not be worth it
    built = list(server.builds)
    assert on(server)(index_params={"nprobe": 32}).index.search_params == {"nprobe": 32}
    again = on(server)()
    assert (again.index.params["nlist"], again.index.search_params, server.builds) == (1600, {"nprobe": 32}, built)
    assert again.identity.index["want"] == "auto"


def test_a_question_that_fails_does_not_take_the_index_off_the_gpu(on) -> None:
    server = FakeServer(gpu="builds")
    collection = filled(on(server)(), 2000)
    collection.optimize()
    server.full = True  # no room for the question's temporary collection
    collection.reindex()
    assert (collection.index.type, collection.facts.gpu) == ("GPU_IVF_PQ", "yes")
    assert on(server)().index.type == "GPU_IVF_PQ"


def test_a_collection_of_version_0_1_is_opened(open_collection, photo_vectors) -> None:
    """What it remembers of its index has no facts about a GPU and no parameters as they were given."""
    first = open_collection(index="HNSW", index_params={"M": 8})
    kept = json.loads(first.client.describe_collection("photos")["properties"]["compsketch"])
    for name in ("given", "search", "gpu", "gpu_reason"):
        del kept["index"][name]
    first.client.alter_collection_properties("photos", {"compsketch": json.dumps(kept)})
    again = open_collection()
    assert (again.index.type, again.index.params) == ("HNSW", {"M": 8, "efConstruction": 200})
    assert again.index.reason == "asked for by name"


def test_auto_takes_back_what_was_asked_for_by_name(open_collection, photo_vectors) -> None:
    collection = open_collection(index="HNSW")
    collection.upsert(photo_vectors)
    collection.reindex()
    assert (collection.index.type, collection.info()["index"]["state"]) == ("FLAT", "Finished")
    assert [hit.id for hit in collection.search_vector(photo_vectors[4].vector, 1)] == ["p04"]


# --- servers ---


@pytest.fixture
def on(monkeypatch, toy_encoder) -> Callable[[FakeServer], Open]:
    """`SketchCollection.open` on a fake server, which has a second to build a first index on a GPU."""

    def at(server: FakeServer) -> Open:
        monkeypatch.setattr("compsketch_milvus.collection.connect_server", lambda *_, **__: server)
        options = {"uri": "http://fake:19530", "gpu_wait": 1}
        return lambda **more: SketchCollection.open("photos", toy_encoder, **{**options, **more})

    return at


def filled(collection: SketchCollection, rows: int, first: int = 0) -> SketchCollection:
    """The collection, with photos stored and flushed."""
    vector = np.eye(16, dtype=np.float32)[0]
    collection.upsert(PhotoVector(f"{i}", "s", 1, 1, vector) for i in range(first, first + rows))
    collection.flush()
    return collection


@pytest.mark.parametrize(
    ("version", "gpu", "kind", "answer", "reason"),
    [
        (
            "v2.6.4",
            "builds",
            "GPU_IVF_PQ",
            "yes",
            r"GPU indexes: yes \(the server built one\); the paper's",
        ),
        (
            "v2.6.4",
            "refuses",
            "IVF_PQ",
            "no",
            r"GPU indexes: no \(the server refuses one: .*; the paper's",
        ),
        ("v2.4.5", "fails", "IVF_PQ", "no", r"GPU indexes: no \(the server cannot build one: no CUDA-capable"),
        ("v2.3.5", "never", "IVF_SQ8", "no", "had built none of its 2048 rows after 1 s"),
    ],
)
def test_each_server_is_asked_once_and_what_it_said_is_kept(on, caplog, version, gpu, kind, answer, reason) -> None:
    caplog.set_level(logging.INFO, "compsketch_milvus")
    server = FakeServer(version, gpu)
    collection = on(server)()
    assert (collection.index.type, collection.facts.gpu) == (kind, answer)
    assert collection.index.params == {"nlist": 1600} | ({} if kind == "IVF_SQ8" else {"m": 16, "nbits": 8})
    assert re.search(reason, collection.index.reason), collection.index.reason
    assert f"collection 'photos': index {kind} " in caplog.text
    again = on(server)()
    assert (server.asked, list(server.collections)) == (1, ["photos"])
    assert (again.index, again.facts.gpu) == (collection.index, answer)


def test_pypi_s_wheel_is_not_asked(on) -> None:
    server = FakeServer("v2.3.5-lite", "never")
    assert on(server)().index.type == "IVF_SQ8"
    assert server.asked == 0


def test_a_gpu_index_asked_for_by_name_becomes_the_nearest_with_a_warning(on, caplog) -> None:
    server = FakeServer("v2.4.5", "never")
    wish = {"index": "GPU_IVF_PQ", "index_params": {"nlist": 64, "refine_ratio": 2, "cache_dataset_on_device": True}}
    collection = on(server)(**wish)
    assert (collection.index.type, collection.index.params) == ("IVF_PQ", {"nlist": 64, "m": 16, "nbits": 8})
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert said.getMessage() == (
        'collection \'photos\': index IVF_PQ {"nlist": 64, "m": 16, "nbits": 8, "nprobe": 64}: GPU_IVF_PQ was wanted, '
        "but the server accepts one and had built none of its 2048 rows after 1 s: the nearest there is on the CPU"
    )
    assert on(server)(**wish).index.type == "IVF_PQ"
    assert server.asked == 1  # the same wish is not asked for again


def test_naming_a_gpu_index_later_asks_again_and_one_that_came_is_used(on) -> None:
    server = FakeServer(gpu="refuses")
    filled(on(server)(), 2000)
    server.gpu = "builds"
    assert on(server)().index.type == "IVF_PQ"
    assert on(server)(index="GPU_IVF_PQ").index.type == "GPU_IVF_PQ"
    assert server.asked == 2


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [("never", "the server built nothing of it in 1 s"), ("fails", "the server failed to build it")],
)
def test_a_gpu_that_went_away_is_noticed_and_the_index_goes_to_the_cpu(on, caplog, gpu, reason) -> None:
    server = FakeServer(gpu="builds")
    collection = on(server)()
    server.gpu = gpu
    filled(collection, 2000)
    assert collection.info()["index"]["indexed_rows"] == 0
    collection.optimize(wait=1)
    assert (collection.index.type, collection.index.params) == ("IVF_PQ", {"nlist": 32, "m": 16, "nbits": 8})
    assert f"GPU_IVF_PQ was wanted, but {reason}" in caplog.text
    info = on(server)().info()
    assert (info["index"]["type"], info["index"]["indexed_rows"], info["server"]["gpu"]) == ("IVF_PQ", 2000, "no")
    assert server.collections["photos"].loaded


def test_a_server_that_cannot_be_asked_gets_the_index_that_each_can_build(on, monkeypatch) -> None:
    server = FakeServer(gpu="builds")
    create = server.create_collection

    def no_temporary_ones(name, **arguments):
        server.full = name != "photos"
        create(name, **arguments)

    monkeypatch.setattr(server, "create_collection", no_temporary_ones)
    collection = on(server)()
    assert (collection.index.type, collection.info()["server"]["gpu"]) == ("IVF_PQ", "unknown")
    assert "GPU indexes: unknown (could not be asked" in collection.index.reason


def test_a_collection_that_another_worker_made_meanwhile_is_taken_as_it_is(on, monkeypatch) -> None:
    server = FakeServer(gpu="refuses")
    open_ = on(server)
    ask = server.get_server_version

    def other_worker(*_, **__):
        monkeypatch.setattr("compsketch_milvus.indexing.ask_gpu", lambda *_: ("no", "asked before"))
        filled(open_(index="HNSW"), 10)
        return "no", "asked just now"

    monkeypatch.setattr("compsketch_milvus.indexing.ask_gpu", other_worker)
    collection = open_()
    assert (collection.index.type, collection.count()) == ("HNSW", 10)
    assert ask() == "v2.6.4"


def test_a_flush_on_a_server_neither_waits_nor_builds_again(on) -> None:
    server = FakeServer(gpu="builds")
    collection = filled(on(server)(), 2000)
    assert server.builds == ["GPU_IVF_PQ", "GPU_IVF_PQ"]  # the question's and the collection's
    index = collection.info()["index"]
    assert (index["state"], index["indexed_rows"], index["pending_rows"]) == ("InProgress", 0, 2000)
    assert index["advice"].startswith("2000 rows would get GPU_IVF_PQ {'nlist': 32, ")


def test_optimize_builds_what_pays_and_waits_until_it_is_there(on) -> None:
    server = FakeServer(gpu="builds")
    collection = filled(on(server)(), 2000)
    assert collection.optimize().params["nlist"] == 32
    index = collection.info()["index"]
    assert (index["state"], index["indexed_rows"], index["pending_rows"]) == ("Finished", 2000, 0)
    assert index["advice"] == ""
    built = list(server.builds)
    collection.optimize()
    assert server.builds == built
    assert on(server)().index.params["nlist"] == 32


def test_optimize_leaves_an_index_that_was_asked_for_and_one_of_another_program(on) -> None:
    server = FakeServer(gpu="builds")
    filled(on(server)(index="GPU_IVF_PQ"), 2000)
    assert on(server)().optimize().params["nlist"] == 1600
    server.collections["photos"].index = {"index_type": "DISKANN", "metric_type": "L2"}
    other = on(server)().optimize()
    assert (other.type, other.reason, other.lossy) == (
        "DISKANN",
        "made by another program",
        True,
    )


def test_optimize_says_what_is_not_built_in_time(on, caplog, monkeypatch) -> None:
    server = FakeServer()
    collection = filled(on(server)(), 2000)
    still = {**(server.collections["photos"].index or {}), "state": "InProgress"}
    still |= {"indexed_rows": 0, "pending_index_rows": 2000}
    monkeypatch.setattr(server, "describe_index", lambda *_, **__: still)
    assert collection.optimize(wait=1).type == "IVF_PQ"
    assert "after 1 s its index has 0 rows and lacks 2000, which are searched row by row" in caplog.text


def test_an_index_that_another_program_drops_meanwhile_is_missed_in_words(on, caplog, monkeypatch) -> None:
    server = FakeServer()
    collection = filled(on(server)(), 100_000)  # whose index is not outgrown
    server.collections["photos"].index = None
    collection.optimize(wait=1)
    assert "another program has dropped its index" in caplog.text


def test_what_a_server_refuses_leaves_the_index_that_was_there(on) -> None:
    server = FakeServer()
    collection = filled(on(server)(), 2000)
    with pytest.raises(ServerError, match="refused to build the index IVF_FLAT: this server does not like thirteen"):
        collection.reindex("IVF_FLAT", {"nlist": 13})
    for one in (collection, on(server)()):
        assert (one.index.type, one.index.params["nlist"], one.count()) == ("IVF_PQ", 1600, 2000)


def test_a_misspelt_wish_costs_the_server_no_question(on) -> None:
    server = FakeServer(gpu="builds")
    with pytest.raises(CollectionError, match="'nlists'"):
        on(server)(index_params={"nlists": 64})
    assert (server.asked, server.collections) == (0, {})


def test_few_rows_are_chosen_for_by_count_not_by_statistics(on) -> None:
    """Those leave out what is not flushed."""
    server = FakeServer()
    collection = on(server)()
    vector = np.eye(16, dtype=np.float32)[0]
    collection.upsert(PhotoVector(f"{i}", "s", 1, 1, vector) for i in range(5000))
    assert server.get_collection_stats("photos") == {"row_count": 0}
    collection.reindex("IVF_FLAT", {"nprobe": 4})
    assert collection.index.params == {"nlist": 128}
    assert collection.facts.rows == 5000


def test_an_index_on_a_gpu_is_asked_for_no_range_and_a_least_score_is_applied_here(
    open_collection, photo_vectors, monkeypatch
) -> None:
    collection = open_collection()
    collection.upsert(photo_vectors)
    collection.index = choose(replace(collection.facts, kind="server", gpu="yes"), "GPU_IVF_PQ")
    asked, search = [], collection.client.search
    monkeypatch.setattr(collection.client, "search", lambda *a, **more: asked.append(more) or search(*a, **more))
    (result,) = search_vectors(collection, photo_vectors[3].vector, 60, threshold=0.4)
    assert asked[0]["search_params"] == {"metric_type": "L2", "params": {"nprobe": 64}}
    assert result.hits[0].id == "p03"
    assert all(hit.score >= 0.4 for hit in result)
    assert 1 <= len(result) < 60


def test_of_two_workers_that_make_a_collection_at_once_the_slower_takes_the_faster_one_s(on, monkeypatch) -> None:
    server = FakeServer()
    create = server.create_collection

    def raced(name, **arguments):
        create(name, **arguments)
        if name == "photos":
            raise MilvusException(1, "create duplicate collection with different parameters")

    monkeypatch.setattr(server, "create_collection", raced)
    collection = on(server)()  # the other one has not built its index yet
    assert (collection.index.type, collection.count()) == ("IVF_PQ", 0)
