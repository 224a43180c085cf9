"""A real server on a free port, with toy encoders, and what to ask it."""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.server import ServeOptions, Server
from encoders.sketch import Sketch, SketchObject

CORNER = Sketch(100, 100, (SketchObject((np.array([[0.0, 40.0], [0.0, 40.0]]),), "cat"),))


@asynccontextmanager
async def served(*encoders: Any, **options: Any) -> AsyncIterator[Server]:
    """A server that is up, closed at the end."""
    server = Server(encoders, ServeOptions(**{"port": 0, "metrics_port": 0, "decode_workers": 1} | options))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def asked(*encoders: Any, **options: Any) -> AsyncIterator[EncoderStub]:
    """A stub of a server that is up."""
    async with served(*encoders, **options) as server, channel(server) as open_channel:
        yield EncoderStub(open_channel)


@asynccontextmanager
async def channel(server: Server, **options: int) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of its own connection."""
    known = {"grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": -1} | options
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=list(known.items())) as opened:
        yield opened


def photo(dark: int = 0, size: tuple[int, int] = (40, 20), form: str = "PNG") -> bytes:
    """A file: white, with the n-th quarter from the left dark."""
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    pixels[:, dark * size[0] // 4 : (dark + 1) * size[0] // 4] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def images(*files: bytes, **options: Any) -> pb.EncodeImagesRequest:
    return pb.EncodeImagesRequest(options=pb.Options(**options), images=[pb.Image(encoded=file) for file in files])


def sketches(*drawn: Sketch, **options: Any) -> pb.EncodeSketchesRequest:
    return pb.EncodeSketchesRequest(options=pb.Options(**options), sketches=[wire.sketch_message(one) for one in drawn])


def keyed(*files: bytes, start: int = 0, **options: Any) -> pb.StreamImagesRequest:
    """One message of a stream."""
    items = [pb.KeyedImage(key=key, image=pb.Image(encoded=file)) for key, file in enumerate(files, start)]
    return pb.StreamImagesRequest(options=pb.Options(**options) if options else None, images=items)


def rows(vectors: Any, dim: int = 16) -> np.ndarray:
    """The vectors of an answer."""
    return np.concatenate([wire.unpack(vector.values, dim) for vector in vectors])


def faults(vectors: Any) -> list[str]:
    """Name of the fault of each, empty for none."""
    return [pb.Fault.Reason.Name(one.fault.reason) if one.HasField("fault") else "" for one in vectors]


async def answers(call: Any) -> dict[int, pb.Vector]:
    """All that a stream answers, each key once."""
    found: dict[int, pb.Vector] = {}
    async for message in call:
        for one in message.vectors:
            assert one.key not in found
            found[one.key] = one.vector
    return found


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


class Held:
    """An encoder that works for somebody else once it is closed; `open` lets it go on.

    Attributes:
        begun: Set when it was asked while closed.
        encoded: Rows of photos it was asked for since.
    """

    most = 20.0

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._free, self.begun, self.encoded = encoder, threading.Event(), threading.Event(), 0
        self._free.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_images(self, images: Any) -> np.ndarray:
        self._wait()
        self.encoded += len(images)
        return self._encoder.encode_images(images)

    def close(self) -> None:
        self.begun.clear()
        self.encoded = 0
        self._free.clear()

    def open(self) -> None:
        self._free.set()

    def _wait(self) -> None:
        if not self._free.is_set():
            self.begun.set()
            if not self._free.wait(self.most):
                raise RuntimeError("the test never let the encoder go on")
