"""The awaited operations on real Milvus Lite files: the same answers and errors as the blocking ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from compsketch_milvus import AsyncSketchCollection, retrieval
from compsketch_milvus.errors import CollectionError, CompsketchError, ServerError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search_many, search_vectors
from encoders.sketch import Sketch, SketchObject


@pytest.fixture
def sketch() -> Sketch:
    return Sketch(100, 100, (SketchObject([[[0, 45], [0, 45]]]), SketchObject([[[60, 99], [60, 99]]])))


@pytest.fixture
def with_photos(lite, toy_encoder, photo_vectors) -> Callable[[Callable[[AsyncSketchCollection], Awaitable]], object]:
    """Runs a coroutine function with a collection of the sixty photos."""

    def run(use, **options):
        async def whole():
            async with await AsyncSketchCollection.open("photos", toy_encoder, uri=lite, **options) as photos:
                assert await photos.upsert(photo_vectors) == 60
                return await use(photos)

        return asyncio.run(whole())

    return run


def test_it_answers_like_the_blocking_collection(with_photos, open_collection, sketch, vectors) -> None:
    image = np.full((32, 32, 3), 200, np.uint8)
    asked = {"filter": "width > {least}", "filter_params": {"least": 110}, "group_by": "tag", "group_size": 4}

    async def use(photos):
        return (
            await photos.search(sketch, 7),
            [result.hits for result in await photos.search_many([sketch, sketch], 5, **asked)],
            await photos.search_vector(vectors[3], 9),
            [result.hits for result in await photos.search_vectors(vectors[:3], 4, hide_duplicates=0.9)],
            await photos.search_image(image, 3),
            await photos.count("width < 110"),
            await photos.info(),
        )

    answers = with_photos(use)
    blocking = open_collection()
    assert answers == (
        blocking.search(sketch, 7),
        [result.hits for result in search_many(blocking, [sketch, sketch], 5, **asked)],
        blocking.search_vector(vectors[3], 9),
        [result.hits for result in search_vectors(blocking, vectors[:3], 4, hide_duplicates=0.9)],
        blocking.search_image(image, 3),
        10,
        blocking.info(),
    )


def test_writes_are_seen_at_once(with_photos, vectors) -> None:
    async def use(photos):
        assert await photos.delete(["p00", "p01", "nobody"]) == 2
        assert await photos.delete(filter="tag == {tag}", filter_params={"tag": "t2"}) == 20
        return await photos.count(), [hit.id for hit in await photos.search_vector(vectors[0], 60)]

    count, ids = with_photos(use)
    assert count == len(ids) == 38
    assert not {"p00", "p01", "p02"} & set(ids)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda photos, vectors: photos.search_vector(vectors[0] * np.nan), CompsketchError, "not finite"),
        (lambda photos, vectors: photos.search_vector(vectors[0][:5]), CollectionError, r"shape \(1, 5\)"),
        (lambda photos, vectors: photos.search_vector(vectors[0], 0), CollectionError, "limit 0"),
        (lambda photos, vectors: photos.search_vector(vectors[0], filter="width >"), CollectionError, "was refused by"),
        (lambda photos, vectors: photos.search("two-dogs.svg"), CollectionError, "is no Sketch"),
        (lambda photos, vectors: photos.delete(), CollectionError, "either ids or a filter"),
        (lambda photos, vectors: photos.upsert([PhotoVector("x", "s", 1, 1, vectors[0] * 2)]), CollectionError, "'x'"),
    ],
)
def test_the_same_errors(with_photos, vectors, ask, error, message) -> None:
    async def use(photos):
        with pytest.raises(error, match=message):
            await ask(photos, vectors)
        return await photos.count()

    assert with_photos(use) == 60


def test_the_loop_goes_on_while_a_sketch_is_encoded(with_photos, sketch, toy_encoder, monkeypatch) -> None:
    encode, main = toy_encoder.encode_sketches, threading.get_ident()
    encoding, ticked = threading.Event(), threading.Event()

    def slow(sketches, *, words):
        assert threading.get_ident() != main
        encoding.set()
        assert ticked.wait(10)  # only a loop that goes on sets it
        return encode(sketches, words=words)

    monkeypatch.setattr(toy_encoder, "encode_sketches", slow)

    async def use(photos):
        searching = asyncio.create_task(photos.search(sketch, 3))
        while not encoding.is_set():
            await asyncio.sleep(0.001)
        ticked.set()
        return await searching

    assert len(with_photos(use)) == 3


def test_answers_are_taken_apart_beside_the_loop(with_photos, vectors, monkeypatch) -> None:
    """pymilvus makes Python's objects of an answer when it is first looked at."""
    flat, threads = retrieval._flat, set()
    monkeypatch.setattr(retrieval, "_flat", lambda answers: threads.add(threading.get_ident()) or flat(answers))

    async def use(photos):
        return await photos.search_vectors(vectors, 5), await photos.search_vector(vectors[0], 5, "width < 103")

    many, few = with_photos(use)
    assert ([len(result) for result in many], len(few)) == ([5] * len(vectors), 3)
    assert threads
    assert threading.get_ident() not in threads


