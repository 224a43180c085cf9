"""mAP, NDCG and P@k: by hand, against textbook loops and scikit-learn, with ties on purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from encoders.evaluation.metrics import average_precision, ndcg, precision_at, top_k


def slow_ap(ranked, gallery, tau, k):
    hits, total = 0, 0.0
    for rank, value in enumerate(ranked[:k], start=1):
        if value > tau:
            hits += 1
            total += hits / rank
    possible = min(sum(value > tau for value in gallery), k)
    return total / possible if possible else 0.0


def slow_ndcg(ranked, gallery, tau, k):
    def dcg(values):
        return sum((value if value > tau else 0.0) / math.log2(rank + 1) for rank, value in enumerate(values[:k], 1))

    best = dcg(sorted(gallery, reverse=True))
    return dcg(ranked) / best if best else 0.0


def test_by_hand():
    ranked = np.array([0.9, 0.5, 0.2, 0.6])  # relevant at ranks 1 and 4: 0.5 is not over tau
    gallery = np.array([0.9, 0.5, 0.2, 0.6, 0.8, 0.0])  # and one was missed
    assert average_precision(ranked, gallery) == pytest.approx((1 / 1 + 2 / 4) / 3)
    found = 0.9 + 0.6 / math.log2(5)
    best = 0.9 + 0.8 / math.log2(3) + 0.6 / math.log2(4)
    assert ndcg(ranked, gallery) == pytest.approx(found / best)
    assert precision_at(ranked, k=2) == 0.5
    assert precision_at(ranked, k=20) == 2 / 20


def test_the_denominator_is_what_k_results_could_hold():
    everything = np.full(10, 0.9)
    assert average_precision(everything[:4], everything, k=4) == 1.0
    assert ndcg(everything[:4], everything, k=4) == pytest.approx(1.0)
    assert average_precision(np.array([0.9, 0.0, 0.0, 0.0]), everything, k=4) == 0.25


def test_the_sparse_gallery_scores_as_the_whole_one():
    ranked, gallery = np.array([0.0, 0.7, 0.3]), np.array([0.7, 0.3, 0.0, 0.0, 0.8])
    sparse = gallery[gallery > 0.5]
    assert average_precision(ranked, sparse) == average_precision(ranked, gallery)
    assert ndcg(ranked, sparse) == ndcg(ranked, gallery)


def test_nothing_relevant_is_zero_not_nan():
    none = np.array([0.5, 0.1])
    assert average_precision(none, none) == ndcg(none, none) == precision_at(none) == 0.0
    assert average_precision(np.zeros(0), np.zeros(0)) == ndcg(np.zeros(0), np.zeros(0)) == 0.0


relevances = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.7, 0.7, 1.0]), min_size=2, max_size=40)


@settings(max_examples=150, deadline=None)
@given(relevances, st.integers(1, 45), st.integers(0, 2**32 - 1))
def test_like_the_textbook(values, k, seed):
    gallery = np.array(values)
    ranked = np.random.default_rng(seed).permutation(gallery)
    before = ranked.copy()
    assert average_precision(ranked, gallery, k=k) == pytest.approx(slow_ap(ranked, gallery, 0.5, k))
    assert ndcg(ranked, gallery, k=k) == pytest.approx(slow_ndcg(ranked, gallery, 0.5, k))
    assert 0.0 <= average_precision(ranked, gallery, k=k) <= 1.0
    np.testing.assert_array_equal(ranked, before)


@pytest.mark.parametrize("seed", range(20))
def test_like_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    gallery, scores = rng.random(60), rng.random(60)
    ranked = gallery[top_k(scores, 60)]
    assert average_precision(ranked, gallery, k=60) == pytest.approx(average_precision_score(gallery > 0.5, scores))
    gains = np.where(gallery > 0.5, gallery, 0.0)
    for k in (1, 7, 60):
        assert ndcg(ranked[:k], gallery, k=k) == pytest.approx(ndcg_score([gains], [scores], k=k, ignore_ties=True))


@pytest.mark.parametrize("seed", range(5))
def test_like_trec_eval(seed):
    """Its qrels are whole numbers: R in thousandths. Its AP divides by all relevant photos, here fewer than 200."""
    rng = np.random.default_rng(seed)
    gallery = np.round(rng.random((4, 300)) ** 2, 3)  # a quarter to a third are relevant
    scores = rng.random((4, 300))
    named = {"map_cut_200", "ndcg_cut_200", "P_20", "P_200"}
    qrels = {
        str(q): {str(i): round(1000 * r) if r > 0.5 else 0 for i, r in enumerate(row)} for q, row in enumerate(gallery)
    }
    run = {str(q): {str(i): float(s) for i, s in enumerate(row)} for q, row in enumerate(scores)}
    expected = pytrec_eval.RelevanceEvaluator(qrels, named).evaluate(run)
    ranked = np.stack([row[top_k(s, 200)] for row, s in zip(gallery, scores, strict=True)])
    assert ((gallery > 0.5).sum(axis=1) < 200).all()
    found = {
        "map_cut_200": average_precision(ranked, gallery),
        "ndcg_cut_200": ndcg(ranked, gallery),
        "P_20": precision_at(ranked, k=20),
        "P_200": precision_at(ranked, k=200),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, [expected[str(q)][name] for q in range(4)], rtol=1e-5, err_msg=name)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_many_queries_score_as_each_alone(seed, k):
    rng = np.random.default_rng(seed)
    gallery = np.round(rng.random((5, 20)), 1)
    gallery[0] = 0.0  # one without a relevant photo
    ranked = rng.permuted(gallery, axis=1)[:, :15]
    pairs = list(zip(ranked, gallery, strict=True))
    for together, alone in (
        (average_precision(ranked, gallery, k=k), [average_precision(*pair, k=k) for pair in pairs]),
        (ndcg(ranked, gallery, k=k), [ndcg(*pair, k=k) for pair in pairs]),
        (precision_at(ranked, k=k), [precision_at(row, k=k) for row in ranked]),
    ):
        np.testing.assert_allclose(together, alone, rtol=1e-12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=30), st.integers(1, 35))
def test_top_k_is_a_stable_sort_cut_at_k(values, k):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert top_k(np.array(values), k).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 4000), st.integers(1, 3))
def test_top_k_of_many_scores_with_ties(seed, k, n, digits):
    scores = np.round(np.random.default_rng(seed).random(n), digits)  # long enough to be cut by groups
    np.testing.assert_array_equal(top_k(scores, k), np.argsort(-scores, kind="stable")[:k])


def test_top_k_of_equal_scores_is_the_gallerys_order():
    assert top_k(np.zeros(100_000), 3).tolist() == [0, 1, 2]
