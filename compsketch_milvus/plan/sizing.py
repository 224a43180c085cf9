"""How much of everything so many photos need. Arithmetic on three kinds of numbers, told apart in every answer:

- measured: `figures.json`, on one machine with a CPU and one Milvus; outside of what was measured, extrapolated;
- arithmetic: bytes that follow from how vectors and codes are laid out (`consequences.py`);
- given: `Parameters`, by a flag or by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from compsketch_milvus.consequences import Consequences, consequences
from compsketch_milvus.index import ServerFacts, choose
from compsketch_milvus.plan.figures import Figures
from compsketch_milvus.plan.parameters import Parameters
from compsketch_milvus.plan.quantities import ARITHMETIC, GIVEN, Quantity

__all__ = ["Need", "needs"]

GIB, HOUR, MONTH = 2**30, 3600, 730  # bytes, seconds, hours


@dataclass(frozen=True)
class Need:
    """One line of a plan.

    Args:
        name: of the line.
        unit: "bytes", "machines", "GPUs", "hours", "money" or "money a month".
        quantity: how much.
        how: what it is made of, in words.
    """

    name: str
    unit: str
    quantity: Quantity
    how: str

    def report(self) -> dict[str, Any]:
        """As JSON."""
        quantity = self.quantity
        return {
            "name": self.name,
            "unit": self.unit,
            "value": quantity.value,
            "from": sorted(quantity.sources),
            "extrapolated": quantity.extrapolated,
            "lacking": quantity.lacking or None,
            "how": self.how,
        }


def needs(photos: int, parameters: Parameters, figures: Figures) -> list[Need]:
    """What a collection needs, line by line.

    Args:
        photos: how many, 1 or more.
        parameters: what is given.
        figures: what was measured.

    Raises:
        CompsketchError: an index that there cannot be, such as one whose m does not divide the vectors.
    """
    return list(_Sizing(photos, parameters, figures).lines())


@dataclass
class _Sizing:
    """The formulas; each quantity is one property, so that those that build on it read like the sentence in `how`."""

    photos: int
    given: Parameters
    figures: Figures

    def lines(self) -> Iterator[Need]:
        given = self.given
        yield Need("index", "bytes", self.index(self.photos), "codes, list ids, and each segment's centroids")
        yield Need("vectors", "bytes", self.vectors, "4 bytes a number")
        yield Need("storage", "bytes", self.storage, "index, vectors, what a store keeps beside them, own fields")
        if given.keep_features:
            yield Need("kept features", "bytes", self.kept_features, "parquet in half precision")
        yield Need("memory of a replica", "bytes", self.memory(self.photos), "of a server that has loaded them")
        how = f"of {given.node_memory:g} GiB: memory with --growth by --fill of that, x --replicas"
        yield Need("query nodes", "machines", self.nodes, how)
        if given.gpu:
            yield Need("GPU memory of a replica", "bytes", self.gpu_memory, "the index and a pool on each GPU")
            how = f"of {given.gpu_memory:g} GiB, one a node: the index with --growth by what --gpu-pool leaves"
            yield Need("GPUs", "GPUs", self.gpus, how)
        yield Need("encoding", "hours", self.encoding, "photos by the rate of --encoders")
        yield Need("storing", "hours", self.storing, "one writer")
        yield Need("building", "hours", self.building, "the index, on --index-nodes")
        yield Need("loading", "hours", self.loading, "one query node")
        yield Need("once", "money", self.once, "encoders and index nodes for their hours")
        yield Need("running", "money a month", self.monthly, f"query nodes for {MONTH} hours, and storage")

    def flag(self, name: str) -> Quantity:
        """A parameter."""
        return Quantity.of(getattr(self.given, name), GIVEN)

    def index(self, rows: float) -> Quantity:
        """Bytes of the index of some rows."""
        segments = -(-rows // self.given.segment_rows)
        return Quantity.of(rows * self._per_row + segments * self._code.bytes_per_segment, ARITHMETIC)

    @property
    def vectors(self) -> Quantity:
        return Quantity.of(self.photos * 4 * self.given.dim, ARITHMETIC)

    @property
    def storage(self) -> Quantity:
        beside = self.figures.of("other_storage") + self.flag("field_bytes")
        return self.index(self.photos) + self.vectors + beside * self.photos

    @property
    def kept_features(self) -> Quantity:
        """In proportion to their length, which for another length than the measured one is extrapolated."""
        measured = self._measured("features")
        each = self.figures.of("kept_features") * (self.given.features / measured)
        return (each * self.photos).outside(self.given.features != measured)

    def memory(self, rows: float) -> Quantity:
        """As measured; of longer vectors in proportion, of a larger code as much more as that is larger."""
        held = self.figures.at("memory", rows) * max(1.0, self.given.dim / self._measured("dim"))
        code = {name: self._measured(name) for name in ("m", "nbits", "nlist")}
        larger = self._per_row - (consequences("IVF_PQ", code, self._measured("dim")).bytes_per_row or 0.0)
        if larger > 0:
            held = held + Quantity.of(larger * rows, ARITHMETIC)
        return (held + self.flag("field_bytes") * rows).outside(self._elsewhere)

    @property
    def nodes(self) -> Quantity:
        """With a GPU in each, where there are GPUs."""
        room = self.flag("node_memory") * GIB * self.flag("fill")
        nodes = (self.memory(self._grown) / room).whole() * self.flag("replicas")
        return nodes.at_least(self.gpus) if self.given.gpu else nodes

    @property
    def _gpus_of_a_replica(self) -> Quantity:
        room = self.flag("gpu_memory") * self.flag("fill") - self.flag("gpu_pool")
        return (self.index(self._grown) / (room * GIB)).whole()

    @property
    def gpus(self) -> Quantity:
        return self._gpus_of_a_replica * self.flag("replicas")

    @property
    def gpu_memory(self) -> Quantity:
        return self.index(self.photos) + self._gpus_of_a_replica * self.flag("gpu_pool") * GIB

    @property
    def encoding(self) -> Quantity:
        if self.given.encode_rate is not None:
            rate = self.flag("encode_rate")
        elif self.given.gpu:
            rate = Quantity.unknown("no encoder was measured on a GPU: give --encode-rate")
        else:
            rate = self.figures.of("encoding")
        return Quantity(float(self.photos)) / (rate * self.flag("encoders")) / HOUR

    @property
    def storing(self) -> Quantity:
        longer = max(1.0, self.given.dim / self._measured("dim"))
        return (self.figures.at("storing", self.photos) * longer / HOUR).outside(self._elsewhere)

    @property
    def building(self) -> Quantity:
        """Index nodes share the segments; a segment is built by one of them."""
        one_segment = self._build_hours(min(self.photos, self.given.segment_rows))
        return (self._build_hours(self.photos) / self.flag("index_nodes")).at_least(one_segment)

    def _build_hours(self, rows: int) -> Quantity:
        """Of one index node. Training and assigning both take time by the lists and by a vector's length."""
        if self.given.build_rate is not None:
            return Quantity(float(rows)) / self.flag("build_rate") / HOUR
        if self.given.gpu:
            return Quantity.unknown("no index was built on a GPU: give --build-rate")
        longer = self.given.dim * self.given.nlist / (self._measured("dim") * self._measured("nlist"))
        return (self.figures.at("building", rows) * max(1.0, longer) / HOUR).outside(self._elsewhere)

    @property
    def loading(self) -> Quantity:
        return (self.figures.at("loading", self.photos) / HOUR).outside(self._elsewhere)

    @property
    def once(self) -> Quantity:
        """All encoders, and the index nodes that have work, are paid for by the hour."""
        node = self.flag("node_price") + self.flag("gpu_price") if self.given.gpu else self.flag("node_price")
        encoders = self.encoding * self.flag("encoders") * self.flag("encoder_price")
        return encoders + self._build_hours(self.photos) * node

    @property
    def monthly(self) -> Quantity:
        kept = self.storage + self.kept_features if self.given.keep_features else self.storage
        nodes = self.nodes * self.flag("node_price")
        if self.given.gpu:
            nodes = nodes + self.gpus * self.flag("gpu_price")
        return nodes * MONTH + kept / GIB * self.flag("storage_price")

    @property
    def _grown(self) -> float:
        return self.photos * (1 + self.given.growth)

    @cached_property
    def _code(self) -> Consequences:
        given = self.given
        server = ServerFacts("server", "", "yes" if given.gpu else "no", dim=given.dim)
        return choose(server, given.index_type, {"m": given.m, "nbits": given.nbits, "nlist": given.nlist}).consequences

    @property
    def _per_row(self) -> float:
        return self._code.bytes_per_row or 0.0

    def _measured(self, name: str) -> int:
        """What the measured collections had; as given, where nothing was measured."""
        return int(self.figures.setting.get(name, getattr(self.given, name)))

    @property
    def _elsewhere(self) -> bool:
        """Whether the index is another than the one that was measured."""
        names = ("dim", "m", "nbits", "nlist")
        return self.given.gpu or any(self._measured(name) != getattr(self.given, name) for name in names)
