"""Channels that hold so much and no more, and end in three ways: closed, ended, aborted."""

from __future__ import annotations

import threading
import time

import pytest

from compsketch_milvus.pipeline import Aborted, Channel, Crew


def test_a_closed_channel_is_drained():
    channel: Channel[int] = Channel(3, producers=2)
    channel.put(1)
    channel.close()
    channel.put(2)
    channel.close()
    assert list(channel) == [1, 2]


def test_an_ended_channel_is_dropped_and_takes_no_more():
    channel: Channel[int] = Channel(3)
    channel.put(1)
    channel.end()
    assert channel.get() is None
    with pytest.raises(Aborted):
        channel.put(2)


def test_an_aborted_channel_turns_away_who_takes_too():
    channel: Channel[int] = Channel(3)
    channel.abort()
    with pytest.raises(Aborted):
        channel.get()


def test_it_holds_a_weight_and_one_item_that_is_heavier_alone():
    channel: Channel[bytes] = Channel(10, weigh=len)
    assert channel.offer(b"x" * 6, 0)
    assert channel.offer(b"x" * 4, 0)
    assert not channel.offer(b"x", 0)
    assert channel.get() == b"x" * 6
    assert not channel.offer(b"x" * 100, 0)
    assert channel.offer(b"x" * 6, 0)
    assert (channel.get(), channel.get()) == (b"x" * 4, b"x" * 6)
    assert channel.offer(b"x" * 100, 0)


def test_a_pause_lasts_until_the_channel_takes_no_more():
    channel: Channel[int] = Channel(1)
    assert not channel.pause(0.01)
    threading.Timer(0.05, channel.end).start()
    started = time.monotonic()
    assert channel.pause(10)
    assert time.monotonic() - started < 5


def test_who_takes_waits_for_a_time():
    with pytest.raises(TimeoutError):
        Channel(1).get(timeout=0.01)


def test_a_crew_keeps_what_its_threads_died_of_and_ends_as_one():
    channel: Channel[int] = Channel(1)
    crew = Crew(channel)
    barrier = threading.Barrier(2)

    def dies() -> None:
        barrier.wait(5)
        raise ZeroDivisionError(threading.current_thread().name)

    for name in "ab":
        crew.start(dies, name=name)
    crew.start(lambda: list(channel) and None, name="waits")
    assert crew.join(5)
    assert sorted(str(error) for error in crew.errors) == ["a", "b"]


def test_one_thread_can_be_left_out_of_a_join():
    release = threading.Event()
    crew = Crew()
    crew.start(lambda: release.wait(20) and None, name="stuck")
    crew.start(lambda: None, name="quick")
    assert not crew.join(0.01)
    assert crew.join(5, but="stuck")
    release.set()
    assert crew.join(5)
