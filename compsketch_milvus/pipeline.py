"""Bounded queues between threads, and a crew of threads that ends as one: what ingest is built on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Aborted", "Channel", "Crew"]

T = TypeVar("T")


class Aborted(Exception):
    """The pipeline is breaking off: whoever waits on a channel leaves."""


class Channel(Generic[T]):
    """A bounded queue that can end: after `close` it is drained, after `abort` every waiter leaves at once.

    Args:
        size: items it holds at most; `put` waits while it is full.
        producers: how many will call `close`; the channel ends with the last of them.
    """

    def __init__(self, size: int, producers: int = 1) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._producers = producers
        self._aborted = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Append an item, once there is room. Raises Aborted."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._items) < self._size)
            if self._aborted:
                raise Aborted
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """Take the next item, waiting for it; None once the channel has ended. Raises Aborted, TimeoutError."""
        with self._changed:
            ready = self._changed.wait_for(lambda: self._aborted or self._items or not self._producers, timeout)
            if not ready:
                raise TimeoutError
            if self._aborted:
                raise Aborted
            if not self._items:
                return None
            item = self._items.popleft()
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

    def abort(self) -> None:
        """Drop what is queued and turn every waiter away."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()


class Crew:
    """Threads that work on channels. The first to die aborts all channels, and its exception is kept in `error`."""

    def __init__(self, *channels: Channel) -> None:
        self.error: BaseException | None = None
        self._channels = channels
        self._threads: list[threading.Thread] = []
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
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def abort(self, error: BaseException | None = None) -> None:
        """Turn everyone away, and remember the first error."""
        with self._lock:
            self.error = self.error or error
        for channel in self._channels:
            channel.abort()

    @property
    def aborted(self) -> bool:
        """Whether a thread died."""
        return self.error is not None

    def join(self, deadline: float | None = None) -> bool:
        """Wait until all threads have ended, at most `deadline` seconds; whether they have."""
        end = None if deadline is None else time.monotonic() + deadline
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
