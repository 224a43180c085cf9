"""A decode worker is killed under a server that works."""

from __future__ import annotations

import os
import signal

from encoders.serving import encoder_pb2 as pb
from encoders.serving.encoder_pb2_grpc import EncoderStub
from tests.encoders.serving.serving import channel, faults, images, photo, served
from tests.encoders.serving.stage import on_a_loop


@on_a_loop
async def test_kill_9_of_a_decode_worker_costs_no_photo(toy_encoder):
    async with served(toy_encoder) as server, channel(server) as opened:
        (engine,) = [model.engine for model in server.models]
        call = EncoderStub(opened).StreamImages()
        key, answered = 0, 0
        for _ in range(3):
            (before,) = engine.decoder_pids
            await call.write(
                pb.StreamImagesRequest(
                    images=[pb.KeyedImage(key=key + n, image=pb.Image(encoded=photo(n % 4))) for n in range(20)]
                )
            )
            key += 20
            os.kill(before, signal.SIGKILL)
            while answered < key:
                vectors = (await call.read()).vectors
                assert faults([one.vector for one in vectors]) == [""] * len(vectors)
                answered += len(vectors)
            assert faults((await EncoderStub(opened).EncodeImages(images(photo(0)))).vectors) == [""]
            assert engine.decoder_pids != [before]
        await call.done_writing()
        assert engine.healthy
