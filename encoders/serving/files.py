"""What files hold, read again when they change, so that nothing has to be restarted for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from encoders.errors import CompsketchError

__all__ = ["Followed"]

EVERY = 1.0  # seconds between two looks at a file
T = TypeVar("T")
log = logging.getLogger(__name__)


class Followed(Generic[T]):
    """A value that follows its files.

    Files that have become unreadable or wrong leave the value as it is, and the log says so: they may be in the midst
    of being written, one after the other. Safe to use from several threads.

    Args:
        paths: the files.
        read: what they hold, checked; raises CompsketchError where it is not what it has to be.
        every: seconds between two looks at the files; None for `EVERY`.
        clock: seconds, monotonic.

    Raises:
        CompsketchError: the first reading failed.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        read: Callable[[], T],
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths, self._read, self._clock = [Path(path) for path in paths], read, clock
        self._every = EVERY if every is None else every
        self._lock = threading.Lock()
        self._looked, self._stamps = clock(), self._stamp()
        self._value = read()

    @property
    def value(self) -> T:
        """What the files hold; the very same object as long as they do not change."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= self._every:
                self._looked = now
                stamps = self._stamp()
                if stamps != self._stamps:
                    self._stamps = stamps
                    self._take()
            return self._value

    def _take(self) -> None:
        try:
            self._value = self._read()
            log.info("%s read again", ", ".join(map(str, self._paths)))
        except CompsketchError as error:
            log.warning("%s; what it was before stays", error)

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content, whether it is written anew, replaced, or a link led elsewhere."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
