"""Why an item or a call gets no vectors: what the engine raises, and the service turns into faults and status codes."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why one item has no vector; the numbers are those of `Fault.Reason` in encoder.proto."""

    INVALID = 1
    TOO_LARGE = 2
    CRASHED = 3
    BUSY = 4
    INTERNAL = 5


class Rejected(Exception):
    """One item is no good: its sender can mend it or leave it out.

    Attributes:
        reason: INVALID, TOO_LARGE or CRASHED.
        message: One line for people.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Busy(Exception):
    """The lane is full; nothing was done.

    Attributes:
        retry_after: Seconds after which it is likely to have room.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after:.2f} s")
        self.retry_after = retry_after


class Closed(Exception):
    """The engine is closed, or one of its stages has died: another server may answer."""
