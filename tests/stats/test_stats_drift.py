"""Drift: found where it is, quiet where it is not, the same from a profile as from the rows."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kstwo

from penstock.errors import DataError, UsageError
from penstock.stats.drift import against_profile, chi2_two_sample, column_drift, ks_two_sample, table_drift
from penstock.stats.profile import MAX_POINTS, categorical_profile, numeric_profile

discrete = hnp.arrays(
    np.float64, st.integers(1, 120), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.5, 8.0, math.nan])
)
mixed = hnp.arrays(np.float64, st.integers(1, 150), elements=st.one_of(st.just(0.0), st.floats(-9, 9, width=16)))
categories = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=object)
)

LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "whole numbers": lambda rng, n: rng.poisson(1.0, n).astype(float),
    "many whole numbers": lambda rng, n: rng.poisson(40.0, n).astype(float),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.8, 0.0, rng.lognormal(size=n)),
    "some missing": lambda rng, n: np.where(rng.random(n) < 0.03, math.nan, rng.normal(size=n)),
    "categories": lambda rng, n: np.minimum(rng.zipf(1.8, n), 60).astype(str),
}


def kind_of(law):
    return "categorical" if law == "categories" else "numeric"


def make_profile(x, kind):
    return numeric_profile(x) if kind == "numeric" else categorical_profile(x)


def same(one, other):
    assert one.method == other.method
    assert one.statistic == pytest.approx(other.statistic, abs=1e-12)
    assert one.p_value == pytest.approx(other.p_value, abs=1e-12)
    assert one.effect == pytest.approx(other.effect, rel=1e-6, abs=1e-9)
    assert (one.n_reference, one.n_current) == (other.n_reference, other.n_current)
    assert (one.missing_reference, one.missing_current) == (other.missing_reference, other.missing_current)


@given(st.one_of(discrete, mixed), st.one_of(discrete, mixed))
def test_an_exact_profile_answers_as_its_rows_would(x, y):
    same(against_profile(numeric_profile(x).to_json(), y), column_drift(x, y, "numeric"))


@given(categories, categories)
def test_a_profile_of_categories_answers_as_its_rows_would(x, y):
    same(against_profile(categorical_profile(x).to_json(), y), column_drift(x, y, "categorical"))


@given(st.one_of(discrete, mixed), st.one_of(discrete, mixed))
def test_the_test_is_symmetric(x, y):
    forward, backward = column_drift(x, y, "numeric"), column_drift(y, x, "numeric")
    assert backward.p_value == pytest.approx(forward.p_value, abs=1e-9)
    assert backward.statistic == pytest.approx(forward.statistic, abs=1e-9)


@given(mixed, mixed, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(x, y, random):
    order = list(range(len(x)))
    random.shuffle(order)
    same(column_drift(x[order], y, "numeric"), column_drift(x, y, "numeric"))


@given(st.one_of(discrete, mixed))
def test_a_column_has_not_drifted_from_itself(x):
    drift = column_drift(x, x, "numeric")
    assert drift.p_value == pytest.approx(1.0)
    assert drift.effect == 0.0


def test_a_long_column_is_a_little_cautious_never_bold():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000)
    profile = numeric_profile(x)
    assert not profile.exact
    for shift in (0.0, 0.02, 0.1, 0.5):
        y = rng.normal(shift, 1.0, 1_000)
        whole, short = column_drift(x, y, "numeric"), against_profile(profile, y)
        assert whole.statistic - 1 / MAX_POINTS <= short.statistic <= whole.statistic
        assert short.p_value >= whole.p_value
        assert short.effect == pytest.approx(whole.effect, abs=(x.max() - x.min()) / (2 * MAX_POINTS))


@pytest.mark.parametrize("by_profile", [False, True])
@pytest.mark.parametrize(
    ("method", "kind", "make"),
    [
        # The shift that binned profiles missed: +0.4 on whole numbers of standard deviation 1.
        ("chi2", "numeric", lambda rng, n, on: np.round(rng.normal(5.0, 1.0, n) + 0.4 * on)),
        ("chi2", "numeric", lambda rng, n, on: rng.poisson(1.0 + 0.4 * on, n)),
        ("ks", "numeric", lambda rng, n, on: rng.normal(0.25 * on, 1.0, n)),
        ("ks", "numeric", lambda rng, n, on: rng.normal(0.0, 1.0 + 0.4 * on, n)),
        (
            "shares",
            "numeric",
            lambda rng, n, on: np.where(rng.random(n) < 0.9 - 0.07 * on, 0.0, rng.exponential(size=n)),
        ),
        (
            "shares",
            "numeric",
            lambda rng, n, on: np.where(rng.random(n) < 0.02 + 0.06 * on, np.nan, rng.normal(size=n)),
        ),
        ("shares", "numeric", lambda rng, n, on: np.where(rng.random(n) < 0.03 * on, np.nan, rng.normal(size=n))),
        ("chi2", "categorical", lambda rng, n, on: rng.choice(list("abc"), n, p=[0.5, 0.3 + 0.1 * on, 0.2 - 0.1 * on])),
        (
            "chi2",
            "categorical",
            lambda rng, n, on: np.where(rng.random(n) < 0.02 * on, "new", rng.choice(["a", "b"], n)),
        ),
        (
            "chi2",
            "categorical",
            lambda rng, n, on: np.where(rng.random(n) < 0.02 + 0.06 * on, None, "a").astype(object),
        ),
    ],
)
def test_drift_that_matters_is_found_at_a_thousand_rows(method, kind, make, by_profile):
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reference, current = make(rng, 2_000, 0), make(rng, 1_000, 1)
        drift = column_drift(make_profile(reference, kind) if by_profile else reference, current, kind)
        found += drift.p_value < 0.05 / 12
        if drift.p_value < 0.05 / 12:
            assert drift.method == method
    assert found >= 19


def test_without_atoms_the_zeros_would_have_hidden_it():
    """The control: Kolmogorov–Smirnov over all rows at once is blind to what the shares show."""
    rng = np.random.default_rng(5)
    blind = seen = 0
    for _ in range(40):
        x, y = (np.where(rng.random(600) < share, 0.0, rng.exponential(size=600)) for share in (0.92, 0.86))
        blind += ks_two_sample(x, y).p_value < 0.05
        seen += column_drift(x, y, "numeric").p_value < 0.05
    assert seen >= 25
    assert blind <= seen / 2


def false_alarms(law, n, m, reps, p_value):
    rng = np.random.default_rng(n + m)
    return sum(p_value(LAWS[law](rng, n), LAWS[law](rng, m)) <= 0.05 for _ in range(reps)) / reps


@pytest.mark.parametrize(("n", "m"), [(1_000, 1_000), (5_000, 200)])
@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_come_at_the_stated_rate_at_most(law, n, m):
    kind = kind_of(law)
    rate = false_alarms(law, n, m, 200, lambda x, y: against_profile(make_profile(x, kind), y).p_value)
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.campaign
@pytest.mark.parametrize(("n", "m"), [(1_000, 200), (1_000, 1_000), (2_000, 500), (5_000, 200), (5_000, 1_000)])
@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_at_length(law, n, m):
    kind = kind_of(law)
    rate = false_alarms(law, n, m, 3_000, lambda x, y: against_profile(make_profile(x, kind), y).p_value)
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3_000)


def test_taking_the_reference_as_exact_raises_far_more_false_alarms():
    """The sabotage: the same statistic, the reference's own error forgotten."""
    rate = false_alarms("normal", 1_000, 1_000, 200, lambda x, y: kstwo.sf(ks_two_sample(x, y).statistic, len(y)))
    assert rate > 0.2


