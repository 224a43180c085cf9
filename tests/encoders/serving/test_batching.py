"""A batch forms, runs, and settles each of its items exactly once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.serving import batching
from encoders.serving.batching import Batcher
from encoders.serving.faults import Closed
from encoders.serving.lanes import Lane
from encoders.serving.observer import NoObserver
from tests.encoders.serving.stage import LONG, Gate, on_a_loop, until


@asynccontextmanager
async def running(*runners: Any, **options: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher("forward", runners, **options)
    batcher.start()
    try:
        yield batcher
    finally:
        for runner in runners:
            if isinstance(runner, Gate):
                runner.open()
        await batcher.close()


def bulk(batcher: Batcher, *numbers: int, **options: Any) -> list[asyncio.Task[Any]]:
    """Submits numbers in their order, in tasks of their own."""
    options = {"lane": Lane.BULK, "key": "square", **options}
    return [asyncio.create_task(batcher.submit(payload=number, **options)) for number in numbers]


@on_a_loop
async def test_a_full_batch_does_not_wait():
    gate = Gate()
    gate.open()
    async with running(gate, batch=4, wait=LONG) as batcher:
        assert await asyncio.gather(*bulk(batcher, 1, 2, 3, 4)) == [1, 4, 9, 16]
    assert gate.batches == [[1, 2, 3, 4]]


@on_a_loop
async def test_half_a_batch_goes_when_it_has_waited():
    gate = Gate()
    gate.open()
    async with running(gate, batch=4, wait=0.05) as batcher:
        assert await asyncio.gather(*bulk(batcher, 1, 2)) == [1, 4]
    assert gate.batches == [[1, 2]]


@on_a_loop
async def test_an_interactive_item_does_not_wait_for_company():
    gate = Gate()
    gate.open()
    async with running(gate, batch=4, wait=LONG) as batcher:
        assert await batcher.submit("square", 3, lane=Lane.INTERACTIVE) == 9
    assert gate.batches == [[3]]


@on_a_loop
async def test_rows_are_counted_and_an_oversized_item_runs_by_itself():
    gate = Gate()
    async with running(gate, batch=4) as batcher:
        first = bulk(batcher, 0, rows=4)
        await gate.begun()
        rest = bulk(batcher, 1, 2, rows=2) + bulk(batcher, 3) + bulk(batcher, 4, rows=9) + bulk(batcher, 5)
        await asyncio.sleep(0)
        gate.open()
        assert await asyncio.gather(*first, *rest) == [0, 1, 4, 9, 16, 25]
    assert gate.batches == [[0], [1, 2], [3], [4], [5]]


@on_a_loop
async def test_only_items_of_one_key_run_together():
    gate = Gate()
    async with running(gate, batch=4) as batcher:
        first = bulk(batcher, 0)
        await gate.begun()
        rest = bulk(batcher, 1) + bulk(batcher, 2, key="other") + bulk(batcher, 3)
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*first, *rest)
    assert gate.batches == [[0], [1, 3], [2]]


@on_a_loop
async def test_an_interactive_item_overtakes_all_bulk_that_has_not_begun():
    gate = Gate()
    async with running(gate, batch=2) as batcher:
        ingest = bulk(batcher, 1, 2, 3, 4, 5, 6)
        await gate.begun()
        query = bulk(batcher, 100, lane=Lane.INTERACTIVE)
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*ingest, *query)
    assert gate.batches[:2] == [[1, 2], [100]]


@on_a_loop
async def test_bulk_batches_are_cut_to_the_quantum_while_interactive_items_come(monkeypatch):
    monkeypatch.setattr(batching, "RECENT", LONG)
    monkeypatch.setattr(batching, "FEWEST", 3)
    sizes: list[int] = []

    def slow(key: str, numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        threading.Event().wait(0.02 * len(numbers))  # 20 ms a row
        return numbers

    async with running(slow, batch=8) as batcher:
        await asyncio.gather(*bulk(batcher, *range(8)))
        await asyncio.gather(*bulk(batcher, *range(8)))
        assert sizes[0] == 8  # nothing is known yet
        assert max(sizes[1:]) <= 5  # 100 ms: whoever comes then waits no longer
        began = len(sizes)
        await asyncio.gather(*bulk(batcher, *range(8)), *bulk(batcher, 100, lane=Lane.INTERACTIVE))
        assert sizes[began:] == [1] * 9


@on_a_loop
async def test_the_bulk_lane_rests_as_interactive_items_take_the_time(monkeypatch):
    """Between two of its batches: not at all where nobody asks, and the longer, the more those who ask have taken."""
    runs: list[tuple[int, float, float]] = []

    def slow(key: str, numbers: list[int]) -> list[int]:
        began = monotonic()
        threading.Event().wait(0.05)
        runs.append((numbers[0], began, monotonic()))
        return numbers

    def gaps() -> list[float]:
        photos = [run for run in runs if run[0] < 100]
        return [after[1] - before[2] for before, after in itertools.pairwise(photos)]

    async with running(slow, batch=1) as batcher:
        await asyncio.gather(*bulk(batcher, 0, 1, 2))
        assert max(gaps()) < 0.05
        await asyncio.gather(*bulk(batcher, *range(100, 110), lane=Lane.INTERACTIVE))  # half a second of the last two
        runs.clear()
        await asyncio.gather(*bulk(batcher, 3, 4, 5))
        share = 0.2  # and less with time: half a second is a quarter of two
        assert min(gaps()) >= 0.05 * batching.REST * 2 * share**2 / (1 - share)


@on_a_loop
async def test_interactive_items_do_not_wait_for_each_others_rows_where_a_batch_saves_nothing():
    sizes: list[int] = []

    def slow(key: str, numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        threading.Event().wait(0.04 * len(numbers))  # 40 ms a row
        return numbers

    async with running(slow, batch=4) as batcher:
        await asyncio.gather(*bulk(batcher, *range(4), lane=Lane.INTERACTIVE))
        began = len(sizes)
        await asyncio.gather(*bulk(batcher, *range(4), lane=Lane.INTERACTIVE))
    assert sizes[:began] == [4]  # nothing is known yet
    assert sizes[began:] == [1] * 4


@on_a_loop
async def test_an_error_reaches_all_of_its_batch_and_no_other():
    def runner(key: str, numbers: list[int]) -> list[int]:
        return [1 // number for number in numbers]

    async with running(runner, batch=3, wait=LONG) as batcher:
        answers = await asyncio.gather(*bulk(batcher, 1, 0, 1), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ZeroDivisionError] * 3
        assert await asyncio.gather(*bulk(batcher, 1, 1, 1)) == [1, 1, 1]


@on_a_loop
async def test_a_result_that_is_an_exception_is_one_items_own():
    async with running(lambda key, numbers: [n or ValueError("zero") for n in numbers], batch=3, wait=LONG) as batcher:
        answers = await asyncio.gather(*bulk(batcher, 1, 0, 2), return_exceptions=True)
    assert answers[0] == 1
    assert answers[2] == 2
    assert isinstance(answers[1], ValueError)


@pytest.mark.parametrize("wrong", [lambda key, numbers: numbers[1:], lambda key, numbers: next(iter(()))])
def test_a_runner_that_breaks_its_promise_leaves_no_one_waiting(wrong):
    async def test() -> None:
        async with running(wrong, batch=2, wait=LONG) as batcher:
            answers = await asyncio.gather(*bulk(batcher, 1, 2), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RuntimeError] * 2

    asyncio.run(test())


@on_a_loop
async def test_one_of_four_cancelled_is_not_run_and_the_others_are_answered():
    gate = Gate()
    async with running(gate, batch=4) as batcher:
        first = bulk(batcher, 0)
        await gate.begun()
        four = bulk(batcher, 1, 2, 3, 4)
        await asyncio.sleep(0)
        four[1].cancel()
        await asyncio.wait([four[1]])
        gate.open()
        answers = await asyncio.gather(*first, *four, return_exceptions=True)
    assert [answers[0], answers[1], *answers[3:]] == [0, 1, 9, 16]
    assert isinstance(answers[2], asyncio.CancelledError)
    assert gate.batches == [[0], [1, 3, 4]]


@on_a_loop
async def test_one_cancelled_while_its_batch_runs_spoils_nothing():
    gate = Gate()
    async with running(gate, batch=2, wait=LONG) as batcher:
        pair = bulk(batcher, 1, 2)
        await gate.begun()
        pair[0].cancel()
        gate.open()
        assert await pair[1] == 4


@on_a_loop
async def test_a_deadline_that_has_passed_does_no_work():
    gate = Gate()
    async with running(gate, batch=2) as batcher:
        with pytest.raises(TimeoutError):
            await batcher.submit("square", 1, lane=Lane.BULK, deadline=monotonic() - 1)
        first = bulk(batcher, 0)
        await gate.begun()
        late, patient = bulk(batcher, 2, deadline=monotonic() + 0.01) + bulk(batcher, 3)
        with pytest.raises(TimeoutError):  # while the gate is still shut
            await late
        gate.open()
        assert [await first[0], await patient] == [0, 9]
    assert gate.batches == [[0], [3]]


@on_a_loop
async def test_closing_answers_what_has_begun_and_fails_what_waits():
    gate = Gate()
    batcher = Batcher("forward", [gate], batch=1)
    batcher.start()
    begun = bulk(batcher, 3)
    await gate.begun()
    waiting = bulk(batcher, 4, 5)
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the forward stage is closed"] * 2
    gate.open()
    await closing
    assert await begun[0] == 9
    with pytest.raises(Closed, match="the forward stage is closed"):
        await batcher.submit("square", 1, lane=Lane.BULK)


@on_a_loop
async def test_closing_does_not_wait_for_ever_for_a_run_that_hangs(monkeypatch):
    monkeypatch.setattr(batching, "PATIENCE", 0.05)
    gate = Gate()
    batcher = Batcher("forward", [gate])
    batcher.start()
    hanging = bulk(batcher, 3)
    await gate.begun()
    await batcher.close()
    with pytest.raises(Closed):
        await hanging[0]
    gate.open()
    await until(lambda: not batcher._threads[0].is_alive())


def test_a_run_that_outlives_the_loop_ends_in_silence(monkeypatch):
    monkeypatch.setattr(batching, "PATIENCE", 0.05)
    gate = Gate()

    async def test() -> threading.Thread:
        batcher = Batcher("forward", [gate])
        batcher.start()
        hanging = bulk(batcher, 3)
        await gate.begun()
        await batcher.close()
        with pytest.raises(Closed):
            await hanging[0]
        return batcher._threads[0]

    thread = asyncio.run(test())
    gate.open()
    thread.join(Gate.most)
    assert not thread.is_alive()


@on_a_loop
async def test_a_thread_that_dies_fails_all_and_says_so():
    gate = Gate()

    def dying(key: str, numbers: list[int]) -> list[int]:
        gate(key, numbers)
        raise SystemExit("out of this thread")

    async with running(dying, batch=2, wait=0) as batcher:
        begun = bulk(batcher, 1)
        await gate.begun()
        waiting = bulk(batcher, 2, 3)
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*begun, *waiting, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["the forward stage has died"] * 3
        assert isinstance(batcher.dead, SystemExit)
        with pytest.raises(Closed, match="has died"):
            await batcher.submit("square", 4, lane=Lane.BULK)


@on_a_loop
async def test_the_observer_hears_what_waited_and_ran():
    class Heard(NoObserver):
        def __init__(self) -> None:
            self.stages: list[str] = []

        def seconds(self, stage: str, lane: Lane, seconds: float) -> None:
            assert seconds >= 0
            self.stages.append(stage)

    heard = Heard()
    async with running(lambda key, numbers: numbers, batch=2, wait=LONG, observe=heard) as batcher:
        await asyncio.gather(*bulk(batcher, 1, 2))
    assert heard.stages == ["forward_wait", "forward_wait", "forward"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(Lane), st.integers(1, 5), st.sampled_from(["a", "b"])),
        st.tuples(st.just("deadline"), st.sampled_from(Lane), st.sampled_from([-1.0, 0.0005, 30.0])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("breathe"), st.sampled_from([0.0, 0.001])),
        st.tuples(st.just("close")),
    ),
    max_size=30,
)


@given(STEPS, st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_every_item_is_settled_exactly_once_whatever_the_interleaving(steps, threads, batch):
    ran: list[int] = []

    def runner(key: str, numbers: list[int]) -> list[Any]:
        ran.extend(numbers)
        if any(number % 7 == 6 for number in numbers):
            raise ValueError("a seventh")
        return [number**2 if number % 5 else LookupError(number) for number in numbers]

    async def run() -> list[Any]:
        batcher = Batcher("forward", [runner] * threads, batch=batch, wait=0.001)
        batcher.start()
        tasks: list[asyncio.Task[Any]] = []
        for step in steps:
            if step[0] == "submit":
                tasks += bulk(batcher, len(tasks), lane=step[1], rows=step[2], key=step[3])
            elif step[0] == "deadline":
                tasks += bulk(batcher, len(tasks), lane=step[1], deadline=monotonic() + step[2])
            elif step[0] == "cancel" and step[1] < len(tasks):
                tasks[step[1]].cancel()
            elif step[0] == "breathe":
                await asyncio.sleep(step[1])
            elif step[0] == "close":
                await batcher.close()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
        await batcher.close()
        assert not any(batcher._waiting.values())
        assert not batcher._running
        return answers

    answers = asyncio.run(run())
    assert len(ran) == len(set(ran))  # none ran twice
    known = (ValueError, LookupError, TimeoutError, asyncio.CancelledError, Closed)
    for number, answer in enumerate(answers):
        assert answer == number**2 or isinstance(answer, known)
        if isinstance(answer, LookupError):
            assert answer.args == (number,)
