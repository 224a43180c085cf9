"""`compsketch info` and `compsketch index`: what a collection is searched by, what that costs, and another index."""

from __future__ import annotations

import pytest


def test_info_says_which_index_why_and_what_it_costs(program, photos):
    program("ingest", photos)
    index = program.json("info")["index"]
    assert (index["type"], index["state"], index["indexed_rows"], index["pending_rows"]) == ("FLAT", "Finished", 4, 0)
    assert index["reason"] == "Milvus Lite, 0 rows when chosen: up to 20000 an exact search is fast enough"
    costs = index["consequences"]
    assert (costs["recall"], costs["lossy"], costs["bytes_per_row"]) == ("exact", False, 64)
    assert (costs["index_bytes"], costs["raw_bytes"]) == (4 * 64, 4 * 64)
    assert program("info") == 0
    assert "index consequences recall" in program.out
    assert "server gpu" in program.out


def test_ingest_says_which_index_it_makes_and_why(program, photos):
    program("ingest", photos)
    assert "INFO: collection 'photos': index FLAT {}: Milvus Lite, 0 rows when chosen" in program.err
    program("ingest", photos)
    assert "INFO" not in program.err


def test_ingest_builds_the_index_that_is_asked_for(program, photos):
    wish = ("--index", "hnsw", "--index-params", '{"M": 8, "ef": 99}')
    program.json("ingest", photos, *wish)
    index = program.json("info")["index"]
    assert (index["type"], index["reason"]) == ("HNSW", "asked for by name")
    assert (index["params"], index["search_params"]) == ({"M": 8, "efConstruction": 200}, {"ef": 99})
    program.json("ingest", photos)  # auto leaves it
    assert program.json("info")["index"]["type"] == "HNSW"


def test_index_shows_and_builds_another(program, photos, sketch):
    program("ingest", photos)
    shown = program.json("index")
    assert (shown["collection"], shown["count"], shown["type"]) == ("photos", 4, "FLAT")
    built = program.json("index", "IVF_SQ8", "--index-params", '{"nlist": 2}')
    assert (built["type"], built["params"], built["search_params"]) == ("IVF_SQ8", {"nlist": 2}, {"nprobe": 2})
    assert program.json("index") == built
    assert len(program.json("search", sketch)["hits"]) == 4
    assert program.json("index", "--index-params", '{"nprobe": 1}')["search_params"] == {"nprobe": 1}
    assert program.json("index", "auto")["type"] == "FLAT"
    assert program("index") == 0
    assert program.out.splitlines()[0].split() == ["collection", "photos"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "index 'nonsense': Milvus Lite .* has no such type; it has FLAT"),
        (("GPU_IVF_PQ",), "index 'GPU_IVF_PQ': Milvus Lite .* has no such type"),
        (("HNSW", "--index-params", "{"), "--index-params '{': it has to be a JSON object"),
        (("HNSW", "--index-params", "[1]"), r"--index-params '\[1\]': it has to be a JSON object"),
        (("HNSW", "--index-params", '{"m": 8}'), "index parameter 'm': HNSW has M, efConstruction, ef"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_index(program, photos, arguments, message):
    program("ingest", photos)
    program.refused(message, "index", *arguments)
    assert program.json("index")["type"] == "FLAT"


def test_an_ingest_with_a_bad_index_makes_nothing(program, photos):
    program.refused("'GPU_IVF_PQ': Milvus Lite", "ingest", photos, "--index", "GPU_IVF_PQ")
    program.refused("'photos' does not exist", "info")
