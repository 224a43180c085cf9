"""The flags by which commands answer Prometheus, and the port at which they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from compsketch_milvus.terminal import note

__all__ = ["MetricsHost", "MetricsPort", "scraped_at"]

MetricsPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Answer Prometheus at this port; 0 takes a free one  [default: no metrics]"),
]
MetricsHost = Annotated[str, typer.Option(help="Address of the metrics")]
M = TypeVar("M", bound=Any)


@contextmanager
def scraped_at(host: str, port: int | None, make: Callable[[], M]) -> Iterator[M | None]:
    """Answer Prometheus at an address, and say at which.

    Args:
        host: loopback unless told otherwise.
        port: 0 for a free one; None for no metrics at all.
        make: makes the metrics, which have a `registry`.

    Yields:
        The metrics, if there is a port.

    Raises:
        CompsketchError: the address cannot be had.
        ModuleNotFoundError: prometheus-client is not installed.
    """
    if port is None:
        yield None
        return
    from encoders.serving.scraping import scraped

    metrics = make()
    with scraped(metrics.registry, host, port) as taken:
        note(f"metrics at http://{f'[{host}]' if ':' in host else host}:{taken}/metrics")
        yield metrics
