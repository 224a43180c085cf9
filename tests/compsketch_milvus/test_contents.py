"""Ids that would be something else in an expression, and the way around what an old server does wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compsketch_milvus.contents import store
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.steps import Call, Done, Work, advance

IDS = ["it's", '"quoted"', "'] or id not in ['", "back\\slash", "{id}", "%"]


def test_an_id_is_deleted_and_looked_up_as_it_is(collection, vectors) -> None:
    collection.upsert([PhotoVector(one, "s", 1, 1, row) for one, row in zip([*IDS, "other"], vectors, strict=False)])
    for one in IDS:
        assert collection.existing([one, "nobody"]) == {one}
        assert collection.delete([one]) == 1
    assert [hit.id for hit in collection.search_vector(vectors[0])] == ["other"]


def test_parameters_without_a_filter_are_refused(collection) -> None:
    with pytest.raises(CollectionError, match="'least' is a parameter of a filter, and ids were given"):
        collection.delete(["a"], filter_params={"least": 3})


def methods(collection, photos) -> list[tuple[str, str]]:
    """The calls that storing takes, without making them."""
    steps, calls = store(collection, photos), []
    step = advance(steps)
    while not isinstance(step, Done):
        if isinstance(step, Call):
            calls.append((step.method, step.arguments.get("filter", "")))
        step = advance(steps, step.run() if isinstance(step, Work) else None)
    assert step.result == len(photos)
    return calls


def test_a_server_that_misplaces_upserted_photos_gets_them_deleted_and_inserted(open_collection, vectors) -> None:
    photos = [PhotoVector(f"p{i}", "s", 1, 1, vectors[i], {"tenant": "t"}) for i in range(2)]
    keyed, plain = open_collection(partition_key="tenant"), open_collection("plain")
    for version, expected in (("v2.3.5", ["delete", "insert"]), ("v2.4.0", ["upsert"]), ("2.6.1-gpu", ["upsert"])):
        for collection in (keyed, plain):
            collection.facts = replace(collection.facts, kind="server", version=version)
        assert [method for method, _ in methods(keyed, photos)] == expected
        assert methods(plain, photos) == [("upsert", "")]
    keyed.facts = replace(keyed.facts, version="v2.3.5")
    assert methods(keyed, photos)[0] == ("delete", 'id in ["p0", "p1"]')
