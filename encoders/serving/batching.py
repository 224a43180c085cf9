"""Items in, batches out: threads that take what waits, the interactive lane first, and settle each item exactly once.

A thread takes its next batch itself, at the last moment, so it never idles while the event loop is busy, and an
interactive item waits for one run at most. Such an item goes as soon as a thread is free, with those that came
meanwhile, as many as take `TOGETHER`: where a batch takes as long as its rows one by one, nobody gains by waiting for
others' rows. A bulk batch waits a little to be filled. While interactive items come, bulk batches are cut to what takes
`QUANTUM`; at other times to `CALM`. And the more of the time interactive items take, the longer the bulk lane rests
after each batch: it would fill all that they leave, and each of them would find a batch under way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

from encoders import request, tracing
from encoders.serving.faults import Closed
from encoders.serving.lanes import Lane, Pace, Share
from encoders.serving.observer import NoObserver, Observer

QUANTUM = 0.01  # seconds that a bulk batch may take while interactive items come: what one of them waits at most
TOGETHER = 0.03  # seconds that an interactive batch may take, if it is of more than one row
REST = 6.0  # times as long as a bulk batch took, where interactive items take half of the time
BUSIEST = 0.9  # share of the time at which the bulk lane does not rest any longer: it must get on
RECENT = 2.0  # seconds that an interactive item is remembered as a sign of more: longer than one may wait
CALM, FEWEST = 0.1, 8  # seconds that a bulk batch may take at other times, but so many rows it may have in any case
PATIENCE = 10.0  # seconds that closing waits for runs that have begun

# Takes a key and the payloads of a batch; returns as many results, of which an exception settles its own item.
Runner = Callable[[Any, list[Any]], Sequence[Any]]


@dataclass(eq=False)
class _Item:
    key: Hashable
    payload: Any
    lane: Lane
    rows: int
    deadline: float
    arrived: float
    future: asyncio.Future[Any]
    context: Context  # of who asks: the request's id and its span


class Batcher:
    """A stage of the service: one thread a runner, which all take from the same two lanes.

    How much may wait is bounded by `Admission`, in front of the first stage.

    Args:
        name: What the observer calls the stage.
        runners: Called on their threads with items of one key.
        batch: Rows a run at most; an item of more rows runs by itself.
        wait: Seconds that a bulk batch waits to be filled.
        observe: Hears how long items wait and runs take.

    Attributes:
        dead: What ended one of the threads, and with it the stage.
    """

    def __init__(
        self,
        name: str,
        runners: Sequence[Runner],
        *,
        batch: int = 1,
        wait: float = 0.0,
        observe: Observer | None = None,
    ) -> None:
        self.name = name
        self.dead: BaseException | None = None
        self._batch, self._wait, self._observe = batch, wait, observe or NoObserver()
        self._changed = threading.Condition()
        self._waiting: dict[Lane, dict[_Item, None]] = {lane: {} for lane in Lane}  # in their order
        self._running: set[_Item] = set()
        self._pace = {lane: Pace() for lane in Lane}
        self._asked = -inf  # when the last interactive item came
        self._taken = Share(RECENT)  # by interactive runs
        self._resumes = -inf  # when the bulk lane has rested
        self._closed = False
        self._threads = [threading.Thread(target=self._work, args=(run,), name=name, daemon=True) for run in runners]

    def start(self) -> None:
        """Starts the threads; called on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def pace(self, lane: Lane) -> float:
        """Seconds a row of a lane takes, as measured, with all threads at work; 0 before the first."""
        return self._pace[lane].seconds / len(self._threads)

    async def submit(
        self, key: Hashable, payload: Any, *, lane: Lane, rows: int = 1, deadline: float | None = None
    ) -> Any:
        """One item's result.

        Args:
            key: Items run together only with those of the same key.
            payload: What the runner gets.
            lane: Where it waits.
            rows: How much of a batch it fills.
            deadline: When it is given up, as `time.monotonic` counts; if it still waits then, it never runs.

        Raises:
            TimeoutError: The deadline passed.
            Closed: The stage is closed, or has died.
            Exception: What the runner raised, or returned for this item.
        """
        now = monotonic()
        if deadline is not None and deadline <= now:
            raise TimeoutError
        with self._traced(self.name, lane is Lane.INTERACTIVE):  # not of each photo of a bulk stream
            until, future = inf if deadline is None else deadline, self._loop.create_future()
            return await self._settled(_Item(key, payload, lane, rows, until, now, future, copy_context()))

    async def _settled(self, item: _Item) -> Any:
        lane, future, now = item.lane, item.future, item.arrived
        with self._changed:
            if self._closed:
                raise Closed(self._why())
            self._waiting[lane][item] = None
            self._asked = now if lane is Lane.INTERACTIVE else self._asked
            self._changed.notify()
        timer = None
        if item.deadline < inf:
            timer = self._loop.call_later(item.deadline - now, _settle, future, TimeoutError())
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future.done() and not future.cancelled():
                future.exception()  # seen, also by a caller who has gone
            with self._changed:  # if it was given up before a thread took it
                self._waiting[lane].pop(item, None)

    async def close(self) -> None:
        """Lets runs that have begun end, for `PATIENCE` at most, and fails all that waits."""
        self._end()
        for thread in self._threads:
            if thread.ident is not None:
                await asyncio.to_thread(thread.join, PATIENCE)
        self._fail(list(self._running))

    def _work(self, run: Runner) -> None:
        batch: list[_Item] = []
        try:
            while batch := self._take():
                began = monotonic()
                for item in batch:
                    if item.lane is Lane.INTERACTIVE:
                        item.context.run(tracing.waited, f"{self.name} wait", began - item.arrived)
                results = batch[0].context.run(self._results, run, batch)
                ended = monotonic()
                self._rest(batch[0].lane, ended - began, ended)
                self._loop.call_soon_threadsafe(self._done, batch, results, began, ended)
        except BaseException as error:  # whatever it was, nobody may wait for this thread any more
            with suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
                self._loop.call_soon_threadsafe(self._die, batch, error)

    def _results(self, run: Runner, batch: list[_Item]) -> Sequence[Any]:
        """Of one run, in the context of its first item: what is logged meanwhile bears that one's id."""
        about = {"compsketch.items": len(batch), "compsketch.rows": sum(item.rows for item in batch)}
        others = [item.context for item in batch[1:]]
        try:
            with self._traced(f"{self.name} batch", self._batch > 1, about, others):
                results = run(batch[0].key, [item.payload for item in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{self.name}: {len(results)} results for {len(batch)} items")
        except Exception as error:
            return [error] * len(batch)
        return results

    @staticmethod
    def _traced(
        name: str, wanted: bool, about: tracing.Attributes | None = None, others: Sequence[Context] = ()
    ) -> tracing.Span:
        """A span, but for the engine's own checks, which are nobody's request."""
        return tracing.span(name, about, links=others) if wanted and request.current() else tracing.OFF

    def _take(self) -> list[_Item]:
        """The next batch, when there is one; none: the stage is closed."""
        with self._changed:
            while not self._closed:
                pause = None
                for lane in Lane:
                    batch, full = self._gather(lane)
                    if not batch:
                        continue
                    now = monotonic()
                    filled = now if full else batch[0].arrived + self._wait
                    pause = max(filled, self._resumes) - now
                    if pause <= 0 or lane is Lane.INTERACTIVE:
                        for item in batch:
                            del self._waiting[lane][item]
                        self._running.update(batch)
                        return batch
                self._changed.wait(pause)
            return []

    def _rest(self, lane: Lane, seconds: float, now: float) -> None:
        """After a run. Few interactive items hardly meet a batch, nor each other behind one: then the rest is short."""
        with self._changed:
            if lane is Lane.INTERACTIVE:
                self._taken.add(seconds / len(self._threads), now)
            else:
                share = min(BUSIEST, self._taken.at(now))
                self._resumes = now + seconds * REST * 2 * share**2 / (1 - share)

    def _gather(self, lane: Lane) -> tuple[list[_Item], bool]:
        """The oldest item that is still wanted and what runs with it, and whether the batch is full."""
        now, limit, rows = monotonic(), self._limit(lane), 0
        batch: list[_Item] = []
        for item in self._waiting[lane]:
            if item.future.done() or item.deadline <= now or (batch and item.key != batch[0].key):
                continue
            if batch and rows + item.rows > limit:
                return batch, True
            batch.append(item)
            rows += item.rows
        return batch, rows >= limit

    def _limit(self, lane: Lane) -> int:
        pace = self._pace[lane].seconds
        if pace == 0:
            return self._batch
        if lane is Lane.INTERACTIVE:
            fewest, most = 1, TOGETHER
        else:
            fewest, most = (1, QUANTUM) if monotonic() - self._asked < RECENT else (FEWEST, CALM)
        return min(self._batch, max(fewest, int(most / pace)))

    def _done(self, batch: list[_Item], results: Sequence[Any], began: float, ended: float) -> None:
        lane, rows = batch[0].lane, sum(item.rows for item in batch)
        self._pace[lane].add((ended - began) / rows)
        with self._changed:
            self._running.difference_update(batch)
        for item, result in zip(batch, results, strict=True):
            _settle(item.future, result)
            self._observe.seconds(f"{self.name}_wait", lane, began - item.arrived)
        self._observe.seconds(self.name, lane, ended - began)
        if self._batch > 1:
            self._observe.batch(lane, rows)

    def _die(self, batch: list[_Item], error: BaseException) -> None:
        self.dead = error
        self._end()
        self._fail(batch)

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            left = [item for waiting in self._waiting.values() for item in waiting]
            self._changed.notify_all()
        self._fail(left)

    def _fail(self, items: Sequence[_Item]) -> None:
        for item in items:
            _settle(item.future, Closed(self._why()))

    def _why(self) -> str:
        return f"the {self.name} stage is closed" if self.dead is None else f"the {self.name} stage has died"


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    """Gives a future its result or exception, unless its caller has gone or it has one already."""
    if future.done():
        return
    if isinstance(result, StopIteration):  # no future takes one
        result = RuntimeError(repr(result))
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
