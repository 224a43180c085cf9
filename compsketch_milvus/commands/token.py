"""The flags that may hold a secret: `--token`, and `--uri` with a login in it.

A process' arguments can be read by all users of a machine, so the secret is blanked out there.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

__all__ = ["Token", "Uri", "blank_out", "without_login"]

_ARGUMENTS = slice(45, 47)  # of what /proc/self/stat says after the name: where they begin and end in memory


def _taken(value: str | None) -> str | None:
    if value == "-":
        return sys.stdin.readline().rstrip("\r\n") or None
    if value:
        blank_out(value)
    return value


def without_login(uri: str | None) -> str | None:
    """An address as it is; a login in it is blanked out among the arguments of this process."""
    with suppress(ValueError):  # of what is no address; that is said elsewhere
        if uri and (login := urlsplit(uri).netloc.rpartition("@")[0]):
            blank_out(login)
    return uri


def blank_out(secret: str) -> None:
    """Overwrite a secret among the arguments of this process; on Linux, where the system says where they are."""
    import ctypes

    with suppress(OSError, ValueError):
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_ARGUMENTS])
        arguments, hidden = ctypes.string_at(start, end - start), os.fsencode(secret)
        found = arguments.find(hidden)
        while found >= 0:
            ctypes.memset(start + found, ord("*"), len(hidden))
            found = arguments.find(hidden, found + len(hidden))


Uri = Annotated[
    str | None,
    typer.Option(
        callback=without_login,
        help="Milvus: http://HOST:PORT, or a Milvus Lite file ending in .db  [default: a file of your own]",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        callback=_taken,
        help="Milvus token, or user:password; - reads it from standard input. Until it is blanked out others can see "
        "it in the list of processes, and your shell keeps it: better set MILVUS_TOKEN",
    ),
]
