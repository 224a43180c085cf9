"""What stands between the network and the app: every request passes here before a byte of its body is parsed.

    no login       only names of this machine are served, so that no web page can reach it by a name of its own
    other sites    a browser that comes from another site gets nothing from `api/`; what changes something also needs a
                   header that no form can send
    a login        everything in `api/` needs it but the login itself
    rates, sizes   each client's requests are counted, bodies have a bound and a time to arrive in

The policy for content allows this page's own files, and pictures that it made itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compsketch_milvus.web.login import Login
from compsketch_milvus.web.rates import Rates
from compsketch_milvus.web.refusals import Refusal, answer, broken

__all__ = ["MAX_BODY", "Protection", "is_loopback"]

MAX_BODY = 8 * 2**20  # bytes; a sketch of 100,000 points takes 2 MB, a cut-out photo 4
BODY_SECONDS = 30.0
API = "/api/"
OPEN = ("/api/session", "/api/login", "/api/logout")
KINDS = {
    "/api/login": "login",
    "/api/search": "search",
    "/api/similar": "search",
    "/api/explain": "search",
    "/api/thumbnail/": "photo",
    "/api/photo/": "photo",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def is_loopback(host: str) -> bool:
    """Whether a name or an address, with or without brackets, can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class Protection:
    """An ASGI app around another one. The visitor's name is left in `scope["state"]["client"]`.

    Args:
        app: what is protected.
        login: who may search.
        rates: what has been asked of late.
        headers: that every response gets.
    """

    def __init__(self, app: ASGIApp, login: Login, rates: Rates, headers: Mapping[str, str] = HEADERS) -> None:
        self._app, self._login, self._rates, self._headers = app, login, rates, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if scope["path"].startswith(API):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, await _whole_body(scope, receive), guarded)
        except Refusal as refusal:
            await answer(refusal)(scope, receive, guarded)
        except asyncio.CancelledError:  # the server ends, and does not wait any longer
            if not begun:
                await answer(Refusal(503, "the server is being stopped"))(scope, receive, guarded)
        except Exception as error:
            told = answer(broken(error))
            if not begun:
                await told(scope, receive, guarded)

    def _admit(self, scope: Scope) -> None:
        """Let a request in, or raise the Refusal."""
        headers, path = Headers(scope=scope), scope["path"]
        if not self._login.needed and not is_loopback(_host(headers)):
            raise Refusal(421, "this page is served to this machine only; open it at http://localhost")
        if path.startswith(API) or scope["method"] not in ("GET", "HEAD"):
            _check_origin(scope["method"], headers)
        visit = self._login.visit(headers.get("cookie", ""))
        address = (scope.get("client") or ("",))[0]
        rest = "other" if path.startswith(API) else "page"
        kind = next((kind for prefix, kind in KINDS.items() if path.startswith(prefix)), rest)
        client = visit.name if visit is not None and kind != "login" else address
        self._rates.take(kind, client)
        user = not self._login.needed or (visit is not None and visit.user)
        if path.startswith(API) and path not in OPEN and not user:
            raise Refusal(401, "log in first")
        state: dict[str, Any] = scope.setdefault("state", {})
        state |= {"client": client, "user": user, "known": visit is not None}


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _check_origin(method: str, headers: Headers) -> None:
    """Refuse what another site makes a browser send. Old browsers do not say where from: the header is left then."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin is not None:
        foreign = foreign or _netloc(origin) != headers.get("host", "").lower()
    if foreign:
        raise Refusal(403, "this request comes from another site")
    if method not in ("GET", "HEAD") and "x-compsketch" not in headers:
        raise Refusal(403, "the header X-Compsketch: 1 is missing")


def _netloc(origin: str) -> str | None:
    """The host and port of an origin."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


async def _whole_body(scope: Scope, receive: Receive) -> Receive:
    """Take a body in, as far as it may be, and give it out again."""
    if scope["method"] in ("GET", "HEAD"):
        return receive
    told = Headers(scope=scope).get("content-length", "0")
    if not told.isdecimal() or len(told) > 18 or int(told) > MAX_BODY:
        raise _too_large()
    try:
        body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Refusal(408, "the request did not arrive in time") from None
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the request broke off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> Refusal:
    return Refusal(413, f"more than the {MAX_BODY // 2**20} MB that a request may have")
