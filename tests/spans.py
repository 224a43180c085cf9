"""What OpenTelemetry heard, as trees."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Heard:
    """A provider, and the spans that ended."""

    def __init__(self) -> None:
        self.provider, self._exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def clear(self) -> None:
        """Forget what was heard."""
        self._exporter.clear()

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of a name."""
        return [span for span in self.all if span.name == name]

    def tree(self, below: int | None = None) -> list[Any]:
        """The spans below another one, or without a parent, each as (name, [children]), in the order of their names."""
        found = [span for span in self.all if (span.parent.span_id if span.parent else None) == below]
        return sorted((span.name, self.tree(span.context.span_id)) for span in found)

    def everything(self) -> str:
        """All that any span says, to look for what none may say."""
        return "\n".join(span.to_json() for span in self.all)
