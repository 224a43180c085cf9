"""Which vector index a server can give, and why: a pure function of what is known about the server.

IVF_PQ's figures are the paper's (section 4): 1600 coarse centroids, vectors cut into 16 parts of 8 bits. The rows at
which Milvus Lite changes from FLAT to HNSW were measured: at 20,000 x 256 a FLAT search takes some 50 ms, and the
HNSW index takes 20 to 30 s of two cores to build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compsketch_milvus.consequences import Consequences, consequences
from compsketch_milvus.errors import CollectionError
from encoders.evaluation.quantised import NLIST, POINTS_PER_LIST, lists

__all__ = [
    "GPU_TYPES",
    "LITE_TYPES",
    "PQ_LOSES",
    "SERVER_TYPES",
    "IndexChoice",
    "ServerFacts",
    "choose",
    "loses",
    "only_searches",
    "parts",
    "pays",
]

FLAT_ROWS = 20_000  # Milvus Lite searches up to this many rows exactly
PQ_LOSES = "IVF_PQ of a server before 2.4 loses answers once photos are deleted or filtered out"
_PQ_ALONE = {"m", "nbits"}  # parameters of no other index
OUTGROWN = 4  # times as many lists, or as few, before it pays to build an index again

# What each type is built and searched with. Milvus takes a misspelt name without a word, and ignores it.
_KMEANS = ("kmeans_n_iters", "kmeans_trainset_fraction")
_ON_DEVICE, _REFINE = "cache_dataset_on_device", "refine_ratio"
_PQ_EXTRAS = (_ON_DEVICE, *_KMEANS, "codebook_kind", "force_random_rotation")
_PQ_SEARCH = ("nprobe", _REFINE, "lut_dtype", "internal_distance_dtype")
_CAGRA = ("intermediate_graph_degree", "graph_degree", "build_algo", _ON_DEVICE, "adapt_for_cpu")
_CAGRA_SEARCH = ("itopk_size", "search_width", "min_iterations", "max_iterations", "team_size")
_PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "FLAT": ((), ()),
    "BRUTE_FORCE": ((), ()),
    "HNSW": (("M", "efConstruction"), ("ef",)),
    "HNSW_SQ": (("M", "efConstruction", "sq_type", "refine", "refine_type"), ("ef", "refine_k")),
    "IVF_FLAT": (("nlist",), ("nprobe",)),
    "IVF_SQ8": (("nlist",), ("nprobe",)),
    "IVF_PQ": (("nlist", "m", "nbits"), ("nprobe",)),
    "SCANN": (("nlist", "with_raw_data"), ("nprobe", "reorder_k")),
    "GPU_BRUTE_FORCE": ((), ()),
    "GPU_CAGRA": (_CAGRA, _CAGRA_SEARCH),
    "GPU_IVF_FLAT": (("nlist", *_KMEANS, "adaptive_centers"), ("nprobe",)),
    "GPU_IVF_PQ": (("nlist", "m", "nbits", *_PQ_EXTRAS), _PQ_SEARCH),
    "AUTOINDEX": ((), ()),
}
LITE_TYPES = ("FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
SERVER_TYPES = tuple(kind for kind in _PARAMETERS if kind != "BRUTE_FORCE")
GPU_TYPES = tuple(kind for kind in _PARAMETERS if kind.startswith("GPU_"))
_WITHOUT_GPU = {"GPU_IVF_PQ": "IVF_PQ", "GPU_IVF_FLAT": "IVF_FLAT", "GPU_BRUTE_FORCE": "FLAT", "GPU_CAGRA": "HNSW"}
# What has to be whole, and within which bounds; of a graph's the server knows the upper one.
_GRAPHS = ("M", "efConstruction", "ef", "graph_degree", "intermediate_graph_degree")
_WHOLE = {**dict.fromkeys(("nlist", "nprobe", "m"), (1, 65536)), **dict.fromkeys(_GRAPHS, (1, 2**31 - 1))}


@dataclass(frozen=True)
class ServerFacts:
    """What the choice of an index hangs on.

    Args:
        kind: "lite" (Milvus Lite, in this process) or "server".
        version: as the server gives it.
        gpu: whether the server builds GPU indexes: "yes", "no", or "unknown" where it was not asked.
        rows: rows in the collection, 0 where it is new.
        dim: length of a vector.
        gpu_reason: how that is known.
    """

    kind: str
    version: str
    gpu: str = "unknown"
    rows: int = 0
    dim: int = 0
    gpu_reason: str = ""

    @property
    def release(self) -> tuple[int, int]:
        """(2, 5) of "v2.5.4-gpu"; of what is no version, such as a build's name, the newest."""
        numbers = re.match(r"v?(\d+)\.(\d+)", self.version)
        return (int(numbers[1]), int(numbers[2])) if numbers else (99, 0)


