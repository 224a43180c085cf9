"""Principal axes of more embeddings than memory holds: sums over a stream that can be read again, pass after pass.

    pass 1         a fixed random basis B (F, L)      ->  C B, whose span leans towards the axes of large variance
    pass 2, 3 ...  the orthonormal basis Q of C Q'    ->  leans closer, and Q^T C Q gives the axes within the span
    end            once another pass would explain next to nothing more

C is the covariance of the normalised embeddings; C B is a sum over them, and no F x F matrix is ever made. This is the
randomised subspace iteration of Halko, Martinsson and Tropp (2011, algorithm 4.4) with L of 1,024 or more: where there
are no more photos or dimensions than L, the result is exact.

All that a pass keeps is a sum or the lowest of some hashes, so shards can be read anywhere and added up, in any order:
what differs is rounding (`Moments.__add__`).

Memory, whatever the number of embeddings: `most_memory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoders.errors import CompsketchError

WIDTH = 1024  # L, unless more axes are asked for than half of it
PASSES = 12  # at most
SETTLED = 1e-4  # of the variance explained: what another pass has to add for one more
KEPT = 16_384  # rows of the sample: 64 for each centroid of a product quantiser with 8 bits
ROWS = 512  # multiplied at once
RANK = 1e-6  # of the largest variance: axes with less are rounding

Floats: TypeAlias = NDArray[np.floating[Any]]
Survey: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float64]], "Moments"]


class Lowest:
    """The rows with the lowest hashes of all that were added: a sample as good as random, whatever their order.

    A row's hash is that of its embedding and of nothing else.

    Args:
        width: L of the rows.
        size: rows to keep; there is room for twice as many, taken as it is needed.
    """

    def __init__(self, width: int, size: int = KEPT) -> None:
        self.size, self._held = size, 0
        self._keys = np.empty(2 * size, np.uint64)
        self._rows = np.empty((2 * size, width), np.float32)

    def add(self, keys: NDArray[np.uint64], rows: NDArray[np.float32]) -> None:
        """Rows (B, L) with their hashes (B,)."""
        done = 0
        while done < len(keys):
            part = slice(done, done + len(self._keys) - self._held)
            place = slice(self._held, self._held + len(keys[part]))
            self._keys[place], self._rows[place] = keys[part], rows[part]
            self._held, done = place.stop, done + len(keys[part])
            if self._held == len(self._keys):
                low = np.argpartition(self._keys, self.size - 1)[: self.size]
                self._keys[: self.size], self._rows[: self.size] = self._keys[low], self._rows[low]
                self._held = self.size

    def sorted(self) -> NDArray[np.float32]:
        """The rows by rising hash, (at most size, L)."""
        return self._rows[np.argsort(self._keys[: self._held], kind="stable")[: self.size]]

    def __add__(self, other: Lowest) -> Lowest:
        both = Lowest(self._rows.shape[1], self.size)
        for one in (self, other):
            both.add(one._keys[: one._held], one._rows[: one._held])
        return both


@dataclass(eq=False)
class Moments:
    """What one pass over embeddings x, each divided by its length, sums up.

    Args:
        basis: (F, L).
        centre: (F,) taken from each: zeros in the first pass, then the mean, so that nothing cancels.
        count: embeddings.
        total: (F,) the sum of x - centre.
        squares: the sum of the squared lengths of x - centre.
        product: (F, L) the sum of (x - centre) (x - centre)^T basis.
        sample: (x - centre)^T basis of some.
    """

    basis: NDArray[np.float32]
    centre: NDArray[np.float64]
    count: int = 0
    total: NDArray[np.float64] = field(init=False)
    squares: float = 0.0
    product: NDArray[np.float64] = field(init=False)
    sample: Lowest = field(init=False)

    def __post_init__(self) -> None:
        self.sample = Lowest(self.basis.shape[1])
        self.total, self.product = np.zeros(len(self.basis)), np.zeros(self.basis.shape)

    @classmethod
    def of(cls, blocks: Iterable[Floats], basis: NDArray[np.float32], centre: NDArray[np.float64]) -> Moments:
        """Of a stream of blocks (B, F), or of a whole array (N, F).

        Raises:
            CompsketchError: a block of another shape; an embedding is zero or not finite, named by its place.
        """
        moments = cls(basis, centre)
        for block in _even(blocks, len(basis)):
            moments._add(block)
        return moments

    def _add(self, block: Floats) -> None:
        keys = np.array(
            [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in block], np.uint64
        )
        units = block / lengths(block, self.count)[:, None]  # (B, F) float64
        units -= self.centre
        self.count += len(block)
        self.total += units.sum(axis=0)
        self.squares += float(np.einsum("nf,nf->", units, units))
        short = units.astype(np.float32)
        along = short @ self.basis  # (B, L)
        self.product += short.T @ along
        self.sample.add(keys, along)

    def __add__(self, other: Moments) -> Moments:
        """Of the embeddings of both.

        Raises:
            CompsketchError: they are of different passes.
        """
        if not (np.array_equal(self.basis, other.basis) and np.array_equal(self.centre, other.centre)):
            raise CompsketchError("moments of two passes do not add up: take both along one basis, about one centre")
        both = Moments(self.basis, self.centre, self.count + other.count)
        both.total, both.squares = self.total + other.total, self.squares + other.squares
        both.product, both.sample = self.product + other.product, self.sample + other.sample
        return both

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of the normalised embeddings, (F,)."""
        return self.centre + self.total / self.count

    @property
    def variance(self) -> float:
        """The trace of their scatter about the mean."""
        return self.squares - float(self.total @ self.total) / self.count

    @property
    def scattered(self) -> NDArray[np.float64]:
        """Their scatter about the mean times the basis, (F, L)."""
        of_mean = np.outer(self.total / self.count, self.total @ self.basis)
        return np.subtract(self.product, of_mean, out=of_mean)


