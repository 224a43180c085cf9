"""The server's metrics, as Prometheus asks for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from encoders.serving.faults import Reason
from encoders.serving.lanes import Lane

__all__ = ["Metrics", "ModelMetrics"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EXPIRED = "expired"
MODEL = ("model", "fingerprint")


class Metrics:
    """All metrics of one server. A `gate.Tally`, and `model` gives the engines' observers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry, "namespace": "compsketch_encoder"}
        self.calls = Counter("calls", "Calls that have ended", ("method", "code"), **known)
        self.call_seconds = Histogram("call_seconds", "How long calls took", ("method",), buckets=SECONDS, **known)
        self.rows = Counter("rows", "Rows answered", (*MODEL, "kind", "lane"), **known)
        self.seconds = Histogram(
            "seconds", "Time in a stage, or in the queue before it", (*MODEL, "stage", "lane"), buckets=SECONDS, **known
        )
        self.batches = Histogram("batch_rows", "Rows of a batch", (*MODEL, "lane"), buckets=ROWS, **known)
        self.depth = Gauge("queue_depth", "Rows under way", (*MODEL, "lane"), **known)
        self.rejects = Counter("rejects", "Rows without an answer", (*MODEL, "reason", "lane"), **known)
        self.healthy = Gauge("healthy", "Whether the model encodes", MODEL, **known)

    def call(self, method: str, code: str, seconds: float) -> None:
        """A call has ended."""
        self.calls.labels(method, code).inc()
        self.call_seconds.labels(method).observe(seconds)

    def model(self, name: str, fingerprint: str) -> ModelMetrics:
        """The part of one model."""
        return ModelMetrics(self, (name, fingerprint))

    def watch_health(self, name: str, fingerprint: str, healthy: Callable[[], bool]) -> None:
        """Ask a model for its health whenever Prometheus does."""
        self.healthy.labels(name, fingerprint).set_function(lambda: float(healthy()))

    def watch_memory(self, devices: Iterable[str]) -> None:
        """Tell the memory of the GPUs among the devices."""
        gpus = sorted({device for device in devices if device.startswith("cuda")})
        if gpus:
            self.registry.register(_GpuMemory(gpus))


class ModelMetrics:
    """One model's part: the `observer.Observer` of its engine."""

    def __init__(self, all_models: Metrics, labels: tuple[str, str]) -> None:
        self._all, self._labels = all_models, labels
        for lane in Lane:  # there from the start, so that a rate has something to begin from
            self.depth(lane, 0)
            for reason in (*(reason.name.lower() for reason in Reason), EXPIRED):
                self._all.rejects.labels(*labels, reason, lane.value)

    def rows(self, kind: str, lane: Lane, count: int) -> None:
        """See `Observer`."""
        self._all.rows.labels(*self._labels, kind, lane.value).inc(count)

    def seconds(self, stage: str, lane: Lane, seconds: float) -> None:
        """See `Observer`."""
        self._all.seconds.labels(*self._labels, stage, lane.value).observe(seconds)

    def batch(self, lane: Lane, rows: int) -> None:
        """See `Observer`."""
        self._all.batches.labels(*self._labels, lane.value).observe(rows)

    def depth(self, lane: Lane, rows: int) -> None:
        """See `Observer`."""
        self._all.depth.labels(*self._labels, lane.value).set(rows)

    def rejected(self, reason: Reason, lane: Lane) -> None:
        """See `Observer`."""
        self._all.rejects.labels(*self._labels, reason.name.lower(), lane.value).inc()

    def expired(self, lane: Lane) -> None:
        """See `Observer`."""
        self._all.rejects.labels(*self._labels, EXPIRED, lane.value).inc()


class _GpuMemory:
    """Of each GPU, what is taken by whomever, and what there is."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._devices = list(devices)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `prometheus_client.registry.Collector`."""
        family = GaugeMetricFamily("compsketch_encoder_gpu_memory_bytes", "Memory of a GPU", labels=("device", "kind"))
        cuda = sys.modules["torch"].cuda  # the encoder that is on a GPU has imported it
        for device in self._devices:
            free, total = cuda.mem_get_info(device)
            family.add_metric((device, "used"), total - free)
            family.add_metric((device, "total"), total)
        yield family
