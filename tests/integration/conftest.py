"""A real Milvus server on this machine, without docker: the binary that PyPI's `milvus` 2.3.5 carries.

It pins an old grpcio, so it lives in an environment of its own; MILVUS_SERVER names its program, or PATH has it:

    python3 -m venv ~/milvus && ~/milvus/bin/pip install milvus==2.3.5
    export MILVUS_SERVER=~/milvus/bin/milvus-server
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

START = 180  # seconds: it unpacks itself first
ABSENT = "no milvus-server: pip install milvus==2.3.5 in an environment of its own, and name its program: MILVUS_SERVER"

ETCD = """name: default
data-dir: {folder}
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


@pytest.fixture(scope="session")
def milvus_program() -> str:
    """The path of `milvus-server`."""
    named = os.environ.get("MILVUS_SERVER")
    program = named or shutil.which("milvus-server")
    if named and not Path(named).expanduser().is_file():
        pytest.fail(f"MILVUS_SERVER is {named}, which is no file")  # who names one wants it tested
    if not program:
        pytest.skip(ABSENT)
    return str(Path(program).expanduser())


@pytest.fixture(scope="session")
def milvus_server(milvus_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server, empty, stopped and removed after the last test."""
    folder = tmp_path_factory.mktemp("milvus")
    port, etcd, peer = _free_ports(3)
    # Its etcd would always take port 2380 for its peers, and two workers of pytest could not have a server each.
    (folder / "etcd.yaml").write_text(ETCD.format(folder=folder / "etcd", client=etcd, peer=peer))
    command = [milvus_program, "--data", str(folder), "--proxy-port", str(port), "--etcd-port", str(etcd)]
    settings = {**os.environ, "ETCD_CONFIG_PATH": str(folder / "etcd.yaml")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _answering(f"http://127.0.0.1:{port}", server, folder / "server.log")
    finally:
        _stop(server)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answering(uri: str, server: subprocess.Popen[bytes], log: Path) -> str:
    from pymilvus import MilvusClient

    deadline, last = time.monotonic() + START, "nothing"
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with closing(MilvusClient(uri, timeout=5)) as client:
                client.list_collections(timeout=5)
            return uri
        except Exception as error:  # whatever a server that is still starting makes pymilvus raise
            last = str(error)
            time.sleep(1)
    pytest.fail(f"milvus-server at {uri}, status {server.poll()}, last error: {last}; log: {log.read_text()[-2000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the program and the server that it started: politely, then for certain, as it can hang for minutes."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
