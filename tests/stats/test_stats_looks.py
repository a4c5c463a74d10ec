"""Levels for one look after another: by hand, the bound that is published for them, and what is lost without them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri, zeta

from penstock.errors import UsageError
from penstock.stats.looks import DECAY, START, alpha_left, levels, next_level, share, winners_luck

HISTORIES = st.lists(st.booleans(), max_size=60)
REPS = 2_000


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_levels_are_those_worked_out_by_hand():
    """Start 0.025; tests 2 and 5 find something: each later level is written out term by term."""
    g = [None, *(j**-1.1 / float(zeta(1.1)) for j in range(1, 8))]
    won = [False, True, False, False, True, False, False]
    by_hand = [
        0.025 * g[1],
        0.025 * g[2],
        0.025 * g[3] + 0.025 * g[1],
        0.025 * g[4] + 0.025 * g[2],
        0.025 * g[5] + 0.025 * g[3],
        0.025 * g[6] + 0.025 * g[4] + 0.05 * g[1],
        0.025 * g[7] + 0.025 * g[5] + 0.05 * g[2],
    ]
    assert levels(won) == pytest.approx(by_hand, rel=1e-12)


def test_the_shares_never_rise_and_sum_to_one():
    found = [share(j) for j in range(1, 200_001)]
    assert found == sorted(found, reverse=True)
    tail = float(zeta(DECAY, 200_001)) / float(zeta(DECAY))
    assert math.fsum(found) + tail == pytest.approx(1.0, abs=1e-9)
    assert share(0) == share(-3) == 0.0


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.01, math.nan])
def test_an_alpha_that_is_none_is_refused(alpha):
    with pytest.raises(UsageError, match="alpha must be above 0"):
        next_level([], alpha)


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(HISTORIES)
def test_all_levels_together_stay_below_alpha_for_each_find(won):
    """The published bound: the estimate of the false discovery proportion is at most alpha at every time."""
    for t in range(1, len(won) + 1):
        assert sum(levels(won[:t])) <= 0.05 * max(sum(won[:t]), 1) + 1e-12


@given(HISTORIES)
def test_before_the_first_find_no_more_than_the_start_is_spent(won):
    before = won[: won.index(True) + 1] if True in won else won
    assert sum(levels(before)) <= 0.05 * START


@given(HISTORIES)
def test_what_is_left_is_what_all_later_levels_sum_to_if_nothing_more_is_found(won):
    """By Hurwitz's zeta: each amount still has the shares from its age on."""
    t = len(won) + 1
    found = [i for i, one in enumerate(won, 1) if one]
    later = 0.025 * zeta(DECAY, t)
    later += sum((0.025 if k == 0 else 0.05) * zeta(DECAY, t - i) for k, i in enumerate(found))
    assert alpha_left(won) == pytest.approx(later / zeta(DECAY), abs=1e-9)


@given(HISTORIES, st.floats(0.001, 1))
def test_levels_are_a_part_of_alpha(won, alpha):
    assert next_level(won, alpha) == pytest.approx(alpha * next_level(won, 1.0))


# ── by simulation ────────────────────────────────────────────────────────────────────────────────────────────


def decided(p_values, corrected=True):
    """Which of a sequence of tests find something, with the product's levels or at 0.05 each time."""
    won = []
    for p in p_values:
        won.append(bool(p <= (next_level(won) if corrected else 0.05)))
    return won


def test_any_false_find_in_52_tests_of_equals_is_rarer_than_alpha_and_without_levels_it_is_the_rule():
    p = np.random.default_rng(0).random((REPS, 52))
    found = np.mean([any(decided(row)) for row in p])
    assert found <= 0.05 * START + 3 * math.sqrt(0.025 * 0.975 / REPS)
    assert found > 0.002  # and the levels are not empty
    assert np.mean([any(decided(row, corrected=False)) for row in p]) > 0.85  # the control: 1 - 0.95 ** 52 is 0.93


def test_the_false_discovery_rate_is_at_most_alpha_where_one_in_thirteen_is_real():
    rng = np.random.default_rng(1)
    real = np.arange(52) % 13 == 12
    z = rng.normal(size=(REPS, 52)) + np.where(real, 4.0, 0.0)
    limit = -ndtri(np.array([next_level([False] * i) for i in range(52)]))
    false, power = [], []
    for row in z:
        won = np.array(decided([0.5 * math.erfc(x / math.sqrt(2)) for x in row]))
        false.append((won & ~real).sum() / max(won.sum(), 1))
        power.append(won[real].mean())
    assert np.mean(false) <= 0.05 + 3 * np.std(false) / math.sqrt(REPS)
    assert np.mean(power) > np.mean(z[:, real] > limit[real])  # finds pay back


def test_the_best_of_several_is_no_luckier_than_the_bound():
    rng = np.random.default_rng(2)
    for k in (2, 10, 52):
        for correlated in (0.0, 0.8):
            common = rng.normal(size=(20_000, 1))
            z = math.sqrt(correlated) * common + math.sqrt(1 - correlated) * rng.normal(size=(20_000, k))
            assert z.max(axis=1).mean() <= winners_luck(1.0, k) + 0.03
    assert rng.normal(size=(20_000, 52)).max(axis=1).mean() > 0.7 * winners_luck(1.0, 52)  # and no idle bound
    assert math.isnan(winners_luck(math.inf, 3))
