"""The way to an encoder, and what is said where there is none."""

from __future__ import annotations

import sys
import types

import pytest

from compsketch_milvus.encoder import Encoder, connect
from compsketch_milvus.errors import CompsketchError, SettingsError


@pytest.fixture
def opened(monkeypatch) -> list[tuple]:
    """What `encoders.local.LocalEncoder.open` is asked for, without loading torch."""
    calls: list[tuple] = []
    module = types.ModuleType("encoders.local")

    class LocalEncoder:
        @staticmethod
        def open(spec, device, runtime):
            calls.append((spec, device, runtime))
            return "an encoder"

    module.LocalEncoder = LocalEncoder
    monkeypatch.setitem(sys.modules, "encoders.local", module)
    return calls


def test_the_toy_is_an_encoder(toy_encoder) -> None:
    assert isinstance(toy_encoder, Encoder)


def test_default_environment_and_argument(opened, monkeypatch) -> None:
    assert connect() == "an encoder"
    monkeypatch.setenv("COMPSKETCH_ENCODER", "/my/bundle")
    monkeypatch.setenv("COMPSKETCH_DEVICE", "cuda:1")
    monkeypatch.setenv("COMPSKETCH_RUNTIME", "torch")
    connect()
    connect("other", device="cpu", runtime="openvino")
    assert opened == [
        ("default", None, "auto"), ("/my/bundle", "cuda:1", "torch"), ("other", "cpu", "openvino"),
    ]  # fmt: skip


def test_what_is_no_address_of_a_service(opened) -> None:
    with pytest.raises(
        CompsketchError, match=r"'https://gpu-host' is no address of an encoder service: .*grpc://HOST:PORT"
    ):
        connect("https://gpu-host")
    assert opened == []


def test_a_device_that_is_none(opened) -> None:
    with pytest.raises(SettingsError, match="device=: 'gpu' does not fit"):
        connect(device="gpu")


def test_a_runtime_that_is_none(opened) -> None:
    with pytest.raises(SettingsError, match="runtime=: 'onnx' does not fit; it has to be auto, torch or openvino"):
        connect(runtime="onnx")
    assert opened == []


@pytest.mark.parametrize("missing", ["torch", "torchvision", "timm"])
def test_without_torch_the_extra_is_named(monkeypatch, missing) -> None:
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "encoders.local":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.delitem(sys.modules, "encoders.local", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(CompsketchError) as refused:
        connect()
    assert str(refused.value) == (
        f"encoder 'default' needs {missing}, which is not installed: pip install \"compsketch-milvus[encoders]\", "
        "or name a service that encodes, grpc://HOST:PORT"
    )
