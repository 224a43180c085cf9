"""The index on a real Milvus server: chosen, asked for by name, built in the background, built again, and refused.

The server of these tests has no GPU. Where it is 2.3.5 it takes GPU_IVF_PQ all the same and never builds it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from pymilvus import MilvusClient

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.probing import ask_gpu
from compsketch_milvus.records import PhotoVector

ROWS = 3000
BUILT = 300  # seconds; a few on a machine that does nothing else


@pytest.fixture(scope="module")
def photos() -> list[PhotoVector]:
    """Three thousand, of one direction each."""
    rows = np.random.default_rng(3).normal(size=(ROWS, 16)).astype(np.float32)  # as wide as the toy encoder's
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [PhotoVector(f"{i:04}", f"/photos/{i}.jpg", 100, 80, row, {}) for i, row in enumerate(rows)]


@pytest.fixture
def open_(milvus_server: str, toy_encoder) -> Iterator:
    """Opens a collection of the test's own, dropped at the end."""
    name, opened = f"a_index_{uuid.uuid4().hex[:8]}", []

    def at(**options) -> SketchCollection:
        opened.append(SketchCollection.open(name, toy_encoder, uri=milvus_server, **options))
        return opened[-1]

    yield at
    for one in opened[1:]:
        one.close()
    opened[0].drop()


def finds(collection: SketchCollection, photos: list[PhotoVector]) -> bool:
    """Whether a few photos, each asked for by its own vector, come first."""
    return all(collection.search_vector(photos[i].vector, 5)[0].id == photos[i].id for i in range(0, ROWS, 500))


def quantiser(collection: SketchCollection, nlist: int) -> tuple[str, dict[str, int]]:
    """What such a server builds in place of a GPU's index: the paper's, where it can be trusted with it."""
    if collection.facts.release < (2, 4):
        return "IVF_SQ8", {"nlist": nlist}
    return "IVF_PQ", {"nlist": nlist, "m": 16, "nbits": 8}


def leaves_no_temporary_collection(uri: str) -> bool:
    """Whether those that a server is asked with are gone; those of tests that run beside this one go a little later."""
    client, deadline = MilvusClient(uri), time.monotonic() + 60
    try:
        while any(name.startswith("compsketch_gpu_") for name in client.list_collections()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True
    finally:
        client.close()


def test_a_server_without_a_gpu_gets_a_quantiser_on_the_cpu(open_, photos, milvus_server: str) -> None:
    collection = open_()
    assert (collection.facts.kind, collection.facts.gpu) == ("server", "no")
    kind, params = quantiser(collection, 1600)
    assert (collection.index.type, collection.index.params) == (kind, params)
    collection.upsert(photos)
    collection.flush()  # comes back at once; what is not built yet is searched row by row
    assert finds(collection, photos)

    assert collection.optimize(wait=BUILT).type == kind
    index = open_().info()["index"]
    assert (index["type"], index["state"], index["indexed_rows"], index["pending_rows"]) == (
        kind, "Finished", ROWS, 0,
    )  # fmt: skip
    assert index["consequences"]["index_bytes"] < index["consequences"]["raw_bytes"] * 2
    assert index["advice"] == ""  # Milvus itself takes fewer lists for so few rows
    assert finds(collection, photos)
    assert leaves_no_temporary_collection(milvus_server)


def test_a_gpu_index_asked_for_by_name_ends_on_the_cpu_with_a_warning_and_is_searched(
    open_, photos, milvus_server: str, caplog
) -> None:
    wish = {"index": "GPU_IVF_PQ", "index_params": {"nlist": 32}, "gpu_wait": 3}
    collection = open_(**wish)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "GPU_IVF_PQ was wanted, but " in said
    assert (collection.index.type, collection.index.params) == quantiser(collection, 32)
    assert leaves_no_temporary_collection(milvus_server)

    collection.upsert(photos)
    collection.flush()
    collection.optimize(wait=BUILT)
    assert collection.info()["index"]["indexed_rows"] == ROWS
    assert finds(collection, photos)

    caplog.clear()
    assert open_(**wish).index == collection.index  # the same wish is not asked for again
    assert caplog.text == ""


def test_an_index_that_the_server_never_builds_is_replaced_after_the_wait(open_, photos, caplog) -> None:
    """As of a collection whose server lost its GPU, or that another program made."""
    collection = open_(index="FLAT")
    if not collection.facts.version.startswith("v2.3"):
        pytest.skip(f"Milvus {collection.facts.version} refuses GPU_IVF_PQ at once")
    collection.upsert(photos)
    collection.flush()
    collection.client.release_collection(collection.name)
    collection.client.drop_index(collection.name, "vector")
    wanted = collection.client.prepare_index_params()
    wanted.add_index("vector", "GPU_IVF_PQ", "vector", metric_type="L2", params={"nlist": 32, "m": 16, "nbits": 8})
    collection.client.create_index(collection.name, wanted, sync=False)

    again = open_()
    assert (again.index.type, again.index.reason) == ("GPU_IVF_PQ", "made by another program")
    assert finds(again, photos)
    index = again.info()["index"]
    assert (index["state"], index["indexed_rows"], index["pending_rows"]) == ("InProgress", 0, ROWS)

    again.optimize(wait=3)
    assert again.index.type == quantiser(again, 32)[0]
    assert "GPU_IVF_PQ was wanted, but the server built nothing of it in 3 s" in caplog.text
    again.optimize(wait=BUILT)
    assert again.info()["index"]["indexed_rows"] == ROWS
    assert finds(again, photos)


def test_another_index_is_built_while_the_rows_stay(open_, photos) -> None:
    collection = open_()
    collection.upsert(photos)  # not flushed: the server's statistics know of no row
    assert collection.client.get_collection_stats(collection.name)["row_count"] == 0
    collection.reindex("HNSW", {"M": 8}, wait=BUILT)
    info = open_().info()
    assert (info["index"]["type"], info["index"]["params"]["M"], info["count"]) == ("HNSW", 8, ROWS)
    assert finds(collection, photos)


def test_what_the_server_refuses_leaves_the_index_that_was_there(open_, photos) -> None:
    collection = open_(index="HNSW")
    collection.upsert(photos)
    with pytest.raises(ServerError, match="refused to build the index HNSW"):
        collection.reindex("HNSW", {"M": 10**6}, wait=BUILT)
    assert collection.info()["index"]["params"]["M"] == 16
    assert finds(collection, photos)


def test_few_rows_are_searched_row_by_row_and_count_as_indexed(open_, photos) -> None:
    """Milvus leaves segments of fewer than 1024 rows without an index, whatever it says."""
    collection = open_()
    collection.upsert(photos[:500])
    collection.flush()
    collection.optimize(wait=BUILT)
    index = collection.info()["index"]
    assert (index["state"], index["indexed_rows"], index["pending_rows"]) == ("Finished", 500, 0)
    assert collection.search_vector(photos[7].vector, 1)[0].id == "0007"


def test_the_question_leaves_nothing_behind(milvus_server: str) -> None:
    client = MilvusClient(milvus_server)
    assert ask_gpu(client, milvus_server, wait=3)[0] == "no"
    client.close()
    assert leaves_no_temporary_collection(milvus_server)
