"""What a look spends: "better" is decided at its level, the verdict says so, and other rules spend nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from penstock.core.gate import AtLeast, Beats, Improves, NotWorse
from penstock.core.target import Roles, Target
from penstock.stages.compare import compare
from penstock.stats.looks import winners_luck

METRIC = "neg_mean_squared_error"
ROWS = 400


class Values(RegressorMixin, BaseEstimator):
    """Answers with the value that stands in a column."""

    def __init__(self, column="good"):
        self.column = column

    def predict(self, X):
        return X[self.column].to_numpy()


def table(z):
    """Squared errors whose paired difference lies z standard errors above zero."""
    rng = np.random.default_rng(0)
    gain = rng.normal(size=ROWS)
    gain = (gain - gain.mean()) / gain.std(ddof=1) + z / math.sqrt(ROWS)
    poor = 9 + rng.random(ROWS)
    y = 10 * rng.normal(size=ROWS)
    return pd.DataFrame({"y": y, "poor": y + np.sqrt(poor), "good": y + np.sqrt(poor - gain)})


def verdict(z, rules, share=None, number=2, left=0.4, champion="poor", **about):
    looks = {"generation": "ab12", "number": number, "tests": 1, "share": share, "left": left}
    told = {"champion": "churn@6" if champion else None, **about, **({"looks": looks} if share is not None else {})}
    data = table(z)
    return compare(
        data, data, fitted=Values("good"), champion=Values(champion) if champion else None, about=told, rules=rules,
        metrics=(METRIC,), slices=(), target=Target("y"), roles=Roles(), schema={"task": "regression"}, seed=0,
    )  # fmt: skip


def test_a_difference_that_would_pass_alone_is_not_enough_at_the_level_of_a_later_look():
    assert verdict(2.0, (Beats(),))["outcome"] == "better"
    found = verdict(2.0, (Beats(),), share=0.02, number=5)
    assert found["outcome"] == "not enough evidence"
    assert "and look 5 at this hold-out decides at 0.001)" in found["sentence"]
    figures = found["rules"][0]["figures"]
    assert figures["level"] == pytest.approx(0.001)
    assert 0.02 < figures["p_value"] < 0.025
    assert figures["confidence"] == 0.95  # of the interval that is shown


def test_a_difference_that_is_large_enough_passes_and_says_at_which_level():
    found = verdict(4.0, (Beats(),), share=0.02, number=5)
    assert found["outcome"] == "better"
    assert "(look 5, decided at 0.001)" in found["sentence"]
    assert "look" not in verdict(4.0, (Beats(),), share=0.4, number=1)["sentence"]


def test_sabotage_the_level_decides_and_nothing_else():
    """The control: with all of alpha for every look the same difference is promoted."""
    assert verdict(2.0, (Beats(),), share=1.0)["outcome"] == "better"
    assert verdict(2.0, (Beats(),), share=0.02)["outcome"] != "better"


def test_the_verdict_says_what_was_spent_and_how_lucky_the_winner_may_be():
    found = verdict(4.0, (Beats(confidence=0.9),), share=0.1, number=5, left=0.4)
    spent = found["looks"]
    assert (spent["search"], spent["number"], spent["generation"]) == (True, 5, "ab12")
    assert (spent["alpha"], spent["level"], spent["left"]) == pytest.approx((0.1, 0.01, 0.03))
    primary = found["metrics"][METRIC]["challenger"]
    se = (primary["high"] - primary["low"]) / (2 * 1.959964)
    assert spent["too_good"] == pytest.approx(winners_luck(se, 5))
    [note] = found["notes"]
    assert note.startswith("look 5 at this hold-out: it spent 0.01 of α 0.1, 0.03 is left; its mean_squared_error is")


def test_a_refresh_is_no_search_and_is_judged_as_ever():
    told = {"same_declaration": True, "newer_data": True}
    alone, counted = (verdict(0.0, (Improves(),), share, **told) for share in (None, 1e-6))
    assert counted["outcome"] == alone["outcome"]
    assert counted["rules"] == alone["rules"]
    assert (counted["looks"]["search"], counted["looks"]["level"]) == (False, None)
    assert "no search, so it spent nothing of α" in counted["notes"][0]
    assert not verdict(9.0, (NotWorse(), AtLeast("r2", -9.0)), share=1e-6)["looks"]["search"]


def test_a_first_model_searches_against_the_baseline():
    found = verdict(0.0, (Improves(),), share=0.2, number=1, champion=None)
    assert found["looks"]["search"]
    assert found["looks"]["too_good"] == 0.0
    assert found["notes"] == []


def test_a_comparison_that_knows_of_no_look_is_what_it_was():
    found = verdict(4.0, (Beats(),))
    assert "looks" not in found
    assert not {"level", "p_value"} & set(found["rules"][0]["figures"])


@pytest.mark.parametrize("rule", [Beats(), Improves(), NotWorse(margin=0.1), Beats("7")])
def test_a_rule_that_has_nobody_to_fight_spends_nothing_and_alone_it_is_no_look(rule):
    told = {"share": 0.2, "unanswered": "its code is gone"}
    alone = unanswered((rule,), **told)
    assert (alone["outcome"], alone["looks"]) == ("not enough evidence", {})
    assert "cannot answer" in alone["sentence"]
    assert alone["notes"] == ["no rule could be held against anything: no look at the hold-out was spent"]
    beside = unanswered((AtLeast("r2", -9.0), rule), **told)["looks"]
    assert (beside["search"], beside["level"]) == (False, None)  # the bound has looked
    fought = unanswered((Beats("baseline"), rule), **told)["looks"]
    assert (fought["search"], fought["level"]) == (True, pytest.approx(0.01))


def unanswered(rules, **told):
    data = table(0.0)
    looks = {"generation": "ab12", "number": 2, "tests": 1, "share": told["share"], "left": 0.4}
    return compare(
        data, data, fitted=Values("good"), champion=None, rules=rules, metrics=(METRIC,), slices=(),
        about={"champion": "churn@6", "looks": looks, "unanswered": told["unanswered"]}, target=Target("y"),
        roles=Roles(), schema={"task": "regression"}, seed=0,
        rivals={"7": {"fitted": None, "seen": None, "held": None}},
    )  # fmt: skip
