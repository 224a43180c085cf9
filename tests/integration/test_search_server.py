"""Searching on a real Milvus server: ranking through its quantiser, what is seen when, filters, tenants, awaiting."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from compsketch_milvus import AsyncSketchCollection, SketchCollection
from compsketch_milvus.errors import CollectionError, CompsketchError, ServerError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search_vectors

pytestmark = pytest.mark.xdist_group("milvus")

ROWS, DIM = 3000, 64
HOSTILE = [
    '" or id != "',
    "' or id != '",
    "\\",
    '\\" or id != "',
    "line\nbreak\t\r",
    "\x00\x01\x7f\u2028",
    "{tag}",
    "日本😀",
]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def clusters() -> np.ndarray:
    """Photos whose spread is for the most part between 60 groups, in which a quantiser mixes up who is nearest."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, DIM))
    return unit(centres[rng.integers(60, size=ROWS)] + 0.4 * rng.normal(size=(ROWS, DIM)))


@pytest.fixture(scope="module")
def queries(clusters) -> np.ndarray:
    return unit(clusters[:40] + 0.05 * np.random.default_rng(1).normal(size=(40, DIM)))


class Wide:
    """An encoder of 64-D that is given its vectors."""

    name, dim, fingerprint, device, image_size = "wide", DIM, "wide-0000000000000000", "cpu", 32

    def encode_images(self, images):
        raise NotImplementedError

    encode_sketches = embed_images = encode_images


@pytest.fixture(scope="module")
def quantised(milvus_server: str, clusters) -> Iterator[SketchCollection]:
    """All photos, sealed, behind an IVF_PQ that is built."""
    with SketchCollection.open(
        f"e_{secrets.token_hex(6)}", Wide(), uri=milvus_server, index="IVF_PQ", index_params={"nlist": 64}
    ) as photos:
        photos.upsert(
            PhotoVector(f"p{i:05}", f"/photos/{i}.jpg", i, 1, row, {"shop": f"s{i % 700}"})
            for i, row in enumerate(clusters)
        )
        photos.flush()
        photos.optimize()
        yield photos
        photos.drop()


@pytest.fixture
def open_collection(milvus_server: str, toy_encoder) -> Iterator[Callable[..., SketchCollection]]:
    name, opened = f"e_{secrets.token_hex(6)}", []

    def open_(encoder=toy_encoder, **options) -> SketchCollection:
        opened.append(SketchCollection.open(name, encoder, uri=milvus_server, index="FLAT", **options))
        return opened[-1]

    yield open_
    for collection in opened[1:]:
        collection.close()
    if opened:
        opened[0].drop()


def photos_of(rows: np.ndarray, fields: list[dict]) -> list[PhotoVector]:
    return [
        PhotoVector(f"p{i:02}", "s", i, 1, row, more) for i, (row, more) in enumerate(zip(rows, fields, strict=True))
    ]


@pytest.fixture
def vectors() -> np.ndarray:
    """Sixty, as long as the toy's."""
    return unit(np.random.default_rng(7).normal(size=(60, 16)))


# --- ranking ---


def exact(clusters: np.ndarray, query: np.ndarray, among: np.ndarray | None = None) -> list[str]:
    places = np.arange(ROWS) if among is None else among
    distances = np.linalg.norm(clusters[places].astype(np.float64) - query, axis=1)
    return [f"p{places[i]:05}" for i in np.argsort(distances, kind="stable")]


