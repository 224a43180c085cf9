"""One table from exceptions to the statuses of gRPC calls; what is not in it is INTERNAL, and its text stays here."""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from encoders.errors import CompsketchError, SketchError
from encoders.request import current
from encoders.serving.faults import Busy, Closed, Rejected
from encoders.serving.limits import InvalidRequest, RateLimited
from encoders.serving.wire import WireError

__all__ = ["RETRY_AFTER", "Status", "Unauthenticated", "UnknownModel", "internal", "status_of"]

RETRY_AFTER = "retry-after-ms"  # the trailer
log = logging.getLogger(__name__)


class Unauthenticated(CompsketchError):
    """A call without a token that is known here."""


class UnknownModel(CompsketchError):
    """A call for a model that is not served here."""


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (WireError, grpc.StatusCode.INVALID_ARGUMENT),
    (SketchError, grpc.StatusCode.INVALID_ARGUMENT),
    (Rejected, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (Busy, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (RateLimited, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Closed, grpc.StatusCode.UNAVAILABLE),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
)


@dataclass(frozen=True)
class Status:
    """How a call ends.

    Args:
        code: gRPC's.
        message: one line for people.
        trailers: metadata behind it.
    """

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str], ...] = ()


def status_of(error: Exception) -> Status:
    """The status of a call that an exception ended."""
    if isinstance(error, DecodeError):
        return Status(grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of compsketch.v1")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer was there")
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        return Status(grpc.StatusCode.INTERNAL, internal(error))
    wait = getattr(error, "retry_after", None)
    trailers = () if wait is None else ((RETRY_AFTER, str(max(1, round(wait * 1000)))),)
    return Status(code, " ".join(str(error).split()), trailers)


def internal(error: Exception) -> str:
    """Log an error that nobody foresaw; what its caller is told is a reference to it, the id of the request.

    The log has where it happened, and what it said if it speaks of the machine; other errors may quote what was sent.
    """
    reference = current() or secrets.token_hex(8)
    said = str(error) if isinstance(error, (OSError, RuntimeError, MemoryError)) else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error(
        "internal error %s",
        reference,
        extra={"fields": {"reference": reference, "error": type(error).__name__, "said": said[:500], "where": frames}},
    )
    return f"an error of this server; its log has it under {reference}"
