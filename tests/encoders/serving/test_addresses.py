"""What is an address of an encoder service, and what is said of what is none."""

from __future__ import annotations

import pytest

from encoders.errors import CompsketchError
from encoders.serving.addresses import Address, Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://gpu-host:50051", Addresses((Address("gpu-host", 50051, False),))),
        ("grpc://gpu_host", Addresses((Address("gpu_host", 50051, False),))),
        ("grpcs://a:1,b:2", Addresses((Address("a", 1, True), Address("b", 2, True)))),
        ("grpc://a, b.example", Addresses((Address("a", 50051, False), Address("b.example", 50051, False)))),
        ("grpc://[::1]:7", Addresses((Address("::1", 7, False),))),
        ("grpc://a/", Addresses((Address("a", 50051, False),))),
        ("grpc://a:7/coco-0123", Addresses((Address("a", 7, False),), "coco-0123")),
        ("grpc://a:7?insecure", Addresses((Address("a", 7, False),), insecure=True)),
        ("grpc://a:7/coco?insecure", Addresses((Address("a", 7, False),), "coco", insecure=True)),
    ],
)
def test_an_address(text, expected) -> None:
    assert Addresses.parse(text) == expected


@pytest.mark.parametrize("text", ["grpc://a:1,b:2", "grpcs://[::1]:7", "grpc://a:7/coco"])
def test_it_reads_as_it_was_written(text) -> None:
    assert str(Addresses.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://a", "'https://a' is no address of an encoder service: .* grpc://HOST:PORT"),
        ("gpu-host:50051", "no address of an encoder service"),
        ("grpc://", "'' in an address that begins with grpc:// is no HOST:PORT"),
        ("grpc://a,,b", "'' in an address"),
        ("grpc://a b", "'a b' in an address"),
        ("grpc://::1:7", "'::1:7' in an address"),
        ("grpc://[1::2::3]:7", "'1::2::3' is no IPv6 address"),
        ("grpc://a:x", "'a:x' in an address"),
        ("grpc://a:0", "grpc://a:0: a port is 1 to 65535"),
        ("grpc://a:65536", "a port is 1 to 65535"),
        ("grpc://a/b/c", "'b/c' is no model's name or fingerprint"),
        ("grpc://a?tls=1", "behind the \\? only 'insecure' is known, found 'tls=1'"),
        ("grpc://a,a:50051", "names a server twice"),
        ("grpc://ada:secret@a", "grpc://a: an encoder service takes no login .* COMPSKETCH_ENCODER_TOKEN"),
        ("http://ada:secret@a", "'http://a' is no address"),
    ],
)
def test_what_is_none(text, message) -> None:
    with pytest.raises(CompsketchError, match=message) as refused:
        Addresses.parse(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("[::1]", True), ("127.1.2.3", True), ("10.0.0.7", False), ("a", False)],
)
def test_what_stays_on_this_machine(text, loopback) -> None:
    assert Addresses.parse(f"grpc://{text}").servers[0].loopback is loopback
