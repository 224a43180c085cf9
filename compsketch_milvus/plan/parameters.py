"""What a plan is asked with: everything that nobody can measure for others, with defaults that are stated as such."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from compsketch_milvus.errors import CompsketchError

__all__ = ["Parameters", "photo_counts"]

MOST_PHOTOS = 10**12
MOST = 2**31 - 1  # of what is counted


def _given(default: Any, text: str, unit: str = "", *, least: float = 0.0, most: float = math.inf) -> Any:
    """A field with its text for `--help`, its unit and its bounds."""
    return field(default=default, metadata={"text": text, "unit": unit, "least": least, "most": most})


def _whole(default: int, text: str, unit: str = "") -> Any:
    return _given(default, text, unit, least=1, most=MOST)


_SMALLEST = 1e-9  # more than nothing


@dataclass(frozen=True)
class Parameters:
    """One deployment. Each field is a flag of `compsketch plan`; the defaults are assumptions, all of them.

    Raises:
        CompsketchError: a value that there cannot be; the message names the flag.
    """

    dim: int = _whole(256, "Length of a vector")
    m: int = _whole(16, "Parts that the index cuts a vector into")
    nbits: int = _whole(8, "Bits a part")
    nlist: int = _whole(1600, "Coarse centroids of each segment")
    gpu: bool = _given(False, "GPU_IVF_PQ and encoders on GPUs, in place of CPUs and IVF_PQ (of Milvus 2.4 or newer)")
    keep_features: bool = _given(False, "Count features that are kept for projections to come")
    features: int = _whole(6272, "Their length: 6272 of the shipped bundle, 40768 of the paper's GoogLeNet")
    field_bytes: float = _given(0.0, "Fields of your own", "bytes/photo")
    replicas: int = _whole(1, "Copies of the collection in memory")
    segment_rows: int = _whole(1_000_000, "Photos of a sealed segment; as deploy/milvus sets it", "photos")
    growth: float = _given(0.3, "Part by which the photos may grow before nodes are added", most=1000)
    node_memory: float = _given(32.0, "Memory of a query node", "GiB", least=_SMALLEST)
    gpu_memory: float = _given(24.0, "Memory of a query node's GPU", "GiB", least=_SMALLEST)
    fill: float = _given(0.7, "Part of a memory that photos may take", least=_SMALLEST, most=1)
    gpu_pool: float = _given(4.0, "What Milvus keeps of a GPU for searches, its gpu.maxMemSize", "GiB")
    encoders: int = _whole(1, "Encoders at work, each as the one that was measured or as --encode-rate says")
    encode_rate: float | None = _given(
        None, "Of one encoder  [default: as measured on a CPU]", "photos/s", least=_SMALLEST
    )
    index_nodes: int = _whole(1, "Index nodes at work")
    build_rate: float | None = _given(
        None, "Of one index node  [default: as measured on a CPU]", "photos/s", least=_SMALLEST
    )
    node_price: float = _given(0.25, "A query or index node, in any money", "money/h")
    gpu_price: float = _given(0.75, "Its GPU", "money/h")
    encoder_price: float = _given(0.1, "An encoder's machine", "money/h")
    storage_price: float = _given(0.025, "Storage", "money/GiB/month")

    def __post_init__(self) -> None:
        for one in fields(self):
            self._check(one.name, getattr(self, one.name), one.metadata["least"], one.metadata["most"])
        if self.gpu and self.gpu_pool >= self.gpu_memory * self.fill:
            raise CompsketchError(
                f"--gpu-pool {self.gpu_pool:g}: {self.fill:g} of --gpu-memory {self.gpu_memory:g} leaves no room for "
                "an index beside it; give a larger GPU or a smaller pool"
            )

    @property
    def index_type(self) -> str:
        """Milvus' name."""
        return "GPU_IVF_PQ" if self.gpu else "IVF_PQ"

    def report(self) -> dict[str, dict[str, Any]]:
        """As JSON: each with its unit, and whether it is the default or was given by a flag."""
        return {
            one.name: {
                "value": (value := getattr(self, one.name)),
                "unit": one.metadata["unit"],
                "from": "default" if value == one.default else "flag",
            }
            for one in fields(self)
        }

    @staticmethod
    def _check(name: str, value: float | None, least: float, most: float) -> None:
        if value is None or (math.isfinite(value) and least <= value <= most):
            return
        if most < math.inf:
            bounds = f"above 0, up to {most:g}" if least == _SMALLEST else f"from {least:g} to {most:,g}"
        else:
            bounds = "above 0" if least == _SMALLEST else f"from {least:g}"
        raise CompsketchError(f"--{name.replace('_', '-')} {value:g}: it has to be {bounds}")


def photo_counts(text: str) -> list[int]:
    """The numbers of photos in "100000,1000000", in their order.

    Raises:
        CompsketchError: one is no whole number from 1 to 10^12.
    """
    counts = []
    for part in text.split(","):
        digits = part.strip().replace("_", "")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and 1 <= int(digits) <= MOST_PHOTOS):
            raise CompsketchError(
                f"--photos {text[:60]!r}: {part.strip()[:30]!r} is no whole number of photos from 1 to "
                f"{MOST_PHOTOS:,}; write for example 1000000, or several: 100000,1000000"
            )
        counts.append(int(digits))
    return counts
