"""The client of the encoder service against a true one on a free port: the same vectors, and what goes wrong."""

from __future__ import annotations

import gc
import io
import itertools
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import psutil
import pytest
import trustme
from PIL import Image

from compsketch_milvus.encoder import Calibrated, Encoder, Explaining, Projecting
from encoders.errors import CompsketchError, ImageError, ServerError
from encoders.serving import encoder_pb2 as pb
from encoders.serving.client import PACKERS, RemoteEncoder
from encoders.serving.parcels import Parcel, Photos
from encoders.sketch import Sketch, SketchObject
from tests.encoders.serving.servicer import Service, square

BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", (("retry-after-ms", "20"),))
AWAY = (grpc.StatusCode.UNAVAILABLE, "starting", ())

Connect = Callable[..., RemoteEncoder]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`RemoteEncoder.open` for one service or several."""
    opened = []

    def connect_(*services: Service | str, **options) -> RemoteEncoder:
        places = [one if isinstance(one, str) else f"127.0.0.1:{one.port}" for one in services]
        opened.append(RemoteEncoder.open(f"grpc://{','.join(places)}", **{"timeout": 20, **options}))
        return opened[-1]

    yield connect_
    for encoder in opened:
        encoder.close()


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


def photo(size: tuple[int, int] = (400, 300), format: str = "JPEG", seed: int = 0) -> bytes:
    """A photo of noise, which no format makes small, of more bytes than the toy's pixels have."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, format)
    return out.getvalue()


def small_file() -> bytes:
    out = io.BytesIO()
    Image.fromarray(square(99)).save(out, "PNG")
    return out.getvalue()


LEFT = Sketch(32, 32, (SketchObject(([[1, 9], [1, 30]],), "cup"),))
BOTH = Sketch(32, 32, (SketchObject(([[1, 9], [1, 30]],)), SketchObject((), "cat", (16, 0, 32, 32), weight=2)))


# --- the same as the encoder itself ---


def test_it_is_an_encoder_with_all_that_the_served_one_has(service, connect, judging_encoder) -> None:
    remote = connect(service)
    for protocol in (Encoder, Projecting, Calibrated, Explaining):
        assert isinstance(remote, protocol)
    for name in ("name", "fingerprint", "dim", "image_size", "networks", "features", "calibration"):
        assert getattr(remote, name) == getattr(judging_encoder, name)
    assert remote.device == f"cpu at {service.address}"


@pytest.mark.parametrize("count", [0, 1, 4, 5, 70])
def test_photos_of_every_kind_give_the_same_vectors(service, connect, judging_encoder, tmp_path, count) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo())
    (tmp_path / "small.png").write_bytes(small_file())
    kinds = [
        photo(seed=1),
        path,
        str(tmp_path / "small.png"),
        small_file(),
        Image.open(io.BytesIO(photo(seed=2))),
        square(3),
    ]
    images = [*itertools.islice(itertools.cycle(kinds), count)]
    remote = connect(service)
    np.testing.assert_array_equal(remote.encode_images(images), judging_encoder.encode_images(images))
    features = remote.embed_images(images)
    np.testing.assert_array_equal(features, judging_encoder.embed_images(images))
    np.testing.assert_array_equal(remote.embed_images(images, project=True), judging_encoder.encode_images(images))
    assert features.dtype == np.float32


def test_sketches_projection_and_explanation(service, connect, judging_encoder) -> None:
    remote = connect(service)
    sketches = [LEFT, BOTH] * 40
    for asked in (sketches[:0], sketches[:3], sketches):
        np.testing.assert_array_equal(
            remote.encode_sketches(asked, words=True), judging_encoder.encode_sketches(asked, words=True)
        )
    features = judging_encoder.embed_images([square(number) for number in range(300)])
    for given in (features[:0], features, features.astype(np.float16)):
        np.testing.assert_array_equal(remote.project(given), judging_encoder.project(given))
    stored = judging_encoder.project(features)
    here, there = judging_encoder.explain(BOTH, stored), remote.explain(BOTH, stored)
    assert [one.to_dict() for one in there] == [one.to_dict() for one in here]
    for sketch in (LEFT, BOTH):
        mine, its = judging_encoder.confidence(sketch, stored[:, 0]), remote.confidence(sketch, stored[:, 0])
        assert (mine is None) == (its is None)
        np.testing.assert_array_equal(its if its is not None else 0, mine if mine is not None else 0)


