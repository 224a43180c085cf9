"""Each request's id, in its log and its answer, and its span in traces: around all else, so that no answer lacks it."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from encoders import tracing
from encoders.request import HEADER, request

__all__ = ["UNTRACED", "Requests"]

API = "/api/"  # the page's own files are no work
UNTRACED: Any = {"tracing": False, "metrics": False, "logs": False}  # FastAPI's own spans hold paths, so photos' ids
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Requests:
    """An ASGI app around another one.

    A path may hold the id of a photo, which is the name of a file: spans are named by the route alone.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with request(headers.get(HEADER, "")) as id, _span(scope, headers) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message)[HEADER] = id
                    _answered(span, scope, message["status"])
                await send(message)

            await self._app(scope, receive, told)


def _span(scope: Scope, headers: Headers) -> tracing.Span:
    if not scope["path"].startswith(API):
        return tracing.OFF
    method = _method(scope)
    return tracing.span(method, {"http.request.method": method}, kind="server", carrier=dict(headers.items()))


def _answered(span: tracing.Span, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")
    if route:
        span.rename(f"{_method(scope)} {route}")
        span.set("http.route", route)
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"
