"""Principal axes of a stream: against exact decompositions, in shards of any kind, and in memory that is bounded."""

from __future__ import annotations

import subprocess
import sys
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.errors import CompsketchError
from encoders.moments import Lowest, Moments, most_memory, principal_axes, surveyed_axes

N, F, DIM, WIDTH = 900, 320, 16, 48  # narrower than the embeddings' rank: nothing is exact


def embeddings(samples: int, features: int, seed: int = 0) -> np.ndarray:
    """Non-negative, about a mean far from zero, with variances that fall like a power, as flattened activations'."""
    rng = np.random.default_rng(seed)
    rank = min(samples, features)
    factors = rng.normal(size=(samples, rank)) / np.arange(1, rank + 1)
    mixed = factors @ rng.normal(size=(rank, features))
    return np.maximum(mixed + 1, 0).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


X = embeddings(N, F)


def streamed(shards: list[np.ndarray], dim: int = DIM, width: int = WIDTH):
    """The axes of shards that are read apart and added up."""

    def survey(basis: np.ndarray, centre: np.ndarray) -> Moments:
        return reduce(add, [Moments.of(np.array_split(shard, 3), basis, centre) for shard in shards])

    return surveyed_axes(survey, F, dim, width=width)


@pytest.fixture(scope="module")
def whole():
    """The axes of all embeddings in one stream."""
    return streamed([X])


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, np.ndarray]:
    """The axes (F, F) of the singular value decomposition, and what each explains."""
    x = unit(X.astype(np.float64))
    _, singular, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return axes, singular**2 / (singular**2).sum()


@pytest.mark.parametrize("shape", [(600, 900), (900, 600), (300, 5000)])
def test_few_embeddings_or_features_have_scikit_learns_axes(shape) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = embeddings(*shape)
    found = principal_axes(x, 20)
    reference = decomposition.PCA(20, svd_solver="full").fit(unit(x.astype(np.float64)))
    np.testing.assert_allclose(found.mean, reference.mean_, atol=1e-7)
    np.testing.assert_allclose(found.explained, reference.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(np.abs((found.axes * reference.components_).sum(axis=1)), 1, atol=1e-4)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(20), atol=1e-6)
    assert found.passes == 2


def test_of_many_the_axes_explain_what_exact_ones_do_to_a_thousandth(whole, exact) -> None:
    axes, explained = exact
    assert whole.explained.sum() >= 0.999 * explained[:DIM].sum()
    np.testing.assert_allclose(whole.explained[:8], explained[:8], rtol=1e-3)
    cosines = np.linalg.svd(whole.axes @ axes[:DIM].T, compute_uv=False)  # of the angles between the two spans
    assert np.degrees(np.arccos(min(1.0, cosines[DIM // 2]))) < 0.1
    assert np.degrees(np.arccos(min(1.0, cosines.min()))) < 5  # its last axes vary nearly as much as the next ones


def test_it_explains_no_less_than_incremental_pca(whole) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    reference = decomposition.IncrementalPCA(DIM, batch_size=WIDTH).fit(unit(X))
    centred = unit(X) - whole.mean

    def captured(axes: np.ndarray) -> float:
        return float(((centred @ axes.T) ** 2).sum())

    assert captured(whole.axes) >= captured(reference.components_)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), count=st.integers(1, 7))
def test_shards_and_their_order_change_nothing_but_rounding(data, count, whole) -> None:
    order = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).permutation(N)
    cuts = sorted(data.draw(st.lists(st.integers(0, N), min_size=count - 1, max_size=count - 1)))
    found = streamed([X[part] for part in np.split(order, cuts)])
    assert found.passes == whole.passes
    np.testing.assert_allclose(found.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(found.explained, whole.explained, rtol=1e-5)
    np.testing.assert_allclose(found.axes, whole.axes, atol=1e-4)
    np.testing.assert_allclose(found.sample, whole.sample, atol=1e-4)  # row by row: hashes say which, and in what order


def test_the_sample_is_of_the_embeddings_along_the_axes(whole) -> None:
    expected = (unit(X) - whole.mean) @ whole.axes.T
    order = np.lexsort(expected.T.round(3))
    np.testing.assert_allclose(whole.sample[np.lexsort(whole.sample.T.round(3))], expected[order], atol=1e-3)


def test_the_lowest_hashes_are_kept_however_they_are_added() -> None:
    rng = np.random.default_rng(0)
    keys = rng.permutation(5000).astype(np.uint64)
    rows = keys[:, None].astype(np.float32)
    one, several = Lowest(1, 100), [Lowest(1, 100) for _ in range(3)]
    for start in range(0, 5000, 70):
        part = slice(start, start + 70)
        one.add(keys[part], rows[part])
        several[start % 3].add(keys[part], rows[part])
    assert one.sorted()[:, 0].tolist() == list(range(100))
    assert reduce(add, several).sorted()[:, 0].tolist() == list(range(100))


STREAM = """
import resource, sys
import numpy as np
from encoders.moments import Moments, most_memory, surveyed_axes

F, DIM, WIDTH, COUNT = 1500, 16, 64, int(sys.argv[1])
mixing = (np.random.default_rng(0).normal(size=(100, F)) / np.arange(1, 101)[:, None]).astype(np.float32)

class Stream:
    def __iter__(self):
        for seed in range(COUNT // 500):
            yield np.random.default_rng(seed).normal(size=(500, 100)).astype(np.float32) @ mixing + 1

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

next(iter(Stream())) @ next(iter(Stream())).T  # what the libraries take for themselves
before = peak()
surveyed_axes(lambda basis, centre: Moments.of(Stream(), basis, centre), F, DIM, width=WIDTH)
print(peak() - before, most_memory(F, DIM, WIDTH), COUNT * F * 4)
"""


def test_memory_stays_under_its_bound_on_a_stream_far_larger() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", STREAM, "40000"], cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    taken, bound, stream = map(int, ran.stdout.split())
    assert taken < bound < stream / 5
    assert most_memory(6272, 256) < 0.8e9
    assert most_memory(40_768, 256) < 3e9


def test_moments_of_two_passes_do_not_add_up() -> None:
    basis, zero = np.eye(F, 4, dtype=np.float32), np.zeros(F)
    first, next = Moments.of(X[:9], basis, zero), Moments.of(X[9:20], basis, first_mean := X[:9].mean(axis=0))
    assert first_mean.shape == (F,)
    with pytest.raises(CompsketchError, match="moments of two passes do not add up"):
        first + next


def test_a_stream_that_can_be_read_only_once_says_so() -> None:
    blocks = iter(np.array_split(X, 4))

    class Once:
        def __iter__(self):
            return blocks

    with pytest.raises(CompsketchError, match=r"embeddings in the first pass, 0 in the next: give what can be read"):
        principal_axes(Once(), 16)


def bad(value: float) -> list[np.ndarray]:
    """Blocks of which the 407th embedding is bad."""
    x = X.copy()
    x[407] = value
    return np.array_split(x, 5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (bad(0), "embedding 407 is zero"),
        (bad(np.nan), "embedding 407 is not finite"),
        ([X[:300], X[300:, 1:]], r"shape \(\d+, 319\): expected \(B, 320\)"),
        ([], r"shape \(0,\): give \(N, F\), or blocks of it"),
        ([X[:10]], "10 embeddings of 320 dimensions have at most 9 principal axes"),
        (np.tile(X[:10], (30, 1)), "rank 9"),
        (np.ones((300, 40), np.float32), "rank 0"),
    ],
)
def test_bad_streams_name_what_is_wrong(x, message) -> None:
    with pytest.raises(CompsketchError, match=message):
        principal_axes(x, 16)
