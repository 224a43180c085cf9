"""The projection against faiss' own matrices, scikit-learn's PCA and what a rotation may and may not change."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.errors import BundleError, CompsketchError
from encoders.moments import principal_axes
from encoders.projection import Projection, fit, opq_rotation

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So that faiss sums in one order and two fits can be compared."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def embeddings(samples: int, features: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    """Non-negative and correlated, with a few strong directions, like flattened activations after a ReLU."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(samples, 24)) * np.geomspace(scale, 0.1, 24)
    mixed = factors @ rng.normal(size=(24, features)) + 0.3 * rng.normal(size=(samples, features))
    return np.maximum(mixed, 0).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def quantisation_error(fitting: np.ndarray, vectors: np.ndarray, m: int) -> float:
    """Mean square of what a product quantiser of m bytes, learnt from some vectors, loses of others."""
    quantiser = faiss.ProductQuantizer(fitting.shape[1], m, 8)
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(fitting)
    return float(((quantiser.decode(quantiser.compute_codes(vectors)) - vectors) ** 2).mean())


X = embeddings(600, 900)


@pytest.fixture(scope="module")
def fitted() -> Projection:
    return fit(X, dim=32, m=8)


def test_apply_is_one_affine_map_between_two_normalisations(fitted):
    other = embeddings(50, 900, seed=1)
    expected = unit(unit(other) @ fitted.matrix.T + fitted.offset)
    np.testing.assert_allclose(fitted.apply(other), expected, atol=1e-5)
    assert fitted.apply(other).dtype == np.float32
    assert (fitted.dim, fitted.features) == (32, 900)
    np.testing.assert_allclose(np.linalg.norm(fitted.apply(other), axis=1), 1, atol=1e-6)


def test_equals_the_chain_of_faiss_own_transforms():
    """The matrices read out of faiss: x @ A.T + b of its PCA, then of its OPQ."""
    pca = faiss.PCAMatrix(900, 32)
    pca.train(unit(X))
    a, b = faiss.vector_to_array(pca.A).reshape(32, 900), faiss.vector_to_array(pca.b)
    found = principal_axes(X, 32)
    mean, axes = found.mean, found.axes
    signs = np.sign((a * axes).sum(axis=1))
    np.testing.assert_allclose(signs[:, None] * axes, a, atol=2e-3)
    np.testing.assert_allclose(-signs * (axes @ mean), b, atol=2e-3)

    projected = unit((unit(X) - mean) @ axes.T).astype(np.float32)
    rotation = opq_rotation(projected, 8)
    chain = faiss.LinearTransform(32, 32, False)
    faiss.copy_array_to_vector(rotation.astype(np.float32).ravel(), chain.A)
    chain.is_trained = True
    assert np.abs(chain.apply(projected) - projected @ rotation.T).max() < 1e-5
    # `fit` composes the same: whatever rotation OPQ found, its rows are a rotation of the principal axes.
    whole = fit(X, dim=32, m=8)
    turned = whole.matrix @ axes.T
    np.testing.assert_allclose(turned @ turned.T, np.eye(32), atol=1e-5)
    np.testing.assert_allclose(whole.offset, -turned @ (axes @ mean), atol=1e-5)
    np.testing.assert_allclose(whole.apply(X), projected @ turned.T, atol=1e-4)


def test_blocks_in_any_order_give_the_same_space(fitted):
    """Cosines are the same, and the quantiser that it is rotated for loses as much."""
    order = np.random.default_rng(5).permutation(len(X))
    other = fit(np.array_split(X[order], 7), dim=32, m=8)
    vectors, others = fitted.apply(X), other.apply(X)
    np.testing.assert_allclose(others @ others.T, vectors @ vectors.T, atol=1e-4)
    assert quantisation_error(others, others, 8) == pytest.approx(quantisation_error(vectors, vectors, 8), rel=0.03)


def test_the_rotation_keeps_distances(fitted):
    found = principal_axes(X, 32)
    before = unit((unit(X) - found.mean) @ found.axes.T)
    after = fitted.apply(X)
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


