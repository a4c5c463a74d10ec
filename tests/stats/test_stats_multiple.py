"""Holm's rule against its definition and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.errors import UsageError
from penstock.stats.multiple import holm

p_values = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1))


def step_down(p, alpha):
    """As Holm wrote it: go up the ordered p-values, stop at the first that is too large."""
    reject = np.zeros(len(p), dtype=bool)
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - rank) > alpha:
            break
        reject[index] = True
    return reject


@given(p_values, st.floats(0.001, 0.5))
def test_it_is_the_step_down_rule(p, alpha):
    reject, adjusted = holm(p, alpha)
    np.testing.assert_array_equal(reject, step_down(p, alpha))
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, p * len(p)))


def test_adjusted_by_hand():
    # 4 × 0.01, then 3 × 0.02, then 2 × 0.022 < 0.06, then 1 × 0.09.
    reject, adjusted = holm([0.01, 0.02, 0.022, 0.09], 0.05)
    assert adjusted.tolist() == pytest.approx([0.04, 0.06, 0.06, 0.09])
    assert reject.tolist() == [True, False, False, False]


def test_nan_never_rejects_and_still_counts():
    reject, adjusted = holm([0.02, math.nan, 0.02])
    assert reject.tolist() == [False, False, False]
    assert adjusted[1] == 1.0


def test_no_tests_reject_nothing():
    reject, adjusted = holm([])
    assert len(reject) == len(adjusted) == 0


def test_family_wise_rate_is_kept_and_without_correction_it_is_not():
    p = np.random.default_rng(0).random((2_000, 12))
    assert np.mean([holm(row)[0].any() for row in p]) <= 0.065
    assert np.mean((p <= 0.05).any(axis=1)) > 0.40


def test_misuse_is_said_in_a_sentence():
    with pytest.raises(UsageError, match="between 0 and 1"):
        holm([1.2])
    with pytest.raises(UsageError, match="alpha"):
        holm([0.2], 0.0)
