"""Work on a stream's items, answered in order of completion, with flat memory however fast or slow its two ends are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from encoders.serving.faults import Closed

__all__ = ["Window", "completed"]

T = TypeVar("T", bound=Message)
R = TypeVar("R")


@dataclass(frozen=True)
class Window:
    """What of one stream may be under way: with so many items, or items of so many bytes, no further one is begun.

    Args:
        items: how many.
        size: bytes.
    """

    items: int
    size: int

    def full(self, sizes: Collection[int]) -> bool:
        """Whether items of these sizes fill it."""
        return len(sizes) >= self.items or sum(sizes) >= self.size


async def completed(
    items: AsyncGenerator[T, None], work: Callable[[T], Awaitable[R]], window: Window, stop: asyncio.Event
) -> AsyncGenerator[list[R], None]:
    """Results as they come, those that are ready together in one list.

    An item is under way from the time it is read until its result was taken, and the next asked for. While the window
    is full nothing more is read: so a fast sender and a slow reader are both held up by flow control.

    Args:
        items: what to work on; closed at the end.
        work: what is done with each; what it raises ends all.
        window: how much is under way at most.
        stop: once it is set nothing more is read.

    Raises:
        Closed: after the results of all that was read, if `stop` ended it.
        Exception: what reading raised, after the results of all that was read; or at once what `work` raised.
    """
    done: asyncio.Queue[asyncio.Future[R] | None] = asyncio.Queue()
    under_way: dict[asyncio.Future[R], int] = {}
    taken = asyncio.Event()

    async def read() -> None:
        async for item in items:
            while window.full(under_way.values()):
                taken.clear()
                await taken.wait()
            task = asyncio.ensure_future(work(item))
            under_way[task] = item.ByteSize()
            task.add_done_callback(done.put_nowait)

    async def read_until_stopped() -> None:
        reading, stopped = asyncio.ensure_future(read()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise Closed("the server is shutting down; another one may answer what is left")
            reading.result()
        finally:
            await _cancelled(reading, stopped)
            done.put_nowait(None)

    reader = asyncio.ensure_future(read_until_stopped())
    try:
        while under_way or not reader.done():
            ready = [await done.get()]
            while not done.empty():
                ready.append(done.get_nowait())
            finished = [task for task in ready if task is not None]
            if finished:
                yield [task.result() for task in finished]
            for task in finished:
                del under_way[task]
            taken.set()
        reader.result()
    finally:
        await _cancelled(reader, *under_way)
        await items.aclose()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