def test_queries_go_before_what_is_done_in_bulk(service, connect) -> None:
    remote = connect(service)
    remote.encode_images([square()])
    remote.encode_sketches([LEFT] * 10)
    remote.encode_images([square(n) for n in range(32)])
    remote.encode_sketches([LEFT] * 100)
    assert dict(service.lanes) == {
        ("EncodeImages", pb.LANE_INTERACTIVE): 1,
        ("EncodeSketches", pb.LANE_INTERACTIVE): 1,
        ("StreamImages", pb.LANE_BULK): 1,
        ("StreamSketches", pb.LANE_BULK): 1,
    }


def test_no_message_has_more_items_than_the_service_takes(service, connect, judging_encoder) -> None:
    service.limits.items = 2
    remote, photos = connect(service), [square(number) for number in range(3)]
    np.testing.assert_array_equal(remote.encode_images(photos), judging_encoder.encode_images(photos))
    np.testing.assert_array_equal(remote.encode_sketches([LEFT] * 3), judging_encoder.encode_sketches([LEFT] * 3))
    assert (service.calls["EncodeImages"], service.calls["EncodeSketches"]) == (0, 0)
    assert remote.encode_images(photos[:2]).shape == (2, 16)
    assert service.calls["EncodeImages"] == 1


def test_a_file_is_sent_where_it_is_smaller_than_its_pixels(service, connect) -> None:
    remote = connect(service)
    assert len(small_file()) < 32 * 32 * 3 < len(photo())
    remote.encode_images([small_file(), photo(), square()])
    assert service.encoded == 1


def test_one_photo_in_place_of_a_list(service, connect, tmp_path) -> None:
    for one in ("a.jpg", b"bytes", tmp_path, Image.new("RGB", (4, 4))):
        with pytest.raises(CompsketchError, match=r"expected a list of photos, found one \w+; write \[photo\]"):
            connect(service).encode_images(one)
    with pytest.raises(CompsketchError, match=r"expected a list of sketches, found one Sketch; write \[sketch\]"):
        connect(service).encode_sketches(LEFT)


# --- a photo at fault ---


@pytest.mark.parametrize("others", [0, 20])
@pytest.mark.parametrize("bad", ["missing.jpg", "broken.jpg", "small.txt", b"", b"no photo", photo()[:5000], None, 7])
def test_a_bad_photo_raises_what_it_would_here(service, connect, judging_encoder, tmp_path, bad, others) -> None:
    (tmp_path / "broken.jpg").write_bytes(photo()[:9000])
    (tmp_path / "small.txt").write_text("no photo")
    bad = str(tmp_path / bad) if isinstance(bad, str) else bad
    images = [square(), *[photo()] * others, bad]
    with pytest.raises(ImageError) as here:
        judging_encoder.encode_images(images)
    with pytest.raises(ImageError) as there:
        connect(service).encode_images(images)
    assert str(there.value) == str(here.value)


def test_the_first_of_several_bad_photos_is_named(service, connect) -> None:
    images = [square()] * 8
    images[3], images[6] = b"three", b"number six"
    with pytest.raises(ImageError, match="<5 bytes>"):
        connect(service).encode_images(images)


def test_one_bad_photo_of_a_stream_fails_alone(service, connect, judging_encoder) -> None:
    images = [square(number) for number in range(100)]
    images[7], images[50] = b"seven", b"fifty"
    outcomes = dict(connect(service).stream_images(images))
    assert sorted(outcomes) == list(range(100))
    assert {n for n, one in outcomes.items() if isinstance(one, Exception)} == {7, 50}
    assert "not a photo in a known format" in str(outcomes[7])
    np.testing.assert_array_equal(outcomes[99], judging_encoder.encode_images([images[99]])[0])


