"""One server's gRPC channel, for threads and for an event loop; what fails comes back as `CallFailed`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from encoders import tracing
from encoders.errors import CompsketchError
from encoders.request import HEADER, ongoing
from encoders.serving.addresses import Address, Addresses
from encoders.serving.calls import CallFailed
from encoders.serving.encoder_pb2 import DESCRIPTOR
from encoders.serving.encoder_pb2_grpc import EncoderStub

__all__ = ["AsyncLink", "Credentials", "Link", "answers", "answers_async"]

# A server that is gone without a word is noticed within 40 s, and asked for again every 2 s at the latest.
OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.lb_policy_name", "round_robin"),  # a name may stand for several servers, as a cluster's headless services do
    ("grpc.use_local_subchannel_pool", 1),  # two clients with two logins share no connection
    ("grpc.max_receive_message_length", 256 * 2**20),
    ("grpc.max_send_message_length", 256 * 2**20),
]
SERVICE = DESCRIPTOR.services_by_name["Encoder"].full_name
RETRY_AFTER = "retry-after-ms"
OVERTAKEN = "Internal error from Core"  # what grpc.aio makes of a status that comes while it sends


@dataclass(frozen=True)
class Credentials:
    """Who this client is and whom it trusts.

    Args:
        token: sent as a bearer token with every call; never shown.
        ca: PEM file of what has signed the server's certificate; None trusts the public authorities.
        client: PEM file of the certificate that this client shows.
        key: PEM file of its key.
    """

    token: str | None = field(default=None, repr=False)
    ca: str | Path | None = None
    client: str | Path | None = None
    key: str | Path | None = None

    def check(self, addresses: Addresses) -> None:
        """Refuse to say a secret aloud.

        Raises:
            CompsketchError: a token over an open network, a token that cannot be sent, certificates without TLS.
        """
        secure = addresses.servers[0].secure
        if not secure and (self.ca or self.client):
            raise CompsketchError(f"{addresses}: certificates are set, and grpc:// uses none; write grpcs://")
        if (self.client is None) != (self.key is None):
            raise CompsketchError(f"{addresses}: a client's certificate and its key go together; give both or neither")
        if self.token is None:
            return
        if not self.token.isascii() or not self.token.isprintable() or " " in self.token or not self.token:
            raise CompsketchError(f"{addresses}: the token cannot be sent; it has to be printable ASCII without spaces")
        abroad = [server for server in addresses.servers if not server.loopback]
        if abroad and not secure and not addresses.insecure:
            raise CompsketchError(
                f"{abroad[0]}: a token would be sent in the clear over the network; write grpcs://, or append "
                "?insecure where nobody listens in"
            )

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes along with every call."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    def channel(self) -> grpc.ChannelCredentials:
        """For TLS.

        Raises:
            CompsketchError: a file that cannot be read.
        """
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.client))


def _read(path: str | Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise CompsketchError(f"{path}: cannot be read ({error.strerror}); give a PEM file") from error


class Link:
    """A channel for threads.

    Args:
        address: the server.
        credentials: for it.
    """

    def __init__(self, address: Address, credentials: Credentials) -> None:
        self._address, self._metadata = address, credentials.metadata
        if address.secure:
            self._channel = grpc.secure_channel(address.target, credentials.channel(), OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.target, OPTIONS)
        self._stub = EncoderStub(self._channel)

    def ask(self, method: str, request: Any, timeout: float) -> Any:
        """The answer to a unary call, within so many seconds. Raises CallFailed."""
        with _asking(self._address, method):
            try:
                return getattr(self._stub, method)(request, timeout=timeout, metadata=_sent(self._metadata))
            except grpc.RpcError as error:
                raise failed(error) from None
            except ValueError as error:  # the channel was closed meanwhile
                raise CallFailed("CANCELLED", str(error)) from None

    def stream(self, method: str, requests: Iterator[Any]) -> Any:
        """A stream's call: its answers, to be read by `answers`, and `cancel`. Raises CallFailed."""
        try:
            return getattr(self._stub, method)(requests, metadata=_sent(self._metadata))
        except ValueError as error:
            raise CallFailed("CANCELLED", str(error)) from None

    def close(self) -> None:
        """End its calls and its connection."""
        self._channel.close()


def answers(call: Iterable[Any]) -> Iterator[Any]:
    """What a stream answers. Raises CallFailed."""
    try:
        yield from call
    except grpc.RpcError as error:
        raise failed(error) from None


class AsyncLink:
    """The same on an event loop."""

    def __init__(self, address: Address, credentials: Credentials) -> None:
        self._address, self._metadata = address, credentials.metadata
        if address.secure:
            self._channel = grpc.aio.secure_channel(address.target, credentials.channel(), OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address.target, OPTIONS)
        self._stub: Any = EncoderStub(self._channel)

    async def ask(self, method: str, request: Any, timeout: float) -> Any:
        """See `Link.ask`."""
        with _asking(self._address, method):
            try:
                return await getattr(self._stub, method)(request, timeout=timeout, metadata=_sent(self._metadata))
            except grpc.RpcError as error:
                raise failed(error) from None
            except grpc.aio.UsageError as error:  # the channel was closed meanwhile
                raise CallFailed("CANCELLED", str(error)) from None

    def stream(self, method: str, requests: AsyncIterator[Any]) -> Any:
        """See `Link.stream`."""
        try:
            return getattr(self._stub, method)(requests, metadata=_sent(self._metadata))
        except grpc.aio.UsageError as error:
            raise CallFailed("CANCELLED", str(error)) from None

    async def close(self) -> None:
        """See `Link.close`."""
        await self._channel.close()


async def answers_async(call: Any) -> AsyncIterator[Any]:
    """See `answers`."""
    try:
        async for answer in call:
            yield answer
    except grpc.RpcError as error:
        raise failed(error) from None


@contextmanager
def _asking(address: Address, method: str) -> Iterator[None]:
    """The span of one attempt at a unary call; a stream is part of the span that it begins in."""
    name = f"{SERVICE}/{method}"
    with tracing.span(name, {"rpc.system.name": "grpc", "rpc.method": name}, kind="client") as span:
        span.set("server.address", address.host)
        span.set("server.port", address.port)
        try:
            yield
        except CallFailed as failure:
            span.set("rpc.response.status_code", failure.status)
            span.fail(failure.status)
            raise


def _sent(metadata: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What goes along with a call: who asks, for which request, and in which trace."""
    with ongoing() as id:
        return (*metadata, (HEADER, id), *tracing.injected())


def failed(error: Any) -> CallFailed:
    """What gRPC says of a call that ended without an answer."""
    wait = None
    for name, value in error.trailing_metadata() or ():
        if name == RETRY_AFTER:
            try:
                wait = max(0.0, float(value) / 1000)
            except ValueError:
                wait = None
    status, details = error.code().name, error.details() or ""
    if status == "INTERNAL" and details == OVERTAKEN:
        status, details = "UNAVAILABLE", "the stream broke off while something was being sent"
    return CallFailed(status, details, wait)
