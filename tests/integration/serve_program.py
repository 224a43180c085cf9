"""The program `compsketch serve` with the toy encoder, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.toy_program import ENVIRONMENT, command

PATIENCE = 60.0  # seconds for it to end


@dataclass
class Serving:
    """A server that lets calls in.

    Attributes:
        process: The process.
        told: What it said on stdout when it was ready.
    """

    process: subprocess.Popen[str]
    told: dict[str, Any]
    log: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.told['port']}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status, and its log in `lines`."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)
        self.lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return self.process.returncode


@contextmanager
def serving(folder: Path, *arguments: object) -> Iterator[Serving]:
    """Start it, and wait until it is ready; killed at the end if it still runs."""
    free = ("--port", 0, "--metrics-port", 0, "--decode-workers", 1, "--json")
    log = folder / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command("serve", *free, *arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("{")), None)  # the toy says each batch before
        assert said is not None, log.read_text()
        yield Serving(process, json.loads(said), log)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
