"""What a call may bring, and how many rows a second a client may ask for."""

from __future__ import annotations

import pytest

from encoders.errors import CompsketchError
from encoders.images import Limits
from encoders.serving import limits
from encoders.serving.limits import CallLimits, InvalidRequest, RateLimit, RateLimited


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_limits_are_told_as_they_are_kept():
    told = CallLimits(message_bytes=10, image_bytes=5, image_pixels=4, items=3, window=2)
    message = told.message()
    assert (message.message_bytes, message.image_bytes, message.image_pixels) == (10, 5, 4)
    assert (message.items, message.window) == (3, 2)
    assert told.photo == Limits(max_bytes=5, max_pixels=4)


def test_too_many_items_are_refused():
    CallLimits(items=3).check_items("photos", 3)
    with pytest.raises(InvalidRequest, match="4 photos in one message, and 3 is the limit"):
        CallLimits(items=3).check_items("photos", 4)


@pytest.mark.parametrize(("wrong", "says"), [({"items": 0}, "items=0"), ({"image_bytes": 2**30}, "has to be below")])
def test_limits_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(CompsketchError, match=says):
        CallLimits(**wrong)


def test_a_client_has_a_burst_and_then_its_rate(clock):
    limit = RateLimit(10.0, 20, clock)
    limit.take("a", 15)
    with pytest.raises(RateLimited, match="a asks for more than 10 rows a second") as caught:
        limit.take("a", 15)
    assert caught.value.retry_after == pytest.approx(1.0)
    limit.take("b", 15)  # a client of its own
    clock.now += 0.9
    with pytest.raises(RateLimited):
        limit.take("a", 15)
    clock.now += 0.1
    limit.take("a", 15)  # as was said


def test_a_refused_call_takes_nothing(clock):
    limit = RateLimit(1.0, 4, clock)
    limit.take("a", 3)
    for _ in range(5):
        with pytest.raises(RateLimited):
            limit.take("a", 2)
    limit.take("a", 1)


def test_rest_fills_no_more_than_a_burst(clock):
    limit = RateLimit(10.0, 20, clock)
    clock.now += 1e6
    limit.take("a", 20)
    with pytest.raises(RateLimited):
        limit.take("a", 1)


def test_a_call_larger_than_a_burst_passes_after_a_rest_and_is_paid_for(clock):
    limit = RateLimit(10.0, 20, clock)
    limit.take("a", 40)
    clock.now += 2.0
    with pytest.raises(RateLimited):
        limit.take("a", 1)
    clock.now += 0.1
    limit.take("a", 1)


def test_a_stream_is_held_up_instead(clock):
    limit = RateLimit(10.0, 20, clock)
    assert limit.borrow("a", 20) == 0.0
    assert limit.borrow("a", 5) == pytest.approx(0.5)
    assert limit.borrow("a", 5) == pytest.approx(1.0)
    clock.now += 1.0
    assert limit.borrow("a", 1) == pytest.approx(0.1)


def test_it_remembers_so_many_clients_at_most(clock, monkeypatch):
    monkeypatch.setattr(limits, "CLIENTS", 2)
    limit = RateLimit(1.0, 1, clock)
    for client in "abc":
        limit.take(client, 1)
    for client in "bc":
        with pytest.raises(RateLimited):
            limit.take(client, 1)
    limit.take("a", 1)  # forgotten


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(CompsketchError, match="rate limit of 0 rows"):
        RateLimit(0, 1)