@dataclass(frozen=True)
class IndexChoice:
    """An index and why it was chosen.

    Args:
        type: Milvus' name of it.
        params: for building.
        search_params: for searching.
        reason: one sentence for people.
        consequences: what it costs and gives.
    """

    type: str
    params: dict[str, Any]
    search_params: dict[str, Any]
    reason: str
    consequences: Consequences

    @property
    def lossy(self) -> bool:
        """Whether its distances are approximate, so that hits have to be ranked again on the stored vectors."""
        return self.consequences.lossy

    @property
    def max_hits(self) -> int:
        """The most hits that a search may ask for."""
        return self.consequences.max_hits


def only_searches(kind: str, params: Mapping[str, Any]) -> bool:
    """Whether all the parameters are for searching an index of a type, so that none is built for them."""
    return params.keys() <= set(_PARAMETERS[kind][1])


def choose(facts: ServerFacts, want: str = "auto", params: Mapping[str, Any] | None = None) -> IndexChoice:
    """Choose an index, or check the one that is wanted.

    A GPU index that the server is known not to build becomes its counterpart on the CPU, of the same parameters.

    Args:
        facts: what is known about the server and the collection.
        want: "auto", or the name of an index type.
        params: parameters that replace the defaults of the same names, for building or for searching.

    Raises:
        CollectionError: this kind of server has no such index type, or the type no such parameter; the message lists
            those it has.
    """
    given = {name: _lower(value) for name, value in (params or {}).items()}
    if want.lower() == "auto":
        kind, reason = _automatic(facts, given)
        _check(kind, given, facts.dim)
    else:
        kind, reason = _known(facts, want), "asked for by name"
        _check(kind, given, facts.dim)
        if kind in GPU_TYPES and facts.gpu == "no":
            reason = f"{kind} was wanted, but {facts.gpu_reason}: the nearest there is on the CPU"
            kind = _WITHOUT_GPU[kind]
            if loses(kind, facts):
                kind, reason = "IVF_SQ8", f"{reason}, as {PQ_LOSES}"
            given = {name: value for name, value in given.items() if name in (*_PARAMETERS[kind][0], "nprobe")}
    if loses(kind, facts):
        reason = f"{reason}, although {PQ_LOSES}"
    building, searching = _defaults(kind, facts)
    for name, value in given.items():
        (searching if name in _PARAMETERS[kind][1] else building)[name] = value
    if "nprobe" in searching and "nlist" in building:
        searching["nprobe"] = min(searching["nprobe"], building["nlist"])
    return IndexChoice(kind, building, searching, reason, consequences(kind, building, facts.dim))


def pays(old: IndexChoice, new: IndexChoice) -> bool:
    """Whether to build an index again that was chosen for another number of rows.

    To more lists when there would be four times as many; to fewer only on a GPU, as on a CPU Milvus itself trains at
    most one list for 39 rows of a segment. Never back to an exact search: an index that is there costs nothing more.
    """
    if old.type != new.type:
        return new.type != "FLAT"
    before, after = old.params.get("nlist", 1), new.params.get("nlist", 1)
    return bool(after >= OUTGROWN * before or (new.type in GPU_TYPES and before >= OUTGROWN * after))


def loses(kind: str, facts: ServerFacts) -> bool:
    """Whether this server answers wrongly through such an index once rows are deleted or filtered out.

    Measured on 2.3.5: without a tenth of the rows, a tenth of the true ten is left among 200 hits of IVF_PQ. IVF_SQ8
    and IVF_FLAT of the same server keep them. No newer server was at hand: that those are sound is an assumption that
    `compsketch canary` checks.
    """
    return kind == "IVF_PQ" and facts.release < (2, 4)


def parts(dim: int) -> int:
    """Sixteen parts, or the most below sixteen that cut `dim` evenly."""
    return next(m for m in range(16, 0, -1) if dim % m == 0)