@pytest.mark.parametrize("reason", [pb.Fault.REASON_TOO_LARGE, pb.Fault.REASON_INVALID])
@pytest.mark.parametrize("count", [1, 10])
def test_what_the_server_cannot_take_is_decoded_here(service, connect, judging_encoder, reason, count) -> None:
    service.faults[small_file()] = pb.Fault(reason=reason, message="not here")
    images = [small_file(), *[square()] * (count - 1)]
    np.testing.assert_array_equal(connect(service).encode_images(images), judging_encoder.encode_images(images))
    assert not service.faults


def test_a_photo_that_crashed_its_worker_is_not_decoded_here(service, connect, tmp_path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(small_file())
    service.faults[small_file()] = pb.Fault(reason=pb.Fault.REASON_CRASHED, message="decoding it crashed; leave it out")
    with pytest.raises(ImageError, match=r"bomb.png: decoding it crashed; leave it out"):
        connect(service).encode_images([path])


@pytest.mark.parametrize("count", [1, 10])
def test_an_item_that_met_a_full_queue_is_sent_again(service, connect, judging_encoder, count) -> None:
    service.faults[square().tobytes()] = pb.Fault(reason=pb.Fault.REASON_BUSY, message="full")
    images = [square()] * count
    np.testing.assert_array_equal(connect(service).encode_images(images), judging_encoder.encode_images(images))


def test_an_item_that_the_server_fails_is_no_photos_fault(service, connect) -> None:
    service.faults[square().tobytes()] = pb.Fault(reason=pb.Fault.REASON_INTERNAL, message="reference 4f2a")
    with pytest.raises(CompsketchError, match=r"failed .reference 4f2a.; its log says more") as failed:
        connect(service).encode_images([square()])
    assert not isinstance(failed.value, ImageError)


def test_a_sketch_that_the_encoder_refuses(service, connect, judging_encoder, monkeypatch) -> None:
    def refuse(sketches, *, words=False):
        raise CompsketchError("no class 'cupp'; did you mean 'cup'?")

    monkeypatch.setattr(judging_encoder, "encode_sketches", refuse)
    for count in (1, 100):
        with pytest.raises(CompsketchError, match=r"no class 'cupp'; did you mean 'cup'?"):
            connect(service).encode_sketches([LEFT] * count, words=True)


# --- a server at fault ---


@pytest.mark.parametrize("failure", [BUSY, AWAY])
@pytest.mark.parametrize("count", [1, 10])
def test_what_is_safe_is_tried_again(service, connect, judging_encoder, failure, count) -> None:
    remote = connect(service)
    service.failures.extend([failure] * 3)
    images = [square(n) for n in range(count)]
    np.testing.assert_array_equal(remote.encode_images(images), judging_encoder.encode_images(images))
    assert not service.failures


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "too many items; keep to 64"),
        (grpc.StatusCode.INTERNAL, "failed .INTERNAL: too many items; keep to 64.; its log says more"),
        (grpc.StatusCode.UNIMPLEMENTED, "does not speak compsketch.v1"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "failed .RESOURCE_EXHAUSTED"),  # without a hint: a message too large
    ],
)
@pytest.mark.parametrize("count", [1, 10])
def test_what_would_fail_again_is_not_tried_again(service, connect, code, message, count) -> None:
    remote = connect(service)
    service.failures.append((code, "too many items; keep to 64", ()))
    with pytest.raises(CompsketchError, match=f"{service.address}.*{message}") as refused:
        remote.encode_images([square()] * count)
    assert not getattr(refused.value, "transient", False)
    assert service.calls["EncodeImages"] + service.calls["StreamImages"] == 1


@pytest.mark.parametrize("count", [1, 10])
def test_trying_again_ends_at_the_deadline(service, connect, count) -> None:
    """The last attempt is refused as those before, or cut off by the deadline itself."""
    remote = connect(service, timeout=2.0)
    service.failures.extend([AWAY] * 1000)
    ends = r"cannot be reached \(starting\).*tried \d+ times|did not answer in time"
    with pytest.raises(ServerError, match=rf"{service.address} ({ends})") as gone:
        remote.encode_images([square()] * count)
    assert gone.value.transient
    assert service.calls["EncodeImages"] + service.calls["StreamImages"] > 1


