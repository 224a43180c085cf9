"""A Milvus server without docker: PyPI's `milvus` 2.3.5, which carries the server's binary, in a folder of its own.

It pins an old grpcio and so needs an environment of its own: `make milvus` makes `.venv-milvus`.

Whatever becomes of the tests, the server must not outlive them. So it is never their child: this file, run as a
program, starts it, waits until the process that wants it has gone (kill -9 included), and kills it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["Standalone", "StartError"]

START = 180  # seconds; ten, when nothing else runs on the machine
PORTS = ("proxy", "proxy-internal", "root-coord", "data-coord", "data-node", "query-coord", "query-node", "index-node")
LOCK = Path(tempfile.gettempdir()) / "compsketch-milvus-start.lock"

# Its launcher takes the next port where one still has connections of a server that was killed, and offers no option
# for the port of the metrics and of health.
LAUNCH = """
import socket, sys, milvus
milvus.MilvusServerConfig.try_bind_port = lambda self, port: socket.socket()
milvus.default_server.webservice_port = int(sys.argv.pop(1))
milvus.main()
"""
ETCD = """name: default
data-dir: {folder}
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


class StartError(Exception):
    """A server that does not come up; the message holds the end of its log."""


class Standalone:
    """One server: its ports and its data stay the same from one start to the next.

    Args:
        program: `milvus-server`, in the environment that `milvus` is installed in.
        folder: for its data; removed when the owner has gone.
        owner: process id; the server is killed when that process ends, whatever way. None: this process.
        token: what its clients log in with, where it asks for that.
        tls: folder with server.pem, server.key and ca.pem: it then speaks TLS.
        tls_mode: 1, or 2 to ask each client for a certificate that ca.pem has signed.
        environment: settings of Milvus' own milvus.yaml, in the form that it reads from the environment.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        owner: int | None = None,
        token: str = "",
        tls: Path | None = None,
        tls_mode: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self.folder, self.token, self.tls = folder, token, tls
        self._owner, self._python = owner or os.getpid(), program.parent / "python"
        self._options = ["--authorization-enabled", "true"] if token else []
        if tls is not None:
            files = {"server-pem": "server.pem", "server-key": "server.key", "ca-pem": "ca.pem"}
            self._options += ["--tls-mode", str(tls_mode)]
            self._options += [part for name, file in files.items() for part in (f"--{name}-path", str(tls / file))]
        self._ports: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def uri(self) -> str:
        """Its address; known from the first start on."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StartError: it does not.
        """
        with _one_at_a_time():  # between finding a free port and taking it there is time for others
            self._ports = self._ports or _free_ports(len(PORTS) + 3)
            log = self.folder / "server.log"
            with log.open("ab") as out:
                watch = [sys.executable, __file__, str(self._owner), str(self.folder), *self._command()]
                subprocess.run(watch, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True)
            self._wait(log)

    def kill(self) -> None:
        """Kill it like a failing machine would (SIGKILL), and wait until it has gone; its data stay."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.processes(), timeout=30)
        (self.folder / "pid").unlink(missing_ok=True)

    def memory(self) -> int:
        """Bytes that its processes hold in memory."""
        return sum(process.memory_info().rss for process in self.processes())

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return any(process.is_running() for process in self.processes())

    def processes(self) -> list[psutil.Process]:
        """The server and its launcher; none before the start."""
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            launcher = psutil.Process(int((self.folder / "pid").read_text()))
            return [*launcher.children(recursive=True), launcher]
        return []

    def _command(self) -> list[str]:
        *ports, metrics, client, peer = self._ports
        etcd = self.folder / "etcd.yaml"  # without it, etcd takes port 2380 for its peers
        etcd.write_text(ETCD.format(folder=self.folder / "etcd", client=client, peer=peer))
        unpacked = self._python.parent.parent / "unpacked"  # 200 MB out of xz, once for all servers
        unpacked.mkdir(exist_ok=True)
        if not (self.folder / "bin").exists():
            (self.folder / "bin").symlink_to(unpacked)
        named = [part for name, port in zip(PORTS, ports, strict=True) for part in (f"--{name}-port", str(port))]
        start = [str(self._python), "-c", LAUNCH, str(metrics), "--data", str(self.folder), "--etcd-port", str(client)]
        settings = [f"{name}={value}" for name, value in self._environment.items()]
        return ["env", f"ETCD_CONFIG_PATH={etcd}", *settings, *start, *named, *self._options]

    def _wait(self, log: Path) -> None:
        deadline, last = time.monotonic() + START, "it has not answered"
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[-3]}/healthz", timeout=5):
                    pass
                with closing(_client(self.uri, self.token, self.tls)) as client:
                    client.list_collections(timeout=5)
                return
            except Exception as error:  # whatever a server that is still starting makes urllib and pymilvus raise
                last = str(error)
            if (self.folder / "pid").exists() and not self.running:
                last = "its process has ended"
                break
            time.sleep(0.5)
        self.kill()
        raise StartError(f"milvus-server at {self.uri}: {last}; the end of {log}:\n{log.read_text()[-3000:]}")


def _client(uri: str, token: str, tls: Path | None):
    from pymilvus import MilvusClient

    files = {}
    if tls is not None:
        files = {"ca_pem_path": "ca.pem", "client_pem_path": "client.pem", "client_key_path": "client.key"}
    # Dedicated: pymilvus would keep the connection for the next client, whatever certificates that one names.
    return MilvusClient(
        uri, token=token, timeout=5, dedicated=True, **{name: str(tls / file) for name, file in files.items()}
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _watch(owner: int, folder: Path, command: list[str]) -> None:
    """Run the server for as long as the owner lives."""
    server = psutil.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    (folder / "pid").write_text(str(server.pid))
    while server.poll() is None and _alive(owner):
        time.sleep(0.2)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    if not _alive(owner):
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


if __name__ == "__main__":
    if os.fork() == 0:  # nobody's child, and in no terminal's foreground
        os.setsid()
        _watch(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
