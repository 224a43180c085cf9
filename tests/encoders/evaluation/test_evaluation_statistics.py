"""Paired t-tests and bootstrap intervals: by hand, against scipy, and where there is nothing to tell apart."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.evaluation.statistics import PairedTest, intervals, paired_t

ARRAYS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def test_by_hand():
    # Differences 1, 2, 3, 2: mean 2, squared deviations 1 + 0 + 1 + 0, so s^2 = 2/3 and the standard error 1/sqrt(6).
    found = paired_t(np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0, 2.0, 3.0, 6.0]))
    assert (found.difference, found.n) == (2.0, 4)
    assert found.t == pytest.approx(2 * np.sqrt(6))
    assert found.effect_size == pytest.approx(2 / np.sqrt(2 / 3))
    assert found.p == pytest.approx(0.01628, abs=1e-5)  # a table of t with 3 degrees of freedom has .02 at 4.541


@settings(max_examples=50, deadline=None)
@given(ARRAYS, st.integers(2, 60))
def test_like_scipy(rng, n):
    a, b = rng.random(n), rng.random(n)
    found, expected = paired_t(a, b), scipy.stats.ttest_rel(a, b)
    assert (found.t, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert found.effect_size == pytest.approx(found.t / np.sqrt(n))


@settings(max_examples=30, deadline=None)
@given(ARRAYS, st.integers(2, 30))
def test_the_order_of_queries_does_not_matter_and_that_of_methods_is_the_sign(rng, n):
    a, b, order = rng.random(n), rng.random(n), rng.permutation(n)
    one, shuffled, swapped = paired_t(a, b), paired_t(a[order], b[order]), paired_t(b, a)
    assert shuffled.t == pytest.approx(one.t)
    assert (swapped.difference, swapped.t, swapped.p) == tuple(map(pytest.approx, (-one.difference, -one.t, one.p)))


def test_what_has_no_finite_t_says_so():
    same = np.array([0.1, 0.7, 0.3])
    assert paired_t(same, same) == PairedTest(0.0, 0.0, 1.0, 0.0, 3)
    assert paired_t(same + 0.5, same) == PairedTest(pytest.approx(0.5), None, 0.0, None, 3)
    assert paired_t(same[:1], same[1:2]) == PairedTest(pytest.approx(-0.6), None, None, None, 1)
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        paired_t(same, same[:2])
    with pytest.raises(ValueError, match="n >= 1"):
        paired_t(same[:0], same[:0])


def slow_bca(scores, resamples, level, seed):
    """Efron & Tibshirani's formulas 14.9 to 14.15 word by word, the jackknife by leaving out each score in turn."""
    rng, n, normal = np.random.default_rng(seed), len(scores), scipy.stats.norm
    means = np.array([scores[rng.integers(n, size=n)].mean() for _ in range(resamples)])
    bias = normal.ppf((means < scores.mean()).mean())
    jackknife = np.array([np.delete(scores, i).mean() for i in range(n)])
    apart = jackknife.mean() - jackknife
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.ppf(tail)
        ends.append(np.quantile(means, normal.cdf(bias + z / (1 - acceleration * z))))
    return ends


def test_intervals_are_the_textbooks():
    scores = np.random.default_rng(3).exponential(size=40)  # no two means are equal
    found = intervals(scores[:, None], resamples=500, level=0.9, seed=7)[0]
    np.testing.assert_allclose(found, slow_bca(scores, 500, 0.9, 7), rtol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_intervals_are_near_those_of_scipy(seed):
    """Both draw 4,000 resamples, not the same: their ends agree to some hundredths of the interval's width."""
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random((80, 2)) < 0.5, 0.0, rng.random((80, 2)) ** 2)  # half 0, skewed, as AP is
    found = intervals(scores, resamples=4000, seed=seed)
    for column in range(2):
        expected = scipy.stats.bootstrap(
            (scores[:, column],), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(seed + 100)
        ).confidence_interval
        width = expected.high - expected.low
        np.testing.assert_allclose(found[column], [expected.low, expected.high], atol=0.06 * width)


def test_the_interval_of_symmetric_scores_is_the_normal_one():
    scores = np.random.default_rng(0).normal(size=(2000, 1))
    low, high = intervals(scores, resamples=4000)[0]
    error = scores.std(ddof=1) / np.sqrt(2000)
    np.testing.assert_allclose([low, high], scores.mean() + np.array([-1.96, 1.96]) * error, atol=0.2 * error)


def test_a_wider_level_is_wider_and_skewness_moves_the_ends():
    scores = np.random.default_rng(1).exponential(size=(60, 1))
    (low, high), (wide_low, wide_high) = intervals(scores)[0], intervals(scores, level=0.99)[0]
    assert wide_low < low < scores.mean() < high < wide_high
    assert high - scores.mean() > 1.1 * (scores.mean() - low)  # a percentile interval would be nearly even


@settings(max_examples=10, deadline=None)
@given(ARRAYS, st.integers(2, 25))
def test_columns_stand_alone_and_shift_with_their_scores(rng, n):
    scores = rng.random((n, 3))
    together = intervals(scores, resamples=100)
    alone = intervals(scores[:, 1:2], resamples=100)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-12)
    np.testing.assert_allclose(intervals(scores + 1.0, resamples=100), together + 1.0, atol=1e-9)
    assert (together[:, 0] <= together[:, 1]).all()


def test_scores_without_spread_and_single_queries():
    np.testing.assert_array_equal(intervals(np.full((5, 2), 0.1)), [[0.1, 0.1], [0.1, 0.1]])
    assert intervals(np.array([[0.4, 0.5]])) is None
    assert intervals(np.zeros((0, 2))) is None
    rare = np.zeros((300, 1))
    rare[0] = 1.0  # a third of the resamples miss it
    low, high = intervals(rare)[0]
    assert 0.0 == low < 1 / 300 < high < 6 / 300


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        intervals(np.zeros(4))
    with pytest.raises(ValueError, match=r"level is 1\.0"):
        intervals(np.zeros((4, 1)), level=1.0)
    with pytest.raises(ValueError, match="resamples 0"):
        intervals(np.zeros((4, 1)), resamples=0)
