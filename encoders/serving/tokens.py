"""Who may call: bearer tokens from a file that is read again when it changes, so that they rotate without a restart.

One `NAME TOKEN` a line; one that begins with `#` is a comment. A name may have several tokens, the old and the new
while clients change over; it is what logs and rate limits know a client by. Only hashes are kept, and all of them are
compared, each in constant time: how long a refusal takes says nothing of any token.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from encoders.errors import CompsketchError
from encoders.serving.files import Followed

__all__ = ["FEWEST", "Tokens"]

FEWEST = 16  # characters of a token
MAX_BYTES = 1 << 20  # of the file
EXAMPLE = "each line is NAME TOKEN, such as: ingest " + "x" * FEWEST

_KEY = secrets.token_bytes(32)  # of this process: a hash found in its memory is worth nothing elsewhere


class Tokens:
    """The tokens of a file; see `files.Followed` for what happens when it changes.

    Args:
        path: the file.
        every: seconds between two looks at it; None for `files.EVERY`.
        clock: seconds, monotonic.

    Raises:
        CompsketchError: the file cannot be read, or a line is none of `NAME TOKEN`; no message holds a token.
    """

    def __init__(
        self, path: str | os.PathLike[str], every: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hashes = Followed([path], lambda: _read(Path(path)), every, clock)

    def name(self, authorization: str) -> str | None:
        """Whose token it is, or None.

        Args:
            authorization: value of the header of that name: "Bearer TOKEN".
        """
        scheme, _, token = authorization.partition(" ")
        digest = _hash(token.strip())
        found = None
        for known, name in self._hashes.value:  # all of them, whichever fits
            if hmac.compare_digest(known, digest):
                found = name
        return found if scheme.lower() == "bearer" else None


def _read(path: Path) -> list[tuple[bytes, str]]:
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise CompsketchError(f"token file {str(path)!r} cannot be read ({error.strerror}); {EXAMPLE}") from None
    except UnicodeDecodeError:
        raise CompsketchError(f"token file {str(path)!r} is no UTF-8 text; {EXAMPLE}") from None
    if len(text) > MAX_BYTES:
        raise CompsketchError(f"token file {str(path)!r} has more than {MAX_BYTES} bytes; {EXAMPLE}")
    found: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) < FEWEST:
            raise CompsketchError(
                f"token file {str(path)!r}, line {number}: expected a name and a token of {FEWEST} characters or more; "
                f"{EXAMPLE}"
            )
        digest = _hash(words[1])
        if found.setdefault(digest, words[0]) != words[0]:
            raise CompsketchError(
                f"token file {str(path)!r}, line {number}: two names have this token; give each its own"
            )
    if not found:
        raise CompsketchError(f"token file {str(path)!r} has no tokens, so nobody could call; {EXAMPLE}")
    return list(found.items())


def _hash(token: str) -> bytes:
    return hmac.digest(_KEY, token.encode(errors="replace"), "sha256")