def quiet_table(rng, n, m):
    return {
        f"{law} {i}": (make_profile(LAWS[law](rng, n), kind_of(law)), LAWS[law](rng, m), kind_of(law))
        for law in LAWS
        for i in range(2)
    }


def test_a_quiet_table_alarms_at_most_at_alpha():
    rng = np.random.default_rng(7)
    reps = 100
    tables = [table_drift(quiet_table(rng, 1_000, 300)) for _ in range(reps)]
    corrected = sum(any(r.drifted for r in table) for table in tables) / reps
    naive = sum(any(r.drift.p_value <= 0.05 for r in table) for table in tables) / reps
    assert corrected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / reps)
    assert naive > 0.25  # the control: without Holm


def test_the_moved_column_of_a_table_is_named():
    rng = np.random.default_rng(8)
    columns = quiet_table(rng, 1_000, 500)
    columns["moved"] = (rng.normal(size=1_000), rng.normal(0.5, 1.0, 500), "numeric")
    results = table_drift(columns, 0.01)
    assert [r.column for r in results] == list(columns)
    assert [r.column for r in results if r.drifted] == ["moved"]
    assert all(r.drifted == (r.adjusted <= 0.01) for r in results)
    assert table_drift({}) == []


def test_effects_have_their_units():
    x = np.random.default_rng(9).normal(0.0, 3.0, 4_000)
    assert column_drift(x, x + 6.0, "numeric").effect == pytest.approx(6.0 / x.std())
    moved = column_drift(np.repeat(["a", "b"], [60, 40]), np.repeat(["a", "b"], [40, 60]), "categorical")
    assert moved.effect == pytest.approx(0.2)


