"""One model behind lanes: each caller gets its row or its own error, and the engine knows how it is."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from encoders.errors import CompsketchError
from encoders.images import Limits, load_photo
from encoders.serving import engine as module
from encoders.serving.engine import Busy, Closed, Engine, Lane, Reason, Rejected
from encoders.serving.observer import NoObserver
from encoders.sketch import Sketch, SketchObject
from tests.encoders.serving.stage import Gate, on_a_loop, until

PIXELS = np.full((32, 32, 3), 200, np.uint8)


def photo(shade: int = 120, width: int = 90, height: int = 60) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, shade, 255 - shade)).save(file, "PNG")
    return file.getvalue()


def drawing(left: float = 10.0, label: str | None = None) -> Sketch:
    stroke = np.array([[left, left + 30.0, left + 10.0], [10.0, 20.0, 60.0]])
    return Sketch(100, 100, (SketchObject((stroke,), label),))


@asynccontextmanager
async def running(encoder: Any, **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(encoder, **{"workers": 1, **options})
    await engine.start()
    try:
        yield engine
    finally:
        if hasattr(encoder, "gate"):
            encoder.gate.open()
        await engine.close()


@pytest.fixture
def held(toy):
    """A toy that waits at a gate with photos, from the moment that `hold` is set."""

    class Held(toy.ToyEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hold, self.gate, self.order = False, Gate(), []

        def encode_images(self, images: Any) -> np.ndarray:
            if self.hold:
                self.order.append(f"{len(images)} photos")
                self.gate("photo", [0])
            return super().encode_images(images)

        def encode_sketches(self, sketches: Any, *, words: bool = False) -> np.ndarray:
            if self.hold:
                self.order.append(f"{len(sketches)} sketches")
            return super().encode_sketches(sketches, words=words)

    return Held()


@on_a_loop
async def test_rows_are_what_the_encoder_gives(toy_encoder):
    async with running(toy_encoder) as engine:
        row = await engine.image(photo(), lane=Lane.INTERACTIVE)
        assert (row.width, row.height) == (90, 60)
        assert np.array_equal(row.values, toy_encoder.encode_images([photo()])[0])
        row = await engine.image(photo(), lane=Lane.BULK, features=True)
        assert np.array_equal(row.values, toy_encoder.embed_images([photo()])[0])
        row = await engine.image(load_photo(photo(), 32).pixels, lane=Lane.BULK)
        assert (row.width, row.height) == (0, 0)
        assert np.array_equal(row.values, toy_encoder.encode_images([photo()])[0])
        row = await engine.sketch(drawing(), words=False, lane=Lane.INTERACTIVE)
        assert np.array_equal(row.values, toy_encoder.encode_sketches([drawing()])[0])
        features = toy_encoder.embed_images([photo(), photo(9)])
        assert np.array_equal(await engine.project(features), toy_encoder.project(features))


@on_a_loop
async def test_each_caller_gets_its_own_row(toy_encoder):
    async with running(toy_encoder, workers=2, batch=8) as engine:
        pixels = np.random.default_rng(0).integers(0, 255, (50, 32, 32, 3), np.uint8)
        before = toy_encoder.batches
        rows = await asyncio.gather(*(engine.image(one, lane=Lane.BULK) for one in pixels))
        assert toy_encoder.batches - before < 50 / 4
        expected = toy_encoder.encode_images(list(pixels))
        assert np.array_equal(np.stack([row.values for row in rows]), expected)


@on_a_loop
async def test_explanations_are_the_encoders(judging_encoder):
    async with running(judging_encoder) as engine:
        vectors = judging_encoder.encode_images([photo(), photo(9)])
        parts = await engine.explain(drawing(), vectors, words=False)
        expected = judging_encoder.explain(drawing(), vectors)
        assert [part.score for part in parts] == [part.score for part in expected]


@pytest.mark.parametrize(("device", "expected"), [("cpu", [1, 8]), ("cuda:0", [1, 2, 4, 8])])
@on_a_loop
async def test_warming_up_encodes_batches_of_the_usual_sizes(toy, device, expected):
    sizes = []

    class Counting(toy.ToyEncoder):
        def encode_images(self, images: Any) -> np.ndarray:
            sizes.append(len(images))
            return super().encode_images(images)

    encoder = Counting()
    encoder.device = device
    async with running(encoder, batch=8) as engine:
        assert engine.healthy
        assert sizes == [*expected, 1]  # and one to look at


@on_a_loop
async def test_an_encoder_that_cannot_encode_does_not_start(toy):
    class Broken(toy.ToyEncoder):
        def encode_sketches(self, sketches: Any, *, words: bool = False) -> np.ndarray:
            raise OSError("no kernel image is available")

    engine = Engine(Broken(), workers=1)
    with pytest.raises(OSError, match="no kernel image"):
        await engine.start()
    assert not engine.healthy
    assert not [child for child in psutil.Process().children() if child.is_running()]


@on_a_loop
async def test_what_is_refused_is_not_decoded_and_not_encoded(toy_encoder):
    async with running(toy_encoder, limits=Limits(max_bytes=5000, max_pixels=10_000)) as engine:
        before = toy_encoder.images
        for content, reason, said in [
            (bytes(5001), Reason.TOO_LARGE, "5001 bytes, over this server's limit of 5000"),
            (photo(width=200), Reason.TOO_LARGE, "200 x 60 pixels, over the limit"),
            (b"no photo", Reason.INVALID, "not a photo in a known format"),
            (PIXELS[1:], Reason.INVALID, r"expected \(32, 32, 3\) uint8 pixels, found \(31, 32, 3\) uint8"),
            (PIXELS.astype(np.float32), Reason.INVALID, "found .* float32"),
        ]:
            with pytest.raises(Rejected, match=said) as caught:
                await engine.image(content, lane=Lane.BULK)
            assert caught.value.reason is reason
        assert toy_encoder.images == before


@on_a_loop
async def test_a_full_queue_refuses_at_once_and_one_who_is_patient_waits(held):
    async with running(held, queue=2, batch=1) as engine:
        held.hold = True
        accepted = [asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK)) for _ in range(2)]
        await held.gate.begun()
        with pytest.raises(Busy) as caught:
            await engine.image(PIXELS, lane=Lane.BULK)
        assert caught.value.retry_after > 0
        assert engine.depth(Lane.BULK) == 2
        patient = asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK, patient=True))
        query = asyncio.create_task(engine.sketch(drawing(), words=False, lane=Lane.INTERACTIVE))
        await asyncio.sleep(0)
        assert engine.depth(Lane.INTERACTIVE) == 1
        held.gate.open()
        await asyncio.gather(*accepted, patient, query)
        assert engine.depth(Lane.BULK) == engine.depth(Lane.INTERACTIVE) == 0


@on_a_loop
async def test_a_query_overtakes_a_bulk_ingest(held):
    async with running(held, batch=4) as engine:
        held.hold = True
        ingest = [asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK)) for _ in range(12)]
        await held.gate.begun()
        query = asyncio.create_task(engine.sketch(drawing(), words=False, lane=Lane.INTERACTIVE))
        await asyncio.sleep(0)
        held.gate.open()
        await asyncio.gather(query, *ingest)
        assert held.order[:2] == ["4 photos", "1 sketches"]


@on_a_loop
async def test_who_has_gone_or_is_too_late_is_not_encoded(held):
    async with running(held, batch=4) as engine:
        with pytest.raises(TimeoutError):
            await engine.image(photo(), lane=Lane.BULK, deadline=monotonic() - 1)
        held.hold = True
        first = asyncio.create_task(engine.image(PIXELS, lane=Lane.INTERACTIVE))
        await held.gate.begun()
        four = [asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK)) for _ in range(4)]
        late = asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK, deadline=monotonic() + 0.01))
        with pytest.raises(TimeoutError):
            await late
        four[2].cancel()
        await asyncio.wait([four[2]])
        before = held.images
        held.gate.open()
        answers = await asyncio.gather(first, *four, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [False] * 3 + [True, False]
        assert held.images - before == 4


class Choosy:
    """Mixed into a toy: takes no sketch of a yeti, and a troll brings it into trouble."""

    def encode_sketches(self, sketches: Any, *, words: bool = False) -> np.ndarray:
        labels = [item.label for sketch in sketches for item in sketch.objects]
        if "yeti" in labels:
            raise CompsketchError("the encoder knows no yeti")
        if "troll" in labels:
            raise ArithmeticError("of trolls")
        return super().encode_sketches(sketches, words=words)  # type: ignore[misc]


@on_a_loop
async def test_a_sketch_that_cannot_be_encoded_fails_alone(toy):
    encoder = type("ChoosyToy", (Choosy, toy.ToyEncoder), {})()
    async with running(encoder) as engine:
        labels = ["dog", "yeti", None, "troll", "cat"]
        work = [engine.sketch(drawing(label=label), words=True, lane=Lane.BULK) for label in labels]
        dog, yeti, plain, troll, cat = await asyncio.gather(*work, return_exceptions=True)
        expected = encoder.encode_sketches([drawing()])[0]
        assert all(np.array_equal(row.values, expected) for row in (dog, plain, cat))
        assert isinstance(yeti, Rejected)
        assert (yeti.reason, yeti.message) == (Reason.INVALID, "the encoder knows no yeti")
        assert isinstance(troll, ArithmeticError)
        await until(lambda: not engine._suspect.is_set())
        assert engine.healthy  # it was looked at, and is well


@on_a_loop
async def test_health_follows_real_encodes(toy, monkeypatch):
    monkeypatch.setattr(module, "SUSPECT_SECONDS", 0.01)

    class Ailing(toy.ToyEncoder):
        wrong: BaseException | float | None = None

        def encode_images(self, images: Any) -> np.ndarray:
            if isinstance(self.wrong, BaseException):
                raise self.wrong
            return super().encode_images(images) * (1.0 if self.wrong is None else self.wrong)

    encoder = Ailing()
    async with running(encoder) as engine:
        for wrong in (RuntimeError("CUDA error"), float("nan")):
            assert engine.healthy
            encoder.wrong = wrong
            if isinstance(wrong, RuntimeError):
                with pytest.raises(RuntimeError, match="CUDA error"):
                    await engine.image(PIXELS, lane=Lane.BULK)
            else:
                engine._suspect.set()  # as the clock would
            await until(lambda: not engine.healthy)
            encoder.wrong = None
            await until(lambda: engine.healthy)
            assert np.isfinite((await engine.image(PIXELS, lane=Lane.BULK)).values).all()


@on_a_loop
async def test_health_falls_when_the_forward_thread_hangs(held, monkeypatch):
    monkeypatch.setattr(module, "CHECK_LIMIT", 0.05)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)
    async with running(held) as engine:
        held.hold = True
        await until(lambda: not engine.healthy)
        held.hold = False
        held.gate.open()
        await until(lambda: engine.healthy)


@on_a_loop
async def test_a_long_queue_is_no_illness(toy, monkeypatch):
    monkeypatch.setattr(module, "CHECK_LIMIT", 0.8)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)

    class Slow(toy.ToyEncoder):
        def encode_sketches(self, sketches: Any, *, words: bool = False) -> np.ndarray:
            threading.Event().wait(0.05)
            return super().encode_sketches(sketches, words=words)

    async with running(Slow(), batch=1) as engine:
        seen = set()
        work = [engine.sketch(drawing(), words=False, lane=Lane.INTERACTIVE) for _ in range(50)]
        for answer in asyncio.as_completed(work):
            await answer
            seen.add(engine.healthy)
        assert seen == {True}


@on_a_loop
async def test_a_forward_thread_that_dies_fails_every_caller_and_health(toy):
    class Fatal(toy.ToyEncoder):
        fatal = False

        def encode_images(self, images: Any) -> np.ndarray:
            if self.fatal:
                raise SystemExit
            return super().encode_images(images)

    encoder = Fatal()
    async with running(encoder, batch=2) as engine:
        encoder.fatal = True
        work = [engine.image(PIXELS, lane=Lane.BULK) for _ in range(5)]
        answers = await asyncio.gather(*work, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["the forward stage has died"] * 5
        assert not engine.healthy
        with pytest.raises(Closed):
            await engine.sketch(drawing(), words=False, lane=Lane.INTERACTIVE)


@on_a_loop
async def test_closing_settles_everybody(held):
    engine = Engine(held, workers=1, batch=2, queue=4)
    await engine.start()
    held.hold = True
    work = [asyncio.create_task(engine.image(PIXELS, lane=Lane.BULK)) for _ in range(4)]
    work += [asyncio.create_task(engine.image(photo(), lane=Lane.BULK, patient=True)) for _ in range(4)]
    await held.gate.begun()
    closing = asyncio.create_task(engine.close())
    await asyncio.wait(work[2:])
    held.gate.open()
    await closing
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert [type(answer) for answer in answers] == [module.Row] * 2 + [Closed] * 6
    assert not engine.healthy
    await engine.close()
    assert "forward" not in [thread.name for thread in threading.enumerate()]


@on_a_loop
async def test_the_observer_hears_of_rows_stages_and_rejects(toy_encoder):
    class Heard(NoObserver):
        def __init__(self) -> None:
            self.answered: list[Any] = []
            self.stages: set[str] = set()
            self.depths: list[int] = []

        def rows(self, kind: str, lane: Lane, count: int) -> None:
            self.answered.append((kind, lane, count))

        def seconds(self, stage: str, lane: Lane, seconds: float) -> None:
            self.stages.add(stage)

        def batch(self, lane: Lane, rows: int) -> None:
            self.answered.append(("batch", lane, rows))

        def depth(self, lane: Lane, rows: int) -> None:
            self.depths.append(rows)

        def rejected(self, reason: Reason, lane: Lane) -> None:
            self.answered.append(reason)

        def expired(self, lane: Lane) -> None:
            self.answered.append("expired")

    heard = Heard()
    async with running(toy_encoder, observe=heard) as engine:
        heard.answered.clear()  # the warm-up's batches
        await engine.image(photo(), lane=Lane.INTERACTIVE)
        with pytest.raises(Rejected):
            await engine.image(b"no photo", lane=Lane.BULK)
        with pytest.raises(TimeoutError):
            await engine.sketch(drawing(), words=False, lane=Lane.BULK, deadline=monotonic() - 1)
        await engine.project(np.ones((3, 16), np.float32))
    assert heard.answered == [
        ("batch", Lane.INTERACTIVE, 1),
        ("photo", Lane.INTERACTIVE, 1),
        Reason.INVALID,
        "expired",
        ("batch", Lane.INTERACTIVE, 3),
        ("project", Lane.INTERACTIVE, 3),
    ]
    assert heard.stages == {"decode_wait", "decode", "forward_wait", "forward"}
    assert set(heard.depths) == {0, 1, 3}


def test_nvjpeg_is_refused_without_a_gpu(toy_encoder):
    with pytest.raises(CompsketchError, match="nvJPEG needs a GPU, and the encoder runs on cpu; decode without it"):
        Engine(toy_encoder, nvjpeg=True)