@pytest.mark.parametrize("count", [1, 10])
def test_a_server_that_is_silent(service, connect, judging_encoder, monkeypatch, count) -> None:
    silence = threading.Event()
    embed = judging_encoder.embed_images
    monkeypatch.setattr(judging_encoder, "embed_images", lambda *a, **k: silence.wait(60) and embed(*a, **k))
    remote = connect(service, timeout=0.3)
    try:
        with pytest.raises(ServerError, match=f"{service.address} did not answer in time") as late:
            remote.encode_images([square()] * count)
    finally:
        silence.set()
    assert late.value.transient


def test_a_server_that_is_gone_and_back(service, connect, judging_encoder) -> None:
    """Half of a stream is answered, then the server goes; another one at its port does the rest."""
    remote = connect(service)
    images = (square(number) for number in range(500))
    outcomes = {}
    for index, vector in remote.stream_images(images):
        assert index not in outcomes
        outcomes[index] = vector
        if len(outcomes) == 200:
            port = service.stop()
            service.start(port)
    expected = judging_encoder.encode_images([square(number) for number in range(500)])
    np.testing.assert_array_equal([outcomes[number] for number in range(500)], expected)
    assert service.calls["StreamImages"] >= 2


def test_streams_that_break_off_lose_nothing(service, other, connect, judging_encoder) -> None:
    service.breaks.extend([5, 0, 17])
    other.breaks.extend([3, 1])
    images = [square(number) for number in range(200)]
    rows = connect(service, other).encode_images(images)
    np.testing.assert_array_equal(rows, judging_encoder.encode_images(images))


def test_nobody_listens(connect) -> None:
    place = nobody()
    with pytest.raises(ServerError) as away:
        connect(place)
    assert str(away.value).startswith(f"encoder service grpc://{place} cannot be reached (")
    assert "refused" in str(away.value)
    assert "is `compsketch serve` running there" in str(away.value)
    assert "\n" not in str(away.value)
    assert away.value.transient


def test_a_port_where_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(1)], daemon=True)
        closing.start()
        with pytest.raises(ServerError, match="cannot be reached"):
            RemoteEncoder.open(f"grpc://127.0.0.1:{server.getsockname()[1]}")


# --- several servers ---


def test_servers_are_asked_in_turn(service, other, connect) -> None:
    remote = connect(service, other)
    for _ in range(10):
        remote.encode_images([square()])
    assert service.calls["EncodeImages"] == other.calls["EncodeImages"] == 5


def test_one_that_fails_is_left_out_for_a_while(service, other, connect) -> None:
    remote = connect(service, other)
    other.stop()
    for _ in range(10):
        remote.encode_images([square()])
    assert service.calls["EncodeImages"] == 10
    assert remote.encode_images([square()] * 100).shape == (100, 16)


def test_one_that_is_away_at_the_start_is_said_and_left_out(service, connect, caplog) -> None:
    away = nobody()
    remote = connect(away, service)
    assert f"grpc://{away} cannot be reached" in caplog.text
    assert "the others are asked meanwhile" in caplog.text
    assert remote.encode_images([square()]).shape == (1, 16)


def test_two_encoders_at_two_addresses(service, other, connect) -> None:
    other.encoder.fingerprint = "toy-1111111111111111"
    with pytest.raises(ServerError) as apart:
        connect(service, other)
    for words in (service.address, other.address, "toy-0000000000000000", "toy-1111111111111111", "do not mix"):
        assert words in str(apart.value)


@pytest.mark.parametrize("count", [1, 10])
def test_a_server_that_changes_its_encoder(service, connect, count) -> None:
    remote = connect(service)
    service.encoder.fingerprint = "toy-2222222222222222"
    message = r"does not serve encoder 'toy' \(toy-0000000000000000\), with which this client began"
    with pytest.raises(ServerError, match=f"{service.address} {message}") as changed:
        remote.encode_images([square()] * count)
    assert not changed.value.transient


def test_an_answer_of_another_encoder_is_not_taken(service, connect, monkeypatch) -> None:
    """A server that does not look at which model it is asked for."""
    remote = connect(service)
    monkeypatch.setattr(Service, "_enter", lambda *_: None)
    service.encoder.fingerprint = "toy-2222222222222222"
    for count in (1, 10):
        with pytest.raises(ServerError, match="it answered as toy-2222222222222222"):
            remote.encode_images([square()] * count)


