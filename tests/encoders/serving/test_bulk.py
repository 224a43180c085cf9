"""The flow of a stream, step by step with a clock of the test's: what is waited for, and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np

from encoders.serving import bulk
from encoders.serving import encoder_pb2 as pb
from encoders.serving.addresses import Addresses
from encoders.serving.calls import CallFailed, Rotation
from encoders.serving.session import Session

TIMEOUT = 60.0


class Steps:
    """A flow of decoded photos to one server, done by hand.

    Attributes:
        now: seconds.
        next: what the flow wants.
    """

    def __init__(self) -> None:
        addresses = Addresses.parse("grpc://one")
        (self.server,) = addresses.servers
        model = pb.Model(name="toy", fingerprint="toy-0", dim=2, image_size=4)
        session = Session(addresses, model, pb.Limits(window=8))
        photos = session.photos(features=False, interactive=False)
        self.now = 0.0
        rotation = Rotation(addresses.servers, self.clock)
        flow = bulk.Flow(session, photos, rotation, TIMEOUT, packers=1, clock=self.clock)
        self._commands = flow.run()
        self.next: bulk.Command = next(self._commands)

    def clock(self) -> float:
        return self.now

    def answer(self, what: Any = None, *, after: float = 0.0) -> bulk.Command:
        """Go on, with what came of a command after so many seconds."""
        self.now += after
        self.next = self._commands.send(what)
        return self.next

    def until(self, kind: type[bulk.Command]) -> None:
        """Go on, nothing happening, to a command of this kind."""
        while not isinstance(self.next, kind):
            self.answer()

    def take(self, *, after: float = 0.0) -> None:
        """The source has a photo."""
        self.until(bulk.Take)
        self.answer(np.zeros((4, 4, 3), np.uint8), after=after)

    def answered(self, key: int) -> bulk.Answered:
        vector = pb.Vector(values=np.zeros(2, "<f4").tobytes())
        keyed = [pb.KeyedVector(key=key, vector=vector)]
        return bulk.Answered(self.server, pb.StreamImagesResponse(fingerprint="toy-0", vectors=keyed))


def test_the_time_in_which_the_caller_uses_a_vector_is_not_the_servers():
    steps = Steps()
    steps.take()
    steps.take()
    steps.until(bulk.Take)
    assert steps.answer(bulk.END) == bulk.Look(0)
    assert steps.answer() == bulk.Look(TIMEOUT)
    assert isinstance(steps.answer(steps.answered(0), after=1.0), bulk.Give)
    assert steps.answer(after=10 * TIMEOUT) == bulk.Look(0)
    assert steps.answer() == bulk.Look(TIMEOUT)  # for the second photo


def test_the_time_in_which_the_source_has_nothing_is_not_the_servers():
    steps = Steps()
    steps.take()
    steps.until(bulk.Take)
    steps.answer(bulk.END, after=10 * TIMEOUT)  # and meanwhile the server was restarted
    assert steps.next == bulk.Look(0)
    assert isinstance(steps.answer(bulk.Lost(1, CallFailed("UNAVAILABLE", "gone"))), bulk.Pause)
    assert isinstance(steps.answer(), bulk.Dial)
    assert isinstance(steps.answer(), bulk.Send)