def test_constant_columns():
    same_value = column_drift(np.ones(50), np.ones(50), "numeric")
    assert (same_value.p_value, same_value.effect) == (1.0, 0.0)
    other_value = column_drift(np.ones(50), np.zeros(50), "numeric")
    assert other_value.p_value < 1e-10
    assert other_value.effect == math.inf
    assert json.loads(json.dumps(other_value.to_json(), allow_nan=False))["effect"] is None


def test_columns_missing_altogether():
    nothing, values = np.full(40, np.nan), np.arange(40.0)
    assert column_drift(nothing, nothing, "numeric").p_value == 1.0
    for reference in (values, numeric_profile(values)):
        gone = column_drift(reference, nothing, "numeric")
        assert gone.method == "shares"
        assert gone.statistic == 1.0
        assert gone.p_value < 1e-10
        assert (gone.missing_reference, gone.missing_current) == (0.0, 1.0)
    assert against_profile(numeric_profile(nothing), values).p_value < 1e-10


def test_a_few_unequal_rows_are_no_discrete_law():
    drift = column_drift(np.arange(10.0), np.arange(10.0) + 100.5, "numeric")
    assert drift.method == "ks"
    assert drift.p_value < 1e-4


def test_infinities_do_not_break_a_column():
    x = np.random.default_rng(10).normal(size=500)
    y = np.r_[x[:-1], math.inf]
    for reference in (x, numeric_profile(x), numeric_profile(np.r_[x, np.arange(2_000) / 7])):
        drift = column_drift(reference, y, "numeric")
        assert 0.0 <= drift.p_value <= 1.0
        assert drift.effect == math.inf


FLAT = np.array([f"c{i}" for i in range(3_000)], dtype=object)


def flat(rng, n, categories=3_000):
    return FLAT[rng.integers(0, categories, n)]


def test_categories_beyond_the_listed_ones_are_the_others():
    rng = np.random.default_rng(11)
    head = np.where(rng.random(30_000) < 0.5, "head", flat(rng, 30_000)).astype(object)
    profile = categorical_profile(head)
    assert profile.other > 0
    quiet = np.where(rng.random(500) < 0.5, "head", flat(rng, 500)).astype(object)
    assert against_profile(profile, quiet).p_value > 0.01
    assert against_profile(profile, flat(rng, 500)).p_value < 1e-6


def test_the_end_of_the_list_raises_no_false_alarms():
    """A thousand of three thousand equally frequent categories are listed by luck alone."""
    rng = np.random.default_rng(12)
    alarms = by_name = 0
    for _ in range(30):
        profile, current = categorical_profile(flat(rng, 9_000)), flat(rng, 3_000)
        alarms += against_profile(profile, current).p_value <= 0.05
        listed = np.isin(current, list(profile.counts)).sum()
        by_name += chi2_two_sample([9_000 - profile.other, profile.other], [listed, 3_000 - listed]).p_value <= 0.05
    assert alarms <= 5
    assert by_name == 30  # the control: taken by name, the listed ones always seem to fall


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: column_drift([], [1.0], "numeric"), DataError, "reference rows are empty"),
        (lambda: column_drift([1.0], [], "numeric"), DataError, "current rows are empty"),
        (lambda: column_drift(["a"], [], "categorical"), DataError, "current rows are empty"),
        (lambda: against_profile(numeric_profile([1.0]), []), DataError, "current rows are empty"),
        (lambda: column_drift([1.0], [1.0], "ordinal"), UsageError, "'numeric' or 'categorical'"),
        (lambda: column_drift(numeric_profile([1.0]), ["a"], "categorical"), UsageError, "profile is numeric"),
        (lambda: column_drift(["a"], ["b"], "numeric"), UsageError, "must be numbers"),
        (lambda: column_drift({"kind": "numeric"}, [1.0], "numeric"), DataError, "damaged"),
    ],
)
def test_misuse_is_said_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
