"""Photos are decoded in processes that may be killed, crash or hang, and the pool goes on."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from encoders.images import Limits, Photo, load_photo
from encoders.serving.batching import monotonic
from encoders.serving.decoding import Decoders, command
from encoders.serving.faults import Closed, Reason, Rejected
from encoders.serving.lanes import Lane
from tests.encoders.serving.stage import on_a_loop, until

SIZE = 32


@asynccontextmanager
async def pool(**options: Any) -> AsyncIterator[Decoders]:
    decoders = Decoders(SIZE, options.pop("limits", Limits()), **{"workers": 1, **options})
    await decoders.start()
    try:
        yield decoders
    finally:
        await decoders.close()


async def decode(decoders: Decoders, content: bytes, **options: Any) -> Photo:
    return await decoders.decode(content, **{"lane": Lane.BULK, **options})


def jpeg(width: int = 90, height: int = 60, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def hostile(content: bytes) -> Photo:
    """Does what a file says, or decodes it; `killed` only the first time."""
    word, _, argument = content.partition(b" ")
    if word == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == b"swell":
        bytearray(8 << 30)
    if word == b"exit":
        os._exit(3)
    if word == b"killed" and not (mark := Path(os.fsdecode(argument))).exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if word in (b"hang", b"deaf"):
        Path(os.fsdecode(argument)).touch()
        if word == b"deaf":
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True:
            signal.pause()
    return Photo(np.full((SIZE, SIZE, 3), 7, np.uint8), 1, 2) if word == b"killed" else load_photo(content, SIZE)


def hostile_worker(seconds: float) -> list[str]:
    """A worker that decodes by `hostile`."""
    lines = [
        f"import sys; sys.path[:] = {sys.path!r}",
        "from encoders.serving.decode_worker import bound_memory, serve",
        "from tests.encoders.serving.test_decoding import hostile",
        f"bound_memory(2 << 30); serve(0, hostile, {seconds})",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


@on_a_loop
async def test_pixels_and_sizes_are_those_of_load_photo():
    upright = Image.Exif()
    upright[0x0112] = 6  # turned by a quarter
    files = [jpeg(), jpeg(800, 600), jpeg(exif=upright)]
    async with pool(workers=2) as decoders:
        photos = await asyncio.gather(*(decode(decoders, file) for file in files))
    for file, photo in zip(files, photos, strict=True):
        expected = load_photo(file, SIZE)
        assert (photo.width, photo.height) == (expected.width, expected.height)
        assert np.array_equal(photo.pixels, expected.pixels)
    assert (photos[2].width, photos[2].height) == (60, 90)


@on_a_loop
async def test_what_is_no_photo_and_what_passes_a_limit_are_told_apart():
    async with pool(limits=Limits(max_bytes=100_000, max_pixels=10_000)) as decoders:
        for content, reason, said in [
            (b"no photo", Reason.INVALID, "not a photo in a known format"),
            (b"", Reason.INVALID, "empty"),
            (jpeg()[:200], Reason.INVALID, "damaged or truncated"),
            (jpeg(200, 51), Reason.TOO_LARGE, "200 x 51 pixels, over the limit of 10000"),
        ]:
            with pytest.raises(Rejected, match=said) as caught:
                await decode(decoders, content)
            assert caught.value.reason is reason
        assert (await decode(decoders, jpeg(200, 50))).width == 200


@on_a_loop
async def test_a_photo_that_crashes_its_worker_fails_alone():
    async with pool(run=hostile_worker(20), workers=2) as decoders:
        photos = [decode(decoders, content) for content in (jpeg(), b"crash", jpeg(), b"exit", jpeg())]
        first, crashed, second, left, third = await asyncio.gather(*photos, return_exceptions=True)
        assert [first.width, second.width, third.width] == [90] * 3
        assert (crashed.reason, left.reason) == (Reason.CRASHED, Reason.CRASHED)
        assert crashed.message == "decoding brought down its process twice (signal SIGSEGV); leave the photo out"
        assert left.message == "decoding brought down its process twice (exit status 3); leave the photo out"
        assert decoders.dead is None


@on_a_loop
async def test_a_photo_that_takes_all_memory_fails_alone():
    async with pool(run=hostile_worker(20)) as decoders:
        with pytest.raises(Rejected) as caught:
            await decode(decoders, b"swell")
        assert caught.value.reason is Reason.CRASHED
        assert (await decode(decoders, jpeg())).width == 90


@on_a_loop
async def test_the_photo_of_a_worker_that_was_killed_is_tried_again(tmp_path):
    async with pool(run=hostile_worker(20)) as decoders:
        (before,) = decoders.pids
        assert (await decode(decoders, b"killed %s" % os.fsencode(tmp_path / "mark"))).height == 2
        assert decoders.pids != [before]


@on_a_loop
async def test_kill_9_costs_nothing_and_the_worker_is_replaced():
    async with pool() as decoders:
        (before,) = decoders.pids
        photos = [asyncio.create_task(decode(decoders, jpeg())) for _ in range(40)]
        await photos[0]
        os.kill(before, signal.SIGKILL)
        assert [(await photo).width for photo in [*photos, asyncio.create_task(decode(decoders, jpeg()))]] == [90] * 41
        (after,) = decoders.pids
        assert after != before


@pytest.mark.parametrize("word", ["hang", "deaf"])
def test_a_photo_that_takes_too_long_is_given_up(word, monkeypatch, tmp_path):
    monkeypatch.setattr("encoders.serving.decoding.GRACE", 0.3)

    @on_a_loop
    async def test() -> None:
        async with pool(run=hostile_worker(0.5), seconds=0.5) as decoders:
            hanging = asyncio.create_task(decode(decoders, b"%s %s" % (word.encode(), os.fsencode(tmp_path / "mark"))))
            with pytest.raises(Rejected, match=r"decoding took longer than 0.5 s; leave the photo out") as caught:
                await hanging
            assert caught.value.reason is Reason.CRASHED
            assert (await decode(decoders, jpeg())).width == 90

    test()


@on_a_loop
async def test_closing_ends_a_worker_in_the_middle_of_a_photo(tmp_path):
    async with pool(run=hostile_worker(60), seconds=60) as decoders:
        (pid,) = decoders.pids
        hanging = asyncio.create_task(decode(decoders, b"hang %s" % os.fsencode(tmp_path / "mark")))
        await until((tmp_path / "mark").exists)
        await decoders.close()
        with pytest.raises(Closed):
            await hanging
        assert not psutil.pid_exists(pid)
        assert decoders.pids == []


@on_a_loop
async def test_a_deadline_that_has_passed_decodes_nothing(tmp_path):
    async with pool(run=hostile_worker(20)) as decoders:
        mark = tmp_path / "mark"
        with pytest.raises(TimeoutError):
            await decode(decoders, b"killed %s" % os.fsencode(mark), deadline=monotonic() - 1)
        await decode(decoders, jpeg())
        assert not mark.exists()


@on_a_loop
async def test_a_worker_that_does_not_start_is_our_fault():
    decoders = Decoders(SIZE, Limits(), workers=1, run=[sys.executable, "-c", "raise SystemExit(5)"])
    with pytest.raises(RuntimeError, match=r"a decode worker does not start \(exit status 5\)"):
        await decoders.start()
    await decoders.close()


@on_a_loop
async def test_a_worker_that_is_killed_as_it_starts_costs_no_photo(tmp_path):
    starts = tmp_path / "starts"
    *argv, body = hostile_worker(20)
    mortal = f"import os, pathlib; starts = pathlib.Path({str(starts)!r}); starts.open('a').write('x')"
    second = "os.kill(os.getpid(), 9) if starts.read_text() == 'xx' else None"
    async with pool(run=[*argv, "\n".join((mortal, second, body))]) as decoders:
        (before,) = decoders.pids
        os.kill(before, signal.SIGKILL)
        assert (await decode(decoders, jpeg())).width == 90
        assert starts.read_text() == "xxx"


@on_a_loop
async def test_closing_ends_a_worker_that_has_begun_to_start(monkeypatch):
    decoders, started = Decoders(SIZE, Limits(), workers=1), []

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))
        decoders._workers[0].retire()  # as another thread may, which knows nothing of this process yet
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(Closed):
        await decoders.start()
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    await decoders.close()


@on_a_loop
async def test_a_worker_that_answers_nonsense_is_replaced():
    """Somebody may have found a way to run code in it: what it says is checked."""
    body = (
        "import socket, struct; s = socket.socket(fileno=0); h = struct.Struct('<BIIQ'); s.sendall(h.pack(0, 0, 0, 0))"
    )
    answer = "s.recv(9); s.sendall(h.pack(1, 9, 9, 1 << 60)); s.recv(1 << 20)"
    async with pool(run=[sys.executable, "-c", f"{body}; {answer}"]) as decoders:
        with pytest.raises(Rejected) as caught:
            await decode(decoders, b"x")
        assert caught.value.reason is Reason.CRASHED


def test_a_worker_has_neither_torch_nor_secrets(monkeypatch):
    """Its environment and its modules are looked at from outside, while it waits for photos."""
    monkeypatch.setenv("MILVUS_TOKEN", "secret")

    @on_a_loop
    async def test() -> None:
        async with pool() as decoders:
            process = psutil.Process(decoders.pids[0])
            await decode(decoders, jpeg())
            assert "MILVUS_TOKEN" not in process.environ()
            libraries = {Path(mapped.path).name for mapped in process.memory_maps()}
            assert any(name.startswith("_imaging") for name in libraries)
            assert not [name for name in libraries if "torch" in name or "openvino" in name]

    test()


@on_a_loop
async def test_a_worker_ends_when_its_server_does():
    """The server's end of the socket closes with it, whatever ended it."""
    async with pool() as decoders:
        (pid,) = decoders.pids
        decoders._workers[0]._peer.close()
        await asyncio.to_thread(decoders._workers[0].process.wait, 20)
        assert not psutil.pid_exists(pid)


def test_the_command_says_what_it_runs():
    *_, body = command(224, Limits(10, 20), 1.5)
    assert body.endswith("from encoders.serving.decode_worker import main; main(0, 224, 10, 20, 1.5)")
