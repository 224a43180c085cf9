"""Items worked on many at a time: order of completion, the window, the end, and what goes wrong."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from encoders.serving.completion import Window, completed
from encoders.serving.faults import Closed
from tests.encoders.serving.stage import on_a_loop, until

MANY = 1 << 20  # bytes


class Work:
    """Answers when it is told to; counts what is under way."""

    def __init__(self):
        self.waiting: dict[int, asyncio.Future[None]] = {}
        self.read: list[int] = []
        self.cancelled: list[int] = []

    async def items(self, count):
        for item in range(count):
            self.read.append(item)
            yield Int64Value(value=item)

    async def __call__(self, message):
        item = message.value
        self.waiting[item] = asyncio.get_running_loop().create_future()
        try:
            await self.waiting[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        return item * 10

    async def finish(self, item):
        await until(lambda: item in self.waiting)
        self.waiting[item].set_result(None)


@on_a_loop
async def test_results_come_in_order_of_completion():
    work = Work()
    results = completed(work.items(3), work, Window(3, MANY), asyncio.Event())
    for item in (2, 0, 1):
        taking = asyncio.ensure_future(anext(results))
        await work.finish(item)
        assert await taking == [item * 10]
    with pytest.raises(StopAsyncIteration):
        await anext(results)


@on_a_loop
async def test_what_is_ready_together_comes_together():
    work = Work()
    results = completed(work.items(3), work, Window(3, MANY), asyncio.Event())
    first = asyncio.ensure_future(anext(results))
    for item in (0, 1, 2):
        await until(lambda item=item: item in work.waiting)
    for item in (0, 1, 2):
        work.waiting[item].set_result(None)
    assert await first == [0, 10, 20]
    await results.aclose()


@on_a_loop
async def test_nothing_more_is_read_until_a_result_was_taken_and_the_next_asked_for():
    work = Work()
    results = completed(work.items(100), work, Window(3, MANY), asyncio.Event())
    taking = asyncio.ensure_future(anext(results))
    await until(lambda: len(work.waiting) == 3)
    await work.finish(1)
    assert await taking == [10]
    for _ in range(20):  # nobody asks for more: as when the reader is slow
        await asyncio.sleep(0)
    assert (len(work.waiting), len(work.read)) == (3, 4)  # the fourth is read, and waits for its place
    taking = asyncio.ensure_future(anext(results))
    await until(lambda: len(work.waiting) == 4)
    await work.finish(0)
    assert await taking == [0]
    await results.aclose()
    assert sorted(work.cancelled) == [2, 3]


@on_a_loop
async def test_large_items_fill_the_window_sooner():
    work = Work()
    size = Int64Value(value=1).ByteSize()
    results = completed(work.items(100), work, Window(50, 2 * size), asyncio.Event())
    taking = asyncio.ensure_future(anext(results))
    await until(lambda: len(work.read) == 4)  # 0 has no bytes; 1 and 2 fill it; 3 is read, and waits for its place
    for _ in range(20):
        await asyncio.sleep(0)
    assert (sorted(work.waiting), work.read) == ([0, 1, 2], [0, 1, 2, 3])
    await work.finish(2)
    assert await taking == [20]
    await results.aclose()


@on_a_loop
async def test_what_was_read_is_answered_before_an_error_of_reading_is_raised():
    work = Work()

    async def items():
        yield Int64Value(value=0)
        raise ValueError("no more")

    results = completed(items(), work, Window(3, MANY), asyncio.Event())
    await work_and_take(work, results)
    with pytest.raises(ValueError, match="no more"):
        await anext(results)


async def work_and_take(work, results):
    taking = asyncio.ensure_future(anext(results))
    await work.finish(0)
    assert await taking == [0]


@on_a_loop
async def test_stopped_it_answers_what_was_read_and_says_so():
    work, stop = Work(), asyncio.Event()

    async def items():
        yield Int64Value(value=0)
        await asyncio.Event().wait()  # a client that sends nothing more and does not end its stream

    results = completed(items(), work, Window(3, MANY), stop)
    taking = asyncio.ensure_future(anext(results))
    await until(lambda: 0 in work.waiting)
    stop.set()
    await work.finish(0)
    assert await taking == [0]
    with pytest.raises(Closed, match="another one may answer what is left"):
        await anext(results)


@on_a_loop
async def test_an_error_of_work_ends_all_at_once():
    work = Work()

    async def fails(item):
        if item.value == 1:
            raise TimeoutError
        return await work(item)

    with pytest.raises(TimeoutError):
        async for _ in completed(work.items(3), fails, Window(3, MANY), asyncio.Event()):
            pass
    assert sorted(work.cancelled) == [item for item in (0, 2) if item in work.waiting]


@on_a_loop
async def test_nothing_is_answered_with_nothing():
    assert [batch async for batch in completed(Work().items(0), Work(), Window(3, MANY), asyncio.Event())] == []
