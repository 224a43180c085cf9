"""The server: models, gate, service, health and metrics put together, from its start to the end of its drain."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2
from encoders.serving.encoder_pb2_grpc import add_EncoderServicer_to_server
from encoders.serving.engine import Engine
from encoders.serving.gate import Gate
from encoders.serving.limits import CallLimits, RateLimit
from encoders.serving.logs import json_log
from encoders.serving.metrics import Metrics
from encoders.serving.models import Model, Models
from encoders.serving.scraping import scraped
from encoders.serving.service import EncoderService
from encoders.serving.tls import Tls
from encoders.serving.tokens import Tokens

__all__ = ["SERVICE", "ServeOptions", "Server", "serve"]

SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["Encoder"].full_name
CALLS = 4096  # under way at a time; more are refused: each holds its message
HEALTH_SECONDS = 0.25  # between two looks at the models' health
PING_MS = 5_000  # clients may ask as often whether this server is still there
# A call that comes while gRPC stops is cut off without a status to tell by that nothing was done, and it is safe to ask
# another server: so this one goes on refusing until nobody comes.
QUIET_SECONDS, LINGER_SECONDS = 0.2, 2.0
FLUSH_SECONDS = 5.0  # for what is answered to be sent, after a drain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Args:
        host: address to listen at; other than loopback needs TLS, and tokens or clients' certificates.
        port: 0 for a free one.
        metrics_host: where Prometheus asks.
        metrics_port: 0 for a free one.
        health_port: where at `metrics_host` health alone is told, without TLS, for probes that speak none; 0 for a free
            one, None for no such port.
        token_file: who may call, see `tokens`; None lets everybody.
        tls: certificates; None for none.
        insecure: whether a public address may do without TLS and tokens.
        reflection: whether the protocol may be asked for.
        batch: rows the networks take at a time, at most.
        wait: seconds that a bulk batch waits to be filled.
        queue: rows under way in each lane, at most; a unary call of more is refused, however often it is made.
        decode_workers: processes that decode, for each model; None for one a core.
        nvjpeg: have JPEGs decoded by the model's GPU.
        rate: rows a second that one client may ask for; None for any number.
        drain: seconds that a drain may take, at most.
        limits: what a call may bring.

    Raises:
        CompsketchError: a public address without what it needs.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9464
    health_port: int | None = None
    token_file: str | os.PathLike[str] | None = None
    tls: Tls | None = None
    insecure: bool = False
    reflection: bool = False
    batch: int = 32
    wait: float = 0.003
    queue: int = 1024
    decode_workers: int | None = None
    nvjpeg: bool = False
    rate: float | None = None
    drain: float = 30.0
    limits: CallLimits = field(default_factory=CallLimits)

    def __post_init__(self) -> None:
        known = self.token_file is not None or (self.tls is not None and self.tls.client_ca is not None)
        if not (self.insecure or _loopback(self.host) or (self.tls is not None and known)):
            raise CompsketchError(
                f"--host {self.host} can be reached from other machines: it needs --tls-cert and --tls-key, and "
                "--token-file or --tls-client-ca; or spell out --insecure"
            )

    def check_files(self) -> None:
        """Read certificates and tokens once, so that a mistake is told before an encoder takes its time to load.

        Raises:
            CompsketchError: a file is not what it has to be.
        """
        if self.tls is not None:
            self.tls.read()
        if self.token_file is not None:
            Tokens(self.token_file)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str, port: int) -> str:
    """As gRPC takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Health(health.aio.HealthServicer):
    """Watchers' calls end when the server is shutting down, after they were told; they would outlast it otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def tell(self, serving: bool) -> None:
        """Set the health of the server and of its service."""
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def end(self) -> None:
        """NOT_SERVING from now on."""
        await self.enter_graceful_shutdown()
        self._ended.set()

    async def Watch(self, request: Any, context: Any) -> None:
        """See `grpc.health.v1`."""
        watch, ended = asyncio.ensure_future(super().Watch(request, context)), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watch, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            ended.cancel()
            await asyncio.gather(watch, ended, return_exceptions=True)


class Server:
    """One server on the running event loop.

    Args:
        encoders: what is served, the default first; see `engine.Engine`.
        options: how.

    Attributes:
        port: where it listens, once it does.
        metrics_port: where Prometheus asks, likewise.
        health_port: where probes ask, if they have a port of their own.

    Raises:
        CompsketchError: two encoders are the same, or a file is not what it has to be.
    """

    port: int
    metrics_port: int
    health_port: int | None = None

    def __init__(self, encoders: Sequence[Any], options: ServeOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self._credentials = options.tls.credentials() if options.tls else None
        self._gate = Gate(Tokens(options.token_file) if options.token_file else None, self.metrics)
        self.models = Models([self._model(encoder) for encoder in encoders])
        self._health = _Health()
        self._server = self._assembled()
        self._probed = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
        self._open = ExitStack()
        self._watch: asyncio.Task[None] | None = None

    def _model(self, encoder: Any) -> Model:
        options = self.options
        observe = self.metrics.model(encoder.name, encoder.fingerprint)
        engine = Engine(
            encoder,
            limits=options.limits.photo,
            batch=options.batch,
            wait=options.wait,
            queue=options.queue,
            workers=options.decode_workers,
            nvjpeg=options.nvjpeg,
            observe=observe,
        )
        self.metrics.watch_health(encoder.name, encoder.fingerprint, lambda: engine.healthy)
        return Model(engine, observe)

    def _assembled(self) -> grpc.aio.Server:
        options = self.options
        server = grpc.aio.server(
            interceptors=[self._gate],
            maximum_concurrent_rpcs=CALLS,
            options=[
                ("grpc.max_receive_message_length", options.limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a port that is taken is an error
                ("grpc.max_connection_age_ms", 300_000),  # calls end as they would; then clients see who else is there
                ("grpc.keepalive_time_ms", 60_000),  # a client that is gone without a word holds nothing for long
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", PING_MS),
            ],
        )
        rate = RateLimit(options.rate, options.limits.items) if options.rate else None
        service = EncoderService(self.models, options.limits, rate, self._gate.draining)
        add_EncoderServicer_to_server(service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if options.reflection:
            from grpc_reflection.v1alpha import reflection

            reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    async def start(self) -> None:
        """Listen at once, NOT_SERVING; warm the models up; then let calls in.

        Raises:
            CompsketchError: an address cannot be had.
            Exception: a model cannot encode; nothing is left running.
        """
        await self._health.tell(False)
        try:
            self.metrics_port = self._open.enter_context(
                scraped(self.metrics.registry, self.options.metrics_host, self.options.metrics_port)
            )
            self.port = _bind(self._server, self.options.host, self.options.port, "--port", self._credentials)
            await self._server.start()
            if self.options.health_port is not None:
                health = self.options.metrics_host, self.options.health_port
                self.health_port = _bind(self._probed, *health, "--health-port")
                await self._probed.start()
            for model in self.models:
                await model.engine.start()
        except BaseException:
            await self.close()
            raise
        self.metrics.watch_memory(model.engine.encoder.device for model in self.models)
        self._gate.open()
        await self._health.tell(True)
        self._watch = asyncio.create_task(self._watching())

    async def drain(self) -> None:
        """NOT_SERVING, let nothing more in, answer what was let in, close; at most `options.drain` seconds."""
        started = time.monotonic()
        self._gate.drain()
        await self._health.end()
        try:
            await asyncio.wait_for(self._gate.idle(), self.options.drain)
        except (TimeoutError, asyncio.TimeoutError):
            log.warning("drained for %g s; what is still under way is given up", self.options.drain)
        else:
            await self._gate.quiet(QUIET_SECONDS, LINGER_SECONDS)
            await self._server.stop(min(FLUSH_SECONDS, max(0.0, started + self.options.drain - time.monotonic())))
        await self.close()

    async def close(self) -> None:
        """End everything at once. Safe to call twice."""
        self._gate.drain()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._server.stop(0)
        await self._probed.stop(0)
        for model in self.models:
            await model.engine.close()
        self._open.close()

    async def _watching(self) -> None:
        """Keep health in step with the models'."""
        before = True
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            now = all(model.engine.healthy for model in self.models)
            if now != before:
                log.log(logging.INFO if now else logging.ERROR, "serving again" if now else "a model does not encode")
                await self._health.tell(now)
            before = now


