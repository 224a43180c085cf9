"""Around every call: whether it is let in, whose it is, what became of it, and one line of the log about it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import grpc

from encoders import tracing
from encoders.request import HEADER, request
from encoders.serving.faults import Closed
from encoders.serving.limits import InvalidRequest
from encoders.serving.statuses import Unauthenticated, status_of
from encoders.serving.tokens import Tokens

__all__ = ["Call", "Gate", "Tally", "current"]

HEALTH = "/grpc.health.v1.Health/"  # what probes ask, which have no token
log = logging.getLogger(__name__)


@dataclass
class Call:
    """What is known of a call.

    Args:
        method: its name.
        client: the name beside its token, or in its certificate, or its address.
        rows: that were answered.
    """

    method: str
    client: str = ""
    rows: int = 0


current: ContextVar[Call] = ContextVar("call")


class Tally(Protocol):
    """Hears of every call."""

    def call(self, method: str, code: str, seconds: float) -> None:
        """One has ended."""


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls in while it is open; health is answered in any case.

    Args:
        tokens: who may call; None lets everybody.
        tally: hears of every call.
    """

    def __init__(self, tokens: Tokens | None, tally: Tally) -> None:
        self._tokens, self._tally = tokens, tally
        self._shut: str | None = "the server is starting; try again in a while"
        self._under_way, self._last = 0, time.monotonic()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = asyncio.Event()

    def open(self) -> None:
        """Let calls in, unless it drains."""
        if not self.draining.is_set():
            self._shut = None

    def drain(self) -> None:
        """Let no more in; `draining` is set, for streams to take nothing more."""
        self._shut = "the server is shutting down; another one may answer"
        self.draining.set()

    async def idle(self) -> None:
        """Resolves when no call is under way."""
        await self._idle.wait()

    async def quiet(self, pause: float, longest: float) -> None:
        """Resolves when no call has come for `pause` seconds, or after the longest time: callers know by then."""
        end = time.monotonic() + longest
        while (left := min(self._last + pause, end) - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """See `grpc.aio.ServerInterceptor`. Nothing is read of calls that are not let in, however large they are.

        Hence all are streams here: gRPC would read the message of a unary call before it asks anyone. On the wire the
        two are one.
        """
        handler, details = await continuation(handler_call_details), handler_call_details
        if handler is None or details.method.startswith(HEALTH):
            return handler

        async def run(raws: AsyncIterator[bytes], context: Any) -> None:
            async with self._around(details, context):
                requests = (handler.request_deserializer(raw) async for raw in raws)
                if not handler.request_streaming:
                    await context.write(await handler.unary_unary(await _only(requests), context))
                    return
                async with aclosing(handler.stream_stream(requests, context)) as answers:
                    async for answer in answers:
                        await context.write(answer)

        return grpc.stream_stream_rpc_method_handler(run, None, handler.response_serializer)

    @asynccontextmanager
    async def _around(self, details: Any, context: Any) -> AsyncIterator[None]:
        told = {name: value for name, value in details.invocation_metadata or () if isinstance(value, str)}
        name = details.method.lstrip("/")
        facts = {"rpc.system.name": "grpc", "rpc.method": name}
        with request(told.get(HEADER, "")), tracing.span(name, facts, kind="server", carrier=told) as span:
            async with self._counted(details, told, context, span):
                yield

    @asynccontextmanager
    async def _counted(
        self, details: Any, told: dict[str, str], context: Any, span: tracing.Span
    ) -> AsyncIterator[None]:
        started = time.perf_counter()
        call = Call(details.method.rpartition("/")[2], _peer(context))
        current.set(call)
        self._under_way, self._last = self._under_way + 1, time.monotonic()
        self._idle.clear()
        code = grpc.StatusCode.OK
        try:
            self._admit(call, told)
            yield
        except asyncio.CancelledError:
            late = context.time_remaining() == 0
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            status = status_of(error)
            code = status.code
            await context.abort(status.code, status.message, status.trailers)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            span.set("rpc.response.status_code", code.name)
            if code is not grpc.StatusCode.OK:
                span.fail(code.name)
            self._ended(call, code, time.perf_counter() - started)

    def _admit(self, call: Call, told: dict[str, str]) -> None:
        if self._tokens is not None:
            name = self._tokens.name(told.get("authorization", ""))
            if name is None:
                raise Unauthenticated("this server asks for a token: authorization: Bearer TOKEN")
            call.client = name
        if self._shut is not None:
            raise Closed(self._shut)

    def _ended(self, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        self._tally.call(call.method, code.name, seconds)
        fields = {
            "method": call.method,
            "client": call.client,
            "rows": call.rows,
            "ms": round(seconds * 1000, 1),
            "code": code.name,
        }
        log.info("call", extra={"fields": fields})


async def _only(requests: AsyncIterator[Any]) -> Any:
    request = await anext(requests, None)
    if request is None:
        raise InvalidRequest("the call has no message")
    return request


def _peer(context: Any) -> str:
    """The name in the client's certificate, else its address without the port, which changes."""
    shown = context.auth_context()
    names = [*shown.get("x509_common_name", ()), *shown.get("x509_subject_alternative_name", ())]
    name = next((name for name in names if name), b"")
    if name:
        return str(name.decode(errors="replace"))
    kind, _, address = unquote(context.peer()).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind.startswith("ipv") else kind
