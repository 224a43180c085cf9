"""One id for a request, in every log that it touches: made at its edge, or taken from who asks.

    with request(told):        # an edge: a page's request, a call of the service, a command
        current()              # the same for all that is done for it, here and wherever the work is `carried`

It travels as the header, or gRPC metadata, `x-request-id`.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

__all__ = ["HEADER", "Marked", "carried", "current", "ongoing", "request"]

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # nothing that ends a line, a header or a string of JSON
_current: ContextVar[str] = ContextVar("request id", default="")

P = ParamSpec("P")
T = TypeVar("T")


def current() -> str:
    """The id of the request that is being worked on; empty outside of any."""
    return _current.get()


@contextmanager
def request(told: str = "") -> Iterator[str]:
    """Begin a request.

    Args:
        told: its id as who asks has it; one that is not well-formed (128 letters, digits and `._:/+=@-` at most) is
            dropped for a new one.

    Yields:
        Its id.
    """
    id = told if _WELL_FORMED.fullmatch(told) else secrets.token_hex(8)
    token = _current.set(id)
    try:
        yield id
    finally:
        _current.reset(token)


@contextmanager
def ongoing() -> Iterator[str]:
    """The request that is being worked on; a new one where this is the edge, as in a program that calls the library."""
    if id := current():
        yield id
    else:
        with request() as id:
            yield id


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """Work for another thread, to be called once, that belongs to the same request, and to the same span."""
    context = copy_context()

    def run(*arguments: P.args, **more: P.kwargs) -> T:
        return context.run(work, *arguments, **more)

    return run


class Marked(logging.Filter):
    """Puts the id on log records, as `record.request_id`: for the handlers of an application that wants to show it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`; every record passes."""
        record.request_id = current()
        return True
