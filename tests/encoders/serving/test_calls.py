"""Which server is asked, when again and when no more: by a clock that the tests turn."""

from __future__ import annotations

import pytest

from encoders.errors import CompsketchError, ServerError
from encoders.serving.addresses import Addresses
from encoders.serving.calls import LEFT_OUT, LONGEST_PAUSE, Attempts, CallFailed, Rotation

A, B, C = Addresses.parse("grpc://a,b,c").servers
AWAY = CallFailed("UNAVAILABLE", "connection refused")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_has_its_turn(clock) -> None:
    rotation = Rotation([A, B, C], clock)
    assert [rotation.next() for _ in range(7)] == [A, B, C, A, B, C, A]


def test_one_that_failed_is_left_out_until_its_time_is_over(clock) -> None:
    rotation = Rotation([A, B, C], clock)
    rotation.leave_out(B, 5)
    assert [rotation.next() for _ in range(4)] == [A, C, A, C]
    clock.now += 5
    assert [rotation.next() for _ in range(3)] == [A, B, C]
    rotation.leave_out(A, 50)
    rotation.take_back(A)
    assert rotation.next() == A


def test_where_all_are_left_out_the_first_to_come_back_is_asked(clock) -> None:
    rotation = Rotation([A, B, C], clock)
    for server, seconds in ((A, 9), (B, 3), (C, 6)):
        rotation.leave_out(server, seconds)
    assert [rotation.next(), rotation.next()] == [B, B]


def test_every_server_is_asked_once_before_anyone_waits(clock) -> None:
    rotation = Rotation([A, B, C], clock)
    attempts = Attempts(rotation, 60, clock=clock)
    pauses = [attempts.pause(rotation.next(), AWAY) for _ in range(6)]
    assert [pause > 0 for pause in pauses] == [False, False, True, False, False, True]


def test_pauses_grow_to_a_ceiling_and_end_at_the_deadline(clock) -> None:
    attempts = Attempts(Rotation([A], clock), 60, clock=clock)
    pauses = []

    def wait() -> None:
        while True:
            pauses.append(attempts.pause(A, AWAY))
            clock.now += pauses[-1]

    with pytest.raises(ServerError, match=r"grpc://a:50051 cannot be reached \(connection refused\).*tried \d+ times"):
        wait()
    assert max(pauses) <= LONGEST_PAUSE
    assert pauses[0] <= 0.1 < pauses[4]
    assert 50 < sum(pauses) < 60


def test_a_servers_own_wish_is_heeded(clock) -> None:
    rotation = Rotation([A, B], clock)
    attempts = Attempts(rotation, 60, clock=clock)
    busy = CallFailed("RESOURCE_EXHAUSTED", "the queue is full", 7.5)
    attempts.pause(rotation.next(), busy)
    assert attempts.pause(rotation.next(), busy) == 7.5
    attempts = Attempts(Rotation([A], clock), 5, clock=clock)
    with pytest.raises(ServerError, match="too much to do"):
        attempts.pause(A, busy)  # nobody is kept until after the deadline to be told so


def test_progress_begins_the_deadline_anew(clock) -> None:
    attempts = Attempts(Rotation([A], clock), 10, clock=clock)
    for _ in range(5):
        clock.now += 9
        assert attempts.pause(A, AWAY) < 1
        attempts.progress()
    assert attempts.left == 10


def test_who_is_away_or_busy_is_left_out(clock) -> None:
    rotation = Rotation([A, B], clock)
    attempts = Attempts(rotation, 60, clock=clock)
    attempts.pause(rotation.next(), AWAY)
    assert [rotation.next(), rotation.next()] == [B, B]
    clock.now += LEFT_OUT
    assert {rotation.next(), rotation.next()} == {A, B}


@pytest.mark.parametrize(
    ("failure", "kind", "transient", "words"),
    [
        (CallFailed("DEADLINE_EXCEEDED"), ServerError, True, "did not answer in time"),
        (CallFailed("RESOURCE_EXHAUSTED", "message larger than max"), ServerError, False, "failed (RESOURCE_EXHAUSTED"),
        (CallFailed("UNAUTHENTICATED", "no token"), ServerError, False, "COMPSKETCH_ENCODER_TOKEN"),
        (CallFailed("NOT_FOUND", "no model x"), ServerError, False, "has no such model (no model x)"),
        (CallFailed("INVALID_ARGUMENT", "keep\nto 64"), CompsketchError, None, "grpc://a:50051: keep to 64"),
        (CallFailed("INTERNAL", "log 4f2a"), ServerError, False, "failed (INTERNAL: log 4f2a)"),
        (CallFailed("UNAVAILABLE", "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"), ServerError, False, "no trust"),
    ],
)
def test_what_is_not_tried_again(clock, failure, kind, transient, words) -> None:
    with pytest.raises(CompsketchError) as refused:
        Attempts(Rotation([A], clock), 60, clock=clock).pause(A, failure)
    assert type(refused.value) is kind
    assert getattr(refused.value, "transient", None) is transient
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_grpcs_own_words_are_cut_down_to_the_cause() -> None:
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:5: Failed to connect to remote host: "
        "connect: Connection refused (111)"
    )
    error = CallFailed("UNAVAILABLE", said).explained(A)
    cause = "Failed to connect to remote host: connect: Connection refused (111)"
    assert str(error).startswith(f"encoder service grpc://a:50051 cannot be reached ({cause}); ")