def test_many_at_once(with_photos, open_collection, vectors) -> None:
    async def use(photos):
        return await asyncio.gather(*(photos.search_vector(vector, 5) for vector in vectors))

    found = with_photos(use)
    blocking = open_collection()
    assert found == [blocking.search_vector(vector, 5) for vector in vectors]


def test_a_cancelled_search_leaves_the_collection_usable(with_photos, sketch, toy_encoder, monkeypatch) -> None:
    encode, release = toy_encoder.encode_sketches, threading.Event()

    def stuck(sketches, *, words):
        release.wait(10)
        return encode(sketches, words=words)

    monkeypatch.setattr(toy_encoder, "encode_sketches", stuck)

    async def use(photos):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(photos.search(sketch), 0.05)
        release.set()
        return await photos.search(sketch, 3)

    assert len(with_photos(use)) == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compsketch photos")]


def test_the_thread_ends_also_where_the_connection_does_not_close(lite, toy_encoder) -> None:
    async def use():
        photos = await AsyncSketchCollection.open("photos", toy_encoder, uri=lite)
        close = photos._client.close

        async def broken():
            await close()
            raise ConnectionError("gone")

        photos._client.close = broken
        with pytest.raises(ConnectionError):
            await photos.close()

    asyncio.run(use())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compsketch photos")]


def test_an_open_that_is_cancelled_closes_what_it_opens(lite, toy_encoder, monkeypatch) -> None:
    from compsketch_milvus.collection import SketchCollection

    opened, opening, release = [], threading.Event(), threading.Event()
    real = SketchCollection.open

    def slow(*args, **options):
        opening.set()
        release.wait(10)
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(SketchCollection, "open", slow)

    async def cancelled():
        task = asyncio.create_task(AsyncSketchCollection.open("photos", toy_encoder, uri=lite))
        while not opening.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    release.set()
    deadline = time.monotonic() + 20
    while any(thread.name.startswith("compsketch photos") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ServerError, match="is closed"):
        opened[0].count()


def test_errors_of_opening_are_those_of_the_blocking_collection(lite, toy_encoder) -> None:
    with pytest.raises(CollectionError, match="collection name '1'"):
        asyncio.run(AsyncSketchCollection.open("1", toy_encoder, uri=lite))
    with pytest.raises(CollectionError, match="no such Milvus Lite file"):
        asyncio.run(AsyncSketchCollection.open("photos", None, uri=lite))


def test_closed_it_says_so(lite, toy_encoder, sketch) -> None:
    async def use():
        photos = await AsyncSketchCollection.open("photos", toy_encoder, uri=lite)
        await photos.close()
        await photos.search(sketch)

    with pytest.raises(ServerError, match="is closed; open it again"):
        asyncio.run(use())
