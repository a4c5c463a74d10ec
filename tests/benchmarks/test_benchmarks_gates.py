"""The simulations of the gate, made small: the rates are as promised, and would be seen to break."""

import math

import pytest

from benchmarks import gates


def limit(p, n):
    """The rate that chance alone exceeds about once in a thousand times."""
    return p + 3 * math.sqrt(p * (1 - p) / n)


REPS = range(200)


@pytest.mark.parametrize(("kind", "metric"), [("normal", gates.MSE), ("5 %", "roc_auc"), ("30 %", "neg_log_loss")])
def test_of_two_equal_models_one_is_promoted_no_more_often_than_stated(kind, metric):
    found = gates.beaten(kind, metric, 300, REPS)
    assert sum(found) / len(found) <= limit(0.05, len(found))


def by_the_figure_alone(rule, c):
    """What a gate would do that looks at no interval."""
    figures = gates.judge(rule, c).figures
    return figures["value"] > figures["required"], figures


def test_sabotage_a_gate_that_looks_at_the_figure_alone_promotes_half(monkeypatch):
    monkeypatch.setattr(gates, "passes", by_the_figure_alone)
    found = gates.beaten("normal", gates.MSE, 300, REPS)
    assert sum(found) / len(found) > 0.35


@pytest.mark.parametrize(("n", "shared", "deficit"), [(1_000, 0.99, 0.03), (300, 0.7, 0.05)])
def test_a_challenger_worse_by_the_printed_margin_seldom_passes(n, shared, deficit):
    found = [kept for _, kept in gates.margin_kept(n, shared, deficit, REPS)]
    assert sum(found) / len(found) <= limit(0.05, len(found))


def test_sabotage_without_the_interval_it_often_passes(monkeypatch):
    monkeypatch.setattr(gates, "passes", by_the_figure_alone)
    found = [kept for _, kept in gates.margin_kept(300, 0.7, 0.05, REPS)]
    assert sum(found) / len(found) > 0.15


def test_a_false_promotion_in_52_decisions_is_rarer_than_alpha_and_without_levels_it_is_the_rule():
    reps = range(50)
    corrected = [false > 0 for false, _ in gates.searched(75, better=False, corrected=True, reps=reps)]
    assert sum(corrected) / len(corrected) <= limit(0.05, len(corrected))
    alone = [false > 0 for false, _ in gates.searched(75, better=False, corrected=False, reps=reps)]
    assert sum(alone) / len(alone) > 0.35  # the control: 0.585 in the table


def test_better_ones_are_found_in_a_hold_out_that_grows():
    found = [real for _, real in gates.searched(75, better=True, corrected=True, reps=range(20))]
    assert sum(found) / (len(found) * gates.DECISIONS // gates.EVERY) > 0.9


def test_intervals_of_differences_hold_the_truth_as_often_as_stated_and_heavy_tails_alone_do_not():
    held = gates.covered("normal", gates.MSE, 500, REPS)
    assert abs(sum(held) / len(held) - gates.NOMINAL) <= 3 * math.sqrt(0.09 / len(held))
    alone = gates.covered_alone("t3", 500, REPS)
    assert sum(alone) / len(alone) < 0.87


def test_a_gate_keeps_spoiled_retrains_out_and_lets_refreshes_after_a_shift_in():
    spoiled, shift = gates.weekly("spoiled", range(4)), gates.weekly("shift", range(4))

    def mean(found, rule, at):
        return sum(one[rule][at] for one in found) / len(found)

    promoted, harmful, regret = range(3)
    assert mean(spoiled, "NotWorse", harmful) < 0.02 < mean(spoiled, "always", harmful)
    assert mean(shift, "NotWorse", regret) < 0.6 * mean(shift, "Beats", regret)
    assert mean(shift, "NotWorse", promoted) > 0.5
    assert mean(shift, "never", promoted) == 0.0


def test_a_repetition_is_the_same_in_any_piece():
    assert gates.beaten("normal", gates.MSE, 300, [3, 4]) == [
        *gates.beaten("normal", gates.MSE, 300, [3]),
        *gates.beaten("normal", gates.MSE, 300, [4]),
    ]
    assert gates.weekly("slow", [1]) == gates.weekly("slow", range(1, 2))
