"""What is under way stays within bounds, and whoever is refused or held up hears when to go on."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.serving.faults import Busy, Closed
from encoders.serving.lanes import Admission, Lane, Pace, Share
from tests.encoders.serving.stage import LONG, on_a_loop


def admission(rows: int = 2, size: int = 1000, pace: float = 0.5) -> Admission:
    return Admission(rows, size, lambda lane: pace)


@on_a_loop
async def test_a_full_lane_refuses_and_says_when_to_come_back():
    gate = admission(rows=4)
    async with AsyncExitStack() as held:
        for _ in range(4):
            await held.enter_async_context(gate.enter(Lane.BULK))
        with pytest.raises(Busy) as caught:
            await held.enter_async_context(gate.enter(Lane.BULK))
        assert caught.value.retry_after == 4 * 0.5 / 2
        await held.enter_async_context(gate.enter(Lane.INTERACTIVE))  # the other lane is another queue
        assert (gate.depth(Lane.BULK), gate.depth(Lane.INTERACTIVE)) == (4, 1)
    assert (gate.depth(Lane.BULK), gate.depth(Lane.INTERACTIVE)) == (0, 0)


@on_a_loop
async def test_what_would_hardly_be_in_time_is_refused_at_once():
    gate = admission(rows=100, pace=0.5)
    async with AsyncExitStack() as held:
        for _ in range(4):  # two seconds' work
            await held.enter_async_context(gate.enter(Lane.BULK, deadline=monotonic() + 60))
        with pytest.raises(Busy) as caught:
            await held.enter_async_context(gate.enter(Lane.BULK, deadline=monotonic() + 3))
        assert caught.value.retry_after == 1
        with pytest.raises(TimeoutError):
            await held.enter_async_context(gate.enter(Lane.BULK, deadline=monotonic() - 1))
        await held.enter_async_context(gate.enter(Lane.BULK, deadline=monotonic() + 6))
        await held.enter_async_context(gate.enter(Lane.BULK, deadline=monotonic() + 3, patient=True))
        await held.enter_async_context(gate.enter(Lane.INTERACTIVE, deadline=monotonic() + 0.1))


@on_a_loop
async def test_bytes_are_bounded_too():
    gate = admission(rows=100, size=1000)
    async with gate.enter(Lane.BULK, size=999), gate.enter(Lane.BULK, size=5000):
        with pytest.raises(Busy):
            async with gate.enter(Lane.BULK, size=1):
                pass


@on_a_loop
async def test_more_rows_than_a_lane_holds_go_alone():
    gate = admission(rows=2)
    async with gate.enter(Lane.INTERACTIVE, rows=5):
        with pytest.raises(Busy):
            async with gate.enter(Lane.INTERACTIVE):
                pass
    async with gate.enter(Lane.INTERACTIVE):
        with pytest.raises(Busy):
            async with gate.enter(Lane.INTERACTIVE, rows=5):
                pass


@on_a_loop
async def test_the_patient_are_let_in_in_their_order_and_one_who_leaves_the_line_is_passed_over():
    gate, order = admission(rows=1), []

    async def visit(number: int) -> None:
        async with gate.enter(Lane.BULK, patient=True):
            order.append(number)
            await asyncio.sleep(0)

    async with gate.enter(Lane.BULK):
        visits = [asyncio.create_task(visit(number)) for number in range(5)]
        await asyncio.sleep(0)
        visits[1].cancel()
        await asyncio.wait([visits[1]])
    await asyncio.wait_for(asyncio.gather(*visits, return_exceptions=True), LONG)
    assert order == [0, 2, 3, 4]


@on_a_loop
async def test_one_who_gives_up_as_its_turn_comes_passes_it_on():
    gate = admission(rows=1)
    first = gate.enter(Lane.BULK)
    await first.__aenter__()
    turns = [asyncio.create_task(gate.enter(Lane.BULK, patient=True).__aenter__()) for _ in range(2)]
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    turns[0].cancel()
    await asyncio.wait_for(turns[1], LONG)


@on_a_loop
async def test_closing_lets_nobody_in_any_more():
    gate = admission(rows=1)
    async with gate.enter(Lane.BULK):
        waiting = asyncio.create_task(gate.enter(Lane.BULK, patient=True).__aenter__())
        await asyncio.sleep(0)
        gate.close()
        with pytest.raises(Closed):
            await waiting
    with pytest.raises(Closed):
        await gate.enter(Lane.BULK).__aenter__()


def test_a_pace_is_measured_and_forgets_what_was_compiled():
    pace = Pace()
    assert pace.seconds == 0
    pace.add(8.0)  # the first run
    for _ in range(8):
        pace.add(0.01)
    assert pace.seconds == pytest.approx(0.01, abs=0.04)
    pace.add(1.01)
    assert pace.seconds < 0.3


VISITS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 400)), max_size=25)


@given(VISITS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_lane_ever_holds_more_than_it_may_and_all_the_patient_come_in(visits, rows):
    gate = admission(rows=rows)

    async def visit(patient: bool, leaves: bool, breaths: int, size: int) -> bool:
        async with gate.enter(Lane.BULK, size=size, patient=patient):
            assert 1 <= gate.depth(Lane.BULK) <= rows
            for _ in range(breaths):
                await asyncio.sleep(0)
            return True

    async def run() -> None:
        tasks = []
        for patient, leaves, breaths, size in visits:
            tasks.append(asyncio.create_task(visit(patient, leaves, breaths, size)))
            if leaves:
                await asyncio.sleep(0)
                tasks[-1].cancel()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
        assert gate.depth(Lane.BULK) == 0
        for (patient, leaves, *_), answer in zip(visits, answers, strict=True):
            if not leaves:
                assert answer is True or (isinstance(answer, Busy) and not patient)

    asyncio.run(run())


def test_a_share_is_of_the_time_lately_and_is_forgotten() -> None:
    share = Share(recent=2.0)
    assert share.at(0) == 0
    for half_seconds in range(1, 41):
        share.add(0.25, half_seconds / 2)  # half of twenty seconds
    assert share.at(20) == pytest.approx(0.5, rel=0.15)
    assert share.at(22) == pytest.approx(share.at(20) / math.e)
    assert share.at(200) < 1e-6
    share.add(100, 200)
    assert share.at(200) == 1
