"""Whose search is next: a bounded number at once, the clients in turn, and of one page the newest alone.

While a person draws, each stroke asks anew, and what was asked before is of no use any more. So a search that still
waits when its own page asks again is given up, and nobody's wait grows with how often somebody else asks: of n clients
each is served after at most n - 1 others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from compsketch_milvus.web.refusals import Refusal
from encoders import tracing

__all__ = ["SUPERSEDED", "Turns"]

SUPERSEDED = "superseded"
MOST_WAITING = 256
MOST_A_CLIENT = 8  # pages of one client that wait at once


@dataclass(eq=False)
class _Waiter:
    client: str
    page: str | None
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """Hands out turns, on one event loop.

    Args:
        at_once: how many have one at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._running = 0
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()  # by client, the next one first

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, client: str, page: str | None = None) -> AsyncIterator[None]:
        """Wait for a turn, and have it inside.

        Args:
            client: among whom turns go round.
            page: of the client, whose newer request takes the place of its older one; None: it supersedes nothing.

        Raises:
            Refusal: 409, a newer request came from the same page; 429, too many wait.
        """
        if self._running < self.at_once:
            self._running += 1
        else:
            with tracing.span("turn"):
                await self._wait(_Waiter(client, page))
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, waiter: _Waiter) -> None:
        own = self._waiting.get(waiter.client, deque())
        older = next((one for one in own if one.page == waiter.page and waiter.page is not None), None)
        if older is not None:  # in its very place: who draws without a rest would else never be served
            own[own.index(older)] = waiter
            if not older.ready.done():
                older.ready.set_exception(Refusal(409, SUPERSEDED))
        elif self.waiting >= MOST_WAITING or len(own) >= MOST_A_CLIENT:
            raise Refusal(429, "too many searches wait; draw on in a moment", retry_after=1)
        else:
            own.append(waiter)
            self._waiting[waiter.client] = own
        try:
            await waiter.ready
        except asyncio.CancelledError:
            if waiter.ready.done() and not waiter.ready.cancelled() and waiter.ready.exception() is None:
                self._pass_on()  # it was this one's turn in that very moment
            else:
                self._remove(waiter)
            raise

    def _remove(self, waiter: _Waiter) -> None:
        own = self._waiting.get(waiter.client)
        if own is not None and waiter in own:
            own.remove(waiter)
            if not own:
                del self._waiting[waiter.client]

    def _pass_on(self) -> None:
        """Give a turn that has ended to the first of the next client, who then goes to the end."""
        while self._waiting:
            client, own = self._waiting.popitem(last=False)
            waiter = own.popleft()
            if own:
                self._waiting[client] = own
            if not waiter.ready.done():  # else it was given up in this very moment
                waiter.ready.set_result(None)
                return
        self._running -= 1
