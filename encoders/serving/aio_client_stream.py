"""Streams on an event loop: what `bulk.Flow` wants done, done; `client_stream` is the same for threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from encoders.serving import bulk
from encoders.serving.addresses import Address
from encoders.serving.calls import CallFailed
from encoders.serving.channel import AsyncLink, answers_async
from encoders.serving.client_stream import ENDING, together
from encoders.serving.parcels import Outcome, Parcel, Photos, Sketches

__all__ = ["AsyncStream"]


class AsyncStream:
    """One flow's tasks and connections; arguments as `client_stream.Stream` has, with a pause to be awaited."""

    def __init__(
        self,
        kind: Photos | Sketches,
        links: Mapping[Address, AsyncLink],
        packers: ThreadPoolExecutor,
        check_open: Callable[[], None],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._kind, self._links, self._packers = kind, links, packers
        self._check_open, self._pause = check_open, pause
        self._events: asyncio.Queue[bulk.Event | BaseException] = asyncio.Queue()
        self._packing: set[asyncio.Task[None]] = set()
        self._wire: _AsyncWire | None = None

    async def carry_out(
        self, commands: bulk.Commands, sources: Iterable[Any] | AsyncIterable[Any]
    ) -> AsyncGenerator[tuple[int, Outcome], None]:
        """Do what the flow wants; gives the outcomes."""
        source = _iterated(sources)
        answer: Any = None
        finished = False
        try:
            while True:
                try:
                    command = commands.send(answer)
                except StopIteration:
                    finished = True
                    return
                if isinstance(command, bulk.Give):
                    yield command.index, command.outcome
                    answer = None
                elif isinstance(command, bulk.Take):
                    answer = await anext(source, bulk.END)
                else:
                    answer = await self._do(command)
        finally:
            commands.close()
            for packing in self._packing:
                packing.cancel()
            await self._hang_up(finished)

    async def _do(self, command: bulk.Command) -> bulk.Event | None:
        if isinstance(command, bulk.Look):
            return await self._look(command.seconds)
        self._check_open()
        if isinstance(command, bulk.Pack):
            packing = asyncio.create_task(self._pack(command))
            self._packing.add(packing)
            packing.add_done_callback(self._packing.discard)
        elif isinstance(command, bulk.Send) and self._wire is not None:
            self._wire.send(command.index, command.parcel)
        elif isinstance(command, bulk.Pause):
            await self._hang_up(False)
            await self._pause(command.seconds)
        elif isinstance(command, bulk.Dial):
            await self._hang_up(False)
            self._wire = _AsyncWire(command, self._links[command.server], self._kind, self._events.put_nowait)
        return None

    async def _look(self, seconds: float) -> bulk.Event | None:
        if not seconds:
            await asyncio.sleep(0)  # the loop's other tasks have their turn
            if self._events.empty():
                return None
        try:
            event = await asyncio.wait_for(self._events.get(), seconds or None)
        except asyncio.TimeoutError:
            return None
        if isinstance(event, BaseException):
            self._check_open()  # closing cancels what is to be packed
            raise event
        return event

    async def _pack(self, command: bulk.Pack) -> None:
        try:
            packed = asyncio.get_running_loop().run_in_executor(self._packers, self._kind.pack, command.source)
            self._events.put_nowait(bulk.Packed(command.index, await packed))
        except (Exception, asyncio.CancelledError) as error:  # told, as the stream would wait for ever
            self._events.put_nowait(error)

    async def _hang_up(self, finished: bool) -> None:
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.close(finished)


class _AsyncWire:
    """One stream to one server: a task hears the answers, gRPC takes what there is to send."""

    def __init__(
        self, dial: bulk.Dial, link: AsyncLink, kind: Photos | Sketches, tell: Callable[[bulk.Event], None]
    ) -> None:
        self._dial, self._kind, self._tell = dial, kind, tell
        self._out: asyncio.Queue[tuple[int, Parcel] | None] = asyncio.Queue()
        self._call = link.stream(kind.stream, self._requests())
        self._listener = asyncio.create_task(self._listen())

    def send(self, index: int, parcel: Parcel) -> None:
        self._out.put_nowait((index, parcel))

    async def close(self, finished: bool) -> None:
        """End the stream; where all is answered the server does, on hearing that nothing more comes."""
        self._out.put_nowait(None)
        if finished:
            await asyncio.wait([self._listener], timeout=ENDING)
        self._call.cancel()
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener

    async def _requests(self) -> AsyncIterator[Any]:
        first = True
        while (item := await self._out.get()) is not None:
            items, more = together(item, self._out)
            yield self._kind.part(items, first=first)
            if not more:
                return
            first = False

    async def _listen(self) -> None:
        try:
            async for answer in answers_async(self._call):
                self._tell(bulk.Answered(self._dial.server, answer))
            failure = CallFailed("UNAVAILABLE", "the server ended the stream")
        except CallFailed as error:
            failure = error
        self._tell(bulk.Lost(self._dial.number, failure))


async def _iterated(sources: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            yield source
    else:
        for source in sources:
            yield source
