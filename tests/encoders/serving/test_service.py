"""The service's calls on a real server: what is asked and what is answered, item by item."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.encoder_pb2_grpc import EncoderStub
from encoders.serving.lanes import Lane
from encoders.serving.limits import CallLimits
from encoders.sketch import Sketch, SketchObject
from tests.encoders.serving.serving import (
    CORNER,
    Held,
    answers,
    asked,
    channel,
    faults,
    images,
    keyed,
    photo,
    refused,
    rows,
    served,
    sketches,
)
from tests.encoders.serving.stage import on_a_loop, until

StatusCode = grpc.StatusCode


@on_a_loop
async def test_photos_are_encoded_as_the_encoder_does_in_their_order(toy_encoder):
    files = [photo(2), photo(0), photo(1, form="JPEG")]
    async with asked(toy_encoder) as stub:
        answer = await stub.EncodeImages(images(*files))
    assert answer.fingerprint == toy_encoder.fingerprint
    np.testing.assert_array_equal(rows(answer.vectors), toy_encoder.encode_images(files))
    assert [(one.width, one.height) for one in answer.vectors] == [(40, 20)] * 3


@on_a_loop
async def test_decoded_pixels_are_taken_as_they_are(toy_encoder):
    pixels = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    async with asked(toy_encoder) as stub:
        answer = await stub.EncodeImages(pb.EncodeImagesRequest(images=[wire.image_message(pixels)]))
    np.testing.assert_array_equal(rows(answer.vectors), toy_encoder.encode_images([pixels]))
    assert answer.vectors[0].width == 0


@on_a_loop
async def test_half_precision_and_features_are_to_be_had(toy_encoder):
    async with asked(toy_encoder) as stub:
        half = await stub.EncodeImages(images(photo(1), precision=pb.PRECISION_FLOAT16))
        flat = await stub.EncodeImages(images(photo(1), output=pb.OUTPUT_FEATURES))
    whole = toy_encoder.encode_images([photo(1)])
    np.testing.assert_allclose(wire.unpack(half.vectors[0].values, 16, pb.PRECISION_FLOAT16), whole, atol=1e-3)
    np.testing.assert_array_equal(rows(flat.vectors), toy_encoder.embed_images([photo(1)]))


@on_a_loop
async def test_sketches_come_typed_or_as_json(toy_encoder):
    request = sketches(CORNER)
    request.sketches.add(json='{"width": 100, "height": 100, "objects": [{"strokes": [[[0, 40], [0, 40]]]}]}')
    async with asked(toy_encoder) as stub:
        answer = await stub.EncodeSketches(request)
    np.testing.assert_array_equal(rows(answer.vectors), toy_encoder.encode_sketches([CORNER, CORNER]))


@on_a_loop
async def test_a_bad_item_fails_alone_and_says_why(toy_encoder):
    bomb = photo(0, size=(3000, 2000))
    request = images(photo(0), b"no photo", bomb, bytes(9000), photo(1))
    request.images.add()
    request.images.add(pixels=bytes(5))
    limits = CallLimits(image_bytes=8000, image_pixels=1_000_000)
    async with asked(toy_encoder, limits=limits) as stub:
        vectors = (await stub.EncodeImages(request)).vectors
        drawn = (
            await stub.EncodeSketches(pb.EncodeSketchesRequest(sketches=[pb.Sketch(), pb.Sketch(json="{")]))
        ).vectors
    assert len(bomb) > 8000 or faults(vectors)[2] == "REASON_TOO_LARGE"
    assert faults(vectors) == [
        *("", "REASON_INVALID", "REASON_TOO_LARGE", "REASON_TOO_LARGE", "", "REASON_INVALID", "REASON_INVALID")
    ]
    assert "not a photo in a known format" in vectors[1].fault.message
    assert "9000 bytes, over this server's limit of 8000" in vectors[3].fault.message
    assert "32 x 32 x 3" in vectors[6].fault.message
    assert faults(drawn) == ["REASON_INVALID"] * 2
    np.testing.assert_array_equal(rows([vectors[0], vectors[4]]), toy_encoder.encode_images([photo(0), photo(1)]))


@on_a_loop
async def test_a_cut_out_is_decoded_apart_before_the_encoder_sees_it(judging_encoder):
    def cut(content: bytes) -> Sketch:
        return Sketch(100, 100, (SketchObject((), None, (0.0, 0.0, 40.0, 40.0), photo=content),))

    broken = cut(photo(0)[:60])  # the toy does not look at it: only the decoder can say so
    async with asked(judging_encoder) as stub:
        vectors = (await stub.EncodeSketches(sketches(cut(photo(0)), broken))).vectors
        error = await refused(stub.Explain(pb.ExplainRequest(sketch=wire.sketch_message(broken), vectors=bytes(64))))
    assert faults(vectors) == ["", "REASON_INVALID"]
    assert error.code() == StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (images(model="nobody"), StatusCode.NOT_FOUND, "there are toy"),
        (images(lane=9), StatusCode.INVALID_ARGUMENT, "lane 9 is unknown"),
        (images(output=9), StatusCode.INVALID_ARGUMENT, "output 9 is unknown"),
        (images(precision=9), StatusCode.INVALID_ARGUMENT, "precision 9 is unknown"),
        (images(*[b""] * 4), StatusCode.INVALID_ARGUMENT, "4 photos in one message, and 3 is the limit"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_before_any_work(toy_encoder, request_, code, says):
    @on_a_loop
    async def run():
        async with asked(toy_encoder, limits=CallLimits(items=3)) as stub:
            before = toy_encoder.images
            error = await refused(stub.EncodeImages(request_))
            assert toy_encoder.images == before
        assert error.code() == code
        assert says in error.details()

    run()


@on_a_loop
async def test_models_side_by_side_are_chosen_by_fingerprint_or_name(toy):
    one, other = toy.ToyEncoder(), toy.TurnedEncoder()
    namesake = toy.TurnedEncoder(fingerprint="toy-namesake")
    async with asked(one, other, namesake) as stub:
        told = await stub.GetModels(pb.GetModelsRequest())
        assert [model.name for model in told.models] == ["toy", "turned", "turned"]
        assert told.limits == CallLimits().message()
        for wish, encoder in {"": one, "toy": one, other.fingerprint: other, namesake.fingerprint: namesake}.items():
            answer = await stub.EncodeImages(images(photo(0), model=wish))
            assert answer.fingerprint == encoder.fingerprint
            np.testing.assert_array_equal(rows(answer.vectors), encoder.encode_images([photo(0)]))
        error = await refused(stub.EncodeImages(images(model="turned")))
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert "2 models have this name; choose by fingerprint: toy-turned0000000000, toy-namesake" in error.details()


@on_a_loop
async def test_features_are_projected_and_scores_explained(judging_encoder):
    features = judging_encoder.embed_images([photo(0), photo(3)])
    stored = judging_encoder.project(features)
    async with asked(judging_encoder) as stub:
        projected = await stub.Project(pb.ProjectRequest(features=wire.pack(features)))
        explain = pb.ExplainRequest(sketch=wire.sketch_message(CORNER), vectors=wire.pack(stored))
        explained = await stub.Explain(explain)
        bad = [
            await refused(stub.Project(pb.ProjectRequest(features=bytes(5)))),
            await refused(stub.Explain(pb.ExplainRequest(sketch=explain.sketch, vectors=bytes(5)))),
            await refused(stub.Explain(pb.ExplainRequest(vectors=explain.vectors))),
        ]
    np.testing.assert_array_equal(wire.unpack(projected.vectors, 16), stored)
    for message, own in zip(explained.explanations, judging_encoder.explain(CORNER, stored), strict=True):
        np.testing.assert_array_equal(wire.explanation(message).objects, own.objects)
        assert wire.explanation(message).score == own.score
    assert [error.code() for error in bad] == [StatusCode.INVALID_ARGUMENT] * 3


@on_a_loop
async def test_what_a_model_does_not_have_is_refused(toy):
    class Plain:
        def __init__(self):
            self._toy = toy.ToyEncoder()

        def __getattr__(self, name):
            if name in ("features", "networks", "project"):
                raise AttributeError(name)
            return getattr(self._toy, name)

    async with asked(Plain()) as stub:
        told = (await stub.GetModels(pb.GetModelsRequest())).models[0]
        errors = [
            await refused(stub.EncodeImages(images(photo(0), output=pb.OUTPUT_FEATURES))),
            await refused(stub.Project(pb.ProjectRequest(features=bytes(64)))),
            await refused(stub.Explain(pb.ExplainRequest(sketch=wire.sketch_message(CORNER)))),
        ]
    assert (told.features, told.networks, told.explains) == (0, "", False)
    assert [error.code() for error in errors] == [StatusCode.INVALID_ARGUMENT] * 3


# --- streams ---


@on_a_loop
async def test_a_stream_answers_every_photo_under_its_key(toy_encoder):
    async def requests():
        for start in range(0, 60, 5):
            yield keyed(*[photo(key % 4) for key in range(start, start + 4)], b"bad", start=start)

    async with asked(toy_encoder, limits=CallLimits(window=8)) as stub:
        found = await answers(stub.StreamImages(requests()))
    assert sorted(found) == list(range(60))
    good = [key for key in range(60) if key % 5 != 4]
    expected = toy_encoder.encode_images([photo(key % 4) for key in good])
    np.testing.assert_array_equal(rows(found[key] for key in good), expected)
    assert set(faults(found[key] for key in range(4, 60, 5))) == {"REASON_INVALID"}


@on_a_loop
async def test_a_stream_of_sketches_likewise(toy_encoder):
    async def requests():
        for key in range(20):
            yield pb.StreamSketchesRequest(sketches=[pb.KeyedSketch(key=key, sketch=wire.sketch_message(CORNER))])

    async with asked(toy_encoder) as stub:
        found = await answers(stub.StreamSketches(requests()))
    np.testing.assert_array_equal(rows(found[key] for key in range(20)), toy_encoder.encode_sketches([CORNER] * 20))


@on_a_loop
async def test_replies_come_in_order_of_completion(toy_encoder):
    held = Held(toy_encoder)
    pixels = wire.image_message(np.zeros((32, 32, 3), np.uint8))
    async with asked(held) as stub:
        held.close()
        call = stub.StreamImages()
        good, bad = pb.KeyedImage(key=1, image=pixels), pb.KeyedImage(key=2)
        await call.write(pb.StreamImagesRequest(images=[good, bad]))
        assert [one.key for one in (await call.read()).vectors] == [2]  # the first one is still with the networks
        held.open()
        assert [one.key for one in (await call.read()).vectors] == [1]
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF


@on_a_loop
async def test_an_empty_stream_is_answered_with_nothing(toy_encoder):
    async def nothing():
        return
        yield

    async with asked(toy_encoder) as stub:
        assert await answers(stub.StreamImages(nothing())) == {}


@pytest.mark.parametrize(
    ("messages", "code", "says"),
    [
        ([keyed(model="nobody")], StatusCode.NOT_FOUND, "no such model"),
        ([keyed(photo(0)), keyed(photo(0), start=1, words=True)], StatusCode.INVALID_ARGUMENT, "first message"),
        ([keyed(*[b""] * 4)], StatusCode.INVALID_ARGUMENT, "4 items in one message"),
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(toy_encoder, messages, code, says):
    @on_a_loop
    async def run():
        async def requests():
            for message in messages:
                yield message

        async with asked(toy_encoder, limits=CallLimits(items=3)) as stub:
            error = await refused(answers(stub.StreamImages(requests())))
        assert error.code() == code
        assert says in error.details()

    run()


@on_a_loop
async def test_a_stream_has_no_more_than_its_window_under_way(toy_encoder):
    held = Held(toy_encoder)
    async with served(held, limits=CallLimits(window=3)) as server, channel(server) as opened:
        engine = next(iter(server.models)).engine
        held.close()
        call = EncoderStub(opened).StreamImages(iter([keyed(*[photo(0)] * 10)]))
        await until(lambda: engine.depth(Lane.BULK) == 3)
        await until(held.begun.is_set)
        assert engine.depth(Lane.BULK) == 3
        held.open()
        assert len(await answers(call)) == 10


@on_a_loop
async def test_a_stream_is_not_read_while_much_of_it_is_under_way(toy_encoder):
    held, sent = Held(toy_encoder), 0
    large = photo(0, size=(400, 300), form="BMP")  # 360 KB: the windows of the connection hold a few

    async def requests():
        nonlocal sent
        for sent in range(1, 61):
            yield keyed(large, start=sent)

    async with asked(held, limits=CallLimits(message_bytes=2_000_000, image_bytes=1_000_000)) as stub:
        held.close()
        reading = asyncio.ensure_future(answers(stub.StreamImages(requests())))
        await until(held.begun.is_set)
        for _ in range(100):  # so long as nothing goes on
            await stub.GetModels(pb.GetModelsRequest())
        assert sent < 40
        held.open()
        assert len(await reading) == 60


# --- bounds ---


@on_a_loop
async def test_a_full_queue_refuses_the_call_at_once_and_says_when_to_come_back(toy_encoder):
    held = Held(toy_encoder)
    async with asked(held, queue=2) as stub:
        held.close()
        first = stub.EncodeImages(images(photo(0), photo(1)))
        await until(held.begun.is_set)
        error = await refused(stub.EncodeImages(images(photo(2))))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata())["retry-after-ms"]) >= 1
        held.open()
        assert faults((await first).vectors) == ["", ""]


@on_a_loop
async def test_a_stream_waits_where_a_call_is_refused(toy_encoder):
    held = Held(toy_encoder)
    async with asked(held, queue=2) as stub:
        held.close()
        call = stub.StreamImages(iter([keyed(*[photo(0)] * 12)]))
        await until(held.begun.is_set)
        held.open()
        assert set(faults((await answers(call)).values())) == {""}


@on_a_loop
async def test_a_client_that_asks_for_too_much_is_refused_until_it_has_waited(toy_encoder):
    async with asked(toy_encoder, rate=0.5, limits=CallLimits(items=4)) as stub:
        await stub.EncodeImages(images(*[photo(0)] * 4))
        error = await refused(stub.EncodeImages(images(photo(0))))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert "127.0.0.1 asks for more than 0.5 rows a second" in error.details()
        assert 1000 <= int(dict(error.trailing_metadata())["retry-after-ms"]) <= 2000


@on_a_loop
async def test_an_expired_deadline_ends_the_call_and_does_no_work(toy_encoder):
    held = Held(toy_encoder)
    async with served(held, batch=1) as server, channel(server) as opened:
        stub, engine = EncoderStub(opened), next(iter(server.models)).engine
        held.close()
        first = stub.EncodeImages(images(photo(0)))
        await until(held.begun.is_set)  # the networks are busy with it
        error = await refused(stub.EncodeImages(images(photo(1), photo(2)), timeout=0.2))
        assert error.code() == StatusCode.DEADLINE_EXCEEDED
        await until(lambda: sum(map(engine.depth, Lane)) == 1)  # the server has its own clock
        held.open()
        await first
        await stub.EncodeImages(images(photo(3)))
        assert held.encoded == 2  # the first and the last


# --- what nobody foresaw ---


@on_a_loop
async def test_an_unknown_error_is_internal_with_a_reference_and_without_its_text(toy, caplog):
    class Broken(toy.ToyEncoder):
        broken = False

        def encode_images(self, images):
            if self.broken:
                raise KeyError("secret label")
            return super().encode_images(images)

        def project(self, features):
            if self.broken:
                raise OSError("disk on fire")
            return super().project(features)

    encoder = Broken()
    async with asked(encoder) as stub:
        encoder.broken = True
        vector = (await stub.EncodeImages(images(photo(0)))).vectors[0]
        error = await refused(stub.Project(pb.ProjectRequest(features=bytes(64))))
        encoder.broken = False
    assert faults([vector]) == ["REASON_INTERNAL"]
    assert error.code() == StatusCode.INTERNAL
    told = {record.fields["reference"]: record.fields for record in caplog.records if hasattr(record, "fields")}
    for message, kind, said in ((vector.fault.message, "KeyError", ""), (error.details(), "OSError", "disk on fire")):
        assert "secret" not in message
        assert "disk" not in message
        fields = told[message.split()[-1]]
        assert (fields["error"], fields["said"]) == (kind, said)
        assert "test_service.py" in fields["where"]


@on_a_loop
async def test_bytes_that_are_no_message_are_refused(toy_encoder):
    async with served(toy_encoder) as server, channel(server) as opened:
        unary = opened.unary_unary("/compsketch.v1.Encoder/EncodeImages")
        stream = opened.stream_stream("/compsketch.v1.Encoder/StreamImages")
        unknown = opened.unary_unary("/compsketch.v1.Encoder/Nonsense")
        errors = [await refused(unary(b"\xff\xff")), await refused(stream(iter([b"\xff\xff"])).read())]
        assert (await refused(unknown(b""))).code() == StatusCode.UNIMPLEMENTED
    assert [error.code() for error in errors] == [StatusCode.INVALID_ARGUMENT] * 2
    assert {error.details() for error in errors} == {"the request is no message of compsketch.v1"}


@on_a_loop
async def test_one_client_of_four_is_cancelled_and_three_get_their_answer(toy_encoder):
    held = Held(toy_encoder)
    async with asked(held) as stub:
        held.close()
        calls = [stub.EncodeImages(images(photo(quarter))) for quarter in range(4)]
        await until(held.begun.is_set)
        calls[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[1]
        held.open()
        for quarter in (0, 2, 3):
            expected = toy_encoder.encode_images([photo(quarter)])
            np.testing.assert_array_equal(rows((await calls[quarter]).vectors), expected)
