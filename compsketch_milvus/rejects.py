"""The reject file: what an ingest could not index, a JSON object a line, and a source for the next ingest.

{"source": "/photos/a.jpg", "id": "5f…", "reason": "cannot be decoded …", "fields": {"year": 1999}}
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import FACTS

if TYPE_CHECKING:
    from typing_extensions import Self

    from compsketch_milvus.records import ImageRecord, PhotoVector

__all__ = ["Rejects", "is_reject"]

_SUFFIXES = (".jsonl", ".ndjson")
_KEYS = {"source", "id", "reason", "fields"}


class Rejects:
    """A reject file, open for appending; a context manager. Several processes may append to one file.

    Args:
        path: the file, made where it is missing; what it holds stays.

    Raises:
        SourceError: its name is not one of JSON lines, or it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.expanduser(path))
        if self.path.suffix.lower() not in _SUFFIXES:  # such as a manifest's, whose rows these are not
            raise SourceError(f"{self.path}: a reject file is a .jsonl, which can be ingested; name it so")
        self._lock = threading.Lock()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # a line that a full disk cut
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be written ({error.strerror}); give another --rejects") from error

    @classmethod
    def of(cls, source: Any, path: str | Path) -> Self:
        """The reject file for what fails of a source.

        Raises:
            SourceError: it is the source itself; or as above.
        """
        items = source if isinstance(source, (list, tuple)) else [source]
        if _real(path) in {_real(item) for item in items if isinstance(item, (str, Path)) and "\0" not in str(item)}:
            raise SourceError(f"{path}: is the source itself; give another file for what fails this time")
        return cls(path)

    def add(self, record: ImageRecord | PhotoVector, reason: str) -> None:
        """Append a photo; it is on the disk when this returns.

        Raises:
            SourceError: the disk is full.
        """
        fields = {name: value for name, value in record.fields.items() if name not in FACTS}  # which are found anew
        line = {"source": record.source, "id": record.id, "reason": reason, "fields": fields}
        written = json.dumps(line).encode("ascii") + b"\n"
        try:
            with self._lock:
                done = os.write(self._file, written)
                if done < len(written):  # half a line would end the reading of all that follow
                    os.ftruncate(self._file, os.fstat(self._file).st_size - done)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:  # a thread that was left behind may have one more: it must not get into another file
            os.close(self._file)
            self._file = -1


def _real(path: str | Path) -> str:
    return os.path.realpath(os.path.expanduser(path))  # which take any name: reading the source tells what is wrong


def is_reject(row: Mapping[str, Any]) -> bool:
    """Whether a manifest's row is a line of a reject file: no other manifest has an object for a cell."""
    return set(row) == _KEYS and isinstance(row["fields"], dict)
