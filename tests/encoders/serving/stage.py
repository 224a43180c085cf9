"""A stage's work that a test holds up, and looks at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

LONG = 60.0  # seconds that no test waits


class Gate:
    """A runner that answers each number with its square, when it is open.

    Attributes:
        batches: What it was called with, in that order.
        most: Seconds that a test waits for it at most.
    """

    most = 20.0

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._open = threading.Event()
        self._begun = threading.Semaphore(0)

    def __call__(self, key: str, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self._begun.release()
        if not self._open.wait(self.most):
            raise RuntimeError("the test never opened the gate")
        return [number**2 for number in numbers]

    def open(self) -> None:
        self._open.set()

    async def begun(self) -> None:
        """Resolves when another batch is at the gate."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=self.most)


async def until(true: Callable[[], bool]) -> None:
    """Lets the event loop go on until something is so."""

    async def watch() -> None:
        while not true():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(watch(), Gate.most)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LONG))

    return run
