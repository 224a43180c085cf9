"""One model as a service's engine: photos and sketches in, rows out, through bounded stages that overlap.

    admit    event loop          bounds on what is under way, a lane each (lanes.Admission); size limits
    decode   W processes         bytes -> (image_size, image_size, 3) uint8 (decoding.Decoders)
    forward  1 thread            batches of one kind -> rows (batching.Batcher); no other thread runs the networks
    reply    event loop          each row as soon as its batch is done

Whatever happens, each caller gets its row, its own error, or `Closed`. Memory is bounded, a lane, by `QUEUE_BYTES` and
one photo of what came in, and by `queue` x 3 image_size^2 bytes of pixels.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from encoders.errors import CompsketchError
from encoders.images import Limits
from encoders.serving.batching import Batcher
from encoders.serving.decoding import SECONDS, Decoders, jpeg_command
from encoders.serving.faults import Busy, Closed, Reason, Rejected
from encoders.serving.lanes import Admission, Lane
from encoders.serving.observer import NoObserver, Observer
from encoders.sketch import Sketch, SketchObject

if TYPE_CHECKING:
    from encoders.explain import Explanation

__all__ = ["Busy", "Closed", "Engine", "Lane", "Reason", "Rejected", "Row"]

QUEUE_BYTES = 256 * 1024 * 1024
NVJPEG_WORKERS = 2  # each takes some hundred megabytes of the GPU
CHECK_SECONDS = 30.0  # between two checks of a healthy engine
CHECK_LIMIT = 30.0  # seconds that a check may take
SUSPECT_SECONDS = 1.0  # between two checks of one that failed

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Row:
    """What one photo or sketch is answered with.

    Attributes:
        values: (d,) float32 of unit length, or (F,) float32 features.
        width: Of a photo that came encoded, in pixels, upright; 0 otherwise.
        height: Likewise.
    """

    values: np.ndarray
    width: int = 0
    height: int = 0


class Engine:
    """Serves one encoder to many callers on one event loop.

    Args:
        encoder: Has the members of `compsketch_milvus.encoder.Encoder`, and those of Projecting and Explaining if
            `project` and `explain` are called. Its methods are called on one thread, one at a time.
        limits: Ceilings on one photo, checked before it is decoded.
        batch: Rows the networks take at a time, at most.
        wait: Seconds that a bulk batch waits to be filled.
        queue: Rows under way in each lane, at most.
        workers: Processes that decode; None for one a core, or for `NVJPEG_WORKERS`.
        nvjpeg: Have JPEGs decoded by the encoder's GPU, see `decode_worker_jpeg`: for machines of few cores.
        observe: Hears what the engine does.

    Raises:
        CompsketchError: There is no GPU for nvJPEG.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        limits: Limits | None = None,
        batch: int = 32,
        wait: float = 0.003,
        queue: int = 1024,
        workers: int | None = None,
        nvjpeg: bool = False,
        observe: Observer | None = None,
    ) -> None:
        self.encoder, self.limits = encoder, limits or Limits()
        self._batch, self._observe = batch, observe or NoObserver()
        run = None
        if nvjpeg:
            if not encoder.device.startswith("cuda"):
                raise CompsketchError(
                    f"nvJPEG needs a GPU, and the encoder runs on {encoder.device}; decode without it"
                )
            run = jpeg_command(encoder.image_size, self.limits, SECONDS, encoder.device)
            workers = workers or NVJPEG_WORKERS
        self._decoders = Decoders(encoder.image_size, self.limits, workers=workers, run=run, observe=self._observe)
        self._forward = Batcher("forward", [self._run], batch=batch, wait=wait, observe=self._observe)
        self._admission = Admission(queue, QUEUE_BYTES, self._pace)
        self._checked = False
        self._answered = 0
        self._suspect = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._drawings = count(1)

    # --- life ---

    @property
    def healthy(self) -> bool:
        """Whether the last check encoded a photo and a sketch, and all stages are alive."""
        return self._checked and self._forward.dead is None and self._decoders.dead is None

    @property
    def decoder_pids(self) -> list[int]:
        """Process ids of the decode workers that run now."""
        return self._decoders.pids

    async def start(self) -> None:
        """Starts the stages and encodes photos and sketches in batches of the usual sizes.

        Raises:
            Exception: What failed; nothing is left running.
        """
        try:
            await self._decoders.start()
            self._forward.start()
            for rows in self._usual_sizes():
                await self._forward.submit(("warm", False), rows, lane=Lane.INTERACTIVE, rows=2 * rows)
            await self._check()
        except BaseException:
            await self.close()
            raise
        self._watch = asyncio.create_task(self._watching())

    async def close(self) -> None:
        """Ends the stages; whoever still waits gets `Closed`. Safe to call twice."""
        self._admission.close()
        self._checked = False
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await self._decoders.close()
        await self._forward.close()

    # --- what callers ask for ---

    def depth(self, lane: Lane) -> int:
        """Rows of a lane that are under way, from their admission to their answer."""
        return self._admission.depth(lane)

    async def image(
        self,
        content: bytes | np.ndarray,
        *,
        lane: Lane,
        features: bool = False,
        deadline: float | None = None,
        patient: bool = False,
    ) -> Row:
        """One photo to its row.

        Args:
            content: A file's bytes, or decoded pixels, (image_size, image_size, 3) uint8 RGB.
            lane: Which queue.
            features: Answer with the features of eq. 4 in place of the vector.
            deadline: When the answer is of no use any more, as `time.monotonic` counts; no stage begins after it.
            patient: Wait for room where others get `Busy`: for streams, which hold their sender up meanwhile.

        Raises:
            Rejected: The photo is damaged, too large, or brings down what decodes it.
            Busy: The lane is full, or so full that the answer would hardly come in time.
            TimeoutError: The deadline passed.
            Closed: The engine is closed, or one of its stages has died.
        """
        kind = "features" if features else "photo"
        async with self._admitted(kind, lane, size=len(content), deadline=deadline, patient=patient):
            self._inspect(content)
            return await self._photo(kind, content, lane, deadline)

    async def sketch(
        self, sketch: Sketch, *, words: bool, lane: Lane, deadline: float | None = None, patient: bool = False
    ) -> Row:
        """One sketch to its row; arguments and errors as those of `image`, `words` as the encoder has it."""
        async with self._admitted("sketch", lane, size=_size(sketch), deadline=deadline, patient=patient):
            await self._try_cutouts(sketch, lane, deadline)
            return Row(await self._forward.submit(("sketch", words), sketch, lane=lane, deadline=deadline))

    async def project(self, features: np.ndarray, *, deadline: float | None = None) -> np.ndarray:
        """Features (B, F) to vectors (B, d) float32, in the interactive lane; errors as of `image`."""
        lane, rows = Lane.INTERACTIVE, max(1, len(features))
        async with self._admitted("project", lane, rows=rows, size=features.nbytes, deadline=deadline):
            vectors: np.ndarray = await self._forward.submit(
                ("project", False), features, lane=lane, rows=rows, deadline=deadline
            )
            return vectors

    async def explain(
        self, sketch: Sketch, vectors: np.ndarray, *, words: bool, deadline: float | None = None
    ) -> list[Explanation]:
        """What adds to the scores of photos with vectors (k, d), in the interactive lane; errors as of `image`."""
        lane = Lane.INTERACTIVE
        async with self._admitted("explain", lane, size=vectors.nbytes + _size(sketch), deadline=deadline):
            await self._try_cutouts(sketch, lane, deadline)
            parts: list[Explanation] = await self._forward.submit(
                ("explain", words), (sketch, vectors), lane=lane, deadline=deadline
            )
            return parts

    # --- stages ---

    @asynccontextmanager
    async def _admitted(self, kind: str, lane: Lane, *, rows: int = 1, **place: Any) -> AsyncIterator[None]:
        """A place in a lane, as `Admission.enter` gives it, and the observer told what became of it."""
        observe = self._observe
        try:
            async with self._admission.enter(lane, rows=rows, **place):
                observe.depth(lane, self.depth(lane))
                yield
            observe.rows(kind, lane, rows)
            self._answered += 1
        except Rejected as rejected:
            observe.rejected(rejected.reason, lane)
            raise
        except Busy:
            observe.rejected(Reason.BUSY, lane)
            raise
        except TimeoutError:
            observe.expired(lane)
            raise
        except Closed:
            raise
        except Exception:
            observe.rejected(Reason.INTERNAL, lane)
            self._suspect.set()  # this item's fault or ours: a check will tell
            raise
        finally:
            observe.depth(lane, self.depth(lane))

    def _inspect(self, content: bytes | np.ndarray) -> None:
        """Refuses what is not worth decoding."""
        size, most = self.encoder.image_size, self.limits.max_bytes
        if isinstance(content, np.ndarray):
            if content.shape != (size, size, 3) or content.dtype != np.uint8:
                raise Rejected(
                    Reason.INVALID,
                    f"expected ({size}, {size}, 3) uint8 pixels, found {content.shape} {content.dtype}",
                )
        elif len(content) > most:
            raise Rejected(
                Reason.TOO_LARGE, f"{len(content)} bytes, over this server's limit of {most}; save the photo smaller"
            )

    async def _photo(self, kind: str, content: bytes | np.ndarray, lane: Lane, deadline: float | None) -> Row:
        if isinstance(content, np.ndarray):
            return Row(await self._forward.submit((kind, False), content, lane=lane, deadline=deadline))
        photo = await self._decoders.decode(content, lane=lane, deadline=deadline)
        values = await self._forward.submit((kind, False), photo.pixels, lane=lane, deadline=deadline)
        return Row(values, photo.width, photo.height)

    async def _try_cutouts(self, sketch: Sketch, lane: Lane, deadline: float | None) -> None:
        """Decodes the photos that objects are cut out of, for nothing but to see that it brings nothing down."""
        for item in sketch.objects:
            if item.photo is not None:
                await self._decoders.decode(item.photo, lane=lane, deadline=deadline)

    def _pace(self, lane: Lane) -> float:
        return max(self._forward.pace(lane), self._decoders.pace(lane))

    def _run(self, key: tuple[str, bool], payloads: list[Any]) -> Sequence[Any]:
        """The forward thread's work: a row, or an exception, for each payload; one that fails does so alone."""
        try:
            return self._encode(*key, payloads)
        except Exception as error:
            if len(payloads) > 1:
                return [result for payload in payloads for result in self._run(key, [payload])]
            return [Rejected(Reason.INVALID, str(error)) if isinstance(error, CompsketchError) else error]

    def _encode(self, kind: str, words: bool, payloads: list[Any]) -> Sequence[Any]:
        encoder = self.encoder
        if kind == "photo":
            return list(encoder.encode_images(payloads))
        if kind == "features":
            return list(encoder.embed_images(payloads))
        if kind == "sketch":
            return list(encoder.encode_sketches(payloads, words=words))
        if kind == "project":
            return [encoder.project(features) for features in payloads]
        if kind == "warm":
            return [self._warm(rows) for rows in payloads]
        return [encoder.explain(sketch, vectors, words=words) for sketch, vectors in payloads]

    # --- checks ---

    async def _watching(self) -> None:
        """Checks now and then, at once after a failure that was no item's fault, and each second until it is well."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._suspect.wait(), CHECK_SECONDS)
            self._suspect.clear()
            answered = self._answered
            try:
                await asyncio.wait_for(self._check(), CHECK_LIMIT)
            except Exception as error:
                if isinstance(error, asyncio.TimeoutError) and self._answered > answered:
                    continue  # it waited behind others, who get their answers
                log.error("the encoder %s fails its check: %r", self.encoder.name, error)
                self._checked = False
                await asyncio.sleep(SUSPECT_SECONDS)
                self._suspect.set()

    async def _check(self) -> None:
        """Decodes and encodes a photo, encodes a sketch, and looks at what comes."""
        lane = Lane.INTERACTIVE
        photo = self._photo("photo", self._picture(), lane, None)
        row, drawn = await asyncio.gather(photo, self._forward.submit(("sketch", False), self._drawing(), lane=lane))
        for values in (row.values, drawn):
            if values.shape != (self.encoder.dim,) or not np.isfinite(values).all():
                raise RuntimeError(f"expected {self.encoder.dim} finite numbers, found {values!r:.200}")
        self._checked = True

    def _usual_sizes(self) -> list[int]:
        """A GPU has a graph for each power of two, see `encoders.graphs`; a CPU takes memory with the largest batch."""
        if self.encoder.device.startswith("cuda"):
            return [2**power for power in range((self._batch - 1).bit_length() + 1)]
        return sorted({1, self._batch})

    def _warm(self, rows: int) -> int:
        """On the forward thread: so many photos, and so many sketches."""
        size = self.encoder.image_size
        self.encoder.encode_images([np.zeros((size, size, 3), np.uint8)] * rows)
        return len(self.encoder.encode_sketches([self._drawing() for _ in range(rows)]))

    @staticmethod
    def _picture() -> bytes:
        file = io.BytesIO()
        Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(file, "JPEG")
        return file.getvalue()

    def _drawing(self) -> Sketch:
        """Another one each time: encoders remember what was drawn."""
        angles = np.linspace(0.0, 6.0, 40) + next(self._drawings)
        stroke = 50.0 + np.stack([40.0 * np.cos(angles), 30.0 * np.sin(2.0 * angles)])
        label = next(iter(getattr(self.encoder, "vocabulary", ())), None)  # some encoders know words only
        return Sketch(100, 100, (SketchObject((stroke,), label),))


def _size(sketch: Sketch) -> int:
    """Bytes of a sketch's strokes and cut-outs."""
    return sum(sum(stroke.nbytes for stroke in item.strokes) + len(item.photo or b"") for item in sketch.objects)
