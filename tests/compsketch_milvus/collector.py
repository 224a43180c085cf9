"""Something that takes spans, as OpenTelemetry's collector does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

__all__ = ["collector"]


@contextmanager
def collector() -> Iterator[tuple[list[bytes], dict[str, str]]]:
    """Yields the messages that have come, each of some spans, and the variables by which a program sends its own."""
    received: list[bytes] = []

    def export(message: bytes, _: object) -> bytes:
        received.append(message)
        return b""

    method = grpc.unary_unary_rpc_method_handler(export)
    service = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService", {"Export": method}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield received, {"COMPSKETCH_TRACING": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    finally:
        server.stop(0).wait(5)
