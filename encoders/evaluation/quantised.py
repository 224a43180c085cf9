"""The paper's index (section 3.4, eq. 8) in faiss: coarse k-means, and a product quantiser of what is left.

The vectors come from a bundle, whose projection has rotated them for that quantiser already (OPQ): none is made here.
The codebooks are learnt from the gallery itself, as Milvus learns them from what a collection holds; with few photos,
about as many as there are centroids, they know each by heart and lose less than they would at the paper's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.errors import CompsketchError

NLIST = 1600  # section 3.4
POINTS_PER_LIST = 39  # faiss warns below: k-means has too little to learn from


def lists(rows: int) -> int:
    """The paper's 1600 coarse centroids; for fewer than 39 x 1600 rows the largest power of two that leaves 39 each."""
    if rows >= NLIST * POINTS_PER_LIST:
        return NLIST
    return int(1 << max(0, (rows // POINTS_PER_LIST).bit_length() - 1))


@dataclass(frozen=True)
class IvfPq:
    """faiss' IVF_PQ.

    Args:
        nlist: Coarse centroids; None is ``lists`` of the gallery's rows.
        m: Bytes a vector, and the parts that it is cut into.
        nbits: Bits a part.
        nprobe: Lists that a query looks into; the paper does not say. 64 is what `compsketch search` asks of Milvus.
        seed: Of both k-means.
    """

    nlist: int | None = None
    m: int = 16
    nbits: int = 8
    nprobe: int = 64
    seed: int = 0

    def describe(self, rows: int, dim: int) -> dict[str, Any]:
        """Kind and parameters for a gallery of so many rows; ``m`` is the same for vectors of any length."""
        nlist = self.nlist or lists(rows)
        return {
            "kind": "faiss IVF_PQ", "nlist": nlist, "m": self.m, "nbits": self.nbits, "nprobe": min(self.nprobe, nlist),
        }  # fmt: skip

    def search(self, queries: np.ndarray, gallery: np.ndarray, depth: int) -> np.ndarray:
        """Build the index of ``gallery`` (G, d) and rank by its distances alone: (Q, min(depth, G)), -1 where it ends.

        Raises:
            CompsketchError: d is no multiple of m, or fewer photos than centroids.
        """
        import faiss

        rows, dim = gallery.shape
        if dim % self.m:
            raise CompsketchError(f"vectors of {dim} dimensions can't be cut into {self.m} parts: take another m")
        facts = self.describe(rows, dim)
        centroids = max(1 << self.nbits, facts["nlist"])
        if rows < centroids:
            raise CompsketchError(
                f"{rows} photos are too few to learn {centroids} centroids from: add photos, such as --extra-gallery, "
                "or leave the methods @pq out"
            )
        coarse = faiss.IndexFlatL2(dim)
        index = faiss.IndexIVFPQ(coarse, dim, facts["nlist"], self.m, self.nbits)
        for clustering in (index.cp, index.pq.cp):
            clustering.seed = self.seed
            clustering.min_points_per_centroid = 1  # else faiss writes a warning to stderr
        data = np.ascontiguousarray(gallery, np.float32)
        index.train(data)
        index.add(data)
        index.nprobe = facts["nprobe"]
        _, found = index.search(np.ascontiguousarray(queries, np.float32), min(depth, rows))
        return np.asarray(found, np.int64)
