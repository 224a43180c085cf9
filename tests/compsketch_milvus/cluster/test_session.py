"""The way to a Ray that is not there."""

from __future__ import annotations

import socket

import pytest

from compsketch_milvus.cluster.session import Session, joined
from compsketch_milvus.errors import CompsketchError, ServerError


@pytest.fixture(autouse=True)
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests of this process have started."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def join(address: str) -> None:
    with joined(address, 2**27):
        pytest.fail("there is none")


def test_an_address_where_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServerError, match=rf"^{place}: no Ray answers; .*--ray local \(Connection refused\)"):
            join(place)


def test_a_host_that_there_is_not():
    with pytest.raises(ServerError, match=r"^nowhere\.invalid:6379: no Ray answers"):
        join("nowhere.invalid:6379")


@pytest.mark.parametrize("address", ["ray://host:10001", "http://host:8265", "host", "host:x", ""])
def test_what_is_no_address(address):
    with pytest.raises(CompsketchError, match="give local, auto for the Ray that runs on this machine, or HOST:PORT"):
        join(address)


def test_what_there_is_in_words():
    assert Session(True, 2, 0, 1, "").words == "Ray on 1 machine: 2 CPUs"
    words = Session(False, 64, 8, 4, "http://10.0.0.1:8265").words
    assert words == "Ray on 4 machines: 64 CPUs, 8 GPUs; dashboard at http://10.0.0.1:8265"
