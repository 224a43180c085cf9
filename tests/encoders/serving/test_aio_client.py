"""The client for event loops: the same vectors as the one for threads, and a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest

from encoders.errors import CompsketchError, ImageError, ServerError
from encoders.serving import encoder_pb2 as pb
from encoders.serving.aio_client import AsyncRemoteEncoder
from encoders.serving.client import PACKERS
from encoders.serving.parcels import Parcel, Photos
from encoders.sketch import Sketch, SketchObject
from tests.encoders.serving.servicer import Service, square

BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", (("retry-after-ms", "20"),))
LEFT = Sketch(32, 32, (SketchObject(([[1, 9], [1, 30]],), "cup"),))

Use = Callable[[AsyncRemoteEncoder], Awaitable[Any]]


def used(use: Use, *services: Service, **options: Any) -> Any:
    """What a coroutine gives with an open encoder."""

    async def main() -> Any:
        address = "grpc://" + ",".join(f"127.0.0.1:{service.port}" for service in services)
        async with await AsyncRemoteEncoder.open(address, **{"timeout": 20, **options}) as encoder:
            return await use(encoder)

    return asyncio.run(main())


def test_what_is_known_of_the_encoder(service, judging_encoder) -> None:
    async def use(remote: AsyncRemoteEncoder) -> Any:
        assert remote.confidence(LEFT, np.array([0.9])) == judging_encoder.confidence(LEFT, np.array([0.9]))
        return [getattr(remote, name) for name in names]

    names = ("name", "fingerprint", "dim", "image_size", "networks", "features", "calibration")
    assert used(use, service) == [getattr(judging_encoder, name) for name in names]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 70])
def test_the_same_vectors(service, judging_encoder, pictures, count) -> None:
    images = list(itertools.islice(itertools.cycle([*pictures, square(3)]), count))
    np.testing.assert_array_equal(
        used(lambda remote: remote.encode_images(images), service), judging_encoder.encode_images(images)
    )
    features = used(lambda remote: remote.embed_images(images), service)
    np.testing.assert_array_equal(features, judging_encoder.embed_images(images))
    np.testing.assert_array_equal(
        used(lambda remote: remote.project(features), service), judging_encoder.project(features)
    )


def test_sketches_and_explanations(service, judging_encoder) -> None:
    for count in (1, 100):
        vectors = used(lambda remote, count=count: remote.encode_sketches([LEFT] * count), service)
        np.testing.assert_array_equal(vectors, judging_encoder.encode_sketches([LEFT] * count))
    there = used(lambda remote: remote.explain(LEFT, vectors), service)
    assert [one.to_dict() for one in there] == [one.to_dict() for one in judging_encoder.explain(LEFT, vectors)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_of_any_source(service, judging_encoder, asynchronous) -> None:
    async def slowly(images: list[Any]) -> AsyncIterator[Any]:
        for image in images:
            await asyncio.sleep(0)
            yield image

    async def use(remote: AsyncRemoteEncoder) -> dict[int, Any]:
        source = slowly(images) if asynchronous else images
        return {index: outcome async for index, outcome in remote.stream_images(source)}

    images = [square(number) for number in range(300)]
    images[7] = b"no photo"
    outcomes = used(use, service)
    assert isinstance(outcomes.pop(7), ImageError)
    del images[7]
    np.testing.assert_array_equal(
        [outcomes[number] for number in sorted(outcomes)], judging_encoder.encode_images(images)
    )


def test_many_coroutines_share_one(service, judging_encoder) -> None:
    async def use(remote: AsyncRemoteEncoder) -> Any:
        asked = [remote.encode_images([square(n)] * (1 + n)) for n in range(12)]
        return await asyncio.gather(*asked, remote.encode_sketches([LEFT]))

    *rows, drawn = used(use, service)
    for number, vectors in enumerate(rows):
        np.testing.assert_array_equal(vectors, judging_encoder.encode_images([square(number)] * (1 + number)))
    np.testing.assert_array_equal(drawn, judging_encoder.encode_sketches([LEFT]))


def test_the_loop_goes_on_while_a_stream_is_under_way(service) -> None:
    async def use(remote: AsyncRemoteEncoder) -> int:
        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turns, counting = 0, asyncio.create_task(count())
        await remote.encode_images([square()] * 500)
        counting.cancel()
        return turns

    assert used(use, service) > 100


def test_one_of_four_is_cancelled(service, judging_encoder) -> None:
    async def use(remote: AsyncRemoteEncoder) -> list[Any]:
        tasks = [asyncio.create_task(remote.encode_images([square(n)] * 200)) for n in range(4)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, *others = used(use, service)
    assert isinstance(cancelled, asyncio.CancelledError)
    for number, rows in zip((0, 2, 3), (first, *others), strict=True):
        np.testing.assert_array_equal(rows, judging_encoder.encode_images([square(number)] * 200))


@pytest.mark.parametrize("count", [1, 10])
def test_what_is_safe_is_tried_again(service, judging_encoder, count) -> None:
    async def use(remote: AsyncRemoteEncoder) -> np.ndarray:
        service.failures.extend([BUSY] * 3)
        return await remote.encode_images([square()] * count)

    np.testing.assert_array_equal(used(use, service), judging_encoder.encode_images([square()] * count))
    assert not service.failures


@pytest.mark.parametrize("count", [1, 10])
def test_the_deadline(service, count) -> None:
    async def use(remote: AsyncRemoteEncoder) -> None:
        service.failures.extend([BUSY] * 1000)
        await remote.encode_images([square()] * count)

    with pytest.raises(ServerError, match=f"{service.address} has too much to do") as busy:
        used(use, service, timeout=0.5)
    assert busy.value.transient


def test_streams_that_break_off_lose_nothing(service, other, judging_encoder) -> None:
    service.breaks.extend([5, 0, 17])
    other.breaks.extend([3, 1])
    images = [square(number) for number in range(200)]
    rows = used(lambda remote: remote.encode_images(images), service, other)
    np.testing.assert_array_equal(rows, judging_encoder.encode_images(images))


def test_a_server_that_is_gone_and_back(service, judging_encoder) -> None:
    async def use(remote: AsyncRemoteEncoder) -> dict[int, Any]:
        outcomes = {}
        async for index, vector in remote.stream_images(square(number) for number in range(500)):
            outcomes[index] = vector
            if len(outcomes) == 200:
                service.start(await asyncio.to_thread(service.stop))
        return outcomes

    outcomes = used(use, service)
    expected = judging_encoder.encode_images([square(number) for number in range(500)])
    np.testing.assert_array_equal([outcomes[number] for number in range(500)], expected)


def test_a_stream_that_is_left_early(service) -> None:
    async def use(remote: AsyncRemoteEncoder) -> int:
        async with aclosing(remote.stream_images(square(n) for n in itertools.count())) as stream:
            async for index, _ in stream:
                return index
        return -1

    assert used(use, service) >= 0


def test_two_encoders_at_two_addresses(service, other) -> None:
    other.encoder.fingerprint = "toy-1111111111111111"
    with pytest.raises(ServerError, match=r"toy-0000000000000000.*toy-1111111111111111.*do not mix"):
        used(lambda remote: remote.encode_images([]), service, other)


def test_a_photo_that_the_server_cannot_take_is_decoded_here(service, judging_encoder, pictures) -> None:
    with open(pictures[0], "rb") as file:
        service.faults[file.read()] = pb.Fault(reason=pb.Fault.REASON_INVALID, message="not here")
    rows = used(lambda remote: remote.encode_images([pictures[0]] * 9), service)
    np.testing.assert_array_equal(rows, judging_encoder.encode_images([pictures[0]] * 9))


def test_no_message_has_more_items_than_the_service_takes(service, judging_encoder) -> None:
    service.limits.items = 2
    photos = [square(number) for number in range(3)]
    rows = used(lambda remote: remote.encode_images(photos), service)
    np.testing.assert_array_equal(rows, judging_encoder.encode_images(photos))
    assert service.calls["EncodeImages"] == 0


def test_a_closed_encoder_says_so(service) -> None:
    async def use(remote: AsyncRemoteEncoder) -> None:
        await remote.close()
        for images in ([square()], [square()] * 9):
            with pytest.raises(CompsketchError, match=f"encoder 'toy' at {service.address} is closed; open it again"):
                await remote.encode_images(images)

    used(use, service)


def test_closed_while_its_last_photo_is_packed(service, monkeypatch) -> None:
    taken, end = asyncio.Event(), threading.Event()
    monkeypatch.setattr(Photos, "pack", lambda self, source: Parcel(error=ImageError(f"late: {end.wait(20)}")))

    async def photos() -> AsyncIterator[bytes]:
        for _ in range(PACKERS + 1):  # one more than are packed at a time
            yield b"a photo"
        taken.set()

    async def use(remote: AsyncRemoteEncoder) -> None:
        encoding = asyncio.create_task(anext(remote.stream_images(photos())))
        await taken.wait()
        await remote.close()
        try:
            with pytest.raises(CompsketchError, match="is closed; open it again"):
                await asyncio.wait_for(encoding, 10)
        finally:
            end.set()

    used(use, service)


def test_an_error_that_nobody_foresaw_while_packing(service, monkeypatch) -> None:
    def pack(self, source):
        raise RuntimeError("a library's own")

    monkeypatch.setattr(Photos, "pack", pack)
    with pytest.raises(RuntimeError, match="a library's own"):
        used(lambda remote: remote.encode_images([b"a photo"] * 9), service, timeout=2)


def test_a_token(service) -> None:
    service.token = "open-sesame"
    assert used(lambda remote: remote.encode_images([square()] * 9), service, token="open-sesame").shape == (9, 16)
    with pytest.raises(ServerError, match=r"refuses the login .*set COMPSKETCH_ENCODER_TOKEN"):
        used(lambda remote: remote.encode_images([square()]), service)
