"""Profiles: exact where they can be, within their bound where not, the same after JSON."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.errors import DataError, UsageError
from penstock.stats import profile as profiles
from penstock.stats.profile import categorical_profile, count_categories, from_json, numeric_profile

few_values = hnp.arrays(np.float64, st.integers(0, 60), elements=st.sampled_from([-1.5, 0.0, 2.0, 7.0, math.nan]))


def through_json(profile):
    return from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False)))


@given(few_values)
def test_few_values_are_kept_whole(x):
    profile = numeric_profile(x)
    present = x[~np.isnan(x)]
    values, counts = np.unique(present, return_counts=True)
    np.testing.assert_array_equal(profile.values, values)
    np.testing.assert_array_equal(profile.counts, counts)
    assert (profile.n, profile.missing, profile.present) == (len(x), np.isnan(x).sum(), len(present))
    assert profile.exact


@given(few_values)
def test_json_gives_the_same_profile(x):
    profile = numeric_profile(x)
    assert through_json(profile).to_json() == profile.to_json()


@pytest.mark.parametrize("n", [201, 2_048, 2_049, 30_000])
def test_the_distribution_function_is_exact_at_kept_values_and_bounded_between(n):
    x = np.random.default_rng(n).lognormal(size=n)
    profile = numeric_profile(x)
    at_most = np.cumsum(profile.counts + profile.between)
    np.testing.assert_array_equal(at_most, [(x <= value).sum() for value in profile.values])
    assert profile.values[0] == x.min()
    assert profile.values[-1] == x.max()
    assert at_most[-1] == n
    assert len(profile.values) <= profiles.MAX_POINTS
    assert profile.between.max() <= math.ceil(n / profiles.MAX_POINTS)
    assert profile.exact == (n <= profiles.MAX_POINTS)
    assert through_json(profile).to_json() == profile.to_json()


def test_an_atom_in_a_long_column_keeps_its_exact_count():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(20_000) < 0.3, 0.0, rng.normal(size=20_000))
    profile = numeric_profile(x)
    index = int(np.searchsorted(profile.values, 0.0))
    assert profile.values[index] == 0.0
    assert profile.counts[index] == (x == 0.0).sum()


def test_order_of_rows_does_not_matter():
    x = np.random.default_rng(1).normal(size=5_000)
    assert numeric_profile(x).to_json() == numeric_profile(np.sort(x)[::-1]).to_json()


def test_infinities_survive_json():
    back = through_json(numeric_profile([-math.inf, 0.0, math.inf]))
    assert back.values.tolist() == [-math.inf, 0.0, math.inf]


def test_booleans_and_times_are_numbers():
    assert numeric_profile([True, False, True]).counts.tolist() == [1, 2]
    times = np.array(["2026-01-01", "NaT", "2026-01-02"], dtype="datetime64[s]")
    profile = numeric_profile(times)
    assert profile.missing == 1
    assert np.diff(profile.values).tolist() == [86_400e9]


def test_a_profile_is_small():
    x = np.random.default_rng(2).normal(size=200_000)
    assert len(json.dumps(numeric_profile(x).to_json())) < 70_000


def test_categories_are_counted_by_their_text():
    values = np.array(["a", None, math.nan, pd.NA, pd.NaT, 1, 1.0, True, "1"], dtype=object)
    counts, missing = count_categories(values)
    assert missing == 4
    assert sum(counts.values()) == 5
    assert counts["a"] == 1


def test_many_categories_become_others():
    names = np.repeat([f"c{i}" for i in range(1_200)], np.r_[np.full(1_000, 3), np.full(200, 2)])
    profile = categorical_profile(names)
    assert len(profile.counts) == profiles.MAX_CATEGORIES
    assert (profile.other, profile.other_categories, profile.n) == (400, 200, 3_400)
    assert through_json(profile) == profile


def test_the_choice_of_categories_does_not_depend_on_the_order_of_rows():
    names = np.array([f"c{i}" for i in range(1_500)], dtype=object)
    assert list(categorical_profile(names).counts) == list(categorical_profile(names[::-1]).counts)


def test_times_are_categories_by_their_text():
    counts, missing = count_categories(np.array(["2026-01-01", "NaT"], dtype="datetime64[D]"))
    assert counts == {"2026-01-01": 1}
    assert missing == 1


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "numeric"},
        {"kind": "other"},
        {},
        {"kind": "categorical", "n": 1, "missing": 0, "counts": [], "other": 0, "other_categories": 0},
        {"kind": "numeric", "n": 1, "missing": 0, "values": [1.0], "counts": [], "mean": 1.0, "std": 0.0},
    ],
)
def test_a_damaged_profile_is_refused(body):
    with pytest.raises(DataError, match="reference profile"):
        from_json(body)


def test_what_is_not_a_column_is_refused():
    with pytest.raises(UsageError, match="must be numbers"):
        numeric_profile(["a"])
    with pytest.raises(UsageError, match="one-dimensional"):
        categorical_profile([["a"]])
