"""Any number of items over one stream, with a window of them under way: memory does not grow with their number.

`Flow` is the whole of it, apart from threads, event loops and sockets: a generator that yields what is to be done next
and is sent what came of it. Items are taken in the caller's order and given back in that of completion. When a server
goes away, what it has not answered is sent again, to the next one.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from encoders.serving.addresses import Address
from encoders.serving.calls import Attempts, CallFailed, Clock, Rotation
from encoders.serving.parcels import Outcome, Parcel, Photos, Sketches
from encoders.serving.session import Session

__all__ = [
    "END",
    "Answered",
    "Command",
    "Dial",
    "Event",
    "Flow",
    "Give",
    "Look",
    "Lost",
    "Pack",
    "Packed",
    "Pause",
    "Send",
    "Take",
]

WINDOW = 128  # items under way, of at most some 300 KB each
END = object()  # what `Take` is answered with when the source has no more


@dataclass(frozen=True)
class Take:
    """Take the next item from the source; END if there is none."""


@dataclass(frozen=True)
class Pack:
    """Pack an item in the background; a `Packed` will tell."""

    index: int
    source: Any


@dataclass(frozen=True)
class Dial:
    """Begin a stream to a server, in place of the one before it; `Lost` will give its number."""

    number: int
    server: Address


@dataclass(frozen=True)
class Send:
    """Send an item over the stream."""

    index: int
    parcel: Parcel


@dataclass(frozen=True)
class Look:
    """Whatever has happened: an event, or None if nothing does within so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Give:
    """Give the caller an item's outcome."""

    index: int
    outcome: Outcome


@dataclass(frozen=True)
class Packed:
    """An event: an item is packed."""

    index: int
    parcel: Parcel


@dataclass(frozen=True)
class Answered:
    """An event: a server has answered some items."""

    server: Address
    answer: Any


@dataclass(frozen=True)
class Lost:
    """An event: a stream has ended."""

    number: int
    failure: CallFailed


Command: TypeAlias = Take | Pack | Dial | Send | Look | Pause | Give
Event: TypeAlias = Packed | Answered | Lost
Commands: TypeAlias = Generator[Command, Any, None]


class Flow:
    """The encoding of what a source has.

    Args:
        session: with whom.
        kind: of the items.
        rotation: of the servers.
        timeout: seconds without any answer after which it is over; those that the caller takes do not count.
        packers: items that are packed at a time; as many more wait for it at most.
        clock: in seconds.
    """

    def __init__(
        self,
        session: Session,
        kind: Photos | Sketches,
        rotation: Rotation,
        timeout: float,
        packers: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._session, self._kind, self._rotation = session, kind, rotation
        self._attempts = Attempts(rotation, timeout, doing=session.doing, clock=clock)
        self._window = min(WINDOW, session.limits.window or WINDOW)
        self._most_packing, self._packing = 2 * packers, 0
        self._sent: dict[int, Parcel] = {}  # and not answered yet
        self._server: Address | None = None
        self._taken, self._dialled, self._more = 0, 0, True

    def run(self) -> Commands:
        """From the first item to the last outcome.

        Raises:
            ServerError: the service is away for too long, refuses, or serves another encoder by now.
        """
        while self._more or self._packing or self._sent:
            if self._more and self._packing < self._most_packing and self._packing + len(self._sent) < self._window:
                yield from self._take()
                event = yield Look(0)
            else:
                event = yield Look(self._attempts.left)
                if event is None and self._sent:
                    event = Lost(self._dialled, CallFailed("DEADLINE_EXCEEDED"))
            while event is not None:
                yield from self._heed(event)
                event = yield Look(0)

    def _take(self) -> Commands:
        source = yield Take()
        self._attempts.progress()  # the caller's
        if source is END:
            self._more = False
            return
        index, self._taken, self._packing = self._taken, self._taken + 1, self._packing + 1
        if self._kind.light(source):
            yield from self._heed(Packed(index, self._kind.pack(source)))
        else:
            yield Pack(index, source)

    def _heed(self, event: Event) -> Commands:
        if isinstance(event, Packed):
            self._packing -= 1
            if event.parcel.error is not None:
                yield Give(event.index, event.parcel.error)
            else:
                yield from self._send(event.index, event.parcel)
            self._attempts.progress()
        elif isinstance(event, Answered):
            try:
                yield from self._unpack(event)
            except CallFailed as busy:
                yield from self._again(busy)
        elif event.number == self._dialled:
            yield from self._again(event.failure)

    def _unpack(self, event: Answered) -> Commands:
        self._session.check(event.answer, event.server)
        self._rotation.take_back(event.server)
        for keyed in event.answer.vectors:
            parcel = self._sent.get(keyed.key)
            if parcel is None:
                continue  # two servers have answered it
            outcome = self._kind.unpack(parcel, keyed.vector)
            del self._sent[keyed.key]
            if isinstance(outcome, Parcel):
                yield from self._send(keyed.key, outcome)
            else:
                yield Give(keyed.key, outcome)
            self._attempts.progress()  # after the caller has taken it

    def _send(self, index: int, parcel: Parcel) -> Commands:
        self._sent[index] = parcel
        if self._server is None:
            yield from self._dial()
        else:
            yield Send(index, parcel)

    def _dial(self) -> Commands:
        """Begin a stream, with all that is under way."""
        self._server, self._dialled = self._rotation.next(), self._dialled + 1
        yield Dial(self._dialled, self._server)
        for index, parcel in list(self._sent.items()):
            yield Send(index, parcel)

    def _again(self, failure: CallFailed) -> Commands:
        """After a stream was lost: begin another one, unless nothing is under way."""
        server, self._server = self._server, None
        if self._sent and server is not None:
            yield Pause(self._attempts.pause(server, failure))
            yield from self._dial()
