"""What the engine tells about its work, for metrics: every method is called on the event loop."""

from __future__ import annotations

from typing import Protocol

from encoders.serving.faults import Reason
from encoders.serving.lanes import Lane


class Observer(Protocol):
    """Hears what happens; must not block or raise.

    Stages are "decode" and "forward"; the time in the queue before one is "decode_wait" and "forward_wait". Kinds of
    rows are "photo", "features", "sketch", "project" and "explain".
    """

    def rows(self, kind: str, lane: Lane, count: int) -> None:
        """So many rows were answered."""

    def seconds(self, stage: str, lane: Lane, seconds: float) -> None:
        """One item waited for a stage so long, or a batch of them took so long in it."""

    def batch(self, lane: Lane, rows: int) -> None:
        """A stage that takes batches, the networks, has run on one of so many rows."""

    def depth(self, lane: Lane, rows: int) -> None:
        """So many rows of a lane are under way now."""

    def rejected(self, reason: Reason, lane: Lane) -> None:
        """An item was turned away: INVALID, TOO_LARGE or CRASHED for good, BUSY for now, INTERNAL by our own fault."""

    def expired(self, lane: Lane) -> None:
        """An item was given up at its deadline."""


class NoObserver:
    """An observer that lets everything pass."""

    def rows(self, kind: str, lane: Lane, count: int) -> None:
        """See `Observer`."""

    def seconds(self, stage: str, lane: Lane, seconds: float) -> None:
        """See `Observer`."""

    def batch(self, lane: Lane, rows: int) -> None:
        """See `Observer`."""

    def depth(self, lane: Lane, rows: int) -> None:
        """See `Observer`."""

    def rejected(self, reason: Reason, lane: Lane) -> None:
        """See `Observer`."""

    def expired(self, lane: Lane) -> None:
        """See `Observer`."""
