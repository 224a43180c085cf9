"""What was done, a line each, on disk: a process that is killed has written what it did until then."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Ledger", "Tail"]


class Ledger:
    """Appends to a file of JSON lines; one `write` of a line is whole, or not there at all.

    The time `at` is that of the clock that all processes of a machine share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind: str, **facts: Any) -> None:
        """Append what happened."""
        line = json.dumps({"at": round(time.monotonic(), 3), "kind": kind, **facts})
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Tail:
    """Reads a ledger that others write, from where it stopped the last time; one that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self, *kinds: str) -> list[dict[str, Any]]:
        """The lines that came since, of these kinds, or of all."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # a line without an end is still being written
        self._offset += len(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if not kinds or line["kind"] in kinds]
