"""The servicer: messages to the engine's calls, rows to messages. What it raises, `gate` turns into statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from encoders.errors import SketchError
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.completion import Window, completed
from encoders.serving.encoder_pb2_grpc import EncoderServicer
from encoders.serving.engine import Row
from encoders.serving.faults import Busy, Closed, Reason, Rejected
from encoders.serving.gate import current
from encoders.serving.lanes import Lane
from encoders.serving.limits import CallLimits, InvalidRequest, RateLimit
from encoders.serving.models import Model, Models
from encoders.serving.statuses import internal
from encoders.serving.wire import WireError
from encoders.sketch import Sketch

__all__ = ["EncoderService"]

LARGE = 1 << 16  # bytes of a sketch that is read on another thread: here it would hold up everybody
_LANES = {pb.LANE_INTERACTIVE: Lane.INTERACTIVE, pb.LANE_BULK: Lane.BULK}
_OUTPUTS = (pb.OUTPUT_UNSPECIFIED, pb.OUTPUT_VECTOR, pb.OUTPUT_FEATURES)

M = TypeVar("M")


@dataclass(frozen=True)
class _Way:
    """How the items of one call are encoded."""

    model: Model
    lane: Lane
    precision: int
    features: bool
    words: bool
    deadline: float | None
    patient: bool  # wait for room where others are told that it is full


class EncoderService(EncoderServicer):
    """Answers `compsketch.v1.Encoder`, behind a `Gate`.

    Args:
        models: what is served.
        limits: what a call may bring.
        rate: how many rows a second a client may ask for; None for any number.
        draining: once it is set, streams read nothing more.
    """

    def __init__(self, models: Models, limits: CallLimits, rate: RateLimit | None, draining: asyncio.Event) -> None:
        self._models, self._limits, self._rate, self._draining = models, limits, rate, draining

    async def GetModels(self, request: pb.GetModelsRequest, context: Any) -> pb.GetModelsResponse:
        """What is served here."""
        return pb.GetModelsResponse(models=[model.message() for model in self._models], limits=self._limits.message())

    async def EncodeImages(self, request: pb.EncodeImagesRequest, context: Any) -> pb.EncodeImagesResponse:
        """A few photos."""
        way = self._way(request.options, context, Lane.INTERACTIVE)
        self._charge("photos", len(request.images))
        vectors = await _together(self._image(way, image) for image in request.images)
        return pb.EncodeImagesResponse(fingerprint=way.model.fingerprint, vectors=vectors)

    async def EncodeSketches(self, request: pb.EncodeSketchesRequest, context: Any) -> pb.EncodeSketchesResponse:
        """A few sketches."""
        way = self._way(request.options, context, Lane.INTERACTIVE)
        self._charge("sketches", len(request.sketches))
        vectors = await _together(self._sketch(way, sketch) for sketch in request.sketches)
        return pb.EncodeSketchesResponse(fingerprint=way.model.fingerprint, vectors=vectors)

    async def StreamImages(
        self, requests: AsyncIterator[pb.StreamImagesRequest], context: Any
    ) -> AsyncIterator[pb.StreamImagesResponse]:
        """Any number of photos."""

        async def one(way: _Way, item: pb.KeyedImage) -> pb.Vector:
            return await self._image(way, item.image)

        async with aclosing(self._stream(requests, context, lambda request: request.images, one)) as answers:
            async for fingerprint, vectors in answers:
                yield pb.StreamImagesResponse(fingerprint=fingerprint, vectors=vectors)

    async def StreamSketches(
        self, requests: AsyncIterator[pb.StreamSketchesRequest], context: Any
    ) -> AsyncIterator[pb.StreamSketchesResponse]:
        """Any number of sketches."""

        async def one(way: _Way, item: pb.KeyedSketch) -> pb.Vector:
            return await self._sketch(way, item.sketch)

        async with aclosing(self._stream(requests, context, lambda request: request.sketches, one)) as answers:
            async for fingerprint, vectors in answers:
                yield pb.StreamSketchesResponse(fingerprint=fingerprint, vectors=vectors)

    async def Project(self, request: pb.ProjectRequest, context: Any) -> pb.ProjectResponse:
        """Features to vectors."""
        model = self._models.choose(request.model)
        if not model.features or not hasattr(model.engine.encoder, "project"):
            raise InvalidRequest(f"the model {model.name} has no projection apart from its networks")
        features = wire.unpack(request.features, model.features, request.precision)
        self._charge("rows", len(features))
        vectors = await model.engine.project(features, deadline=_deadline(context))
        current.get().rows += len(vectors)
        return pb.ProjectResponse(fingerprint=model.fingerprint, vectors=wire.pack(vectors))

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """What each object of a sketch adds to the scores of photos."""
        model = self._models.choose(request.model)
        if not model.explains:
            raise InvalidRequest(f"the model {model.name} cannot explain its scores")
        vectors = wire.unpack(request.vectors, model.engine.encoder.dim)
        self._charge("vectors", len(vectors))
        sketch = await _read(request.sketch)
        parts = await model.engine.explain(sketch, vectors, words=request.words, deadline=_deadline(context))
        current.get().rows += len(parts)
        explanations = [wire.explanation_message(one) for one in parts]
        return pb.ExplainResponse(fingerprint=model.fingerprint, explanations=explanations)

    # --- what calls have in common ---

    def _way(self, options: pb.Options, context: Any, lane: Lane, *, patient: bool = False) -> _Way:
        model = self._models.choose(options.model)
        if options.lane and options.lane not in _LANES:
            raise InvalidRequest(f"lane {options.lane} is unknown; choose LANE_INTERACTIVE or LANE_BULK")
        if options.output not in _OUTPUTS:
            raise InvalidRequest(f"output {options.output} is unknown; choose OUTPUT_VECTOR or OUTPUT_FEATURES")
        features = options.output == pb.OUTPUT_FEATURES
        if features and not model.features:
            raise InvalidRequest(f"the model {model.name} gives no features; ask for OUTPUT_VECTOR")
        wire.pack(_NOTHING, options.precision)  # refuses an unknown precision before any work
        lane = _LANES.get(options.lane, lane)
        return _Way(model, lane, options.precision, features, options.words, _deadline(context), patient)

    def _charge(self, what: str, rows: int) -> None:
        self._limits.check_items(what, rows)
        if self._rate is not None:
            self._rate.take(current.get().client, rows)

    async def _image(self, way: _Way, message: pb.Image) -> pb.Vector:
        async def row() -> Row:
            engine = way.model.engine
            content = wire.image_content(message, engine.encoder.image_size)
            return await engine.image(
                content, lane=way.lane, features=way.features, deadline=way.deadline, patient=way.patient
            )

        return await _answered(way, row())

    async def _sketch(self, way: _Way, message: pb.Sketch) -> pb.Vector:
        async def row() -> Row:
            return await way.model.engine.sketch(
                await _read(message), words=way.words, lane=way.lane, deadline=way.deadline, patient=way.patient
            )

        return await _answered(way, row())

    async def _stream(
        self,
        requests: AsyncIterator[Any],
        context: Any,
        items: Callable[[Any], Iterable[M]],
        one: Callable[[_Way, M], Awaitable[pb.Vector]],
    ) -> AsyncGenerator[tuple[str, list[pb.KeyedVector]], None]:
        first = await anext(requests, None)
        if first is None:
            return
        way = self._way(first.options, context, Lane.BULK, patient=True)

        async def keyed(item: Any) -> pb.KeyedVector:
            return pb.KeyedVector(key=item.key, vector=await one(way, item))

        window = Window(self._limits.window, self._limits.message_bytes)
        everything = self._items(first, requests, items)
        async with aclosing(completed(everything, keyed, window, self._draining)) as answers:
            async for vectors in answers:
                yield way.model.fingerprint, vectors

    async def _items(
        self, first: Any, requests: AsyncIterator[Any], items: Callable[[Any], Any]
    ) -> AsyncGenerator[Any, None]:
        """The items of all messages; a client that asks for too many a second is held up."""
        request = first
        while request is not None:
            if request is not first and request.HasField("options"):
                raise InvalidRequest("options belong to the first message of a stream alone")
            self._limits.check_items("items", len(items(request)))
            if self._rate is not None:
                await asyncio.sleep(self._rate.borrow(current.get().client, len(items(request))))
            for item in items(request):
                yield item
            request = await anext(requests, None)


_NOTHING = wire.unpack(b"", 1)


async def _read(message: pb.Sketch) -> Sketch:
    return await asyncio.to_thread(wire.sketch, message) if message.ByteSize() > LARGE else wire.sketch(message)


async def _answered(way: _Way, work: Awaitable[Row]) -> pb.Vector:
    """One item's vector, or its fault. What ends the whole call is raised: a full lane of a call, a deadline."""
    try:
        row = await work
    except Rejected as error:
        return _fault(error.reason, error.message)
    except (WireError, SketchError) as error:
        way.model.observe.rejected(Reason.INVALID, way.lane)
        return _fault(Reason.INVALID, str(error))
    except (Busy, Closed) as error:
        if not way.patient:
            raise
        return _fault(Reason.BUSY, str(error))
    except (TimeoutError, asyncio.TimeoutError):
        raise
    except Exception as error:
        return _fault(Reason.INTERNAL, internal(error))
    current.get().rows += 1
    return pb.Vector(values=wire.pack(row.values, way.precision), width=row.width, height=row.height)


def _fault(reason: Reason, message: str) -> pb.Vector:
    return pb.Vector(fault=pb.Fault(reason=f"REASON_{reason.name}", message=" ".join(message.split())))


async def _together(work: Iterable[Awaitable[pb.Vector]]) -> list[pb.Vector]:
    """All of them, in order; when one ends the call, the others are given up."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _deadline(context: Any) -> float | None:
    """When the client stops waiting, as `time.monotonic` counts."""
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left
