"""Streams for threads: what `bulk.Flow` wants done, done. The caller's thread reads the source, gets the outcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from encoders.serving import bulk
from encoders.serving.addresses import Address
from encoders.serving.calls import CallFailed
from encoders.serving.channel import Link, answers
from encoders.serving.parcels import Outcome, Parcel, Photos, Sketches

if TYPE_CHECKING:
    import asyncio

__all__ = ["ENDING", "Stream", "together"]

MESSAGE_ITEMS, MESSAGE_BYTES = 16, 1 << 20  # of a stream: what is there at the moment goes in one, up to this
ENDING = 5.0  # seconds for a server to say goodbye

Item: TypeAlias = tuple[int, Parcel]  # its place, and how it is sent
Queue: TypeAlias = "SimpleQueue[Item | None] | asyncio.Queue[Item | None]"


class Stream:
    """One flow's threads and connections.

    Args:
        kind: of the items.
        links: to the servers.
        packers: threads that pack.
        check_open: raises once the client is closed.
        pause: waits for so many seconds, or until then.
    """

    def __init__(
        self,
        kind: Photos | Sketches,
        links: Mapping[Address, Link],
        packers: ThreadPoolExecutor,
        check_open: Callable[[], None],
        pause: Callable[[float], object],
    ) -> None:
        self._kind, self._links, self._packers = kind, links, packers
        self._check_open, self._pause = check_open, pause
        self._events: SimpleQueue[bulk.Event | BaseException] = SimpleQueue()
        self._wire: _Wire | None = None

    def carry_out(self, commands: bulk.Commands, source: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
        """Do what the flow wants; gives the outcomes."""
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
                    answer = next(source, bulk.END)
                else:
                    answer = self._do(command)
        finally:
            commands.close()
            self._hang_up(finished)

    def _do(self, command: bulk.Command) -> bulk.Event | None:
        if isinstance(command, bulk.Look):
            return self._look(command.seconds)
        self._check_open()
        if isinstance(command, bulk.Pack):
            self._pack(command)
        elif isinstance(command, bulk.Send) and self._wire is not None:
            self._wire.send(command.index, command.parcel)
        elif isinstance(command, bulk.Pause):
            self._hang_up(False)
            self._pause(command.seconds)
        elif isinstance(command, bulk.Dial):
            self._hang_up(False)
            self._wire = _Wire(command, self._links[command.server], self._kind, self._events.put)
        return None

    def _pack(self, command: bulk.Pack) -> None:
        try:
            packing = self._packers.submit(self._kind.pack, command.source)
        except RuntimeError:
            self._check_open()  # another thread has closed it just now
            raise
        packing.add_done_callback(self._packed(command.index))

    def _look(self, seconds: float) -> bulk.Event | None:
        try:
            event = self._events.get(timeout=seconds) if seconds else self._events.get_nowait()
        except Empty:
            return None
        if isinstance(event, BaseException):
            self._check_open()  # closing cancels what is to be packed
            raise event
        return event

    def _packed(self, index: int) -> Callable[[Future[Parcel]], None]:
        def tell(packing: Future[Parcel]) -> None:
            error = CancelledError() if packing.cancelled() else packing.exception()
            self._events.put(bulk.Packed(index, packing.result()) if error is None else error)

        return tell

    def _hang_up(self, finished: bool) -> None:
        if self._wire is not None:
            self._wire.close(finished)
            self._wire = None


def together(first: Item, out: Queue) -> tuple[list[Item], bool]:
    """What goes in one message with an item, of what waits at the moment; and whether more may come."""
    items, size = [first], first[1].message.ByteSize()
    while len(items) < MESSAGE_ITEMS and size < MESSAGE_BYTES and not out.empty():
        item = out.get_nowait()  # each queue has one reader
        if item is None:
            return items, False
        items.append(item)
        size += item[1].message.ByteSize()
    return items, True


class _Wire:
    """One stream to one server: gRPC's thread sends what there is, a thread of its own hears the answers."""

    def __init__(
        self, dial: bulk.Dial, link: Link, kind: Photos | Sketches, tell: Callable[[bulk.Event], None]
    ) -> None:
        self._dial, self._kind, self._tell = dial, kind, tell
        self._out: SimpleQueue[tuple[int, Parcel] | None] = SimpleQueue()
        self._call = link.stream(kind.stream, self._requests())
        self._listener = threading.Thread(target=self._listen, name=f"compsketch {dial.server}", daemon=True)
        self._listener.start()

    def send(self, index: int, parcel: Parcel) -> None:
        self._out.put((index, parcel))

    def close(self, finished: bool) -> None:
        """End the stream; where all is answered the server does, on hearing that nothing more comes."""
        self._out.put(None)
        if finished:
            self._listener.join(ENDING)
        self._call.cancel()
        self._listener.join(ENDING)

    def _requests(self) -> Iterator[Any]:
        first = True
        while (item := self._out.get()) is not None:
            items, more = together(item, self._out)
            yield self._kind.part(items, first=first)
            if not more:
                return
            first = False

    def _listen(self) -> None:
        try:
            for answer in answers(self._call):
                self._tell(bulk.Answered(self._dial.server, answer))
            failure = CallFailed("UNAVAILABLE", "the server ended the stream")
        except CallFailed as error:
            failure = error
        self._tell(bulk.Lost(self._dial.number, failure))