def _bind(
    server: grpc.aio.Server, host: str, port: int, flag: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Take an address; the port."""
    address = _address(host, port)
    try:
        if credentials is None:
            taken = server.add_insecure_port(address)
        else:
            taken = server.add_secure_port(address, credentials)
    except RuntimeError:
        taken = 0
    if not taken:
        raise CompsketchError(f"{address} cannot be had: it is taken, or not of this machine; choose another {flag}")
    return int(taken)


async def serve(encoders: Sequence[Any], options: ServeOptions, ready: Callable[[Server], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends it at once. For the main thread.

    Args:
        encoders: what is served, the default first.
        options: how.
        ready: called when calls are let in.

    Raises:
        CompsketchError: an address, a file or an encoder is not what it has to be.
    """
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    hurried = asyncio.Event()

    def heed() -> None:
        (hurried if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)
    with json_log():
        server = Server(encoders, options)
        if options.insecure and not _loopback(options.host):
            log.warning("--insecure: whoever reaches %s may call, and read what others send", options.host)
        starting = asyncio.ensure_future(server.start())
        await _first(starting, asked.wait())
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        log.info("serving", extra={"fields": {"address": options.host, "port": server.port}})
        ready(server)
        await asked.wait()
        log.info("draining")
        await _first(draining := asyncio.ensure_future(server.drain()), hurried.wait())
        if draining.done():
            draining.result()
        else:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            await server.close()
        log.info("stopped")


async def _first(one: asyncio.Future[None], other: Any) -> None:
    """Resolves when either has."""
    second = asyncio.ensure_future(other)
    await asyncio.wait({one, second}, return_when=asyncio.FIRST_COMPLETED)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
