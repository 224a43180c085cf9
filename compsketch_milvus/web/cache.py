"""Files that were dear to make, kept on disk up to a number of bytes; what was used the longest time ago goes first."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

__all__ = ["DiskCache"]

UNFINISHED = ".new-"  # how the names of files begin that are being written
ABANDONED = 60.0  # seconds after which the process that wrote one must have been killed


class DiskCache:
    """A folder of files by key. Several threads may use one, several processes the same folder.

    Args:
        folder: made where it is missing, and readable by nobody else.
        limit: bytes of all files together.
        suffix: of the files' names; others in the folder are left alone.
    """

    def __init__(self, folder: Path, limit: int, suffix: str = ".jpg") -> None:
        self.folder, self.limit, self._suffix = folder, limit, suffix
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = []
        for path in folder.glob(f"*{suffix}"):
            with suppress(OSError):  # another process may remove it
                status = path.stat()
                found.append((status.st_mtime, path.stem, status.st_size))
        for path in folder.glob(f"{UNFINISHED}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
        self._sizes: OrderedDict[str, int] = OrderedDict((key, size) for _, key, size in sorted(found))
        self._size = sum(self._sizes.values())
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return self._size

    def get(self, key: str) -> bytes | None:
        """The file of a key, which is a name of hexadecimal digits."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)  # so that the order outlives this process
        except OSError:
            self._forget(key)
            return None
        with self._lock:
            self._add(key, len(data))
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep a file: all of it or, where the disk is full, nothing."""
        if len(data) > self.limit:
            return
        with suppress(OSError):
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=UNFINISHED, delete=False) as file:
                try:
                    file.write(data)
                    file.close()
                    os.replace(file.name, self._path(key))
                except BaseException:
                    os.unlink(file.name)
                    raise
            with self._lock:
                self._add(key, len(data))
                while self._size > self.limit:
                    oldest, size = self._sizes.popitem(last=False)
                    self._size -= size
                    self._path(oldest).unlink(missing_ok=True)

    def _add(self, key: str, size: int) -> None:
        self._size += size - self._sizes.pop(key, 0)
        self._sizes[key] = size

    def _forget(self, key: str) -> None:
        with self._lock:
            self._size -= self._sizes.pop(key, 0)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{self._suffix}"
