"""Probabilities against scikit-learn, and against what they were drawn from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from encoders.calibration import FEWEST, Calibration, Sigmoid, cross_fitted, fit, group, platt, reliability
from encoders.errors import BundleError
from encoders.sketch import Sketch, SketchObject

INK = ([[10, 40], [10, 40]],)


def drawn(count: int, slope: float = 9.0, intercept: float = -5.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines, and relevance drawn with the probability that a logistic gives them."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-0.2, 0.9, count)
    return scores, rng.random(count) < 1 / (1 + np.exp(-(slope * scores + intercept)))


# --- one logistic ---


@pytest.mark.parametrize("seed", range(4))
def test_platt_is_scikit_learns_logistic_regression_on_platts_targets(seed):
    scores, relevant = drawn(500, seed=seed)
    positive, negative = relevant.sum(), (~relevant).sum()
    targets = np.where(relevant, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # A target inside (0, 1) is a row of either class, weighted.
    both = np.repeat([[1], [0]], len(scores), axis=1).ravel()
    reference = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(
        np.tile(scores, 2)[:, None], both, sample_weight=np.concatenate([targets, 1 - targets])
    )
    assert platt(scores, relevant) == pytest.approx(
        (float(reference.coef_[0, 0]), float(reference.intercept_[0])), rel=1e-3
    )


def test_platt_finds_what_the_data_were_drawn_from():
    slope, intercept = platt(*drawn(200_000))
    assert slope == pytest.approx(9, abs=0.2)
    assert intercept == pytest.approx(-5, abs=0.1)


def test_scores_that_part_without_error_have_an_answer():
    scores = np.linspace(0, 1, 60)
    slope, intercept = platt(scores, scores > 0.5)
    assert np.isfinite([slope, intercept]).all()
    assert Sigmoid(slope, intercept, 60, 30).apply([0.0, 0.5, 1.0]) == pytest.approx([0, 0.5, 1], abs=0.05)


def test_equal_scores_say_no_more_than_the_base_rate():
    slope, intercept = platt(np.full(1000, 0.3), np.arange(1000) < 100)
    assert Sigmoid(slope, intercept, 1000, 100).apply(0.3) == pytest.approx(0.1, abs=2e-3)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.floats(0.1, 50), st.floats(-20, 20))
def test_probabilities_rise_with_the_score_and_stay_in_range(scores, slope, intercept):
    chances = Sigmoid(slope, intercept, 100, 1).apply(np.sort(scores))
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances) >= 0).all()


# --- groups ---


def test_each_group_has_its_own_and_probabilities_add_up_to_what_is_relevant():
    easy, hard = drawn(4000, intercept=-2), drawn(4000, intercept=-6, seed=1)
    scores, relevant = (np.stack([a, b, a, b]) for a, b in zip(easy, hard, strict=True))
    fitted = fit(scores, relevant, ["easy", "hard", "easy", "hard"])
    assert fitted.groups["easy"].relevant == 2 * easy[1].sum()
    assert fitted.groups["hard"].base_rate == hard[1].mean()
    for name, (cosines, hits) in (("easy", easy), ("hard", hard)):
        assert fitted.apply(cosines, name).mean() == pytest.approx(hits.mean(), abs=1e-3)
    assert fitted.apply([0.5], "easy")[0] > fitted.apply([0.5], "hard")[0]


def test_a_group_is_left_out_that_has_too_little_or_says_nothing():
    scores = np.linspace(0, 1, 1000).reshape(4, 250)
    relevant = np.zeros((4, 250), bool)
    relevant[0, 250 - FEWEST :] = relevant[1, 251 - FEWEST :] = relevant[2, :FEWEST] = relevant[3] = True
    fitted = fit(scores, relevant, ["enough", "too few", "falling", None])
    assert list(fitted.groups) == ["enough"]
    assert fitted.apply([0.5], "too few") is fitted.apply([0.5], None) is None


@pytest.mark.parametrize(
    ("labels", "words", "expected"),
    [
        ((None,), False, "strokes/1"),
        ((None,), True, "strokes/1"),  # there are no words to use
        (("cup", None), False, "strokes/2"),
        (("cup", None), True, "strokes+words/2"),
        (("cup",) * 3, True, "strokes+words/3"),
        (("cup",) * 5, False, "strokes/3"),
    ],
)
def test_how_a_drawing_is_asked(labels, words, expected):
    sketch = Sketch(100, 100, [SketchObject(INK, label) for label in labels])
    assert group(sketch, words=words) == expected


def test_how_words_and_weights_are_asked():
    named, drawn_ = SketchObject((), "cup", (0, 0, 50, 50)), SketchObject(INK)
    assert group(Sketch(100, 100, [named])) == "words/1"
    assert group(Sketch(100, 100, [named, drawn_])) == "strokes+words/2"
    for weight in (2, -1):
        assert group(Sketch(100, 100, [drawn_, SketchObject(INK, weight=weight)])) is None


# --- cross-fitting ---


def table(queries: int = 12, photos: int = 300) -> tuple[np.ndarray, np.ndarray, list[str]]:
    scores, relevant = drawn(queries * photos, seed=5)
    return scores.reshape(queries, photos), relevant.reshape(queries, photos), ["one", "other"] * (queries // 2)


def test_a_pair_is_judged_by_a_fit_on_other_queries_and_other_photos():
    scores, relevant, groups = table()
    query_folds, photo_folds = np.arange(12) // 4, np.arange(300) % 3
    chances = cross_fitted(scores, relevant, groups, query_folds, photo_folds)
    rows = [row for row in range(12) if query_folds[row] != 1 and row % 2]
    others = np.ix_(rows, photo_folds != 2)
    slope, intercept = platt(scores[others].ravel(), relevant[others].ravel())
    mine = np.ix_([5, 7], photo_folds == 2)
    np.testing.assert_allclose(chances[mine], 1 / (1 + np.exp(-(slope * scores[mine] + intercept))))


def test_what_is_judged_does_not_know_its_own_answer():
    scores, relevant, groups = table()
    folds = np.arange(12) % 3, np.arange(300) % 3
    turned = relevant.copy()
    turned[0, folds[1] == 0] ^= True
    before, after = (cross_fitted(scores, given_, groups, *folds) for given_ in (relevant, turned))
    np.testing.assert_array_equal(before[0, folds[1] == 0], after[0, folds[1] == 0])
    assert not np.array_equal(before, after)


def test_where_the_rest_is_too_little_there_is_no_judgement():
    scores, relevant, _ = table()
    chances = cross_fitted(scores, relevant, ["one"] * 11 + ["alone"], np.arange(12) % 3, np.arange(300) % 3)
    assert np.isnan(chances[11]).all()
    assert np.isfinite(chances[:11]).all()


# --- reliability ---


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 15))
def test_reliability_is_scikit_learns(seed, bins):
    rng = np.random.default_rng(seed)
    chances = rng.random(300) ** 3
    relevant = rng.random(300) < chances**0.7
    found = reliability(chances, relevant, bins)
    observed, predicted = calibration_curve(relevant, chances, n_bins=bins, strategy="uniform")
    np.testing.assert_allclose(found.predicted, predicted)
    np.testing.assert_allclose(found.observed, observed)
    assert found.brier == pytest.approx(brier_score_loss(relevant, chances))


def test_calibration_error_worked_by_hand():
    """Two pairs said to be .25, none relevant; two said to be 1, of which one is: (2 x .25 + 2 x .5) / 4."""
    found = reliability([0.25, 0.25, 1.0, 1.0], [False, False, False, True], bins=2)
    assert (found.predicted, found.observed, found.counts) == ([0.25, 1.0], [0.0, 0.5], [2, 2])
    assert found.ece == pytest.approx(0.375)
    assert found.brier == pytest.approx((2 * 0.25**2 + 1) / 4)


def test_what_is_drawn_from_its_probabilities_is_reliable():
    chances = np.random.default_rng(0).random(100_000)
    relevant = np.random.default_rng(1).random(100_000) < chances
    assert reliability(chances, relevant).ece < 0.01
    assert reliability(chances**2, relevant).ece > 0.1


# --- in a bundle ---


def test_it_comes_back_from_json():
    scores, relevant, groups = table()
    curve = reliability(scores.clip(0, 1), relevant)
    kept = Calibration(dict(fit(scores, relevant, groups).groups), 0.4, 300, {"one": {"all": curve}})
    assert Calibration.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


@pytest.mark.parametrize("damaged", [{}, {"groups": []}, {"groups": {"one": {"slope": 1}}, "tau": 0.5, "photos": 1}, 3])
def test_what_is_no_calibration_is_refused(damaged):
    with pytest.raises(BundleError, match=r"the bundle's calibration cannot be read .*: calibrate it again"):
        Calibration.from_dict(damaged)
