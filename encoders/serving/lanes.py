"""Two lanes, and how much may be under way in each: a full one refuses, or holds up who can be held up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from math import exp
from time import monotonic

from encoders.serving.faults import Busy, Closed

LONGEST = 30.0  # seconds that anyone is told to wait
SHARE = 0.4  # of the time until a deadline that those before may take: its own batch may be as large as theirs


class Lane(Enum):
    """Which of two queues, in their order: what waits in the first goes before all that waits in the second."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Pace:
    """Seconds that a row takes, as measured; 0 before the first.

    It falls faster than it rises: what runs for the first time may have been compiled just then.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Takes a measurement in."""
        weight = 1.0 if self.seconds == 0 else 0.5 if seconds < self.seconds else 0.2
        self.seconds += weight * (seconds - self.seconds)


class Share:
    """The part of the time lately that something took, 0 to 1; what was `recent` seconds ago counts e times less.

    Args:
        recent: Seconds.
    """

    def __init__(self, recent: float) -> None:
        self._recent, self._seconds, self._at = recent, 0.0, 0.0

    def add(self, seconds: float, now: float) -> None:
        """It took so many seconds, until now."""
        self._seconds, self._at = self._left(now) + seconds, now

    def at(self, now: float) -> float:
        """The part of it."""
        return min(1.0, self._left(now) / self._recent)

    def _left(self, now: float) -> float:
        return self._seconds * exp((self._at - now) / self._recent)


class Admission:
    """Counts what is under way, from its acceptance to its answer, and keeps it within bounds.

    Args:
        rows: At most so many in each lane.
        size: No more is let into a lane that holds so many bytes, so it holds this and one item at most.
        pace: Seconds that one row of a lane takes, as measured; 0 where nothing is known.
    """

    def __init__(self, rows: int, size: int, pace: Callable[[Lane], float]) -> None:
        self._most, self._most_bytes, self._pace = rows, size, pace
        self._rows = dict.fromkeys(Lane, 0)
        self._bytes = dict.fromkeys(Lane, 0)
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._closed = False

    def depth(self, lane: Lane) -> int:
        """Rows under way."""
        return self._rows[lane]

    @asynccontextmanager
    async def enter(
        self, lane: Lane, *, rows: int = 1, size: int = 0, deadline: float | None = None, patient: bool = False
    ) -> AsyncIterator[None]:
        """Holds a place in a lane; more rows than a lane can hold are let in when it is empty.

        Args:
            lane: Which.
            rows: How many places.
            size: Bytes that are held meanwhile.
            deadline: Of the answer, as `time.monotonic` counts.
            patient: Wait for room, whatever the deadline.

        Raises:
            Busy: The lane is full, or so full that the answer would hardly come in time.
            TimeoutError: The deadline has passed.
            Closed: Nothing is accepted any more.
        """
        if deadline is not None and deadline <= monotonic():
            raise TimeoutError
        turn = None
        while not self._closed and (self._full(lane, rows) or (not patient and self._late(lane, deadline))):
            if not patient:
                raise Busy(self._retry_after(lane))
            turn = await self._turn(lane, first=turn is not None)
        if self._closed:
            raise Closed("the server is shutting down")
        self._rows[lane] += rows
        self._bytes[lane] += size
        try:
            self._wake(lane)  # what woke this one may have made room for more
            yield
        finally:
            self._rows[lane] -= rows
            self._bytes[lane] -= size
            self._wake(lane)

    def close(self) -> None:
        """Lets nothing more in; who waits is told."""
        self._closed = True
        for waiting in self._waiting.values():
            while waiting:
                _resolve(waiting.popleft())

    def _full(self, lane: Lane, rows: int) -> bool:
        held = self._rows[lane]
        return held > 0 and (held + rows > self._most or self._bytes[lane] >= self._most_bytes)

    def _late(self, lane: Lane, deadline: float | None) -> bool:
        """Whether what is before it would take more than its share of the time that is left."""
        ahead = self._rows[lane] * self._pace(lane)
        return deadline is not None and ahead > 0 and ahead > SHARE * (deadline - monotonic())

    def _retry_after(self, lane: Lane) -> float:
        """Seconds until half of what is under way is done, by then others will have come, too."""
        return min(LONGEST, max(0.01, self._rows[lane] * self._pace(lane) / 2))

    async def _turn(self, lane: Lane, *, first: bool) -> asyncio.Future[None]:
        """Waits in line; at its head, if its turn had come and somebody else was faster."""
        turn, waiting = asyncio.get_running_loop().create_future(), self._waiting[lane]
        (waiting.appendleft if first else waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in waiting:
                waiting.remove(turn)
            else:
                self._wake(lane)  # its turn had come: it is the next one's
            raise
        return turn

    def _wake(self, lane: Lane) -> None:
        """Gives the first who still waits a turn, if there is room."""
        waiting = self._waiting[lane]
        while waiting and not self._full(lane, 1):
            if _resolve(waiting.popleft()):
                return


def _resolve(future: asyncio.Future[None]) -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True