def test_reranking_restores_the_true_top_ten(quantised, clusters, queries) -> None:
    assert quantised.info()["index"]["type"] == "IVF_PQ"
    truth = [exact(clusters, query)[:10] for query in queries]

    def recall() -> float:
        found = search_vectors(quantised, queries, 10, rerank=0, consistency="Strong")
        return float(
            np.mean([len({hit.id for hit in hits} & set(ids)) / 10 for hits, ids in zip(found, truth, strict=True)])
        )

    deadline = time.monotonic() + 90
    while recall() > 0.9:  # until the server searches the codes: it loads an index some time after it is built
        assert time.monotonic() < deadline
        time.sleep(1)
    assert recall() > 0.2
    reranked = search_vectors(quantised, queries, 10)
    assert [[hit.id for hit in found] for found in reranked] == truth
    for query, found in zip(queries, reranked, strict=True):
        true = [float(clusters[int(hit.id[1:])].astype(np.float64) @ query) for hit in found]
        assert [hit.score for hit in found] == pytest.approx(true, abs=1e-6)


def test_a_narrow_filter_finds_its_photos_through_lists_that_are_not_probed(quantised, clusters, queries) -> None:
    among = np.arange(0, ROWS, 500)
    quantised.index.search_params["nprobe"] = 1
    try:
        hits = quantised.search_vector(queries[3], 20, "width in {w}", filter_params={"w": among})
        many = quantised.search_vector(queries[3], 2000, rerank=0)
    finally:
        quantised.index.search_params["nprobe"] = 64
    assert [hit.id for hit in hits] == exact(clusters, queries[3], among)
    assert len(many) == 2000  # one list has some fifty


def test_groups_and_duplicates_through_the_quantiser(quantised, clusters, queries) -> None:
    hits = quantised.search_vector(queries[0], 300, group_by="shop")
    assert len(hits) == len({hit.fields["shop"] for hit in hits}) == 300
    best: list[str] = []
    for one in exact(clusters, queries[0]):
        if int(one[1:]) % 700 not in {int(other[1:]) % 700 for other in best}:
            best.append(one)
    assert [hit.id for hit in hits[:10]] == best[:10]
    alone = quantised.search_vector(queries[0], 5, hide_duplicates=0.5)
    kept = clusters[[int(hit.id[1:]) for hit in alone]]
    assert (kept @ kept.T)[~np.eye(5, dtype=bool)].max() < 0.5
    assert len(alone[0].duplicates) > 10


def test_an_answer_of_many_queries_with_their_vectors(quantised, queries) -> None:
    found = search_vectors(quantised, np.tile(queries, (4, 1)), 150)
    assert [len(result) for result in found] == [150] * 160
    assert [result.hits for result in found[:40]] == [result.hits for result in found[40:80]]


# --- what is seen ---


def test_what_this_object_wrote_is_seen_at_once(open_collection, vectors) -> None:
    photos = open_collection()
    for i, row in enumerate(vectors[:5]):
        photos.upsert([PhotoVector(f"p{i}", "s", 1, 1, row)])
        assert photos.search_vector(row, 1)[0].id == f"p{i}"
    photos.delete(["p3"])
    assert "p3" not in {hit.id for hit in photos.search_vector(vectors[3], 10)}


