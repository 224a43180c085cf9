"""Programs kept running as an operator would: what ends is started again, and every end is written down."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.ledger import Ledger

__all__ = ["Operator", "Service"]

PAUSE = 1.0  # seconds before what has ended is started again
TICK = 0.05
END = 60.0  # seconds for a program to end when it is asked to


@dataclass
class Service:
    """One program.

    Args:
        name: of the program, and of its files.
        command: its command line.
        done: whether its standard output shows that it need not be started again; by default it always is.
        ready: what it says once it is up; from then on it is not meant to end unless it is struck.
    """

    name: str
    command: Sequence[object]
    done: Callable[[str], bool] = lambda out: False
    ready: str | None = None
    process: subprocess.Popen[bytes] | None = None
    finished: threading.Event = field(default_factory=threading.Event)
    starts: int = 0
    struck: str = ""  # with which signal, since it was started
    overdue: float = math.inf  # when it should long have ended
    due: float = 0.0  # when to start it
    heard: int = 0  # bytes of errors before this start

    @property
    def kind(self) -> str:
        """Its name, or what many of them are."""
        return "ingest" if self.name.startswith("ingest-") else self.name


class Operator(threading.Thread):
    """Starts services, and starts them again. One thread starts all of them: they are killed if that should die.

    Args:
        logs: folder; NAME.out has the standard output of the last start, NAME.err the errors of all.
        environment: of the programs.
        ledger: is told of starts, blows and ends.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], ledger: Ledger) -> None:
        super().__init__(name="operator")
        self.logs, self._environment, self._ledger = logs, dict(environment), ledger
        self._services: dict[str, Service] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()

    def add(self, service: Service) -> Service:
        """Run a program from now on."""
        with self._lock:
            self._services[service.name] = service
        return service

    def running(self, prefix: str = "") -> list[Service]:
        """The services whose process lives, of those whose name begins so."""
        with self._lock:
            return [
                one
                for one in self._services.values()
                if one.name.startswith(prefix) and one.process is not None and one.process.poll() is None
            ]

    def strike(self, service: Service, name: str, hold: float = 0.0) -> None:
        """Send a signal to a service, by its name without SIG; STOP is taken back after `hold` seconds."""
        with self._lock:
            if service.process is None:
                return
            if name == "STOP":
                threading.Timer(hold, service.process.send_signal, [signal.SIGCONT]).start()
            if name in ("KILL", "TERM"):
                service.struck, service.overdue = name, time.monotonic() + END
            service.process.send_signal(signal.Signals[f"SIG{name}"])
            self._ledger.write("strike", victim=service.name, signal=name, pid=service.process.pid)

    def end(self, service: Service) -> int:
        """Ask a service to end, for good; its exit status."""
        with self._lock:
            self._services.pop(service.name)
        if service.process is None:
            return 0
        with suppress(ProcessLookupError):
            service.process.terminate()
        try:
            status = service.process.wait(END)
        except subprocess.TimeoutExpired:
            self._ledger.write("violation", what=f"{service.name} does not end within {END:.0f} s of SIGTERM")
            service.process.kill()
            status = service.process.wait()
        self._ledger.write("ended", name=service.name, status=status)
        return status

    def out(self, service: Service) -> str:
        """What the service has printed since its last start."""
        path = self.logs / f"{service.name}.out"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """Kill what still runs, and end the thread."""
        self._over.set()
        self.join()
        with self._lock:
            for service in self.running():
                assert service.process is not None
                service.process.kill()
                service.process.wait()

    def run(self) -> None:
        """Look after the services until it is closed."""
        while not self._over.wait(TICK):
            with self._lock:
                for service in list(self._services.values()):
                    self._tend(service)

    def _tend(self, service: Service) -> None:
        if service.process is None:
            if time.monotonic() >= service.due:
                self._start(service)
        elif (status := service.process.poll()) is not None:
            self._heed_end(service, status)
        elif time.monotonic() > service.overdue:
            # It stores what is under way, which takes as long as Milvus is away: no fault of its own.
            self._ledger.write("overdue", name=service.name, seconds=END)
            service.process.kill()
            service.overdue = math.inf

    def _start(self, service: Service) -> None:
        service.starts, service.struck, service.overdue = service.starts + 1, "", math.inf
        command = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL", *map(str, service.command)]
        with (
            (self.logs / f"{service.name}.out").open("wb") as out,
            (self.logs / f"{service.name}.err").open("ab") as errors,
        ):
            service.heard = errors.tell()
            service.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=self._environment
            )
        self._ledger.write("start", name=service.name, pid=service.process.pid)

    def _heed_end(self, service: Service, status: int) -> None:
        said = self._said(service)
        line = said.splitlines()[-1][:500] if said else ""
        self._ledger.write("exit", name=service.name, status=status, struck=service.struck, line=line)
        if not service.struck and service.ready is not None and service.ready in self.out(service) + said:
            self._ledger.write("violation", what=f"{service.name} ended by itself with status {status}: {line}")
        service.process, service.due = None, time.monotonic() + PAUSE
        if service.done(self.out(service)):
            del self._services[service.name]
            service.finished.set()

    def _said(self, service: Service) -> str:
        """What it wrote to its standard error since its last start."""
        with (self.logs / f"{service.name}.err").open("rb") as file:
            file.seek(service.heard)
            return file.read().decode("utf-8", "replace").strip()
