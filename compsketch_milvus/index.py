"""Which vector index a server can give, and why: a pure function of what is known about the server.

IVF_PQ's figures are the paper's (section 4): 1600 coarse centroids, vectors cut into 16 parts of 8 bits. The rows at
which Milvus Lite changes from FLAT to HNSW were measured: at 20,000 x 256 a FLAT search takes some 50 ms, and the
HNSW index takes 20 to 30 s of two cores to build.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CollectionError
from encoders.evaluation.quantised import NLIST, lists

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["LITE_TYPES", "SERVER_TYPES", "IndexChoice", "ServerFacts", "choose", "probe"]

FLAT_ROWS = 20_000  # Milvus Lite searches up to this many rows exactly
_LITE_PREFIX = "milvus_lite-"

LITE_TYPES = ("FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
_GPU_TYPES = ("GPU_BRUTE_FORCE", "GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ")
SERVER_TYPES = ("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN", "AUTOINDEX", *_GPU_TYPES)
# Their distances are exact. All others quantise, or may (AUTOINDEX), and their answers are ranked again.
_EXACT_DISTANCES = ("FLAT", "BRUTE_FORCE", "HNSW", "IVF_FLAT", "GPU_BRUTE_FORCE", "GPU_CAGRA", "GPU_IVF_FLAT")


@dataclass(frozen=True)
class ServerFacts:
    """What the choice of an index hangs on.

    Args:
        kind: "lite" (Milvus Lite, in this process) or "server".
        version: as the server gives it.
        gpu: whether the server builds GPU indexes.
        rows: rows in the collection, 0 where it is new.
        dim: length of a vector.
    """

    kind: str
    version: str
    gpu: bool = False
    rows: int = 0
    dim: int = 0


@dataclass(frozen=True)
class IndexChoice:
    """An index and why it was chosen.

    Args:
        type: Milvus' name of it.
        params: for building.
        search_params: for searching.
        reason: one sentence for people.
        lossy: whether its distances are approximate, so that hits have to be ranked again on the stored vectors.
    """

    type: str
    params: dict[str, Any]
    search_params: dict[str, Any]
    reason: str
    lossy: bool = field(default=False)


def choose(facts: ServerFacts, want: str = "auto", params: dict[str, Any] | None = None) -> IndexChoice:
    """Choose an index, or check the one that is wanted.

    Args:
        facts: what is known about the server and the collection.
        want: "auto", or the name of an index type.
        params: building parameters that replace the defaults of the same names.

    Raises:
        CollectionError: this kind of server has no such index type; the message lists those it has.
    """
    kind, reason = (want.upper(), "asked for by name") if want.lower() != "auto" else _automatic(facts)
    known = LITE_TYPES if facts.kind == "lite" else SERVER_TYPES
    if kind not in known:
        backend = f"{'Milvus Lite' if facts.kind == 'lite' else 'Milvus'} {facts.version}"
        raise CollectionError(f"index {want!r}: {backend} has no such type; it has {', '.join(known)}")
    building, searching = _defaults(kind, facts)
    building = {**building, **(params or {})}
    if "nprobe" in searching and "nlist" in building:
        searching["nprobe"] = min(searching["nprobe"], int(building["nlist"]))
    return IndexChoice(kind, building, searching, reason, lossy=kind not in _EXACT_DISTANCES)


def _automatic(facts: ServerFacts) -> tuple[str, str]:
    if facts.kind == "lite":
        if facts.rows <= FLAT_ROWS:
            return (
                "FLAT",
                f"Milvus Lite, {facts.rows} rows when chosen: up to {FLAT_ROWS} an exact search is fast enough",
            )
        return "HNSW", f"Milvus Lite, {facts.rows} rows when chosen: over {FLAT_ROWS} an exact search is too slow"
    lists = _nlist(facts.rows)
    if facts.gpu:
        return "GPU_IVF_PQ", f"Milvus {facts.version} with a GPU: the paper's quantiser, nlist {lists}"
    return "IVF_PQ", f"Milvus {facts.version} without a GPU: the paper's quantiser on the CPU, nlist {lists}"


def _defaults(kind: str, facts: ServerFacts) -> tuple[dict[str, Any], dict[str, Any]]:
    if kind in ("IVF_PQ", "GPU_IVF_PQ"):
        # nprobe: recall no longer grows from 8 on; 64 costs no more and is kind to uneven lists.
        return {"nlist": _nlist(facts.rows), "m": _parts(facts.dim), "nbits": 8}, {"nprobe": 64}
    if kind in ("IVF_FLAT", "IVF_SQ8", "GPU_IVF_FLAT", "SCANN"):
        return {"nlist": min(128, _nlist(facts.rows))}, {"nprobe": 16}
    if kind in ("HNSW", "HNSW_SQ"):
        return {"M": 16, "efConstruction": 200}, {"ef": 256}
    return {}, {}


def _nlist(rows: int) -> int:
    """The paper's lists, or fewer for few rows.

    A new collection (0 rows) gets 1600: it is about to be filled, and Milvus bounds the lists of a small segment.
    """
    return NLIST if rows == 0 else lists(rows)


def _parts(dim: int) -> int:
    """Sixteen parts, or the most below sixteen that cut `dim` evenly."""
    return next(m for m in range(16, 0, -1) if dim % m == 0)


def probe(client: MilvusClient, uri: str) -> ServerFacts:
    """Tell Milvus Lite from a server, and its version. Whether it has a GPU is not asked: name a GPU index to use one.

    Args:
        client: open connection.
        uri: what it was opened with; an address without a scheme is a Milvus Lite file.
    """
    version = str(client.get_server_version(timeout=10))
    if version.startswith(_LITE_PREFIX) or ("://" not in uri and not uri.startswith("unix:")):
        return ServerFacts("lite", version.removeprefix(_LITE_PREFIX))
    return ServerFacts("server", version)
