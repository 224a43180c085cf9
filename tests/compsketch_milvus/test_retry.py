"""Trying again what a server cannot do now: with pauses that grow, to a deadline, and only what passes by itself."""

from __future__ import annotations

from itertools import islice

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import MilvusException

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.pipeline import Aborted
from compsketch_milvus.retry import Backoff, Retry
from compsketch_milvus.server import DiskFullError, RefusedError, guard

seconds = st.floats(0.001, 1000)


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, length: float) -> bool:
        self.pauses.append(length)
        self.now += length
        return False


class Flaky:
    """Raises at its first calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def away(times: int) -> list[Exception]:
    return [ServerError("no Milvus answers; is it running?", transient=True)] * times


@given(seconds, seconds)
def test_pauses_double_up_to_the_ceiling_less_a_random_half(first, ceiling):
    steps = [min(first * 2**power, ceiling) for power in range(12)]
    for pause, step in zip(islice(Backoff(first, ceiling).pauses(), 12), steps, strict=True):
        assert 0.499 * step <= pause <= 1.001 * step


def test_many_workers_do_not_march():
    assert len({next(Backoff().pauses()) for _ in range(20)}) > 10


def test_negative_seconds_are_refused():
    with pytest.raises(ServerError, match="must not be negative"):
        Backoff(deadline=-1)


def test_it_is_called_until_it_succeeds():
    clock, work = Clock(), Flaky(*away(5))
    assert Retry(Backoff(), clock.pause, clock=clock)(work) == "done"
    assert (work.calls, len(clock.pauses)) == (6, 5)


@pytest.mark.parametrize("error", [ServerError("refused"), CollectionError("too long"), KeyError("a bug")])
def test_what_does_not_pass_is_raised_as_it_is(error):
    clock, work = Clock(), Flaky(*away(1), error)
    with pytest.raises(type(error)) as caught:
        Retry(Backoff(), clock.pause, clock=clock)(work)
    assert caught.value is error
    assert work.calls == 2


@given(st.floats(0, 300))
def test_no_attempt_begins_after_the_deadline(deadline):
    clock, work = Clock(), Flaky(*away(10_000))
    with pytest.raises(ServerError, match=r"no Milvus answers; is it running\? \(tried \d+ times in \d+ s\)") as caught:
        Retry(Backoff(first=1, ceiling=20, deadline=deadline), clock.pause, clock=clock)(work)
    assert caught.value.transient
    assert clock.now == pytest.approx(deadline)  # and one at the deadline itself


def test_without_a_deadline_there_is_one_attempt():
    clock, work = Clock(), Flaky(*away(2))
    with pytest.raises(ServerError, match="tried 1 times"):
        Retry(Backoff(deadline=0), clock.pause, clock=clock)(work)


def test_a_pause_that_is_broken_off_ends_it():
    work = Flaky(*away(2))
    with pytest.raises(Aborted):
        Retry(Backoff(), lambda seconds: True)(work)
    assert work.calls == 1


def test_the_status_says_what_is_waited_for_and_for_how_long():
    clock, heard = Clock(), []

    def pause(length: float) -> bool:
        clock.pause(12)
        heard.append(retry.status)
        return False

    def slow() -> None:
        clock.now += 3
        heard.append(retry.status)

    retry = Retry(Backoff(), pause, clock=clock)
    retry(Flaky(*away(1)))
    retry(slow)
    assert heard == ["waiting for 12 s, trying again: no Milvus answers", "waiting for Milvus' answer for 3 s"]
    assert retry.status == ""


# --- which errors pass ---


class Rpc(grpc.RpcError):
    """An error of gRPC as pymilvus lets it through."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(f"<{code}: {details}>")
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


CODE = grpc.StatusCode
PASSING = [
    MilvusException(101, "collection not loaded[collection=photos]"),  # of a server that is back, and loads it
    MilvusException(1, "failed to query: collection not loaded[collection=470695197028909101]"),
    Rpc(CODE.UNAVAILABLE, "Connection refused"),
    Rpc(CODE.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    Rpc(CODE.RESOURCE_EXHAUSTED, "too many requests"),
    MilvusException(CODE.UNAVAILABLE, "Retry timeout"),
    MilvusException(2, "Fail connecting to server on 127.0.0.1:19530, illegal connection params or server unavailable"),
    MilvusException(1, "Unexpected error, message=<Cannot invoke RPC on closed channel!>"),
    MilvusException(1, "service not ready[proxy=7]: Initializing"),
    MilvusException(8, "rate limit exceeded[rate=0.1]"),
    MilvusException(101, "collection not loaded[collection=4]"),
    MilvusException(103, "collection not fully loaded[collection=4]"),
    MilvusException(106, "collection on recovering[collection=4]"),
    MilvusException(503, "channel not available[channel=by-dev-rootcoord-dml_0]"),
    MilvusException(65535, "some new one", retriable=True),
]
REFUSED = [
    Rpc(CODE.RESOURCE_EXHAUSTED, "grpc: received message larger than max (78101356 vs. 67108864)"),
    MilvusException(1100, "the length (70008) of dynamic field exceeds max length (65536): invalid parameter"),
    MilvusException(1, "bad vector"),
]
FINAL = [
    MilvusException(100, "collection not found[collection=photos]"),
    MilvusException(1401, "privilege not permitted"),
    Rpc(CODE.UNIMPLEMENTED, "unknown method"),
]
LIMITS = [
    MilvusException(9, "quota exceeded[reason=memory quota exceeded, please allocate more resources]"),
    MilvusException(65535, "max number of collection has reached the limit in DB: exceeded the limit number"),
    MilvusException(3, "load segment failed, OOM if load, maxSegmentSize = 512.0 MB, totalMem = 1024 MB"),
]
FULL = [
    MilvusException(9, "quota exceeded[reason=disk quota exceeded, please allocate more resources]"),
    MilvusException(1, "[Errno 28] No space left on device"),
]


def translated(error: Exception) -> ServerError:
    with pytest.raises(ServerError) as caught, guard("store photos", "http://milvus:19530"):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_passes_by_itself_is_transient(error):
    assert translated(error).transient


@pytest.mark.parametrize(
    ("errors", "kind"),
    [(REFUSED, RefusedError), (FULL, DiskFullError), (FINAL, ServerError), (LIMITS, ServerError)],
    ids=["row", "disk", "all", "limits"],
)
def test_what_does_not_pass_is_of_its_kind(errors, kind):
    for error in errors:
        result = translated(error)
        assert (type(result), result.transient) == (kind, False)


def test_a_limit_names_the_way_out():
    for error in LIMITS:
        assert "has reached a limit and could not store photos" in str(translated(error))
        assert "drop or release collections" in str(translated(error))
