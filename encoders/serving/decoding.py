"""Decodes untrusted photos in processes of their own: one that crashes, hangs or swells takes its worker along only.

A worker is asked by a thread that waits for it, over a socket pair: 60 KB of JPEG there and 320 x 320 pixels back take
0.07 ms, where decoding takes 6, so there is nothing for shared memory to gain. A worker that is killed is replaced, and
its photo tried once more, as it may have been killed by another's fault; one that takes too long is replaced, too, and
its photo given up. Workers know no secrets: their environment is cut down, and nothing of the server is imported in
them, torch least of all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np

from encoders.images import Limits, Photo
from encoders.serving.batching import Batcher
from encoders.serving.decode_worker import DECODED, HEAD, LENGTH, READY, SENTENCE, TOO_LARGE, receive
from encoders.serving.faults import Closed, Reason, Rejected
from encoders.serving.lanes import Lane
from encoders.serving.observer import Observer

SECONDS = 20.0  # for one photo; the largest that the limits allow takes a few
GRACE = 5.0  # on top, for a worker whose own alarm does not end it
START_SECONDS = 60.0  # for a worker to be ready, on a machine that starts many things at once
END_SECONDS = 1.0  # for a worker to end by itself
TOO_SLOW = f"signal {signal.SIGALRM.name}"
KEPT = (
    "PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "HOME",
    "TMPDIR",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)


def command(size: int, limits: Limits, seconds: float) -> list[str]:
    """What a worker runs."""
    return _python("decode_worker", 0, size, limits.max_bytes, limits.max_pixels, seconds)


def jpeg_command(size: int, limits: Limits, seconds: float, device: str) -> list[str]:
    """What a worker runs that leaves JPEGs to a GPU."""
    return _python("decode_worker_jpeg", 0, size, limits.max_bytes, limits.max_pixels, seconds, device)


def _python(module: str, *arguments: Any) -> list[str]:
    """A bare interpreter that finds modules where this one does, and imports nothing but the worker's."""
    find = f"import sys; sys.path[:] = {sys.path!r}"
    return [sys.executable, "-c", f"{find}; from encoders.serving.{module} import main; main{arguments!r}"]


class Decoders:
    """A pool of decode workers behind the two lanes.

    Args:
        size: Side of the square that photos are stretched to.
        limits: Ceilings on one photo.
        workers: How many; None for one a core.
        seconds: For one photo.
        run: What a worker runs, with its socket as standard input; by default `command`.
        observe: Hears how long photos wait and take.
    """

    def __init__(
        self,
        size: int,
        limits: Limits,
        *,
        workers: int | None = None,
        seconds: float = SECONDS,
        run: Sequence[str] | None = None,
        observe: Observer | None = None,
    ) -> None:
        argv = command(size, limits, seconds) if run is None else list(run)
        count = workers if workers is not None else os.cpu_count() or 1
        self._workers = [_Worker(argv, size, seconds) for _ in range(count)]
        self._stage = Batcher("decode", self._workers, observe=observe)

    @property
    def dead(self) -> BaseException | None:
        """What ended the stage, if something did."""
        return self._stage.dead

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def pace(self, lane: Lane) -> float:
        """Seconds a photo, with all workers busy."""
        return self._stage.pace(lane)

    async def start(self) -> None:
        """Starts the workers and waits until they are ready.

        Raises:
            RuntimeError: One does not start.
        """
        self._stage.start()
        await asyncio.gather(*(asyncio.to_thread(worker.start) for worker in self._workers))

    async def decode(self, content: bytes, *, lane: Lane, deadline: float | None = None) -> Photo:
        """One photo, stretched.

        Raises:
            Rejected: It is damaged, passes a limit, crashes its worker twice, or takes too long.
            TimeoutError: The deadline passed; if it had come before a worker was free, nothing was decoded.
            Closed: The pool is closed.
        """
        photo: Photo = await self._stage.submit("decode", content, lane=lane, deadline=deadline)
        return photo

    async def close(self) -> None:
        """Ends the workers, also in the middle of a photo, and fails what waits."""
        for worker in self._workers:
            worker.retire()
        await self._stage.close()
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in self._workers))


class _Worker:
    """One process, and the thread's end of its socket."""

    def __init__(self, argv: Sequence[str], size: int, seconds: float) -> None:
        self._argv, self._size, self._seconds = argv, size, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self._peer: socket.socket | None = None
        self._retired = False

    def __call__(self, key: Any, contents: list[bytes]) -> list[Photo | Rejected]:
        return [self._decode(content) for content in contents]

    def start(self) -> None:
        """Starts the process, unless it runs; once more if it ends meanwhile, as it may have been killed.

        Raises:
            Closed: It is not to run any more.
            RuntimeError: It ends twice, or is not ready in `START_SECONDS`.
        """
        ended = ""
        for _ in range(2):
            if self._retired:
                raise Closed("the decode stage is closed")
            if self.process is not None or not (ended := self._launch()):
                return
        raise RuntimeError(f"a decode worker does not start ({ended}); run: {self._argv}")

    def _launch(self) -> str:
        """A new process that is ready; how it ended, if it is not."""
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            process = subprocess.Popen(
                self._argv,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries write there what hostile files tell them to
                start_new_session=True,  # Ctrl-C is for the server, which drains
                env={name: os.environ[name] for name in KEPT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
            )
            undo.pop_all()
        self.process, self._peer = process, ours
        if self._retired:  # meanwhile, by a thread that has not seen this process
            process.kill()
        try:
            ours.settimeout(START_SECONDS)
            (kind, *_) = HEAD.unpack(receive(ours, HEAD.size))
            if kind != READY:
                raise OSError("it does not say that it is ready")
        except (EOFError, OSError):
            return self.stop()
        ours.settimeout(self._seconds + GRACE)
        return ""

    def retire(self) -> None:
        """Ends the process for good; a thread that waits for it hears so. Safe to call from another thread."""
        self._retired = True
        process = self.process
        if process is not None:
            process.kill()

    def stop(self) -> str:
        """Ends the process, if it has not ended; how it did, in words."""
        process, peer = self.process, self._peer
        self.process = self._peer = None
        if process is None or peer is None:
            return "not running"
        peer.close()  # one that works comes to its end of the socket, and ends
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _decode(self, content: bytes) -> Photo | Rejected:
        """Once more if the worker ends: it may not have been this photo."""
        for _ in range(2):
            self.start()
            try:
                return self._ask(content)
            except TimeoutError:
                self.stop()
                ended = TOO_SLOW
            except (EOFError, OSError):
                ended = self.stop()
            if ended == TOO_SLOW:
                return Rejected(Reason.CRASHED, f"decoding took longer than {self._seconds:g} s; leave the photo out")
        return Rejected(Reason.CRASHED, f"decoding brought down its process twice ({ended}); leave the photo out")

    def _ask(self, content: bytes) -> Photo | Rejected:
        peer = self._peer
        assert peer is not None
        peer.sendall(LENGTH.pack(len(content)))
        peer.sendall(content)
        kind, width, height, length = HEAD.unpack(receive(peer, HEAD.size))
        shape = (self._size, self._size, 3)
        if length != prod(shape) if kind == DECODED else length > SENTENCE:
            raise OSError("it does not answer as it should: it is no worker of ours any more")
        answer = receive(peer, length)
        if kind == DECODED:
            return Photo(np.frombuffer(answer, np.uint8).reshape(shape), width, height)
        return Rejected(Reason.TOO_LARGE if kind == TOO_LARGE else Reason.INVALID, answer.decode(errors="replace"))
