"""Two-sample statistics against SciPy, brute force and exact enumeration."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from penstock.errors import DataError, UsageError
from penstock.stats import two_sample
from penstock.stats.two_sample import chi2_two_sample, ks_p_value, ks_two_sample, merge_sorted, wasserstein

numbers = hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(-6, 6).map(lambda i: i / 2))
counts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=12)


@given(numbers, numbers)
def test_distances_are_scipys_with_any_ties(x, y):
    with np.errstate(all="ignore"):  # of SciPy's p-value, which is not asked for
        expected = stats.ks_2samp(x, y, method="asymp").statistic
    assert ks_two_sample(x, y).statistic == pytest.approx(expected, abs=1e-12)
    assert wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-9)


@given(numbers, numbers)
def test_distances_are_symmetric_and_of_order_only(x, y):
    forward, backward = ks_two_sample(x, y), ks_two_sample(y, x)
    assert backward.statistic == forward.statistic
    assert backward.p_value == pytest.approx(forward.p_value, abs=1e-9)
    assert ks_two_sample(np.exp(x), np.exp(y)).statistic == forward.statistic
    assert wasserstein(x, y) == pytest.approx(wasserstein(y, x))
    assert wasserstein(x, y) >= 0.0
    assert wasserstein(x, x) == ks_two_sample(x, x).statistic == 0.0


@given(numbers, numbers)
def test_atoms_are_the_counts_of_the_pooled_values(x, y):
    values, of_x, of_y = merge_sorted(np.sort(x), np.sort(y)).atoms()
    np.testing.assert_array_equal(values, np.unique(np.concatenate([x, y])))
    np.testing.assert_array_equal(of_x, [(x == value).sum() for value in values])
    np.testing.assert_array_equal(of_y, [(y == value).sum() for value in values])


@pytest.mark.parametrize(("n", "m"), [(5, 7), (20, 20), (100, 30), (997, 500), (1_000, 1_000), (200, 5_000)])
def test_exact_p_value_is_scipys(n, m):
    rng = np.random.default_rng(n + m)
    x, y = rng.normal(size=n), rng.normal(0.15, 1.0, m)
    expected = stats.ks_2samp(x, y, method="exact")
    test = ks_two_sample(x, y)
    assert test.statistic == pytest.approx(expected.statistic, abs=1e-14)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-10)


def test_exact_p_value_is_the_share_of_all_arrangements():
    n, m = 4, 5
    pooled = np.arange(n + m, dtype=float)
    distances = []
    for chosen in combinations(range(n + m), n):
        inside = np.isin(np.arange(n + m), chosen)
        distances.append(ks_two_sample(pooled[inside], pooled[~inside]).statistic)
    for distance in set(distances):
        share = np.mean(np.array(distances) >= distance - 1e-12)
        assert ks_p_value(distance, n, m) == pytest.approx(share, abs=1e-12)


def test_large_samples_take_the_asymptotic_law():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=3_000), rng.normal(0.05, 1.0, 2_000)
    assert ks_two_sample(x, y).p_value == pytest.approx(stats.ks_2samp(x, y, method="asymp").pvalue)


def test_far_out_p_values_are_small_and_not_negative():
    assert 0.0 <= ks_p_value(0.5, 900, 900) < 1e-30
    assert ks_p_value(1.0, 3, 3) == pytest.approx(0.1)


def test_the_two_laws_meet_where_one_takes_over():
    distance = 0.05
    exact, asymptotic = ks_p_value(distance, 1_000, 4_000), ks_p_value(distance, 1_001, 4_000)
    assert asymptotic == pytest.approx(exact, rel=0.05)


def test_infinities_are_ordered_and_cost_infinitely_much():
    assert ks_two_sample([1.0, math.inf], [1.0, 2.0]).statistic == 0.5
    assert wasserstein([1.0, math.inf], [1.0, 2.0]) == math.inf
    assert wasserstein([-math.inf, 1.0, math.inf], [-math.inf, 2.0, math.inf]) == pytest.approx(1 / 3)


@given(counts)
@settings(max_examples=200)
def test_chi_square_is_symmetric_and_a_probability(pairs):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    if not (sum(a) and sum(b)):
        with pytest.raises(DataError, match="without rows"):
            chi2_two_sample(a, b)
        return
    test = chi2_two_sample(a, b)
    assert 0.0 <= test.p_value <= 1.0
    assert chi2_two_sample(b, a) == pytest.approx(tuple(test), abs=1e-9)
    assert chi2_two_sample(a[::-1], b[::-1]) == pytest.approx(tuple(test), abs=1e-9)
    assert chi2_two_sample([*a, 0], [*b, 0]) == pytest.approx(tuple(test), abs=1e-9)


def test_chi_square_is_scipys_where_no_category_is_rare():
    a, b = [40, 60, 25], [80, 90, 31]
    expected = stats.chi2_contingency([a, b])
    assert chi2_two_sample(a, b) == pytest.approx((expected.statistic, expected.pvalue))


def test_rare_categories_are_pooled_into_one():
    a, b = [500, 3, 3, 3, 6], [500, 2, 2, 2, 5]
    expected = stats.chi2_contingency([[500, 15], [500, 11]], correction=False)
    assert chi2_two_sample(a, b) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_tail_that_holm_asks_for_is_kept():
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 400) ** 1.5
    reference, current = (rng.multinomial(n, shares / shares.sum(), size=3_000) for n in (1_000, 200))
    level = 0.05 / 12
    alarms = sum(chi2_two_sample(a, b).p_value <= level for a, b in zip(reference, current, strict=True))
    assert alarms / 3_000 <= level + 3 * math.sqrt(level / 3_000)


def test_a_rare_pool_is_tested_exactly():
    a, b = [500, 2], [480, 3]
    assert chi2_two_sample(a, b).p_value == pytest.approx(stats.fisher_exact([a, b]).pvalue)
    frequent = stats.chi2_contingency([[300, 200], [250, 230]], correction=False)
    exact = stats.fisher_exact([[1, 500], [0, 480]]).pvalue
    joined = chi2_two_sample([300, 200, 1], [250, 230, 0])
    assert joined == pytest.approx((frequent.statistic, 2 * frequent.pvalue))
    assert frequent.pvalue < exact


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 900), st.integers(1, 900))
def test_fisher_is_scipys(a, b, n, m):
    ours = two_sample._fisher(np.array([a, b], dtype=float), np.array([n, m], dtype=float))
    assert ours == pytest.approx(stats.fisher_exact([[a, n], [b, m]]).pvalue, abs=1e-6)


def test_a_category_never_seen_before_is_found_among_few_rows():
    test = chi2_two_sample([3_000, 2_000, 0], [115, 79, 6])
    assert test.p_value < 1e-6
    merged_into_the_smallest = chi2_two_sample([3_000, 2_000], [115, 85])
    assert merged_into_the_smallest.p_value > 0.4  # the control: silently pooled it is lost


def test_taking_the_reference_as_exact_is_another_and_wrong_answer():
    reference, current = [130, 70], [110, 90]
    expected = np.array(reference) * 200 / 200
    one_sample = stats.chisquare(current, expected).pvalue
    assert chi2_two_sample(reference, current).p_value > 0.04
    assert one_sample < 0.005


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: ks_two_sample([], [1.0]), DataError, "x holds no value"),
        (lambda: wasserstein([1.0], [math.nan]), DataError, "y holds no value"),
        (lambda: ks_two_sample(["a"], [1.0]), UsageError, "must be numbers"),
        (lambda: ks_two_sample([[1.0]], [1.0]), UsageError, "one-dimensional"),
        (lambda: chi2_two_sample([1], [1, 2]), UsageError, "same categories"),
        (lambda: chi2_two_sample([1.5, 2], [1, 2]), UsageError, "whole and not negative"),
        (lambda: chi2_two_sample([-1, 2], [1, 2]), UsageError, "whole and not negative"),
    ],
)
def test_misuse_is_said_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
