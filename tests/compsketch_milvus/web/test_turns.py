"""Turns go round among clients, and of a page the newest request alone waits."""

from __future__ import annotations

import asyncio

import pytest

from compsketch_milvus.web import turns
from compsketch_milvus.web.refusals import Refusal
from compsketch_milvus.web.turns import Turns


class Work:
    """Requests whose work ends when the test says so; `served` is the order in which they got their turns."""

    def __init__(self, at_once: int = 1) -> None:
        self.turns, self.served, self.end = Turns(at_once), [], {}

    async def ask(self, client: str, page: str | None, name: str) -> str:
        async with self.turns.turn(client, page):
            self.served.append(name)
            self.end[name] = asyncio.Event()
            await self.end[name].wait()
        return name

    async def asked(self, client: str, page: str | None, name: str) -> asyncio.Task[str]:
        task = asyncio.ensure_future(self.ask(client, page, name))
        await settled()
        return task

    async def finish(self, *names: str) -> None:
        for name in names:
            self.end[name].set()
            await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_than_so_many_have_a_turn_at_once() -> None:
    async def scene() -> None:
        work = Work(at_once=2)
        tasks = [await work.asked(f"c{i}", "p", f"{i}") for i in range(4)]
        assert work.served == ["0", "1"]
        await work.finish("1", "0", "2", "3")
        assert work.served == ["0", "1", "2", "3"]
        assert await asyncio.gather(*tasks) == ["0", "1", "2", "3"]

    asyncio.run(scene())


def test_clients_take_turns_however_much_one_asks() -> None:
    async def scene() -> None:
        work = Work()
        tasks = [await work.asked("busy", f"page {i}", f"b{i}") for i in range(4)]
        tasks += [await work.asked("calm", "p", "c"), await work.asked("late", "p", "l")]
        await work.finish("b0", "b1", "c", "l", "b2", "b3")
        assert work.served == ["b0", "b1", "c", "l", "b2", "b3"]
        await asyncio.gather(*tasks)

    asyncio.run(scene())


def test_a_newer_request_of_the_same_page_takes_the_place_of_the_one_that_waits() -> None:
    async def scene() -> None:
        work = Work()
        tasks = [await work.asked("a", "p", "running"), await work.asked("a", "p", "old")]
        tasks += [await work.asked("a", "other", "other"), await work.asked("a", "p", "new")]
        await work.finish("running", "new", "other")
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert work.served == ["running", "new", "other"]
        assert isinstance(answers[1], Refusal)
        assert (answers[1].status, answers[1].line) == (409, "superseded")

    asyncio.run(scene())


def test_who_draws_without_a_rest_is_served_in_turn() -> None:
    async def scene() -> None:
        work = Work()
        tasks = [await work.asked("calm", "p", "first"), await work.asked("busy", "p", "b0")]
        tasks += [await work.asked("calm", "p", "second")]
        tasks += [await work.asked("busy", "p", f"b{i}") for i in range(1, 4)]
        await work.finish("first", "b3", "second")
        assert work.served == ["first", "b3", "second"]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(answer, Refusal) for answer in answers) == 3

    asyncio.run(scene())


def test_a_request_that_is_given_up_leaves_its_place() -> None:
    async def scene() -> None:
        work = Work()
        running, waiting = await work.asked("a", "p", "a"), await work.asked("b", "p", "b")
        last = await work.asked("c", "p", "c")
        waiting.cancel()
        await settled()
        assert work.turns.waiting == 1
        work.end["a"].set()
        await settled()
        await work.finish("c")
        assert work.served == ["a", "c"]
        await asyncio.gather(running, last)
        assert await work.asked("d", "p", "d") is not None
        assert work.served[-1] == "d"
        await work.finish("d")

    asyncio.run(scene())


def test_a_turn_that_comes_in_the_moment_of_giving_up_is_passed_on() -> None:
    async def scene() -> None:
        work = Work()
        running, waiting = await work.asked("a", "p", "a"), await work.asked("b", "p", "b")
        last = await work.asked("c", "p", "c")
        work.end["a"].set()
        await asyncio.sleep(0)  # the turn is b's from here on, and b does not know yet
        waiting.cancel()
        await settled()
        assert work.served == ["a", "c"]
        await work.finish("c")
        await asyncio.gather(running, last)

    asyncio.run(scene())


def test_a_turn_does_not_go_to_who_has_just_given_up() -> None:
    async def scene() -> None:
        work = Work()
        running, waiting = await work.asked("a", "p", "a"), await work.asked("b", "p", "b")
        last = await work.asked("c", "p", "c")
        waiting.cancel()  # and before it has left its place
        work.end["a"].set()
        newer = asyncio.ensure_future(work.ask("b", "p", "newer"))
        await settled()
        await work.finish("c", "newer")
        await asyncio.gather(running, last, newer)
        assert work.served == ["a", "c", "newer"]
        assert work.turns.waiting == 0

    asyncio.run(scene())


def test_a_turn_ends_with_an_error_too() -> None:
    async def scene() -> None:
        one = Turns(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with one.turn("a", "p"):
                    raise ZeroDivisionError
        async with one.turn("b"):
            assert one.waiting == 0

    asyncio.run(scene())


def test_too_many_that_wait_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(turns, "MOST_WAITING", 3)
    monkeypatch.setattr(turns, "MOST_A_CLIENT", 2)

    async def scene() -> None:
        work = Work()
        tasks = [await work.asked("a", None, str(i)) for i in range(3)]
        for client in ("a", "b", "c"):
            tasks.append(await work.asked(client, None, client))
        refused = [task for task in tasks if task.done()]
        assert [task.exception().status for task in refused] == [429, 429]
        assert refused == [tasks[3], tasks[5]]
        await work.finish("0", "1", "b", "2")
        await asyncio.gather(*(task for task in tasks if task not in refused))

    asyncio.run(scene())
