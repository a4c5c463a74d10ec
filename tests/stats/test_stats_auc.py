"""AUC and DeLong against brute force, scikit-learn and simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from penstock.errors import DataError, UsageError
from penstock.stats.auc import delong, delong_interval, placements, roc_auc


@st.composite
def ranked(draw, k=1):
    """Labels of both classes, and k scores with many ties."""
    n = draw(st.integers(4, 40))
    y = draw(hnp.arrays(np.bool_, n))
    assume(2 <= y.sum() <= n - 2)
    return y, draw(hnp.arrays(np.float64, (k, n), elements=st.integers(0, 8).map(float)))


def brute_force(y, scores):
    """DeLong's equations as they are printed: every pair of a positive and a negative row."""
    kernels = [
        np.where(s[y][:, None] > s[~y][None], 1.0, np.where(s[y][:, None] == s[~y][None], 0.5, 0.0)) for s in scores
    ]
    aucs = np.array([kernel.mean() for kernel in kernels])
    v10 = np.array([kernel.mean(axis=1) for kernel in kernels])
    v01 = np.array([kernel.mean(axis=0) for kernel in kernels])
    s10, s01 = np.atleast_2d(np.cov(v10)), np.atleast_2d(np.cov(v01))
    return aucs, s10 / y.sum() + s01 / (~y).sum()


@given(ranked(k=3))
def test_delong_is_the_brute_force(case):
    y, scores = case
    aucs, covariance = delong(y, scores)
    expected_aucs, expected_covariance = brute_force(y, scores)
    np.testing.assert_allclose(aucs, expected_aucs, atol=1e-12)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-12)


@given(ranked())
def test_auc_is_mann_whitneys_u(case):
    y, scores = case
    u = stats.mannwhitneyu(scores[0][y], scores[0][~y]).statistic
    assert roc_auc(y, scores[0]) == pytest.approx(u / (y.sum() * (~y).sum()))


def test_auc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y, score = rng.random(500) < 0.3, rng.integers(0, 50, 500)
    assert roc_auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-14)


def test_hand_computed_example():
    # Pairs won: 0.8 against 3, 0.9 against 3, 0.3 against 1 (0.1): 7 of 9. V10 = 1/3, 1, 1; V01 = 1, 2/3, 2/3.
    aucs, covariance = delong([0, 0, 0, 1, 1, 1], [[0.1, 0.4, 0.35, 0.3, 0.8, 0.9]])
    assert aucs[0] == pytest.approx(7 / 9)
    assert covariance[0, 0] == pytest.approx((4 / 27) / 3 + (1 / 27) / 3)


@given(ranked())
def test_reversing_the_score_reverses_the_area(case):
    y, scores = case
    assert roc_auc(y, -scores[0]) == pytest.approx(1.0 - roc_auc(y, scores[0]))
    assert roc_auc(~y, scores[0]) == pytest.approx(1.0 - roc_auc(y, scores[0]))


@given(ranked(k=2), st.randoms(use_true_random=False))
def test_order_of_rows_and_monotone_maps_change_nothing(case, random):
    y, scores = case
    order = list(range(len(y)))
    random.shuffle(order)
    aucs, covariance = delong(y, scores)
    again, again_covariance = delong(y[order], np.exp(scores[:, order]))
    np.testing.assert_allclose(again, aucs, atol=1e-12)
    np.testing.assert_allclose(again_covariance, covariance, atol=1e-12)


@given(ranked(), st.floats(0.5, 0.98))
def test_interval_holds_its_value_stays_inside_and_grows(case, confidence):
    y, scores = case
    narrow, wide = delong_interval(y, scores[0], confidence), delong_interval(y, scores[0], confidence + 0.01)
    assert 0.0 <= wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high <= 1.0


def test_perfect_separation_is_no_certainty():
    few = delong_interval([0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0])
    many = delong_interval(np.repeat([0, 1], 500), np.arange(1000.0))
    assert few.value == many.value == few.high == many.high == 1.0
    assert few.low < 0.4
    assert many.low > 0.98


def test_a_constant_score_is_a_half_with_an_interval():
    interval = delong_interval(np.repeat([0, 1], 50), np.zeros(100))
    assert interval.value == 0.5
    assert interval.low < 0.4
    assert interval.high > 0.6


def test_a_class_of_one_row_has_no_variance():
    aucs, covariance = delong([0, 0, 1], [[0.1, 0.3, 0.2]])
    assert aucs[0] == 0.5
    assert math.isnan(covariance[0, 0])
    interval = delong_interval([0, 0, 1], [0.1, 0.3, 0.2])
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_infinite_scores_are_ranked():
    assert roc_auc([0, 0, 1, 1], [-math.inf, 0.0, 1.0, math.inf]) == 1.0


@pytest.mark.parametrize(
    ("y", "score", "error", "sentence"),
    [
        ([1, 1], [0.1, 0.2], DataError, "all 2 rows are positive"),
        ([0, 0, 0], [0.1, 0.2, 0.3], DataError, "all 3 rows are negative"),
        ([0, 2], [0.1, 0.2], DataError, "0 and 1 only"),
        ([0, 1], [0.1, math.nan], DataError, "a score is NaN"),
        ([0, 1], [0.1], UsageError, "lengths are y 2, scores 1"),
        ([], [], DataError, "there is no row"),
    ],
)
def test_misuse_is_said_in_a_sentence(y, score, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        roc_auc(y, score)
    assert isinstance(raised.value, ValueError)


def test_scores_must_be_a_matrix():
    with pytest.raises(UsageError, match="shape"):
        delong([0, 1], [0.1, 0.2])


@pytest.mark.parametrize(("n", "share"), [(300, 0.3), (1000, 0.1)])
def test_interval_covers_the_true_area(n, share):
    rng = np.random.default_rng(n)
    true = stats.norm.cdf(1.0 / math.sqrt(2.0))  # normal scores, one standard deviation apart
    reps, held = 400, 0
    for _ in range(reps):
        y = rng.random(n) < share
        interval = delong_interval(y, rng.normal(size=n) + y)
        held += interval.low <= true <= interval.high
    assert 0.925 <= held / reps <= 0.975


def test_single_row_clusters_are_delong_itself():
    rng = np.random.default_rng(6)
    y = rng.random(2_000) < 0.3
    scores = rng.normal(size=(2, 2_000)) + y
    aucs, covariance = delong(y, scores)
    again, clustered = delong(y, scores, clusters=rng.permutation(2_000))
    np.testing.assert_array_equal(again, aucs)
    np.testing.assert_allclose(clustered, covariance, rtol=0.01)


def test_rows_copied_into_clusters_bring_no_evidence():
    rng = np.random.default_rng(7)
    y = rng.random(300) < 0.4
    score = rng.normal(size=300) + y
    once = delong_interval(y, score)
    copied, groups = [np.repeat(part, 5) for part in (y, score)], np.repeat(np.arange(300), 5)
    clustered, naive = delong_interval(*copied, clusters=groups), delong_interval(*copied)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.02)
    assert naive.high - naive.low < 0.5 * (once.high - once.low)  # the control
    assert clustered.method == "DeLong over clusters, logit"


def test_one_cluster_has_no_variance():
    interval = delong_interval([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], clusters=[1, 1, 1, 1])
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_placements_have_the_area_as_their_mean_in_either_class():
    rng = np.random.default_rng(1)
    y, score = rng.random(200) < 0.4, rng.integers(0, 9, 200).astype(float)
    share = placements(y, score)
    assert share[y].mean() == pytest.approx(share[~y].mean()) == pytest.approx(roc_auc(y, score))