def test_ranking_by_distance_is_ranking_by_cosine(fitted):
    vectors = fitted.apply(X[:40])
    distances = np.linalg.norm(vectors[0] - vectors, axis=1)
    np.testing.assert_allclose(distances**2, 2 - 2 * vectors @ vectors[0], atol=1e-5)


def test_opq_loses_less_in_product_quantisation():
    """Fitted on one part and measured on another, against the principal axes as they come: about a fifth less."""
    x, fitting = embeddings(4000, 200), 2500
    found = principal_axes(x[:fitting], 16)
    plain = unit((unit(x) - found.mean) @ found.axes.T).astype(np.float32)
    rotated = (plain @ opq_rotation(plain[:fitting], 2).T).astype(np.float32)

    def error(vectors: np.ndarray) -> float:
        return quantisation_error(vectors[:fitting], vectors[fitting:], 2)

    assert error(rotated) < 0.85 * error(plain)


def test_half_precision_changes_the_vectors_little(fitted):
    tensors = fitted.to_tensors()
    assert tensors["projection.matrix"].dtype == np.float16
    stored = Projection.from_tensors(tensors)
    assert stored.matrix.dtype == stored.offset.dtype == np.float32
    cosines = (stored.apply(X) * fitted.apply(X)).sum(axis=1)
    assert cosines.min() > 0.99999


def test_full_precision_tensors_round_trip_exactly(fitted):
    again = Projection.from_tensors(fitted.to_tensors(np.float32))
    assert np.array_equal(again.matrix, fitted.matrix)
    assert np.array_equal(again.offset, fitted.offset)


def test_the_same_seed_gives_the_same_and_half_precision_samples_nearly_so(fitted):
    assert np.array_equal(fit(X, dim=32, m=8, seed=0).matrix, fitted.matrix)
    assert not np.allclose(fit(X, dim=32, m=8, seed=1).matrix, fitted.matrix, atol=1e-3)
    half = fit(X.astype(np.float16), dim=32, m=8)
    inner = half.matrix.T @ (half.matrix @ unit(X).T)
    np.testing.assert_allclose(inner, fitted.matrix.T @ (fitted.matrix @ unit(X).T), atol=2e-3)


def test_arguments_are_left_alone(fitted):
    x = X.copy()
    fit(x, dim=16, m=4)
    fitted.apply(x)
    assert np.array_equal(x, X)


def with_row(value: float) -> np.ndarray:
    x = X.copy()
    x[7] = value
    return x


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"dim": 30, "m": 8}, "dim is 30, m is 8"),
        (X, {"dim": 640, "m": 16}, "at most 599 principal axes"),
        (X[:1], {"dim": 16}, "at most 0 principal axes"),
        (X[:200], {"dim": 16}, "200 embeddings to fit on: give at least 256"),
        (np.tile(X[:10], (30, 1)), {"dim": 16}, "rank 9"),
        (np.ones((300, 40), np.float32), {"dim": 16}, "rank 0"),
        (with_row(0), {"dim": 16}, "embedding 7 is zero"),
        (with_row(np.nan), {"dim": 16}, "embedding 7 is not finite"),
        (with_row(np.inf), {"dim": 16}, "embedding 7 is not finite"),
        (X[0], {"dim": 16}, r"shape \(900,\)"),
    ],
)
def test_bad_samples_name_themselves(x, options, message):
    with pytest.raises(CompsketchError, match=message):
        fit(x, **options)


@pytest.mark.parametrize(
    ("x", "message"),
    [(X[:2, :5], r"takes \(B, 900\)"), (X[0], r"shape \(900,\)"), (with_row(0), "embedding 7 is zero")],
)
def test_bad_embeddings_name_themselves(fitted, x, message):
    with pytest.raises(CompsketchError, match=message):
        fitted.apply(x)


def test_a_bundle_without_projection_says_what_it_lacks():
    with pytest.raises(BundleError, match=r"lacks projection\.offset"):
        Projection.from_tensors({"projection.matrix": np.eye(3)})


def test_matrix_and_offset_must_fit():
    with pytest.raises(CompsketchError, match=r"matrix \(2, 3\) and offset \(3,\)"):
        Projection(np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