def _known(facts: ServerFacts, want: str) -> str:
    known = LITE_TYPES if facts.kind == "lite" else SERVER_TYPES
    if want.upper() not in known:
        backend = f"{'Milvus Lite' if facts.kind == 'lite' else 'Milvus'} {facts.version}"
        raise CollectionError(f"index {want!r}: {backend} has no such type; it has {', '.join(known)}")
    return want.upper()


def _automatic(facts: ServerFacts, given: Mapping[str, Any]) -> tuple[str, str]:
    if facts.kind == "lite":
        chosen = f"Milvus Lite, {facts.rows} rows when chosen"
        if facts.rows <= FLAT_ROWS:
            return "FLAT", f"{chosen}: up to {FLAT_ROWS} an exact search is fast enough"
        return "HNSW", f"{chosen}: over {FLAT_ROWS} an exact search is too slow"
    server = f"Milvus {facts.version}, GPU indexes: {facts.gpu}{f' ({facts.gpu_reason})' if facts.gpu_reason else ''}"
    if facts.gpu == "yes":
        return "GPU_IVF_PQ", f"{server}; the paper's quantiser, {_lists_in_words(facts.rows)}"
    if loses("IVF_PQ", facts) and not _PQ_ALONE & given.keys():
        return "IVF_SQ8", f"{server}; {PQ_LOSES}, {_lists_in_words(facts.rows)}"
    return "IVF_PQ", f"{server}; the paper's quantiser on the CPU, {_lists_in_words(facts.rows)}"


def _lists_in_words(rows: int) -> str:
    if rows == 0:
        return f"nlist {NLIST} for a collection that is about to be filled"
    if rows >= NLIST * POINTS_PER_LIST:
        return f"nlist {NLIST}, {rows} rows when chosen"
    return f"nlist {lists(rows)}, the largest power of two that leaves {POINTS_PER_LIST} of {rows} rows to each list"


def _defaults(kind: str, facts: ServerFacts) -> tuple[dict[str, Any], dict[str, Any]]:
    # A new collection (0 rows) gets 1600 lists: it is about to be filled, and Milvus bounds those of a small segment.
    nlist = NLIST if facts.rows == 0 else lists(facts.rows)
    # 64 probes keep .99 of what all lists would give after the re-rank (tests/benchmarks/results/code-length.md).
    if kind in ("IVF_PQ", "GPU_IVF_PQ"):
        return {"nlist": nlist, "m": parts(facts.dim), "nbits": 8}, {"nprobe": 64}
    if kind in ("IVF_FLAT", "IVF_SQ8", "GPU_IVF_FLAT", "SCANN"):
        if facts.kind == "lite" or kind in GPU_TYPES:  # which make as many lists as they are told, however few the rows
            return {"nlist": min(128, nlist)}, {"nprobe": 16}
        return {"nlist": nlist}, {"nprobe": 64}
    if kind in ("HNSW", "HNSW_SQ"):
        return {"M": 16, "efConstruction": 200}, {"ef": 256}
    return {}, {}


def _lower(value: Any) -> Any:
    """Milvus reads its own true and false, in small letters, not Python's."""
    return str(value).lower() if isinstance(value, bool) else value


def _check(kind: str, given: Mapping[str, Any], dim: int) -> None:
    """Refuse parameters that the server would ignore, or refuse in words of its own."""
    building, searching = _PARAMETERS[kind]
    known = (*building, *searching)
    for name, value in given.items():
        if name not in known:
            raise CollectionError(f"index parameter {name!r}: {kind} has {', '.join(known) or 'no parameters'}")
        if not isinstance(value, (int, float, str)):
            raise CollectionError(f"index parameter {name} is {value!r}: give a number, a text, true or false")
    bits = (4, 8) if kind == "GPU_IVF_PQ" else (1, 16)
    for name, (least, most) in {**_WHOLE, "nbits": bits}.items():
        value = given.get(name, least)
        if not isinstance(value, int) or not least <= value <= most:
            raise CollectionError(f"index parameter {name} is {value!r}: {kind} takes whole numbers, {least} to {most}")
    if dim % given.get("m", 1):
        raise CollectionError(f"index parameter m is {given['m']}: it has to cut vectors of {dim} into equal parts")
    if (_REFINE in given) != (given.get(_ON_DEVICE) == "true") and kind == "GPU_IVF_PQ":
        raise CollectionError(
            f"index parameters {_REFINE} and {_ON_DEVICE}: one is of no use without the other, as the GPU refines its "
            f'hits on the vectors that it holds; give both, such as {{"{_ON_DEVICE}": true, "{_REFINE}": 2}}, or none'
        )
