"""Bounded queues between threads, and a crew of threads that ends as one: what ingest is built on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from encoders.request import carried

__all__ = ["Aborted", "Channel", "Crew"]

T = TypeVar("T")


class Aborted(Exception):
    """The pipeline is breaking off: whoever waits on a channel leaves."""


class Channel(Generic[T]):
    """A bounded queue that can end: after `close` it is drained, after `abort` every waiter leaves at once.

    Args:
        size: what its items weigh at most, all together; `put` waits while there is no room, unless it is empty.
        producers: how many will call `close`; the channel ends with the last of them.
        weigh: an item's weight.
    """

    def __init__(self, size: int, producers: int = 1, *, weigh: Callable[[T], int] = lambda _: 1) -> None:
        self._items: deque[T] = deque()
        self._size, self._weigh, self._weight = size, weigh, 0
        self._producers = producers
        self._ended = self._aborted = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Append an item, once there is room. Raises Aborted."""
        self.offer(item, None)

    def offer(self, item: T, timeout: float | None) -> bool:
        """Append an item if there is room within `timeout` seconds; whether there was. Raises Aborted."""
        weight = self._weigh(item)

        def room() -> bool:
            return self._ended or not self._items or self._weight + weight <= self._size

        with self._changed:
            if not self._changed.wait_for(room, timeout):
                return False
            if self._ended:
                raise Aborted
            self._items.append(item)
            self._weight += weight
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """Take the next item, waiting for it; None once the channel has ended. Raises Aborted, TimeoutError."""
        with self._changed:
            ready = self._changed.wait_for(lambda: self._ended or self._items or not self._producers, timeout)
            if not ready:
                raise TimeoutError
            if self._aborted:
                raise Aborted
            if not self._items:
                return None
            item = self._items.popleft()
            self._weight -= self._weigh(item)
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[T]:
        while (item := self.get()) is not None:
            yield item

    def close(self) -> None:
        """Say that one producer is done."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def pause(self, seconds: float) -> bool:
        """Wait for so many seconds, or until the channel takes no more; whether it takes no more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)

    def end(self) -> None:
        """Drop what is queued and take no more: who puts is turned away, who takes finds the channel at its end."""
        with self._changed:
            self._ended = True
            self._items.clear()
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop what is queued and turn every waiter away."""
        self._aborted = True
        self.end()


class Crew:
    """Threads that work on channels. The first to die aborts all channels; `errors` keeps its exception and others'."""

    def __init__(self, *channels: Channel) -> None:
        self.errors: list[BaseException] = []
        self._channels = channels
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self, work: Callable[[], None], output: Channel | None = None, *, name: str) -> None:
        """Run `work` in a thread; it closes `output` when it is done."""

        def run() -> None:
            try:
                work()
            except Aborted:
                pass
            except BaseException as error:  # whatever it is, the caller must hear of it
                self.abort(error)
            finally:
                if output is not None:
                    output.close()

        # Daemons: a thread stuck in a server's answer must not keep the interpreter from ending.
        self._threads[name] = threading.Thread(target=carried(run), name=name, daemon=True)
        self._threads[name].start()

    def abort(self, error: BaseException) -> None:
        """Turn everyone away, and remember why."""
        with self._lock:
            self.errors.append(error)
        for channel in self._channels:
            channel.abort()

    @property
    def aborted(self) -> bool:
        """Whether a thread died, or the crew was told to leave."""
        return bool(self.errors)

    def join(self, deadline: float, *, but: str = "") -> bool:
        """Wait until all threads, but one of this name, have ended, at most `deadline` seconds; whether they have."""
        end = time.monotonic() + deadline
        threads = [thread for name, thread in self._threads.items() if name != but]
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)
