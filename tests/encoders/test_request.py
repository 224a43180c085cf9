"""The id of a request: where it begins, how it is handed on, and what of an id is believed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading

import pytest

from encoders import request
from encoders.serving.logs import json_log

log = logging.getLogger("encoders.test")


@pytest.mark.parametrize("told", ["a", "x" * 128, "7f3a-01", "Root=1-67891233-abcdef012345678912345678", "a/b+c@d:e._"])
def test_a_well_formed_id_is_kept(told) -> None:
    with request.request(told) as id:
        assert id == request.current() == told
    assert request.current() == ""


@pytest.mark.parametrize(
    "told",
    ["", "x" * 129, "two words", "a\n", 'a\nINFO: well {"event": 1}', "a\r\nSet-Cookie: b=c", "\x1b[2J", "ä", '"'],
)  # fmt: skip
def test_any_other_is_dropped_for_a_new_one(told) -> None:
    with request.request(told) as id:
        assert re.fullmatch("[0-9a-f]{16}", id)


def test_no_id_can_write_lines_of_the_log() -> None:
    written = io.StringIO()
    with json_log(written), request.request('x"}\n{"event": "forged"}') as id:
        log.info("one")
    assert [json.loads(line)["request_id"] for line in written.getvalue().splitlines()] == [id]


def test_an_operation_is_part_of_the_request_or_one_itself() -> None:
    with request.request("outer"), request.ongoing() as inner:
        assert inner == "outer"
    with request.ongoing() as alone, request.ongoing() as inner:
        assert inner == alone != ""
    assert request.current() == ""


def test_work_for_another_thread_takes_the_id_along() -> None:
    seen: list[str] = []

    def work() -> None:
        seen.append(request.current())

    with request.request("a"):
        threads = [threading.Thread(target=work), threading.Thread(target=request.carried(work))]
    for thread in threads:
        thread.start()
        thread.join()
    assert seen == ["", "a"]


def test_tasks_of_several_requests_keep_apart() -> None:
    async def one(id: str) -> str:
        with request.request(id):
            await asyncio.sleep(0)
            return await asyncio.create_task(inner())

    async def inner() -> str:
        await asyncio.sleep(0)
        return request.current()

    async def both() -> list[str]:
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == ["a", "b"]


def test_an_application_may_show_the_id_in_its_own_log() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
    handler.addFilter(request.Marked())
    log.addHandler(handler)
    try:
        with request.request("a"):
            log.warning("one")
    finally:
        log.removeHandler(handler)
    assert written.getvalue() == "a one\n"
