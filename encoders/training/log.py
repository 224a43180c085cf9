"""What a run tells: a JSON-lines file that plots, and a line of progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from encoders.training.checkpoints import plain


class Log:
    """Lines of a JSON-lines file: the configuration, every so many steps the terms of the loss, each epoch's figures.

    Args:
        path: The file; lines are added to it.
        config: A dataclass, written first, so that a run says how it was made.
        silent: Write and say nothing: another process does.
    """

    def __init__(self, path: Path, config: Any, silent: bool = False) -> None:
        self.path, self.silent = path, silent
        self._started = time.monotonic()
        self._write({"config": plain(config)})

    def step(self, epoch: int, epochs: int, step: int, steps: int, rate: float, terms: Mapping[str, float]) -> None:
        """The terms of the loss as they are now, one line in the file and one on stderr, which a terminal rewrites."""
        self._write({"epoch": epoch + 1, "step": step + 1, "rate": rate, **_rounded(terms)}, said=False)
        if self.silent:
            return
        told = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
        seconds = time.monotonic() - self._started
        line = f"epoch {epoch + 1}/{epochs} step {step + 1}/{steps}  {told}  {seconds:.0f} s"
        terminal = sys.stderr.isatty()
        print(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def epoch(self, epoch: int, **figures: float) -> None:
        """The figures of a finished epoch."""
        self._write({"epoch": epoch + 1, **_rounded(figures)})

    def _write(self, entry: dict[str, Any], said: bool = True) -> None:
        if self.silent:
            return
        line = json.dumps(entry)
        with self.path.open("a") as file:
            file.write(line + "\n")
        if said:
            print(f"\r\x1b[K{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in figures.items()}


def read_log(path: Path) -> list[dict[str, Any]]:
    """All that a `Log` has written to a file, runs that a later one went on from included."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def epochs(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A log without the lines of single steps: configurations and the figures of epochs."""
    return [dict(line) for line in lines if "step" not in line]