def test_another_reader_sees_it_with_strong_and_soon_with_bounded(open_collection, vectors) -> None:
    writer, reader = open_collection(), open_collection()
    writer.upsert([PhotoVector("p0", "s", 1, 1, vectors[0])])
    assert [hit.id for hit in reader.search_vector(vectors[0], 1, consistency="Strong")] == ["p0"]
    writer.upsert([PhotoVector("p1", "s", 1, 1, vectors[1])])
    deadline = time.monotonic() + 20
    while [hit.id for hit in reader.search_vector(vectors[1], 1)] != ["p1"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [hit.id for hit in reader.search_vector(vectors[1], 1, consistency="Eventually")] == ["p1"]
    with pytest.raises(CollectionError, match="consistency 'Weak'"):
        reader.search_vector(vectors[1], 1, consistency="Weak")


# --- filters ---


def test_hostile_values_mean_themselves(open_collection, vectors) -> None:
    photos = open_collection()
    photos.upsert(photos_of(vectors[: len(HOSTILE)], [{"tag": tag} for tag in HOSTILE]))
    for place, tag in enumerate(HOSTILE):
        for filter, value in (("tag == {tag}", tag), ("tag in {tag}", [tag])):
            hits = photos.search_vector(vectors[0], 60, filter, filter_params={"tag": value})
            assert [hit.id for hit in hits] == [f"p{place:02}"], tag
    assert photos.count("tag in {tags} and width < {most}", {"tags": HOSTILE, "most": 3}) == 3
    assert photos.delete(filter="tag in {tags}", filter_params={"tags": HOSTILE[:2]}) == 2
    assert photos.count() == len(HOSTILE) - 2


# --- tenants ---


def test_tenants_are_kept_apart(open_collection, vectors) -> None:
    photos = open_collection(partition_key="tenant")
    photos.upsert(photos_of(vectors, [{"tenant": f"t{i % 3}"} for i in range(60)]))
    described = photos.call("describe the collection", "describe_collection")
    assert [field["name"] for field in described["fields"] if field.get("is_partition_key")] == ["tenant"]
    assert open_collection().info()["partition_key"] == "tenant"
    hits = photos.search_vector(vectors[0], 60, "tenant == {who}", filter_params={"who": "t1"})
    assert {hit.fields["tenant"] for hit in hits} == {"t1"}
    assert len(hits) == 20
    photos.upsert(photos_of(vectors[::-1], [{"tenant": f"t{i % 3}"} for i in range(60)]))  # replaced, not doubled
    assert photos.count() == 60
    assert [hit.id for hit in photos.search_vector(vectors[0], 1, "tenant == 't2'")] == ["p59"]
    with pytest.raises(CollectionError, match="photo 'x': it has no field 'tenant'"):
        photos.upsert([PhotoVector("x", "s", 1, 1, vectors[0])])


# --- awaiting ---


def test_awaited_it_answers_the_same(quantised, queries, milvus_server) -> None:
    expected = [result.hits for result in search_vectors(quantised, queries, 10, group_by="shop")]
    batch = [result.hits for result in search_vectors(quantised, queries, 5)]

    async def use():
        async with await AsyncSketchCollection.open(quantised.name, Wide(), uri=milvus_server) as photos:
            one_by_one = await asyncio.gather(*(photos.search_vector(query, 10, group_by="shop") for query in queries))
            with pytest.raises(CompsketchError, match="not finite"):
                await photos.search_vector(np.full(DIM, np.nan))
            return one_by_one, [result.hits for result in await photos.search_vectors(queries, 5)]

    assert asyncio.run(use()) == (expected, batch)


def test_awaited_writes_are_seen_at_once(open_collection, vectors, milvus_server, toy_encoder) -> None:
    name = open_collection().name

    async def use():
        async with await AsyncSketchCollection.open(name, toy_encoder, uri=milvus_server) as photos:
            for i in range(3):
                await photos.upsert([PhotoVector(f"p{i}", "s", 1, 1, vectors[i])])
                assert (await photos.search_vector(vectors[i], 1))[0].id == f"p{i}"
            assert await photos.delete(["p0"]) == 1
            assert [hit.id for hit in await photos.search_vector(vectors[0], 5)] != ["p0"]
            return await photos.count()

    assert asyncio.run(use()) == 2


def test_a_call_cancelled_on_its_way_leaves_the_connection_usable(quantised, queries, milvus_server) -> None:
    async def use():
        async with await AsyncSketchCollection.open(quantised.name, Wide(), uri=milvus_server) as photos:
            for wait in (0.0, 0.001, 0.005):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(photos.search_vectors(np.tile(queries, (20, 1)), 200), wait)
            return await photos.search_vector(queries[0], 3)

    assert asyncio.run(use()) == quantised.search_vector(queries[0], 3)


def test_awaited_nobody_answers() -> None:
    with pytest.raises(ServerError, match="no Milvus answers"):
        asyncio.run(AsyncSketchCollection.open("photos", Wide(), uri="http://127.0.0.1:9"))