@dataclass(frozen=True, eq=False)
class Axes:
    """PCA of L2-normalised embeddings.

    Attributes:
        mean: (F,) of the normalised embeddings.
        axes: (dim, F), orthonormal and by falling variance.
        explained: (dim,) the fraction of the variance that each explains.
        sample: (at most 16,384, dim) some of the embeddings, normalised, less their mean, along the axes.
        passes: over the stream.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    explained: NDArray[np.float64]
    sample: NDArray[np.float32]
    passes: int


def principal_axes(x: Iterable[Floats], dim: int, seed: int = 0) -> Axes:
    """PCA of embeddings in an array (N, F) or in a stream of blocks (B, F).

    Args:
        x: an array, memory-mapped or not, or an iterable that starts anew with each `iter`.
        dim: axes to keep, at most min(N - 1, F).
        seed: of the first basis.

    Raises:
        CompsketchError: fewer embeddings or a lower rank than dim; one that is zero, not finite or of another length.
    """
    first = x if isinstance(x, np.ndarray) else next(iter(x), np.empty(0))
    if first.ndim != 2:
        raise CompsketchError(f"embeddings have shape {first.shape}: give (N, F), or blocks of it")
    return surveyed_axes(lambda basis, centre: Moments.of(x, basis, centre), first.shape[1], dim, seed)


def surveyed_axes(survey: Survey, features: int, dim: int, seed: int = 0, width: int = WIDTH) -> Axes:
    """PCA of embeddings wherever they are; the result is that of one stream, up to rounding.

    Args:
        survey: one pass, basis (F, L) and centre (F,) -> `Moments`. Of shards on several machines it is the sum of
            each one's `Moments.of(shard, basis, centre)`.
        features: F.
        dim: axes to keep, at most min(N - 1, F).
        seed: of the first basis.
        width: L, unless `dim` needs a wider one.

    Raises:
        CompsketchError: as `principal_axes`.
    """
    wide = min(features, max(width, 2 * dim))
    basis: Floats = np.random.default_rng(seed).standard_normal((features, wide), dtype=np.float32)
    moments = survey(basis, np.zeros(features))
    _check(moments, dim)
    count, mean, explained = moments.count, moments.mean, 0.0
    for passes in range(2, PASSES + 1):
        scattered = moments.scattered
        del moments, basis  # before memory for the next ones is taken
        basis, _ = np.linalg.qr(scattered)  # (F, L)
        del scattered
        moments = survey(basis.astype(np.float32), mean)
        if moments.count != count:
            raise CompsketchError(
                f"{count} embeddings in the first pass, {moments.count} in the next: give what can be read again, and "
                "leave it as it is meanwhile"
            )
        scatter = basis.T @ moments.scattered  # (L, L)
        values, vectors = np.linalg.eigh((scatter + scatter.T) / 2)
        values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
        before, explained = explained, float(values.sum())
        whole = wide >= min(count - 1, features)  # the span holds all embeddings
        if whole or passes == PASSES or explained - before <= SETTLED * explained:
            break
    if values[-1] <= RANK * values[0]:
        raise _poor(dim, int((values > RANK * values[0]).sum()))
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])
    axes, sample = (basis @ vectors).T, moments.sample.sorted() @ vectors
    return Axes(mean, np.ascontiguousarray(axes), values / moments.variance, sample.astype(np.float32), passes)


def most_memory(features: int, dim: int, width: int = WIDTH) -> int:
    """Bytes that `principal_axes` takes at most beside the stream's own, whatever the number of embeddings.

    With L = min(F, max(width, 2 dim)): the basis, its product, and what decomposes it, 40 F L; 512 rows in both
    precisions, 24 F each; and room for twice 16,384 rows of the sample, 12 L each with the copy that sorts them. That
    is 740 MB with the shipped bundle's F = 6,272 and 2.6 GB with the paper's 40,768. Another shard's moments, until
    they are added, take 8 F L and 8 L for each of those rows.
    """
    wide = min(features, max(width, 2 * dim))
    return 40 * features * wide + 24 * ROWS * features + 24 * KEPT * wide


def lengths(x: Floats, first: int = 0) -> NDArray[np.float64]:
    """L2 norm of each row (N,), or an error that names the row which has none, counted from `first`."""
    squares = np.einsum("nf,nf->n", x, x, dtype=np.float64)
    sound = np.isfinite(squares) & (squares > 0)
    if not sound.all():
        bad = int(np.argmin(sound))
        what = "zero" if squares[bad] == 0 else "not finite"
        raise CompsketchError(f"embedding {first + bad} is {what}: check the photo it was made from and its encoder")
    return np.sqrt(squares)


def _hash(row: Floats) -> int:
    return int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "little")


def _even(blocks: Iterable[Floats], features: int) -> Iterator[Floats]:
    """The same rows in blocks of `ROWS`, the last one excepted: many small products cost more than their sum."""
    held: list[Floats] = []
    count = 0
    for block in [blocks] if isinstance(blocks, np.ndarray) else blocks:
        if block.ndim != 2 or block.shape[1] != features:
            raise CompsketchError(f"embeddings have shape {block.shape}: expected (B, {features})")
        start = 0
        while start < len(block):
            held.append(block[start : start + ROWS - count])
            count, start = count + len(held[-1]), start + len(held[-1])
            if count == ROWS:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def _check(moments: Moments, dim: int) -> None:
    most = max(min(moments.count - 1, len(moments.basis)), 0)
    if not 1 <= dim <= most:
        raise CompsketchError(
            f"dim is {dim}, but {moments.count} embeddings of {len(moments.basis)} dimensions have at most "
            f"{most} principal axes: give more photos or a smaller dim"
        )
    if moments.variance <= 1e-9 * moments.count:
        raise _poor(dim, 0)


def _poor(dim: int, rank: int) -> CompsketchError:
    return CompsketchError(f"dim is {dim}, but the embeddings have rank {rank}: give more various photos")
