"""Paired differences: laws, closed forms, the error rate of a gate, and that no NaN passes."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from penstock.errors import DataError, UsageError
from penstock.stats.paired import Difference, paired_auc, paired_t


@st.composite
def losses(draw):
    n = draw(st.integers(2, 30))
    pair = draw(hnp.arrays(np.float64, (2, n), elements=st.integers(-50, 50).map(float)))
    return pair[0], pair[1]


@st.composite
def rankings(draw):
    n = draw(st.integers(4, 30))
    y = draw(hnp.arrays(np.bool_, n))
    assume(2 <= y.sum() <= n - 2)
    pair = draw(hnp.arrays(np.float64, (2, n), elements=st.integers(0, 6).map(float)))
    return y, pair[0], pair[1]


def assert_mirrored(forward, backward):
    assert backward.value == pytest.approx(-forward.value, abs=1e-12)
    assert backward.low == pytest.approx(-forward.high, abs=1e-12)
    assert backward.high == pytest.approx(-forward.low, abs=1e-12)
    assert backward.se == pytest.approx(forward.se, abs=1e-12)
    assert backward.n_informative == forward.n_informative


def test_bounds_are_the_one_sided_ones_of_scipys_paired_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)
    difference = paired_t(a, b, 0.95)
    assert difference.low == pytest.approx(stats.ttest_rel(a, b, alternative="greater").confidence_interval(0.95).low)
    assert difference.high == pytest.approx(stats.ttest_rel(a, b, alternative="less").confidence_interval(0.95).high)
    assert difference.p_value() == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)
    two_sided = stats.ttest_rel(a, b).confidence_interval(0.90)
    assert (difference.low, difference.high) == pytest.approx(tuple(two_sided))


@given(losses())
def test_difference_of_means_is_antisymmetric(pair):
    a, b = pair
    assert_mirrored(paired_t(a, b), paired_t(b, a))


@given(rankings())
def test_difference_of_areas_is_antisymmetric(case):
    y, a, b = case
    assert_mirrored(paired_auc(y, a, b), paired_auc(y, b, a))


@given(losses(), st.floats(0.5, 0.98))
def test_bounds_hold_the_value_and_widen_with_confidence(pair, confidence):
    narrow, wide = paired_t(*pair, confidence), paired_t(*pair, confidence + 0.01)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


@given(losses(), st.floats(-20, 20), st.floats(0.55, 0.99))
def test_p_value_and_bound_say_the_same(pair, margin, confidence):
    difference = paired_t(*pair, confidence)
    assume(abs(difference.low - margin) > 1e-9)
    assert (difference.low > margin) == (difference.p_value(margin) < 1 - confidence)


@given(rankings(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case, random):
    y, a, b = case
    order = list(range(len(y)))
    random.shuffle(order)
    first, second = paired_auc(y, a, b), paired_auc(y[order], a[order], b[order])
    assert (second.value, second.se) == pytest.approx((first.value, first.se), abs=1e-9)


def test_equal_models_differ_by_nothing():
    loss = np.random.default_rng(1).exponential(size=40)
    by_mean, by_rank = paired_t(loss, loss), paired_auc(loss > 0.5, -loss, -loss)
    for difference in (by_mean, by_rank):
        assert (difference.value, difference.low, difference.high, difference.n_informative) == (0.0, 0.0, 0.0, 0)
        assert not difference.low > 0.0
        assert difference.p_value() == 1.0


def test_informative_rows_are_those_that_differ():
    a, b = np.zeros(100), np.zeros(100)
    a[:7] = 1.0
    assert paired_t(a, b).n_informative == 7
    clusters = np.arange(100) // 5
    assert paired_t(a, b, clusters=clusters).n_informative == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_never_pass(bad):
    difference = paired_t([5.0, bad, 5.0, 6.0], [1.0, 1.0, 1.0, 2.0])
    assert not difference.low > -1e300
    assert not difference.high < 1e300
    assert difference.p_value(-1e300) == 1.0
    assert json.loads(json.dumps(difference.to_json(), allow_nan=False))["low"] is None


def test_infinity_on_both_sides_never_passes():
    assert paired_t([math.inf, 2.0], [math.inf, 1.0]).low == -math.inf


def test_one_row_or_cluster_bounds_nothing():
    assert paired_t([5.0], [1.0]).low == -math.inf
    assert paired_t([5.0, 6.0, 9.0], [1.0, 1.0, 1.0], clusters=["a", "a", "a"]).low == -math.inf
    assert paired_auc([0, 0, 1], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).low == -math.inf


def test_the_same_gain_on_every_row_needs_a_sign_test():
    assert paired_t([2.0] * 4, [1.0] * 4).low == -math.inf
    assert paired_t([2.0] * 5, [1.0] * 5).low == 1.0
    assert paired_t([2.0] * 5, [1.0] * 5, 0.99).low == -math.inf


def test_perfect_against_reversed_ranking_needs_rows_too():
    few, many = (np.repeat([0, 1], n) for n in (3, 6))
    assert paired_auc(few, np.arange(6.0), -np.arange(6.0)).low == -math.inf
    assert paired_auc(many, np.arange(12.0), -np.arange(12.0)).low == 1.0


def test_difference_of_areas_is_the_contrast_of_delongs_covariance():
    rng = np.random.default_rng(2)
    y = rng.random(80) < 0.4
    a, b = rng.normal(size=(2, 80)) + y
    kernels = [(s[y][:, None] > s[~y][None]).astype(float) for s in (a, b)]
    contrast = kernels[0] - kernels[1]
    variance = contrast.mean(1).var(ddof=1) / y.sum() + contrast.mean(0).var(ddof=1) / (~y).sum()
    difference = paired_auc(y, a, b)
    assert difference.value == pytest.approx(contrast.mean())
    assert difference.se == pytest.approx(math.sqrt(variance))
    assert difference.low == pytest.approx(contrast.mean() - 1.6448536 * math.sqrt(variance))


def _log_loss_pair(rng, n):
    """Two different models of equal quality: each sees one of two equally good features."""
    features = rng.normal(size=(2, n))
    y = rng.random(n) < 1 / (1 + np.exp(-features.sum(axis=0)))
    p = 1 / (1 + np.exp(-0.87 * features))
    return y, p, -np.where(y, np.log(p), np.log1p(-p))


@pytest.mark.parametrize("n", [300, 1000])
def test_equal_models_are_promoted_at_the_stated_rate_only(n):
    rng = np.random.default_rng(n)
    reps = 400
    promoted = {"t": 0, "auc": 0}
    for _ in range(reps):
        y, p, loss = _log_loss_pair(rng, n)
        promoted["t"] += paired_t(loss[0], loss[1]).low > 0
        promoted["auc"] += paired_auc(y, p[0], p[1]).low > 0
    # Binomial(400, 0.05): 0.017 to 0.087 holds 99.9 % of it.
    assert 0.017 <= promoted["t"] / reps <= 0.087
    assert 0.017 <= promoted["auc"] / reps <= 0.087


def test_the_rate_control_turns_red_when_bounds_are_too_tight():
    rng = np.random.default_rng(3)
    reps = 300
    promoted = 0
    for _ in range(reps):
        _, _, loss = _log_loss_pair(rng, 300)
        difference = paired_t(loss[0], loss[1])
        promoted += difference.value - difference.se > 0  # a bound at 0.84 in place of 0.95
    assert promoted / reps > 0.087


def test_clusters_keep_the_rate_where_rows_depend():
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(50), 8)
    reps, kept, naive = 300, 0, 0
    for _ in range(reps):
        gain = rng.normal(size=50)[clusters] + 0.5 * rng.normal(size=400)
        kept += paired_t(gain, np.zeros(400), clusters=clusters).low > 0
        naive += paired_t(gain, np.zeros(400)).low > 0
    assert kept / reps <= 0.10
    assert naive / reps > 0.20


def test_clusters_keep_the_rate_of_a_difference_of_areas():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(60), 8)
    reps, kept, naive = 200, 0, 0
    for _ in range(reps):
        y = rng.random(480) < 0.4
        a, b = y + 1.5 * rng.normal(size=(2, 60))[:, clusters] + 0.5 * rng.normal(size=(2, 480))
        a, b = a + y * rng.normal(size=60)[clusters], b + y * rng.normal(size=60)[clusters]
        kept += paired_auc(y, a, b, clusters=clusters).low > 0
        naive += paired_auc(y, a, b).low > 0
    assert kept / reps <= 0.105
    assert naive / reps > 0.105


def test_one_cluster_of_rankings_bounds_nothing():
    difference = paired_auc([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0], clusters=[1, 1, 1, 1])
    assert (difference.low, difference.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: paired_t([1.0], [1.0, 2.0]), UsageError, "lengths are a 1, b 2"),
        (lambda: paired_t([], []), DataError, "no row"),
        (lambda: paired_t([1.0], [1.0], 95), UsageError, "strictly between 0 and 1"),
        (lambda: paired_auc([1, 1], [1.0, 2.0], [1.0, 2.0]), DataError, "needs both classes"),
        (lambda: paired_auc([0, 1], [1.0, math.nan], [1.0, 2.0]), DataError, "NaN"),
    ],
)
def test_misuse_is_said_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_p_value_of_an_exact_difference():
    assert Difference(1.0, 1.0, 1.0, 0.0, 9, 9, "t").p_value() == 0.0
    assert Difference(1.0, 1.0, 1.0, 0.0, 9, 9, "t").p_value(1.0) == 1.0
