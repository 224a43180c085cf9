"""What an index costs and what it gives, so that nobody has to choose blindly.

Bytes are computed from how faiss and cuVS lay an index out, not measured. Recall was measured on made-up vectors, once
each: the figures are orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["GPU_HITS", "MAX_HITS", "Consequences", "consequences"]

MAX_HITS, GPU_HITS = 16384, 1024  # Milvus' own bound of a search's limit, and that of its indexes on a GPU
_EXACT = ("FLAT", "BRUTE_FORCE", "GPU_BRUTE_FORCE")
# Their distances are exact. All others quantise, or may (AUTOINDEX), and their answers are ranked again.
_TRUE_DISTANCES = (*_EXACT, "HNSW", "IVF_FLAT", "GPU_CAGRA", "GPU_IVF_FLAT")
_LIST_ID = 8  # bytes of a row's number in an inverted list
_PQ_RECALL = (
    "the true top 10 are among the 200 that are ranked again on the stored vectors; by the index alone recall@10 is "
    ".63, recall@200 .88 (100,000 x 256-D, nlist 1600, nprobe 8 and up)"
)
_LITE = "of the top 200 (Milvus Lite, 50,000 x 256-D)"
_PHOTOS = "of the top 200 (100,000 x 256-D made of real photos', nlist 1600, nprobe 64)"
_RECALL = {
    **dict.fromkeys(_EXACT, "exact"),
    "IVF_PQ": _PQ_RECALL,
    "GPU_IVF_PQ": f"not measured on a GPU; the same quantiser on a CPU: {_PQ_RECALL}",
    "HNSW": f".995 {_LITE}",
    "HNSW_SQ": f".994 {_LITE}, before they are ranked again",
    "IVF_FLAT": f".97 {_PHOTOS}; .93 {_LITE}, nlist 128, nprobe 16",
    "IVF_SQ8": f".97 {_PHOTOS}, where IVF_PQ has .72; .93 {_LITE}, nlist 128, nprobe 16; before they are ranked again",
}


@dataclass(frozen=True)
class Consequences:
    """What an index costs and gives.

    Args:
        lossy: whether its distances are approximate, so that hits have to be ranked again on the stored vectors.
        recall: in words.
        bytes_per_row: of the index, beside the stored vector; None where the server decides.
        bytes_per_segment: what each segment holds once, centroids and codebooks; fewer where it has few rows.
        max_hits: the most hits that a search may ask for. Indexes on a GPU have no range search either, so that a least
            score is applied here, to what a search brings.
    """

    lossy: bool
    recall: str
    bytes_per_row: float | None
    bytes_per_segment: int = 0
    max_hits: int = MAX_HITS

    def report(self, rows: int, dim: int) -> dict[str, Any]:
        """As a JSON object, with `index_bytes` and `raw_bytes` (the stored vectors) of so many rows in one segment."""
        per_row = self.bytes_per_row
        total = None if per_row is None else round(rows * per_row) + (self.bytes_per_segment if rows else 0)
        return {**asdict(self), "index_bytes": total, "raw_bytes": rows * 4 * dim}


def consequences(kind: str, params: Mapping[str, Any], dim: int) -> Consequences:
    """Those of an index type with its building parameters, for vectors of `dim` float32."""
    per_row, per_segment = _bytes(kind, params, dim)
    limited = kind.startswith("GPU_") and kind != "GPU_BRUTE_FORCE"
    return Consequences(
        lossy=kind not in _TRUE_DISTANCES,
        recall=_RECALL.get(kind, "not measured"),
        bytes_per_row=per_row,
        bytes_per_segment=per_segment,
        max_hits=GPU_HITS if limited else MAX_HITS,
    )


def _bytes(kind: str, params: Mapping[str, Any], dim: int) -> tuple[float | None, int]:
    """Bytes a row and bytes a segment."""
    vector, centroids = 4 * dim, 4 * dim * int(params.get("nlist", 0))
    if kind in _EXACT:
        return float(vector), 0
    if kind in ("IVF_FLAT", "GPU_IVF_FLAT"):
        return float(vector + _LIST_ID), centroids
    if kind == "IVF_SQ8":
        return float(dim + _LIST_ID), centroids
    if kind in ("IVF_PQ", "GPU_IVF_PQ"):
        cached = vector if params.get("cache_dataset_on_device") == "true" else 0
        code = int(params["m"]) * int(params["nbits"]) / 8
        return code + _LIST_ID + cached, centroids + 4 * dim * (1 << int(params["nbits"]))
    if kind in ("HNSW", "HNSW_SQ"):
        links = 4 * 2 * int(params["M"])  # those of the lowest layer; the layers above add a few per cent
        return float((vector if kind == "HNSW" else dim) + links), 0
    if kind == "GPU_CAGRA":
        return float(vector + 4 * int(params.get("graph_degree", 64))), 0
    return None, 0  # SCANN and AUTOINDEX: the version of the server decides
