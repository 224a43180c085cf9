"""From the flattened 49 D-dimensional embedding to the d dimensions that Milvus stores (section 3.4, before eq. 8).

The paper projects linearly, as in OPQ, before product quantisation. A rotation of 40,768 x 40,768 is out of reach, so
PCA first reduces the L2-normalised embeddings to d, and faiss' OPQ then rotates those d dimensions so that a product
quantiser with m bytes a vector loses least. Both are one matrix and one offset. How PCA is found in bounded memory is
`moments.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from encoders.blas import one_thread
from encoders.errors import BundleError, CompsketchError
from encoders.moments import Floats, lengths, principal_axes

CENTROIDS = 256  # of a sub-quantiser with 8 bits: OPQ needs as many samples
FEW = 64  # rows, a batch of photos: their product is not worth the waking of threads
TENSORS = ("projection.matrix", "projection.offset")


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear projection of unit vectors, x -> x @ matrix.T + offset.

    Attributes:
        matrix: (d, F) float32, orthonormal rows.
        offset: (d,) float32, minus the projected mean of the embeddings it was fitted on.
    """

    matrix: NDArray[np.float32]
    offset: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.offset.shape != self.matrix.shape[:1]:
            raise CompsketchError(
                f"projection has matrix {self.matrix.shape} and offset {self.offset.shape}: give (d, F) and (d,)"
            )

    @property
    def dim(self) -> int:
        """d, the dimensions of a stored vector."""
        return int(self.matrix.shape[0])

    @property
    def features(self) -> int:
        """F, the dimensions of a flattened embedding."""
        return int(self.matrix.shape[1])

    def apply(self, x: ArrayLike) -> NDArray[np.float32]:
        """Normalise embeddings, project them and normalise again.

        The second normalisation makes the squared L2 distance 2 - 2 cos, so that the paper's ranking by distance and
        that by cosine, which the networks are trained with (eq. 5 and 7), are one, whichever metric the index uses.

        Args:
            x: (B, F) flattened embeddings, of any length but zero.

        Returns:
            (B, d) float32 of unit length.

        Raises:
            CompsketchError: another shape, or a row that is zero, not finite or projected to zero.
        """
        given = np.asarray(x, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != self.features:
            raise CompsketchError(f"embeddings have shape {given.shape}: this projection takes (B, {self.features})")
        # Dividing after the product is the same and spares a copy of x.
        with one_thread() if len(given) <= FEW else nullcontext():
            product = given @ self.matrix.T  # (B, d)
        projected = product / lengths(given)[:, None] + self.offset
        return (projected / lengths(projected)[:, None]).astype(np.float32)

    def to_tensors(self, dtype: DTypeLike = np.float16) -> dict[str, NDArray[Any]]:
        """The tensors to keep in a bundle: the matrix in half precision unless told otherwise, the offset in full."""
        return {TENSORS[0]: self.matrix.astype(dtype), TENSORS[1]: self.offset.astype(np.float32)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Projection:
        """Read a projection back from a bundle's tensors, in float32.

        Raises:
            BundleError: a tensor is missing.
        """
        missing = [name for name in TENSORS if name not in tensors]
        if missing:
            raise BundleError(f"the bundle lacks {', '.join(missing)}: fit a projection and save it with the bundle")
        matrix, offset = (np.asarray(tensors[name], dtype=np.float32) for name in TENSORS)
        return cls(matrix, offset)


def fit(x: Iterable[Floats], dim: int = 256, m: int = 16, seed: int = 0) -> Projection:
    """Fit PCA and OPQ on embeddings of photos, as many as there are, in the memory that `moments.most_memory` says.

    Args:
        x: flattened embeddings of at least 256 photos, better 8,000: an array (N, F), or an iterable of blocks (B, F)
            that can be read again, some 3 or 4 times. Memory-mapped and float16 ones are never copied whole.
        dim: d.
        m: bytes of the product quantiser to rotate for; divides dim.
        seed: of PCA's first basis, OPQ's first rotation and its k-means.

    Returns:
        The same, up to rounding, whatever the blocks and their order: cosines between projected embeddings to 1e-4.
        OPQ, which is k-means, may end in another rotation that loses as much, which alters none of them.

    Raises:
        CompsketchError: fewer samples or a lower rank than dim, dim not a multiple of m, a row zero or not finite.
    """
    if m < 1 or dim % m:
        raise CompsketchError(f"dim is {dim}, m is {m}: a product quantiser needs dim to be a multiple of m")
    found = principal_axes(x, dim, seed)
    units = found.sample / lengths(found.sample)[:, None]  # as they are stored; a rotation keeps them so
    rotation = opq_rotation(units.astype(np.float32), m, seed)
    matrix = rotation @ found.axes
    return Projection(np.ascontiguousarray(matrix, dtype=np.float32), (-matrix @ found.mean).astype(np.float32))


def opq_rotation(z: NDArray[np.float32], m: int, seed: int = 0) -> NDArray[np.float64]:
    """The rotation (d, d) after which a product quantiser of m bytes loses least on z (N, d); rotate with z @ R.T.

    Raises:
        CompsketchError: fewer than 256 samples, or faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise CompsketchError("fitting OPQ needs faiss: pip install 'compsketch-milvus[encoders]'") from error
    samples, dim = z.shape
    if samples < CENTROIDS:
        raise CompsketchError(f"OPQ has {samples} embeddings to fit on: give at least {CENTROIDS}")
    start, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    quantiser = faiss.ProductQuantizer(dim, m, 8)
    quantiser.cp.seed = seed
    quantiser.cp.min_points_per_centroid = 1  # else faiss writes to stderr for every sub-quantiser
    opq = faiss.OPQMatrix(dim, m)
    opq.pq = quantiser
    faiss.copy_array_to_vector(start.astype(np.float32).ravel(), opq.A)
    opq.train(np.ascontiguousarray(z, dtype=np.float32))
    trained: NDArray[np.float64] = faiss.vector_to_array(opq.A).reshape(dim, dim).astype(np.float64)
    # In float32 it is orthogonal to about 1e-6: take the nearest rotation, so that distances stay as they are.
    left, _, right = np.linalg.svd(trained)
    return left @ right