def test_a_model_is_chosen_by_name_or_fingerprint(service, connect) -> None:
    for name in ("toy", "toy-0000000000000000"):
        assert RemoteEncoder.open(f"{service.address}/{name}").close() is None
    with pytest.raises(ServerError, match=r"has no model 'coco'; there: toy \(toy-0000000000000000\)"):
        connect(f"127.0.0.1:{service.port}/coco")


# --- streams ---


def test_no_more_is_taken_than_a_window(service, connect) -> None:
    service.limits.window = 10
    taken = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield square(number)

    for given, _ in enumerate(connect(service).stream_images(source())):
        assert taken - given <= 10


def test_an_error_of_the_source_is_the_callers_own(service, connect) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from [square()] * 10
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        list(connect(service).stream_images(source()))


def test_a_stream_that_nobody_reads_on_is_ended(service, connect) -> None:
    before = threading.active_count()
    remote = connect(service)
    stream = remote.stream_images(square(number) for number in itertools.count())
    assert next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compsketch grpc")]
    remote.close()
    service.stop()
    assert threading.active_count() <= before + 20
    service.start()


def test_memory_does_not_grow_with_the_number_of_photos(service, connect, judging_encoder) -> None:
    judging_encoder.image_size = 8
    process, rss = psutil.Process(), {}
    pixels = np.zeros((8, 8, 3), np.uint8)
    for number, (_, vector) in enumerate(connect(service).stream_images(itertools.repeat(pixels, 100_000)), 1):
        assert vector.shape == (16,)
        if number in (20_000, 100_000):
            gc.collect()
            rss[number] = process.memory_info().rss
    assert number == 100_000
    assert rss[100_000] < rss[20_000] + (8 << 20)  # 80,000 vectors and keys alone would be more


# --- closed ---


def test_a_closed_encoder_says_so(service, connect) -> None:
    remote = connect(service)
    stream = remote.stream_images(square(number) for number in itertools.count())
    next(stream)
    remote.close()
    for use in (
        lambda: list(stream),
        lambda: remote.encode_images([square()]),
        lambda: remote.encode_images([square()] * 9),
    ):
        with pytest.raises(CompsketchError, match=f"encoder 'toy' at {service.address} is closed; open it again"):
            use()
    remote.close()


def test_closed_while_its_last_photo_is_packed(service, connect, monkeypatch) -> None:
    """Nothing was sent yet, and nothing else will happen: a thread that waits for its end has to hear of it."""
    taken, end, told = threading.Event(), threading.Event(), []
    monkeypatch.setattr(Photos, "pack", lambda self, source: Parcel(error=ImageError(f"late: {end.wait(20)}")))
    remote = connect(service)

    def photos() -> Iterator[bytes]:
        yield from [b"a photo"] * (PACKERS + 1)  # one more than are packed at a time
        taken.set()

    def use() -> None:
        with pytest.raises(CompsketchError, match="is closed; open it again"):
            list(remote.stream_images(photos()))
        told.append("closed")

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    assert taken.wait(20)
    remote.close()
    thread.join(10)
    end.set()
    assert told == ["closed"]


def test_an_error_that_nobody_foresaw_while_packing(service, connect, monkeypatch) -> None:
    def pack(self, source):
        raise RuntimeError("a library's own")

    monkeypatch.setattr(Photos, "pack", pack)
    with pytest.raises(RuntimeError, match="a library's own"):
        connect(service, timeout=2).encode_images([b"a photo"] * 9)


# --- who may ask ---


def test_a_token(service, connect) -> None:
    service.token = "open-sesame"
    assert connect(service, token="open-sesame").encode_images([square()] * 9).shape == (9, 16)
    for token in (None, "wrong-sesame"):
        with pytest.raises(ServerError, match=r"refuses the login .*set COMPSKETCH_ENCODER_TOKEN") as refused:
            connect(service, token=token)
        assert "sesame" not in str(refused.value)
        assert not refused.value.transient


def test_a_token_is_not_sent_in_the_clear() -> None:
    with pytest.raises(CompsketchError, match=r"grpc://10.0.0.7:50051: a token would be sent in the clear") as refused:
        RemoteEncoder.open("grpc://127.0.0.1:1,10.0.0.7", token="open-sesame")
    assert "sesame" not in str(refused.value)


