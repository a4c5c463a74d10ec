"""Intervals against closed forms, published values and simulation."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from penstock.errors import DataError, UsageError
from penstock.stats.intervals import (
    Interval,
    mean_and_se,
    mean_interval,
    normal_quantile,
    quantile_interval,
    t_quantile,
    wilson_interval,
)

samples = hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6, width=32))


def test_mean_interval_is_scipys_t_interval():
    x = np.random.default_rng(0).normal(size=37)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    interval = mean_interval(x, 0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert interval.n == 37
    assert interval.method == "t"


def test_weighted_mean_is_the_hajek_estimator():
    x, w = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 1.0])
    mean = mean_and_se(x, w)
    parts = w * (x - 2.25) / 4
    assert mean.value == 2.25
    assert mean.se == pytest.approx(math.sqrt(3 / 2 * (parts**2).sum()))
    assert mean_and_se(x, 10 * w) == pytest.approx(tuple(mean))


def test_a_row_of_weight_zero_does_not_count():
    with_it = mean_and_se([1.0, 2.0, 4.0, 99.0], [1.0, 1.0, 1.0, 0.0])
    assert with_it == pytest.approx(tuple(mean_and_se([1.0, 2.0, 4.0])))


def test_clusters_of_equal_size_are_a_t_interval_of_their_means():
    x = np.random.default_rng(1).normal(size=60)
    means = x.reshape(12, 5).mean(axis=1)
    clustered, plain = mean_interval(x, clusters=np.repeat(np.arange(12), 5)), mean_interval(means)
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high))
    assert clustered.method == "t over 12 clusters"


def test_clusters_of_single_rows_change_nothing():
    x = np.random.default_rng(2).normal(size=30)
    assert mean_and_se(x, clusters=np.arange(30)[::-1]) == pytest.approx(tuple(mean_and_se(x)))


def _coverage_of_clustered_means(use_clusters, reps=300):
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 10)
    held = 0
    for _ in range(reps):
        x = rng.normal(size=40)[clusters] + rng.normal(size=400)
        interval = mean_interval(x, 0.95, clusters=clusters if use_clusters else None)
        held += interval.low <= 0.0 <= interval.high
    return held / reps


def test_clustered_interval_covers_and_the_naive_one_does_not():
    assert 0.92 <= _coverage_of_clustered_means(use_clusters=True) <= 0.985
    assert _coverage_of_clustered_means(use_clusters=False) < 0.70  # the control


@pytest.mark.parametrize("x", [[1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_what_bounds_nothing_has_open_bounds(x):
    interval = mean_interval(x)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert json.loads(json.dumps(interval.to_json(), allow_nan=False))["low"] is None


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_values(k, n, low, high):
    interval = wilson_interval(k, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_quantile_interval_of_a_median_is_the_sign_tests():
    # P(Binomial(10, 1/2) <= 1) = 11/1024 <= 0.025 < 56/1024: the 2nd and the 9th of ten.
    interval = quantile_interval(np.arange(1.0, 11.0), 0.5)
    assert (interval.low, interval.high) == (2.0, 9.0)


def test_quantile_interval_is_open_where_rows_do_not_reach():
    interval = quantile_interval(np.arange(20.0), 0.99)
    assert interval.high == math.inf
    assert interval.low > 10.0


def test_quantile_interval_covers_at_least_its_level():
    rng = np.random.default_rng(4)
    true = stats.expon.ppf(0.9)
    intervals = [quantile_interval(rng.exponential(size=100), 0.9) for _ in range(400)]
    assert np.mean([i.low <= true <= i.high for i in intervals]) > 0.935


def test_quantiles_of_the_laws():
    assert t_quantile(0.95, 7, sides=1) == pytest.approx(stats.t.ppf(0.95, 7))
    assert t_quantile(0.95, math.inf) == normal_quantile(0.95) == pytest.approx(1.959964)
    assert t_quantile(0.95, 0) == math.inf


@given(samples, st.floats(0.5, 0.98), st.floats(0.001, 0.015))
def test_an_interval_holds_its_value_and_grows_with_confidence(x, confidence, more):
    narrow, wide = mean_interval(x, confidence), mean_interval(x, confidence + more)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


@given(st.integers(1, 500), st.data())
def test_wilson_holds_its_value_and_stays_inside(n, data):
    k = data.draw(st.integers(0, n))
    interval = wilson_interval(k, n, data.draw(st.floats(0.01, 0.999)))
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0


@given(samples, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(x, random):
    order = list(range(len(x)))
    random.shuffle(order)
    clusters = np.arange(len(x)) % 3
    mean, again = mean_and_se(x, clusters=clusters), mean_and_se(x[order], clusters=clusters[order])
    assert again == pytest.approx(tuple(mean), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: mean_interval([]), DataError, "at least one row"),
        (lambda: mean_interval([1.0, 2.0], 1.0), UsageError, "strictly between 0 and 1"),
        (lambda: mean_interval([1.0, 2.0], weights=[1.0]), UsageError, "one value for each of 2 rows"),
        (lambda: mean_interval([1.0, 2.0], weights=[1.0, -1.0]), UsageError, "not negative"),
        (lambda: mean_interval([1.0, 2.0], weights=[0.0, 0.0]), UsageError, "not all zero"),
        (lambda: mean_interval([1.0, 2.0], clusters=["a"]), UsageError, "one label for each of 2 rows"),
        (lambda: mean_interval([[1.0]]), UsageError, "one-dimensional"),
        (lambda: mean_interval(["a"]), UsageError, "must be numbers"),
        (lambda: wilson_interval(1, 0), DataError, "at least one row"),
        (lambda: wilson_interval(3, 2), UsageError, "between 0 and n = 2"),
        (lambda: quantile_interval([1.0, math.nan], 0.5), DataError, "without missing values"),
        (lambda: quantile_interval([1.0], 1.5), UsageError, "q must lie"),
        (lambda: normal_quantile(0.9, sides=3), UsageError, "sides must be 1 or 2"),
    ],
)
def test_misuse_is_said_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_json_of_an_interval():
    assert Interval(0.0, 0.5, 1.0, 3, "t").to_json() == {"low": 0.0, "value": 0.5, "high": 1.0, "n": 3, "method": "t"}
