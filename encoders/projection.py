"""From the flattened 49 D-dimensional embedding to the d dimensions that Milvus stores (section 3.4, before eq. 8).

The paper projects linearly, as in OPQ, before product quantisation. A rotation of 40,768 x 40,768 is out of reach, so
PCA first reduces the L2-normalised embeddings to d, and faiss' OPQ then rotates those d dimensions so that a product
quantiser with m bytes a vector loses least. Both are one matrix and one offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from encoders.errors import BundleError, CompsketchError

MAX_SIDE = 12_000  # of the matrix to decompose: 4 float64 copies of it take 4.6 GB
CENTROIDS = 256  # of a sub-quantiser with 8 bits: OPQ needs as many samples
CHUNK = 2048  # columns at a time: 80 MB of float32 for 10,000 samples
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
        projected = given @ self.matrix.T / _lengths(given)[:, None] + self.offset  # (B, d)
        return (projected / _lengths(projected)[:, None]).astype(np.float32)

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


def fit(x: NDArray[np.floating[Any]], dim: int = 256, m: int = 16, seed: int = 0) -> Projection:
    """Fit PCA and OPQ on embeddings of photos.

    Args:
        x: (N, F) flattened embeddings, N at least 256 and better 10,000; float16 and memory-mapped arrays are read in
            chunks of columns and never copied whole.
        dim: d.
        m: bytes of the product quantiser to rotate for; divides dim.
        seed: of OPQ's first rotation and its k-means.

    Raises:
        CompsketchError: fewer samples or a lower rank than dim, dim not a multiple of m, a row zero or not finite.
    """
    if m < 1 or dim % m:
        raise CompsketchError(f"dim is {dim}, m is {m}: a product quantiser needs dim to be a multiple of m")
    mean, axes, _ = principal_axes(x, dim)
    pca = Projection(axes.astype(np.float32), (-axes @ mean).astype(np.float32))
    rotation = opq_rotation(pca.apply(x), m, seed)  # of unit vectors, as they are stored; a rotation keeps them so
    return Projection(
        np.ascontiguousarray(rotation @ axes, dtype=np.float32), (-rotation @ (axes @ mean)).astype(np.float32)
    )


def principal_axes(
    x: NDArray[np.floating[Any]], dim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """PCA of L2-normalised rows, exact: through the Gram matrix where samples are fewer than dimensions.

    Time is that of decomposing a matrix of side min(N, F), about a minute at 5,000 on 2 cores, and grows with its cube.

    Args:
        x: (N, F).
        dim: axes to keep, at most min(N - 1, F).

    Returns:
        The mean (F,) of the normalised rows, the axes (dim, F), orthonormal and by falling variance, and the fraction
        of the variance that each explains (dim,).

    Raises:
        CompsketchError: as `fit`.
    """
    if x.ndim != 2:
        raise CompsketchError(f"embeddings have shape {x.shape}: give (N, F)")
    samples, features = x.shape
    if not 1 <= dim <= min(samples - 1, features):
        raise CompsketchError(
            f"dim is {dim}, but {samples} embeddings of {features} dimensions have at most "
            f"{max(min(samples - 1, features), 0)} principal axes: give more photos or a smaller dim"
        )
    side = min(samples, features)
    if side > MAX_SIDE:
        raise CompsketchError(f"{samples} embeddings of {features} dimensions: fit on a sample of at most {MAX_SIDE}")
    lengths, mean = _lengths(x), np.empty(features)
    dual = samples < features
    scatter = np.zeros((side, side))
    if dual:
        for _, chunk in _centred(x, lengths, mean):
            scatter += chunk @ chunk.T  # (N, N)
    else:
        for columns, chunk in _centred(x, lengths, mean):
            for others, other in _centred(x, lengths, mean):
                scatter[columns, others] = chunk.T @ other  # (F, F)
    total = float(np.trace(scatter))
    values, vectors = np.linalg.eigh(scatter)
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    if values[-1] <= 1e-6 * values[0] or total <= 1e-9 * samples:
        rank = int((values > 1e-6 * values[0]).sum()) if total > 1e-9 * samples else 0
        raise CompsketchError(f"dim is {dim}, but the embeddings have rank {rank}: give more various photos")
    if dual:
        axes = np.empty((features, dim))
        for columns, chunk in _centred(x, lengths, mean):
            axes[columns] = chunk.T @ vectors.astype(np.float32)
        # Where variance is small, float32 products leave the axes slightly askew: QR sets them upright.
        axes, triangle = np.linalg.qr(axes)
        vectors = axes * np.sign(np.diag(triangle))
    return mean, np.ascontiguousarray(vectors.T), values / total


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


def _centred(
    x: NDArray[np.floating[Any]], lengths: NDArray[np.float64], mean: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Chunks of columns of the normalised rows, less their mean, which is written into `mean`."""
    for start in range(0, x.shape[1], CHUNK):
        columns = slice(start, min(start + CHUNK, x.shape[1]))
        chunk = x[:, columns] / lengths[:, None]  # float64
        mean[columns] = chunk.mean(axis=0)
        yield columns, (chunk - mean[columns]).astype(np.float32)


def _lengths(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """L2 norm of each row (N,), or an error that names the row which has none."""
    squares = np.zeros(len(x))
    for start in range(0, x.shape[1], CHUNK):
        chunk = x[:, start : start + CHUNK].astype(np.float64)
        squares += np.einsum("nf,nf->n", chunk, chunk)
    sound = np.isfinite(squares) & (squares > 0)
    if not sound.all():
        bad = int(np.argmin(sound))
        what = "zero" if squares[bad] == 0 else "not finite"
        raise CompsketchError(f"embedding {bad} is {what}: check the photo it was made from and its encoder")
    return np.sqrt(squares)
