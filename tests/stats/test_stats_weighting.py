"""Weights of rows: equal ones are none, whole ones stand for repetitions, and intervals cover under unequal ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from penstock.errors import DataError, UsageError
from penstock.stats.auc import delong, delong_interval, roc_auc
from penstock.stats.intervals import mean_and_se, mean_interval, wilson_interval
from penstock.stats.paired import count_informative, paired_auc, paired_t
from penstock.stats.weighting import checked_weights, effective_rows, weighted_share


def sample(seed, n=300):
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    score = np.round(y + 1.2 * rng.normal(size=n), 1)  # with ties
    return y, score, rng.integers(1, 5, n).astype(float)


def test_the_weighted_area_is_scikit_learns():
    for seed in range(20):
        y, score, weight = sample(seed)
        assert roc_auc(y, score, weight) == pytest.approx(roc_auc_score(y, score, sample_weight=weight), rel=1e-12)


def test_whole_weights_give_the_figures_of_repeated_rows():
    y, score, weight = sample(0)
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    assert roc_auc(y, score, weight) == pytest.approx(roc_auc(y[rows], score[rows]), rel=1e-12)
    assert mean_and_se(score, weight).value == pytest.approx(score[rows].mean(), rel=1e-12)
    assert weighted_share(y, weight)[0] == pytest.approx(y[rows].mean(), rel=1e-12)


@given(st.floats(0.01, 1e6))
def test_equal_weights_are_no_weights_to_the_last_bit(size):
    y, score, _ = sample(1, 60)
    equal = np.full(60, size)
    assert delong_interval(y, score, weights=equal) == delong_interval(y, score)
    assert mean_interval(score, weights=equal) == mean_interval(score)
    assert paired_t(score, y * 1.0, weights=equal) == paired_t(score, y * 1.0)
    assert paired_auc(y, score, -score, weights=equal) == paired_auc(y, score, -score)


def test_doubling_all_weights_changes_nothing():
    y, score, weight = sample(2)
    once, twice = delong(y, [score, score**3], weights=weight), delong(y, [score, score**3], weights=2 * weight)
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert weighted_share(y, weight) == pytest.approx(weighted_share(y, 2 * weight))
    assert effective_rows(weight, len(y)) == pytest.approx(effective_rows(2 * weight, len(y)))


@given(st.floats(1e-250, 1e250))
def test_the_size_of_all_weights_changes_nothing_however_large_or_small(size):
    y, _, weight = sample(2, 60)
    assert effective_rows(size * weight, 60) == pytest.approx(effective_rows(weight, 60))
    assert weighted_share(y, size * weight) == pytest.approx(weighted_share(y, weight))


def test_a_row_of_weight_zero_is_as_if_it_were_not_there():
    y, score, weight = sample(3)
    weight[::3] = 0.0
    kept = weight > 0
    whole, part = delong(y, [score], weights=weight), delong(y[kept], [score[kept]], weights=weight[kept])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert weighted_share(y, weight) == pytest.approx(weighted_share(y[kept], weight[kept]))


def test_the_effective_number_of_trials_is_that_of_equal_weights_and_never_more_than_the_rows():
    y, _, weight = sample(4)
    share, trials = weighted_share(y, np.ones(len(y)))
    assert (share, trials) == (pytest.approx(y.mean()), pytest.approx(len(y)))
    assert weighted_share(y, weight)[1] < len(y)
    assert weighted_share(np.ones(4, dtype=bool), np.array([9.0, 1.0, 1.0, 1.0])) == (1.0, pytest.approx(12**2 / 84))


def test_rows_that_differ_count_as_what_they_are_worth():
    differs = np.array([True, True, True, False])
    assert count_informative(differs) == 3
    assert count_informative(differs, weights=np.array([100.0, 1.0, 1.0, 1.0])) == 1


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: checked_weights([1.0], 2), UsageError, "one value for each of 2 rows"),
        (lambda: checked_weights([1.0, -1.0], 2), UsageError, "not negative"),
        (lambda: checked_weights([0.0, 0.0], 2), UsageError, "not all zero"),
        (lambda: checked_weights([1.0, np.nan], 2), UsageError, "finite"),
        (lambda: weighted_share(np.array([True]), np.array([0.0])), DataError, "has a weight"),
        (lambda: roc_auc([0, 1, 1], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]), DataError, "both classes"),
    ],
)
def test_what_are_no_weights_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()


# ── coverage, by seeded simulation: 1,000 samples of 800 rows, weights from 1 to 4 that depend on the outcome ────


def drawn(rng, n=800):
    stratum = rng.random(n) < 0.5
    weight = np.where(stratum, 1.0, 3.0) * rng.uniform(0.8, 1.25, n)
    y = rng.random(n) < np.where(stratum, 0.5, 0.3)
    score = y + np.where(stratum, 1.0, 1.5) * rng.normal(size=n)
    return y, score, weight


def hits(make, truth, samples=1_000):
    found = [make(*drawn(np.random.default_rng(seed))) for seed in range(samples)]
    return np.mean([one.low <= truth <= one.high for one in found])


def truths():
    y, score, weight = drawn(np.random.default_rng(10**6), 2_000_000)
    return roc_auc(y, score, weight), float(weight @ score / weight.sum()), weighted_share(y, weight)[0]


def test_weighted_intervals_cover():
    area, mean, share = truths()

    def proportion(y, _score, weight):
        part, trials = weighted_share(y, weight)
        return wilson_interval(part * trials, trials)

    covered = {
        "area": hits(lambda y, s, w: delong_interval(y, s, weights=w), area),
        "mean": hits(lambda _y, s, w: mean_interval(s, weights=w), mean),
        "share": hits(proportion, share),
    }
    assert all(0.93 <= rate <= 0.97 for rate in covered.values()), covered


def test_unweighted_intervals_do_not_cover_the_weighted_truth():
    """What the weights are for: without them the population's figure is missed."""
    _, _, share = truths()
    assert hits(lambda y, _s, _w: wilson_interval(int(y.sum()), len(y)), share, 200) < 0.5


def test_the_paired_difference_of_two_equal_models_is_positive_as_often_as_its_level_says():
    found = []
    for seed in range(1_000):
        rng = np.random.default_rng(seed)
        y, score, weight = drawn(rng)
        a, b = score + 0.5 * rng.normal(size=len(y)), score + 0.5 * rng.normal(size=len(y))
        found.append((paired_auc(y, a, b, weights=weight).low > 0, paired_t(a, b, weights=weight).low > 0))
    assert all(0.03 <= rate <= 0.07 for rate in np.mean(found, axis=0)), np.mean(found, axis=0)
