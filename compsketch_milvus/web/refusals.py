"""Every error as the page gets it: a status and `{"error": one line}`, with nothing of this machine in it.

From 500 on there is a `reference`, too: the id of the request, under which the log says more.

What a person can put right is said in the words of the exception. What concerns the machinery behind (addresses, paths,
tracebacks) goes to the log, and the page is told only what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from compsketch_milvus.errors import CollectionError, CompsketchError, ServerError
from compsketch_milvus.server import RefusedError
from encoders.errors import ImageError
from encoders.request import current

__all__ = ["Refusal", "answer", "broken", "install"]

LONGEST = 400  # letters of a line
AWAY_SECONDS = 2  # after which it is worth asking again
_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is not carried out.

    Args:
        status: of HTTP.
        line: why, for people.
        retry_after: seconds after which the same request may be taken.
    """

    def __init__(self, status: int, line: str, *, retry_after: float | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.retry_after = status, line, retry_after


def answer(refusal: Refusal) -> JSONResponse:
    """The refusal as a response."""
    headers = {"Cache-Control": "no-store"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    line = " ".join(refusal.line.split())
    if len(line) > LONGEST:  # it repeats what was sent; what is wrong with it stands at the end
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    told = {"error": line}
    if refusal.status >= 500 and current():  # what the log says more of, it says under this id
        told["reference"] = current()
    return JSONResponse(told, refusal.status, headers)


def broken(error: BaseException) -> Refusal:
    """An error that nobody foresaw: logged whole, told as one line."""
    _log.error("a request failed", exc_info=error)
    return Refusal(500, "this failed inside the server; its log says why")


def install(app: FastAPI) -> None:
    """Make the app answer errors this way."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(CompsketchError, _mistaken)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return answer(error)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(Refusal(error.status_code, str(error.detail)))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return answer(Refusal(422, _complaint(error.errors())))


async def _mistaken(_: Request, error: Exception) -> JSONResponse:
    return answer(translated(error))


def translated(error: Exception) -> Refusal:
    """An exception of this package as what the page is told."""
    if isinstance(error, ServerError):
        _log.warning("%s", error)
        if isinstance(error, RefusedError):
            return Refusal(502, "Milvus did not take this search; the server's log says why")
        return Refusal(503, "the search is away for the moment; it goes on by itself", retry_after=AWAY_SECONDS)
    if isinstance(error, ImageError):  # its message names the file
        _log.info("%s", error)
        return Refusal(400, "this picture cannot be read; give a JPEG or a PNG")
    if isinstance(error, CollectionError):
        _log.info("%s", error)
    return Refusal(400, str(error))


def _complaint(errors: Sequence[Any]) -> str:
    """The first thing that is wrong, by its place; what was sent is not repeated."""
    first = errors[0] if errors else {"loc": (), "msg": "it does not fit"}
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place or 'the request'}: {first['msg']}{more}"[:300]