def test_unless_that_is_spelled_out() -> None:
    with pytest.raises(ServerError, match="cannot be reached"):
        RemoteEncoder.open(f"grpc://0.0.0.0:{nobody().rpartition(':')[2]}?insecure", token="open-sesame")


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "sésame"])
def test_a_token_that_cannot_be_sent(service, connect, token) -> None:
    with pytest.raises(CompsketchError, match="the token cannot be sent") as refused:
        connect(service, token=token)
    assert not token or token not in str(refused.value)


@pytest.fixture
def certificates(tmp_path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("client")
    own.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    own.private_key_pem.write_to_path(tmp_path / "client.key")
    return authority


def secured(toy_encoder, authority: trustme.CA, *, mutual: bool = False) -> Service:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    pair = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    service = Service(toy_encoder, token="open-sesame")
    service.start(
        credentials=grpc.ssl_server_credentials(
            [pair], authority.cert_pem.bytes() if mutual else None, require_client_auth=mutual
        )
    )
    return service


def test_tls(toy_encoder, certificates, tmp_path) -> None:
    service = secured(toy_encoder, certificates)
    try:
        address = f"grpcs://127.0.0.1:{service.port}"
        with RemoteEncoder.open(address, token="open-sesame", ca=tmp_path / "ca.pem") as remote:
            assert remote.encode_images([square()] * 9).shape == (9, 16)
        with pytest.raises(ServerError, match=f"{address}: no trust .*COMPSKETCH_ENCODER_CA_PEM_PATH") as untrusted:
            RemoteEncoder.open(address, token="open-sesame")
        assert not untrusted.value.transient
        with pytest.raises(ServerError, match="does it speak TLS as the address says"):
            RemoteEncoder.open(address.replace("grpcs", "grpc"), token="open-sesame")
    finally:
        service.stop()


def test_a_server_without_tls(service) -> None:
    address = f"grpcs://127.0.0.1:{service.port}"
    with pytest.raises(ServerError, match=f"{address} speaks no TLS; write grpc://, or give it --tls-cert and --tls-k"):
        RemoteEncoder.open(address)


def test_mutual_tls(toy_encoder, certificates, tmp_path) -> None:
    service = secured(toy_encoder, certificates, mutual=True)
    try:
        own = {"client": tmp_path / "client.pem", "key": tmp_path / "client.key"}
        trust = {"token": "open-sesame", "ca": tmp_path / "ca.pem"}
        with RemoteEncoder.open(f"grpcs://127.0.0.1:{service.port}", **trust, **own) as remote:
            assert remote.encode_images([square()]).shape == (1, 16)
        with pytest.raises(ServerError, match=f"grpcs://127.0.0.1:{service.port}"):
            RemoteEncoder.open(f"grpcs://127.0.0.1:{service.port}", **trust)
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("address", "files", "message"),
    [
        ("grpcs://a", {"ca": "/nowhere.pem"}, "/nowhere.pem: cannot be read .*give a PEM file"),
        ("grpcs://a", {"client": "/c.pem"}, "a client's certificate and its key go together"),
        ("grpc://a", {"ca": "/nowhere.pem"}, "grpc://a:50051: certificates are set, and grpc:// uses none"),
    ],
)
def test_certificates_that_do_not_fit(address, files, message) -> None:
    with pytest.raises(CompsketchError, match=message):
        RemoteEncoder.open(address, **files)


# --- what importing it costs ---


def test_importing_it_loads_numpy_and_nothing_heavy() -> None:
    heavy = ["torch", "pymilvus", "pandas", "grpc", "google.protobuf", "PIL", "pydantic"]
    code = (
        "import sys, encoders.serving.client, encoders.serving.aio_client\n"
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_it_loads_no_torch_and_no_pymilvus(service) -> None:
    code = (
        "import sys, numpy\nfrom encoders.serving.client import RemoteEncoder\n"
        f"with RemoteEncoder.open({service.address!r}) as encoder:\n"
        "    encoder.encode_images([numpy.zeros((32, 32, 3), numpy.uint8)] * 9)\n"
        "print([m for m in ('torch', 'pymilvus', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
