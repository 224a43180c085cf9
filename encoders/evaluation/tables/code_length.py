"""The study of the hash code (section 3.4, supplementary material): what d, OPQ, bytes, lists and probes keep.

The embeddings are the bundle's, 49 D a photo; PCA and OPQ are fitted anew, on photos that training saw, and the
quantisers' codebooks on the gallery itself, as Milvus does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.evaluation.quantised import NLIST, IvfPq, lists
from encoders.evaluation.ranking import rank, rerank
from encoders.evaluation.scores import DEEP
from encoders.evaluation.tables.figures import mean, ratio, scored, unit
from encoders.evaluation.tables.study import TAU, Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.moments import principal_axes
from encoders.projection import Projection, opq_rotation

BYTES = (8, 16, 32, 64)
DIMS = (64, 128, 256, 512)
DIM, M = 256, 16  # the paper's 16 bytes; d is ours
PROBES = (1, 4, 16, 64)
SAMPLES = 8000  # photos that PCA and OPQ are fitted on, as in training
SHALLOW = 10


@dataclass(frozen=True)
class Code:
    """One way to store a photo.

    Attributes:
        dim: d.
        index: IVF_PQ with its parameters.
        opq: Rotate for the product quantiser.
    """

    dim: int
    index: IvfPq
    opq: bool = True


def codes(rows: int, dims: Sequence[int], dim: int, seed: int) -> list[Code]:
    """All that are measured: bytes, then d, then lists and probes; what the photos are too few for is left out.

    Args:
        rows: Photos in the gallery.
        dims: Every d.
        dim: The d at which bytes, lists and probes are varied.
        seed: Of the quantisers.
    """
    scaled = lists(rows)
    base = IvfPq(nlist=scaled, m=M, nprobe=scaled, seed=seed)
    found = [Code(dim, replace(base, m=m), opq) for m in BYTES for opq in (True, False)]
    found += [Code(other, base, opq) for other in dims if other != dim for opq in (True, False)]
    for nlist in dict.fromkeys((scaled, NLIST)):
        found += [Code(dim, replace(base, nlist=nlist, nprobe=probes)) for probes in PROBES if probes < nlist]
    found.append(Code(dim, replace(base, nlist=NLIST, nprobe=NLIST)))
    fits = [code for code in dict.fromkeys(found) if code.dim % code.index.m == 0]
    return [code for code in fits if max(int(code.index.nlist or 0), 1 << code.index.nbits) <= rows]


def recall(found: np.ndarray, exact: np.ndarray, k: int) -> np.ndarray:
    """Of each query's k best photos, the part that is among the first k found: (Q,) from two rankings (Q, >= k)."""
    k = min(k, exact.shape[1])
    return np.array([np.isin(best[:k], some[:k]).mean() for best, some in zip(exact, found, strict=True)])


def table(study: Study, dims: tuple[int, ...] = DIMS, dim: int = DIM) -> Table:
    """Exact search in 49 D and in d dimensions, then every code against exact search in its own d dimensions.

    Args:
        study: Its queries, and all photos of its folder.
        dims: Every d, ascending.
        dim: The d at which bytes, lists and probes are varied.

    Raises:
        CompsketchError: The photos are too few, or too much alike, for so many dimensions.
    """
    photos, queries, benchmark = study.embedded(study.whole.paths), study.queries, study.whole
    held_out = len(study.unseen.paths)
    sample = photos[held_out:]
    rng = np.random.default_rng(study.seed)
    sample = sample[rng.permutation(len(sample))[:SAMPLES]]
    pca = principal_axes(sample, max(dims))
    full = rank(unit(queries), unit(photos), DEEP)
    rows = [_row(study, ("exact", photos.shape[1], 4 * photos.shape[1], None, None, None), full, full)]
    spaces: dict[tuple[int, int | None], tuple[np.ndarray, np.ndarray]] = {}
    exact: dict[int, np.ndarray] = {}
    for done, d in enumerate(dims, start=1):
        axes = pca.axes[:d]
        shorter = Projection(axes.astype(np.float32), (-axes @ pca.mean).astype(np.float32))
        spaces[d, None] = shorter.apply(queries), shorter.apply(photos)
        exact[d] = rank(*spaces[d, None], DEEP)
        rows.append(_row(study, ("exact", d, 4 * d, None, None, None), exact[d], full))
        study.progress("exact search", done, len(dims))
    chosen = codes(len(photos), dims, dim, study.seed)
    for done, code in enumerate(chosen, start=1):
        rotated = (code.dim, code.index.m if code.opq else None)
        if rotated not in spaces:
            spaces[rotated] = _rotated(spaces[code.dim, None], held_out, code.index.m, study.seed)
        asked, gallery = spaces[rotated]
        found = code.index.search(asked, gallery, DEEP)
        facts = code.index.describe(len(photos), code.dim)
        what = ("IVF_PQ", code.dim, code.index.m, "yes" if code.opq else "no", facts["nlist"], facts["nprobe"])
        rows.append(_row(study, what, found, exact[code.dim], rerank(asked, gallery, found)))
        study.progress("codes", done, len(chosen))
    notes = (
        f"{len(benchmark.queries)} queries among {len(photos)} photos: the {held_out} held-out ones, of which alone "
        "queries are made, and all others of the folder; those training saw are placed better than new ones would be.",
        "IVF_PQ against exact search in the same d dimensions; exact search in d against exact search in all 49 D.",
        f"Re-ranked: the {DEEP} found, by their own vectors. PCA and OPQ are fitted on {len(sample)} photos that are "
        "not held out, the codebooks on the gallery.",
        f"nlist: as many as leave 39 photos each, and the paper's {NLIST} where there are as many photos.",
    )
    columns = (
        "search", "d", "bytes", "OPQ", "nlist", "nprobe", f"recall@{SHALLOW}", f"recall@{DEEP}", "mAP", "mAP kept",
        "mAP, re-ranked", "kept, re-ranked",
    )  # fmt: skip
    title = "Length of the code, and what the index keeps (eq. 8)"
    return Table("code-length", title, columns, tuple(rows), notes, study.provenance("code-length"))


def _row(
    study: Study, what: tuple[Cell, ...], found: np.ndarray, exact: np.ndarray, again: np.ndarray | None = None
) -> tuple[Cell, ...]:
    """What rankings (Q, n) keep of the exact ones, as they are and ranked ``again``."""
    benchmark, seed = study.whole, study.seed
    answered = benchmark.possible([TAU])[0] > 0
    whole, kept = (scored(benchmark, ranking, TAU)[:, 0] for ranking in (exact, found))
    reranked = None if again is None else scored(benchmark, again, TAU)[:, 0]
    return (
        *what,
        *(mean(recall(found, exact, k)[answered], seed) for k in (SHALLOW, DEEP)),
        mean(kept, seed),
        ratio(kept, whole, seed),
        None if reranked is None else mean(reranked, seed),
        None if reranked is None else ratio(reranked, whole, seed),
    )


def _rotated(space: tuple[np.ndarray, np.ndarray], held_out: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and photos rotated by the OPQ that photos beyond the held-out ones give."""
    asked, gallery = space
    seen = gallery[held_out:]
    rotation = opq_rotation(seen[np.random.default_rng(seed).permutation(len(seen))[:SAMPLES]], m, seed)
    return ((asked @ rotation.T).astype(np.float32), (gallery @ rotation.T).astype(np.float32))
