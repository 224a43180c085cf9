"""Calling a server again while it is only busy or away, with pauses that grow, and an end to it.

What pymilvus (3.0) does by itself, measured: a connection that is refused ends a call at once, whatever `timeout` and
`retry_times` say, as the reconnection it tries first raises; a server that is silent takes `timeout` seconds, once;
only a rate limit is tried again until `timeout`. So a call's `timeout` bounds one attempt, and what is here decides how
many there are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from compsketch_milvus.errors import ServerError
from compsketch_milvus.pipeline import Aborted

__all__ = ["Backoff", "Retry"]

SLOW_SECONDS = 2.0  # an answer that takes longer is worth a word
T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """How long to pause between attempts, and for how long to try.

    Args:
        first: seconds before the second attempt; doubled before each further one.
        ceiling: seconds that no pause exceeds.
        deadline: seconds after the first attempt began from which on none begins; 0 for one attempt.

    Raises:
        ServerError: a negative number of seconds.
    """

    first: float = 0.5
    ceiling: float = 20.0
    deadline: float = 600.0

    def __post_init__(self) -> None:
        if min(self.first, self.ceiling, self.deadline) < 0:
            raise ServerError(f"{self}: seconds to try again must not be negative")

    def pauses(self) -> Iterator[float]:
        """Seconds before each next attempt: a random half to whole of a step, so that many workers do not march."""
        step = min(self.first, self.ceiling)
        while True:
            yield step * random.uniform(0.5, 1.0)
            step = min(2 * step, self.ceiling)


class Retry:
    """Makes calls to a server for one thread, each again while its error is transient.

    Args:
        backoff: for how long.
        pause: waits for so many seconds; True if there is no point in going on.
        answer: what is waited for, said where it takes long; empty if it may.
        clock: in seconds.
    """

    def __init__(
        self,
        backoff: Backoff,
        pause: Callable[[float], bool],
        *,
        answer: str = "Milvus' answer",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backoff, self._pause, self._answer, self._clock = backoff, pause, answer, clock
        self._since: float | None = None
        self._reason = ""

    def __call__(self, work: Callable[[], T]) -> T:
        """The answer of `work`, which may be called more than once.

        Raises:
            ServerError: it is not transient, or it still is at the deadline.
            Aborted: a pause was broken off.
        """
        self._since = started = self._clock()
        try:
            for attempt, pause in enumerate(self._backoff.pauses(), 1):
                try:
                    return work()
                except ServerError as error:
                    if not error.transient:
                        raise
                    self._reason = str(error).split(";")[0]
                    left = self._backoff.deadline - (self._clock() - started)
                    if left <= 0:
                        tried = f"tried {attempt} times in {self._clock() - started:.0f} s"
                        raise ServerError(f"{error} ({tried})", transient=True) from error
                if self._pause(min(pause, left)):
                    raise Aborted
            raise AssertionError("pauses never end")
        finally:
            self._since, self._reason = None, ""

    @property
    def status(self) -> str:
        """What is being waited for, in words; empty while the server answers. Read by other threads."""
        since, reason = self._since, self._reason
        waited = 0.0 if since is None else self._clock() - since
        if reason:
            return f"waiting for {waited:.0f} s, trying again: {reason}"
        return f"waiting for {self._answer} for {waited:.0f} s" if self._answer and waited > SLOW_SECONDS else ""
