"""Metrics on a port of their own, for Prometheus to ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from encoders.errors import CompsketchError

__all__ = ["scraped"]


@contextmanager
def scraped(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Answer Prometheus at this address; 0 is a free port.

    Yields:
        The port.

    Raises:
        CompsketchError: the address cannot be had.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise CompsketchError(
            f"metrics cannot be had at {host}:{port} ({getattr(error, 'strerror', None) or error}); "
            "choose another --metrics-port"
        ) from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
