"""Simulated raters of known behaviour, and the figures that follow from what they are."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import ndcg_score

from compsketch_milvus.study.scoring import Scoring
from compsketch_milvus.study.store import Store


@pytest.fixture
def study(make, tmp_path):
    """A study of six queries and a function that lets raters rate it all; their marks are not looked at."""
    opened = []

    def study_(*says, **options):
        plan = make(queries=6, raters=len(says), **options)
        store = Store(tmp_path / "study", plan)
        opened.append(store)
        for one in says:
            rater, said = store.join(), one(plan)
            work = store.work(rater)
            while work.tasks:
                work = store.rate(rater, work.tasks[0].id, said(work.tasks[0]), 1)
        return plan, Scoring(plan, store.ratings())

    yield study_
    for store in opened:
        store.close()


def test_raters_who_know_the_truth_give_the_metrics_of_the_rankings(study, knowing):
    _, scoring = study(knowing, knowing, knowing)
    means = scoring.means()["all"]
    # ssbir finds photos of 5, 4, 3: all relevant. semir 5, 3, 2, and chance 1, 1, 1. The pool: 5, 4, 3, 3, 2, 1, 1, 1.
    assert means["ssbir"]["P@3"]["value"] == pytest.approx(1)
    assert means["semir"]["P@3"]["value"] == pytest.approx(2 / 3)
    assert means["random"]["P@3"]["value"] == 0
    # three of the pool's four relevant photos fit into the first three: AP is 1 and 2 / 3, by hand
    assert means["ssbir"]["mAP"]["value"] == pytest.approx(1)
    assert means["semir"]["mAP"]["value"] == pytest.approx(2 / 3)
    assert means["random"]["mAP"]["value"] == 0
    discounts = 1 / np.log2([2, 3, 4])
    assert means["ssbir"]["NDCG"]["value"] == pytest.approx(1)
    assert means["semir"]["NDCG"]["value"] == pytest.approx(([5, 3, 0] @ discounts) / ([5, 4, 3] @ discounts))
    assert means["random"]["NDCG"]["value"] == 0
    assert means["ssbir"]["mean rating"]["value"] == pytest.approx(4)
    assert means["ssbir"]["rated 3-5"]["value"] == pytest.approx(1)
    assert means["semir"]["rated 3-5"]["value"] == pytest.approx(2 / 3)
    # all raters say the same: every query's score is the same, and so are the ends of the interval
    assert means["ssbir"]["mAP"]["interval"] == pytest.approx([1, 1])


def test_ndcg_is_scikit_learns_where_everything_is_relevant(study):
    def generous(plan):
        ranks = {photo: 3 + (int(photo, 16) % 3) for photo in plan.photos}
        return lambda task: [ranks[photo] for photo in task.photos]

    plan, scoring = study(generous)
    for row, number in enumerate(scoring.answered):
        query = plan.queries[number]
        pool = sorted(query.photos)
        gains = [[scoring.relevance[number, photo] for photo in pool]]
        for column, method in enumerate(plan.methods):
            place = {photo: rank for rank, photo in enumerate(query.ranked[method])}
            order = [[-place.get(photo, 99) for photo in pool]]  # what was not found comes after what was
            assert scoring.scores[row, column, 2] == pytest.approx(ndcg_score(gains, order, k=3))


def test_raters_who_agree_have_an_alpha_of_1(study, knowing):
    _, scoring = study(knowing, knowing, knowing)
    assert scoring.agreement() == {"all": 1.0, "1": 1.0, "2": 1.0, "3": 1.0}


def test_raters_by_chance_have_an_alpha_about_0_and_no_method_is_better(study):
    def by_chance(seed):
        rng = np.random.default_rng(seed)
        return lambda plan: lambda task: rng.integers(1, 6, len(task.photos)).tolist()

    _, scoring = study(*(by_chance(seed) for seed in range(8)), depth=8)
    assert scoring.agreement()["all"] == pytest.approx(0, abs=0.03)
    ratings = [pair for pair in scoring.pairs() if pair["metric"] == "mean rating" and pair["objects"] == "all"]
    assert all(pair["p"] > 0.01 for pair in ratings)


def test_a_rater_who_always_says_3_makes_everything_relevant_and_no_agreement_to_speak_of(study):
    _, scoring = study(lambda plan: lambda task: [3] * len(task.photos))
    for found in scoring.means()["all"].values():
        assert (
            found["P@3"]["value"] == found["mAP"]["value"] == found["NDCG"]["value"] == found["rated 3-5"]["value"] == 1
        )
        assert found["mean rating"]["value"] == 3
    assert scoring.agreement()["all"] is None
    assert all(pair["difference"] == 0 and pair["p"] == 1 for pair in scoring.pairs())


def test_two_is_not_above_two(study):
    _, scoring = study(lambda plan: lambda task: [2] * len(task.photos))
    found = scoring.means()["all"]["ssbir"]
    assert found["P@3"]["value"] == 0
    assert found["mAP"] == {"value": None, "interval": None, "queries": 0}  # nothing is relevant: not defined
    assert scoring.counts()["queries_without_relevant"] == 6


def test_relevance_is_the_mean_of_all_that_was_said(study):
    def always(score):
        return lambda plan: lambda task: [score] * len(task.photos)

    _, scoring = study(always(1), always(2), always(5))
    assert list(scoring.relevance.values()) == pytest.approx([8 / 3] * len(scoring.relevance))
    assert all(sorted(said) == [1, 2, 5] for said in scoring.given.values())


def test_paired_tests_are_scipys(study, knowing):
    def wavering(plan):
        truth, rng = knowing(plan), np.random.default_rng(3)
        return lambda task: [int(np.clip(score + rng.integers(-1, 2), 1, 5)) for score in truth(task)]

    _, scoring = study(wavering, wavering, wavering)
    for pair in scoring.pairs():
        if pair["objects"] == "all" and pair["metric"] == "mean rating":
            columns = [scoring.plan.methods.index(pair[side]) for side in "ab"]
            a, b = scoring.scores[:, columns[0], 3], scoring.scores[:, columns[1], 3]
            expected = scipy.stats.ttest_rel(a, b)
            assert (pair["t"], pair["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
            assert pair["effect_size"] == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
            assert pair["n"] == 6
    better = {(pair["a"], pair["b"]): pair for pair in scoring.pairs() if pair["metric"] == "mean rating"}
    assert better["ssbir", "random"]["difference"] > 0


def test_histograms_count_every_rating_for_every_method_that_found_the_photo(study, knowing):
    _, scoring = study(knowing, knowing)
    counts = scoring.histograms()
    assert set(counts) == {"1", "2", "3"}
    for panel in counts.values():  # two queries each, two raters, one photo a rank
        assert panel == {"ssbir": [0, 0, 4, 4, 4], "semir": [0, 4, 4, 0, 4], "random": [12, 0, 0, 0, 0]}


def test_a_query_counts_once_all_of_its_photos_are_rated(make, tmp_path, knowing):
    plan = make(queries=6, raters=1)
    with_store = Store(tmp_path / "study", plan)
    rater, says = with_store.join(), knowing(plan)
    work, whole = with_store.work(rater), []
    while work.tasks:
        work = with_store.rate(rater, work.tasks[0].id, says(work.tasks[0]), 1)
        scoring = Scoring(plan, with_store.ratings())
        rated = [plan.by_id[rating.task] for rating in with_store.ratings()]
        tasks = [task.query for task in rated if task.rank is not None]
        whole.append([number for number in range(6) if tasks.count(number) == 3])
        assert scoring.answered == whole[-1]
        assert scoring.counts()["queries_answered"] == len(whole[-1])
        assert scoring.counts()["tasks_complete"] == len(tasks)
    assert whole[0] == []
    assert whole[-1] == list(range(6))
    with_store.close()


def test_checks_do_not_count(make, tmp_path, knowing):
    plan = make(every=2, raters=1)
    store = Store(tmp_path / "study", plan)
    rater, says = store.join(), knowing(plan)
    work = store.work(rater)
    while work.tasks:
        work = store.rate(rater, work.tasks[0].id, says(work.tasks[0]), 1)
    scoring = Scoring(plan, store.ratings())
    assert len(store.ratings()) == len(plan.tasks) + len(plan.checks)
    assert set(scoring.given) == {
        (number, photo) for number, query in enumerate(plan.queries) for photo in query.photos
    }
    store.close()
