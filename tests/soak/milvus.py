"""The Milvus server as a victim: killed, ended or stopped, and started again on the same data."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.integration.standalone import Standalone
from tests.soak.killing import Blow
from tests.soak.ledger import Ledger

__all__ = ["Struck"]

AWAY = 2.0  # seconds before it is started again
END = 10.0  # seconds after SIGTERM, before it is killed


class Struck:
    """A server that is struck, one blow at a time, while other things go on.

    Args:
        server: not started yet.
        ledger: is told of blows and starts.
    """

    def __init__(self, server: Standalone, ledger: Ledger) -> None:
        self._server, self._ledger = server, ledger
        self._suffering = threading.Thread()

    @property
    def uri(self) -> str:
        """Its address."""
        return self._server.uri

    def start(self) -> None:
        """Start it."""
        self._server.start()

    def processes(self) -> list[tuple[str, int]]:
        """The server's name and process id; nothing while it is down."""
        with suppress(psutil.Error):
            return [("milvus", one.pid) for one in self._server.processes() if one.name() == "milvus"]
        return []

    def strike(self, blow: Blow) -> None:
        """Begin with a blow; one that comes before it is over the last one is left out."""
        if self._suffering.is_alive():
            self._ledger.write("missed", victim="milvus")
            return
        self._ledger.write("strike", victim="milvus", signal=blow.signal)
        self._suffering = threading.Thread(target=self._suffer, args=[blow], name="milvus")
        self._suffering.start()

    def wait(self) -> None:
        """Wait until it is up again."""
        if self._suffering.ident is not None:
            self._suffering.join()

    def close(self, logs: Path) -> None:
        """End it, for good, and keep its log."""
        self.wait()
        self._server.kill()
        with suppress(FileNotFoundError):
            shutil.copy(self._server.folder / "server.log", logs / "milvus.log")

    def _suffer(self, blow: Blow) -> None:
        if blow.signal == "STOP":
            self._send("suspend")
            time.sleep(blow.hold)
            self._send("resume")
            return
        if blow.signal == "TERM":
            self._send("terminate")
            psutil.wait_procs(self._server.processes(), timeout=END)
        self._server.kill()
        time.sleep(AWAY)
        started = time.monotonic()
        self._server.start()
        self._ledger.write("start", name="milvus", seconds=round(time.monotonic() - started, 1))

    def _send(self, method: str) -> None:
        for process in self._server.processes():
            with suppress(psutil.NoSuchProcess):
                getattr(process, method)()
