"""A small true service over a toy encoder, with faults on request: what the client's tests talk to."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from encoders.errors import CompsketchError, ImageError
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.encoder_pb2_grpc import EncoderServicer, add_EncoderServicer_to_server

Invalid = pb.Fault.REASON_INVALID


def square(value: int = 0) -> np.ndarray:
    """A gray photo of the size that the toy takes, with a stripe that is its own."""
    pixels = np.full((32, 32, 3), 200, np.uint8)
    pixels[:, : 1 + value % 31] = value % 200
    return pixels


class Service(EncoderServicer):
    """Serves one encoder.

    Attributes:
        encoder: what is served; may be exchanged.
        failures: how the next calls fail, as (code, details, trailers); a stream does so before its first answer.
        faults: of photos, by their content: what is answered in place of a vector, once each.
        breaks: streams end so after so many answers, the next ones in turn.
        token: what a caller has to show; None for nothing.
        calls: by method.
        lanes: by method and lane.
        encoded: photos that came as files.
    """

    def __init__(self, encoder: Any, token: str | None = None) -> None:
        self.encoder, self.token = encoder, token
        self.failures: deque[tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]] = deque()
        self.faults: dict[bytes, pb.Fault] = {}
        self.breaks: deque[int] = deque()
        self.calls: Counter[str] = Counter()
        self.lanes: Counter[tuple[str, int]] = Counter()
        self.encoded = 0
        self.limits = pb.Limits(message_bytes=64 << 20, image_bytes=32 << 20, image_pixels=10**8, items=64, window=64)

    def start(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> Callable[[], int]:
        """Listen on this machine; returns what stops it, and gives the port."""
        self.server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        add_EncoderServicer_to_server(self, self.server)
        place = f"127.0.0.1:{port}"
        self.port = (
            self.server.add_secure_port(place, credentials) if credentials else self.server.add_insecure_port(place)
        )
        self.server.start()
        return self.stop

    def stop(self) -> int:
        """Stop at once: calls under way are cut off."""
        self.server.stop(0).wait(5)
        return self.port

    @property
    def address(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    # --- the service ---

    def GetModels(self, request: Any, context: Any) -> Any:
        self._enter("GetModels", context)
        return pb.GetModelsResponse(models=[wire.model_message(self.encoder)], limits=self.limits)

    def EncodeImages(self, request: Any, context: Any) -> Any:
        self._enter("EncodeImages", context, request.options)
        vectors = [self._photo(image, request.options) for image in request.images]
        return pb.EncodeImagesResponse(fingerprint=self.encoder.fingerprint, vectors=vectors)

    def EncodeSketches(self, request: Any, context: Any) -> Any:
        self._enter("EncodeSketches", context, request.options)
        vectors = [self._sketch(one, request.options) for one in request.sketches]
        return pb.EncodeSketchesResponse(fingerprint=self.encoder.fingerprint, vectors=vectors)

    def StreamImages(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        return self._stream("StreamImages", requests, context, "images", "image", self._photo, pb.StreamImagesResponse)

    def StreamSketches(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        return self._stream(
            "StreamSketches", requests, context, "sketches", "sketch", self._sketch, pb.StreamSketchesResponse
        )

    def Project(self, request: Any, context: Any) -> Any:
        self._enter("Project", context)
        features = wire.unpack(request.features, self.encoder.features, request.precision)
        return pb.ProjectResponse(
            fingerprint=self.encoder.fingerprint, vectors=wire.pack(self.encoder.project(features))
        )

    def Explain(self, request: Any, context: Any) -> Any:
        self._enter("Explain", context)
        vectors = wire.unpack(request.vectors, self.encoder.dim)
        explained = self.encoder.explain(wire.sketch(request.sketch), vectors, words=request.words)
        return pb.ExplainResponse(
            fingerprint=self.encoder.fingerprint, explanations=[wire.explanation_message(one) for one in explained]
        )

    def _stream(
        self, name: str, requests: Iterator[Any], context: Any, items: str, item: str, encode: Any, response: Any
    ) -> Iterator[Any]:
        options, answered = None, 0
        breaks = self.breaks.popleft() if self.breaks else None
        for request in requests:
            if options is None:
                options = request.options
                self._enter(name, context, options)
            assert request.options == options or not request.HasField("options")
            vectors = [
                pb.KeyedVector(key=keyed.key, vector=encode(getattr(keyed, item), options))
                for keyed in reversed(getattr(request, items))  # in another order than they came
            ]
            for start in range(0, len(vectors), 1 if breaks is not None else 16):
                if breaks is not None and answered >= breaks:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the server drains")
                answered += 1
                part = vectors[start : start + (1 if breaks is not None else 16)]
                yield response(fingerprint=self.encoder.fingerprint, vectors=part)

    def _enter(self, method: str, context: Any, options: Any = None) -> None:
        self.calls[method] += 1
        if options is not None:
            self.lanes[method, options.lane] += 1
            if options.model != self.encoder.fingerprint:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no model {options.model!r}")
        if self.token is not None and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")
        if self.failures:
            code, details, trailers = self.failures.popleft()
            context.set_trailing_metadata(trailers)
            context.abort(code, details)

    def _photo(self, image: Any, options: Any) -> Any:
        content = wire.image_content(image, self.encoder.image_size)
        if isinstance(content, bytes):
            self.encoded += 1
        key = content if isinstance(content, bytes) else content.tobytes()
        if key in self.faults:
            return pb.Vector(fault=self.faults.pop(key))
        features = options.output == pb.OUTPUT_FEATURES
        try:
            return _row(self.encoder.embed_images([content], project=not features))
        except ImageError as error:
            return pb.Vector(fault=pb.Fault(reason=Invalid, message=str(error)))

    def _sketch(self, message: Any, options: Any) -> Any:
        try:
            return _row(self.encoder.encode_sketches([wire.sketch(message)], words=options.words))
        except CompsketchError as error:
            return pb.Vector(fault=pb.Fault(reason=Invalid, message=str(error)))


def _row(rows: np.ndarray) -> Any:
    return pb.Vector(values=wire.pack(rows[0]))


@contextmanager
def running(encoder: Any) -> Iterator[Service]:
    """A service that listens, and is stopped at the end."""
    service = Service(encoder)
    service.start()
    try:
        yield service
    finally:
        service.stop()
