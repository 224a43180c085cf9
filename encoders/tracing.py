"""Spans of OpenTelemetry around what takes time, where somebody listens; elsewhere nothing, not even an import.

An application that has set up a TracerProvider finds these spans in its traces. Where nobody has, `start` does it by
OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER.

Attributes are named by OpenTelemetry's semantic conventions. They hold numbers and names of operations and collections:
never a vector, a token, a filter, an image or a file's name. Of an error they hold its type alone, for its text may
quote any of these.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from encoders.errors import CompsketchError
from encoders.request import current, ongoing

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider
    from typing_extensions import Self

__all__ = ["OFF", "Span", "flush", "injected", "listening", "operation", "span", "start", "trace_id", "waited"]

PACKAGE = "compsketch-milvus"
Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Value] | Callable[[], Mapping[str, Value]]


class Span:
    """A span that nobody listens to, and what the others can do. A context manager, for one thread or task."""

    __slots__ = ()

    def set(self, name: str, value: Value) -> None:
        """Give it an attribute."""

    def rename(self, name: str) -> None:
        """Call it otherwise, once more is known."""

    def fail(self, reason: str) -> None:
        """Mark it as failed, by the kind of the failure; the first one stays."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None


OFF = Span()


class _Recorded(Span):
    """A span of OpenTelemetry's, current inside its block; what is raised there fails it."""

    __slots__ = ("_failed", "_scope", "_span")

    def __init__(self, begun: Any) -> None:
        from opentelemetry.trace import use_span

        self._span, self._failed = begun, False
        self._scope = use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False)

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        if not self._failed:
            self._failed = True
            self._span.set_attribute("error.type", reason)
            self._span.set_status(StatusCode.ERROR, reason)

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None and not issubclass(kind, GeneratorExit):
            self.fail(kind.__name__)
        self._scope.__exit__(kind, *error)


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: str = "internal",
    carrier: Mapping[str, str] | None = None,
    links: Iterable[Context] = (),
) -> Span:
    """A span that begins now, and ends with its block: `with span("f_t", {"compsketch.rows": 3}): ...`.

    Args:
        name: one of few: no ids, no names of files.
        attributes: what is known of it; a function is only called if somebody listens.
        kind: "internal"; "server" or "client" of a call.
        carrier: headers or metadata of who asks, in lower case: it continues their trace. None: the current one.
        links: contexts of other spans that it works for, too.
    """
    tracer = _tracer()
    if tracer is None:
        return OFF
    from opentelemetry import propagate
    from opentelemetry.trace import Link, SpanKind

    about = dict(attributes() if callable(attributes) else attributes or {})
    if id := current():
        about["compsketch.request_id"] = id
    begun = tracer.start_span(
        name,
        context=None if carrier is None else propagate.extract(carrier),
        kind=SpanKind[kind.upper()],
        attributes=about,
        links=[Link(place) for place in _places(links)],
    )
    return _Recorded(begun)


@contextmanager
def operation(name: str, attributes: Attributes | None = None) -> Iterator[None]:
    """What a program asks for: a request, unless it is part of one, and a span."""
    with ongoing(), span(f"compsketch {name}", attributes):
        yield


def waited(name: str, seconds: float) -> None:
    """A span of a wait that has just ended, below the current one; without one there is none."""
    tracer = _tracer()
    if tracer is not None and trace_id():
        end = time.time_ns()
        tracer.start_span(name, start_time=end - int(seconds * 1e9)).end(end)


def listening() -> bool:
    """Whether anybody listens."""
    return _tracer() is not None


def injected() -> list[tuple[str, str]]:
    """What carries the current span to another process: headers, in lower case; none where nobody listens."""
    carrier: dict[str, str] = {}
    if listening():
        from opentelemetry import propagate

        propagate.inject(carrier)
    return list(carrier.items())


def trace_id() -> str:
    """Of the current span, as 32 hexadecimal digits; empty outside of any."""
    if not listening():
        return ""
    from opentelemetry.trace import get_current_span

    place = get_current_span().get_span_context()
    return f"{place.trace_id:032x}" if place.is_valid else ""


def start(service: str) -> None:
    """Set OpenTelemetry up by its variables, unless this process has a TracerProvider already.

    Args:
        service: its name in traces, where no variable gives one.

    Raises:
        CompsketchError: OpenTelemetry is not installed, or it has no exporter of that name.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise CompsketchError(
            f'COMPSKETCH_TRACING is set and {error.name} is not installed: pip install "{PACKAGE}[tracing]"'
        ) from error
    if listening():
        return
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": service}))
    for exporter in _exporters():
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # it exports what is left when the interpreter ends


def flush(seconds: float = 5.0) -> None:
    """Send what has ended and is not sent yet, for a process that is about to be killed."""
    if listening():
        from opentelemetry.trace import get_tracer_provider

        force = getattr(get_tracer_provider(), "force_flush", None)  # of the SDK's; an application may have another
        if force is not None:
            force(int(1000 * seconds))


def _exporters() -> Iterable[Any]:
    """As OTEL_TRACES_EXPORTER names them: "otlp", "console", "none", or whatever is installed; several with commas."""
    from importlib.metadata import entry_points

    for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        name = name.strip()
        if name == "none":
            continue
        if name == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            yield ConsoleSpanExporter(out=sys.stderr)  # standard output is for results
            continue
        if name == "otlp":
            protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
                "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
            )
            name = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}.get(protocol, f"otlp {protocol}")
        found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
        if not found:
            raise CompsketchError(
                f"OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_PROTOCOL: there is no exporter {name!r}; use otlp, with "
                "grpc or http/protobuf, or console, or none"
            )
        yield found[0].load()()


def _tracer() -> Tracer | None:
    """Where spans begin, if somebody has imported OpenTelemetry and set it up: nobody else could listen."""
    api = sys.modules.get("opentelemetry.trace")
    ask = getattr(api, "get_tracer_provider", None)  # not there yet while another thread imports it
    if ask is None or isinstance(provider := ask(), api.ProxyTracerProvider):  # type: ignore[union-attr]
        return None
    return _tracer_of(provider)


@lru_cache(maxsize=1)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer(PACKAGE)


def _places(contexts: Iterable[Context]) -> Iterable[Any]:
    """The spans of contexts, each once, and not the current one."""
    from opentelemetry.trace import get_current_span

    own = get_current_span().get_span_context()
    others = [context.run(get_current_span).get_span_context() for context in contexts]
    places = {(place.trace_id, place.span_id): place for place in others if place.is_valid}
    places.pop((own.trace_id, own.span_id), None)
    return places.values()
