"""The bootstrap: its weights, its determinism, its cost, and what is not defined on a draw."""

import math

import numpy as np
import pytest

from penstock.errors import DataError, UsageError
from penstock.stats import bootstrap
from penstock.stats.bootstrap import bootstrap_interval, paired_bootstrap, poisson_bootstrap, replicates
from penstock.stats.paired import paired_t


def accuracy(y, p):
    return float(np.mean(y == p))


def mean(x, weights=None):
    return float(np.average(x, weights=weights))


def recall(y, p):
    return float((y & p).sum() / y.sum()) if y.any() else math.nan


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    y = rng.random(400) < 0.4
    return y, np.where(rng.random(400) < 0.8, y, ~y), np.where(rng.random(400) < 0.7, y, ~y)


def test_weights_are_poisson():
    weights = np.concatenate(list(bootstrap._weights(10_000, 30, 0, None)))
    for k in range(5):
        share = math.exp(-1) / math.factorial(k)
        assert np.mean(weights == k) == pytest.approx(share, abs=4.5 * math.sqrt(share / len(weights)))
    assert weights.astype(float).var() == pytest.approx(1.0, abs=0.02)


def test_the_table_is_within_its_stated_bound():
    shares = np.bincount(bootstrap._poisson_table(), minlength=10) / 65_536
    true = math.exp(-1) / np.array([math.factorial(k) for k in range(10)])
    assert np.abs(shares - true[: len(shares)]).max() <= 2**-16


def test_equal_seeds_give_equal_replicates_and_others_do_not():
    columns = (np.random.default_rng(1).normal(size=50),)
    first = poisson_bootstrap(mean, columns, 40, seed=5)
    np.random.default_rng(0).normal(size=9)
    np.testing.assert_array_equal(first, poisson_bootstrap(mean, columns, 40, seed=5))
    assert not np.array_equal(first, poisson_bootstrap(mean, columns, 40, seed=6))


def test_weights_and_gathered_rows_are_the_same_draws():
    columns = (np.random.default_rng(2).normal(size=60),)
    gathered = poisson_bootstrap(mean, columns, 50, seed=1)
    np.testing.assert_allclose(poisson_bootstrap(mean, columns, 50, seed=1, weighted=True), gathered)


def test_clusters_are_drawn_together():
    clusters = np.repeat(np.arange(20), 5)

    def whole(group):
        return float(all(count % 5 == 0 for count in np.bincount(group)))

    assert poisson_bootstrap(whole, (clusters,), 50, clusters=clusters).all()
    assert not poisson_bootstrap(whole, (clusters,), 50).all()


def test_spread_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(3).normal(size=500)
    draws = poisson_bootstrap(mean, (x,), 2_000)
    assert draws.std() == pytest.approx(x.std(ddof=1) / math.sqrt(500), rel=0.08)


def test_cost_is_capped_in_rows_and_never_below_the_least():
    assert replicates(1_000, 1_000) == 1_000
    assert replicates(1_000, 200_000) == 500
    assert replicates(1_000, 10**9) == bootstrap.MIN_BOOT
    assert replicates(50, 10**9) == 50


def test_paired_bounds_are_near_the_t_bounds(pair):
    y, a, b = pair
    drawn = paired_bootstrap(accuracy, y, a, b, n_boot=2_000)
    closed = paired_t(y == a, y == b)
    assert drawn.value == pytest.approx(closed.value)
    assert drawn.low == pytest.approx(closed.low, abs=0.01)
    assert drawn.high == pytest.approx(closed.high, abs=0.01)
    assert drawn.n_informative == int((a != b).sum())
    assert drawn.p_value() == pytest.approx(closed.p_value(), abs=0.01)


def test_pairing_is_kept():
    # One model is the other plus 1: any draw that did not share rows would spread the difference.
    y = np.random.default_rng(4).normal(size=200)
    difference = paired_bootstrap(lambda t, p: float(np.mean(p - t)), y, 2 * y + 1, 2 * y)
    assert difference.low == pytest.approx(1.0)
    assert difference.high == pytest.approx(1.0)


def test_matrices_of_probabilities_are_resampled_by_row(pair):
    y, a, b = pair
    wide = [np.column_stack([1 - p, p]) for p in (a.astype(float), b.astype(float))]
    by_matrix = paired_bootstrap(lambda t, p: accuracy(t, p[:, 1] > 0.5), y, *wide, n_boot=100)
    assert by_matrix == paired_bootstrap(accuracy, y, a, b, n_boot=100)


def test_draws_without_a_value_count_as_the_worst():
    rare = np.zeros(40, dtype=bool)
    rare[0] = True  # absent from e⁻¹ of all draws
    difference = paired_bootstrap(recall, rare, np.ones(40, bool), np.zeros(40, bool), n_boot=200)
    assert difference.value == 1.0
    assert (difference.low, difference.high) == (-math.inf, math.inf)
    interval = bootstrap_interval(recall, (rare, np.ones(40, bool)), n_boot=200)
    assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_dropping_undefined_draws_would_have_passed():
    """The control: the same draws, the undefined ones left out, would promote on a single row."""
    rare = np.zeros(40, dtype=bool)
    rare[0] = True
    draws = poisson_bootstrap(recall, (rare, np.ones(40, bool)), 200)
    assert np.isnan(draws).mean() > 0.2
    assert np.nanquantile(draws, 0.05) == 1.0


def test_a_metric_that_raises_on_a_draw_is_not_defined_there():
    def strict(y):
        if len(np.unique(y)) < 2:
            raise ValueError("one class")
        return float(y.mean())

    y = np.zeros(30)
    y[0] = 1.0
    assert np.isnan(poisson_bootstrap(strict, (y,), 200)).any()


def test_a_fault_of_the_metric_itself_is_not_swallowed():
    def broken(y):
        raise KeyError("column")

    with pytest.raises(KeyError):
        poisson_bootstrap(broken, (np.zeros(3),), 10)
    with pytest.raises(ValueError, match="always"):
        bootstrap_interval(lambda x: (_ for _ in ()).throw(ValueError("always")), (np.zeros(3),), n_boot=10)


def test_nan_never_passes(pair):
    y, a, b = pair
    difference = paired_bootstrap(lambda t, p: math.nan, y, a, b, n_boot=20)
    assert (difference.low, difference.high) == (-math.inf, math.inf)
    assert bootstrap_interval(lambda x: math.nan, (y,), n_boot=20).low == -math.inf


def test_interval_of_a_median_covers():
    rng = np.random.default_rng(5)
    intervals = [
        bootstrap_interval(lambda x: float(np.median(x)), (rng.normal(size=200),), n_boot=200, seed=i)
        for i in range(150)
    ]
    assert 0.88 <= np.mean([i.low <= 0 <= i.high for i in intervals]) <= 0.99
    assert all(i.low <= i.value <= i.high for i in intervals)


def test_misuse_is_said_in_a_sentence(pair):
    y, a, b = pair
    with pytest.raises(UsageError, match="lengths are y 400, pred_a 399"):
        paired_bootstrap(accuracy, y, a[1:], b)
    with pytest.raises(UsageError, match="strictly between"):
        paired_bootstrap(accuracy, y, a, b, 1.5)
    with pytest.raises(DataError, match="no row"):
        poisson_bootstrap(mean, (np.array([]),))
    with pytest.raises(UsageError, match="n_boot"):
        poisson_bootstrap(mean, (y,), 0)
