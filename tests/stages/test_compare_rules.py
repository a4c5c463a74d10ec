"""Gaps between slices, calibration, size, speed, functions of the user's, versions by name, and newer rows."""

import json
import math
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from penstock.core.gate import LAST, AtLeast, Beats, Calibrated, Faster, Improves, MaxGap, NotWorse, NoWorseOn, Smaller
from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError
from penstock.stages.compare import compare
from penstock.stages.comparison import Comparison
from penstock.stages.judge import judge
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.seen import digests

BINARY = {"task": "binary", "classes": [0, 1], "positive": 1}
KEYED = Roles(key=("id",))


class Scores(ClassifierMixin, BaseEstimator):
    """Answers with the probability that stands in a column; may take its time."""

    def __init__(self, column="good", seconds=0.0):
        self.column = column
        self.seconds = seconds
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X):
        return np.column_stack([1 - X[self.column], X[self.column]])

    def predict(self, X):
        time.sleep(self.seconds)
        return (X[self.column] > 0.5).astype(int).to_numpy()


def rows(n=1500, seed=0, good=1.0, poor=1.0, start=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    p = 1 / (1 + np.exp(-1.5 * truth))
    y = (rng.random(n) < p).astype(int)
    common, own = rng.normal(size=n), rng.normal(size=(3, n))
    noise = [size * (0.9 * common + 0.44 * one) for size, one in zip((good, poor, 1.0), own, strict=True)]
    names = ("good", "poor", "third")
    read = {name: 1 / (1 + np.exp(-1.5 * (truth + one))) for name, one in zip(names, noise, strict=True)}
    sex = rng.choice(["F", "M"], n)
    return pd.DataFrame({"id": np.arange(start, start + n), **read, "p": p, "sex": sex, "y": y})


def verdict(data, rules, fitted="good", champion="poor", roles=KEYED, metrics=(), more=None, **about):
    about = {"champion": "churn@6" if champion else None, **about}
    return compare(
        data, data, fitted=Scores(fitted) if isinstance(fitted, str) else fitted,
        champion=Scores(champion) if isinstance(champion, str) else champion, about=about, rules=rules,
        metrics=metrics, slices=(), target=Target("y"), roles=roles, schema=BINARY, seed=0, **(more or {}),
    )  # fmt: skip


def first(found):
    return found["rules"][0]


# ── gaps between slices ──────────────────────────────────────────────────────────────────────────────────────


def test_a_gap_that_is_there_refuses_and_one_that_is_not_passes():
    data = rows(6000)
    blind = data.assign(good=np.where(data.sex == "F", 0.6 * data.good, data.good))
    refused = first(verdict(blind, (MaxGap("tpr", by="sex", at_most=0.1),)))
    assert refused["outcome"] == "fail"
    assert "between sex=M and sex=F ≤ 0.100 ✗" in refused["text"]
    positive = blind[blind.y == 1]
    rates = (positive.good > 0.5).groupby(positive.sex).mean()
    assert refused["figures"]["value"] == pytest.approx(rates["M"] - rates["F"])
    for metric in ("tpr", "fpr", "selection_rate", "accuracy", "roc_auc", "log_loss"):
        fair = first(verdict(data, (MaxGap(metric, by="sex", at_most=0.1),)))
        assert fair["outcome"] == "pass", metric
        assert fair["text"].startswith(f"{metric} gap 0.0")


def test_the_bounds_of_a_gap_are_newcombes():
    """Newcombe (1998), example: 56/70 and 48/80, 95 % interval of the difference 0.0524 to 0.3339 (method 10)."""
    made = [("M", 1, 56), ("M", 0, 14), ("F", 1, 48), ("F", 0, 32)]
    data = pd.concat([rows(n).assign(sex=sex, y=1, good=0.9 if said else 0.1) for sex, said, n in made])
    data = pd.concat([data, rows(200, good=0.1).assign(sex="other", y=0)]).assign(id=range(350))
    figures = first(verdict(data, (MaxGap("tpr", by="sex", at_most=0.5, confidence=0.975),)))["figures"]
    assert (figures["value"], figures["low"], figures["high"]) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_equal_slices_are_seldom_refused_and_a_gap_at_the_limit_seldom_passes():
    """400 draws: at most 5 % and three Monte-Carlo errors, whichever way it errs."""
    sex, y = np.repeat(["F", "M"], 300), np.arange(600) % 7 > 0
    table = pd.DataFrame({"sex": sex})
    refused = passed = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        for shares, limit in (((0.5, 0.5), 0.001), ((0.5, 0.6), 0.1)):
            label = rng.random(600) < np.repeat(shares, 300)
            answers = Predicted(Problem("binary", (0, 1)), y.astype(int), label.astype(float)[:, None])
            c = Comparison(answers, answers, None, "", "accuracy", table, table)
            outcome = judge(MaxGap("selection_rate", by="sex", at_most=limit), c).outcome
            refused += limit < 0.1 and outcome == "fail"
            passed += limit == 0.1 and outcome == "pass"
    most = 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert refused <= most
    assert passed <= most


def test_slices_too_small_to_judge_are_said_and_one_alone_shows_no_gap():
    data = rows(400).assign(sex=["F"] * 390 + ["M"] * 10)
    found = verdict(data, (MaxGap("tpr", by="sex", at_most=0.1),))
    assert found["outcome"] == "not enough evidence"
    assert "fewer than two slices of sex have enough rows to judge; 1 with fewer than 30" in found["sentence"]


# ── calibration, size, speed ─────────────────────────────────────────────────────────────────────────────────


def test_probabilities_that_hold_are_calibrated_and_others_are_not():
    data = rows(5000)
    assert first(verdict(data, (Calibrated(0.05),), fitted="p"))["text"].startswith("calibration error 0.0")
    assert first(verdict(data, (Calibrated(0.05),), fitted="p"))["outcome"] == "pass"
    off = data.assign(good=np.sqrt(data.p))
    assert first(verdict(off, (Calibrated(0.05),)))["outcome"] == "fail"
    few = verdict(rows(50), (Calibrated(0.05),), fitted="p")
    assert "50 rows, 60 are needed" in first(few)["text"]
    assert few["outcome"] == "not enough evidence"


@pytest.mark.parametrize(
    ("rule", "outcome", "text"),
    [
        (Smaller(), "pass", "size 1.0 kB < 2.0 kB (churn@6) ✓"),
        (Smaller(by=0.6), "fail", "size 1.0 kB < 800 B (churn@6 less 60 %) ✗"),
        (Smaller(1000), "pass", "size 1.0 kB ≤ 1.0 kB ✓"),
        (Smaller(999), "fail", "size 1.0 kB ≤ 999 B ✗"),
        (Smaller("7"), "unknown", "size: nothing tells the size of 7 ?"),
    ],
)
def test_bytes_are_held_to_another_versions_or_a_number(rule, outcome, text):
    found = first(verdict(rows(), (rule,), sizes={"challenger": 1000, "champion": 2000}))
    assert (found["outcome"], found["text"]) == (outcome, text)


def test_a_call_that_takes_longer_is_found_and_no_longer_one_than_allowed_passes():
    data = rows(200)
    slow, quick = Scores("good", 0.006), Scores("poor", 0.0)
    assert first(verdict(data, (Faster(),), fitted=slow, champion=quick))["outcome"] == "fail"
    saved = first(verdict(data, (Faster(by=0.2, rows=10),), fitted=quick, champion=slow))
    assert saved["outcome"] == "pass"
    assert "time of 10 rows 0." in saved["text"]
    assert first(verdict(data, (Faster(30.0),)))["outcome"] == "pass"
    assert first(verdict(data, (Faster(0.001),), fitted=slow))["outcome"] == "fail"
    assert first(verdict(data, (Faster(),), champion=None))["decides"] is False


# ── functions of the user's ──────────────────────────────────────────────────────────────────────────────────


def says(value):
    def rule(c):
        assert c.figure("roc_auc") > 0.5
        assert len(c.test) == len(c.challenger)
        return value

    return rule


@pytest.mark.parametrize(
    ("value", "outcome", "text"),
    [
        (True, "better", "rule ✓"),
        ((np.bool_(True), "all is\nwell"), "better", "rule: all is well ✓"),
        ((False, "too dear"), "worse", "rule: too dear ✗"),
    ],
)
def test_a_function_of_the_comparison_decides(value, outcome, text):
    found = verdict(rows(), (says(value),))
    assert (found["outcome"], first(found)["text"], first(found)["rule"]) == (outcome, text, "rule")
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("value", [None, 1, math.nan, (True, 5), (math.nan, "well")])
def test_what_is_no_answer_never_passes(value):
    with pytest.raises(DeclarationError, match="must return True or False"):
        verdict(rows(), (says(value),))


def test_what_it_raises_names_it():
    def broken(c):
        return c.test["nowhere"].mean() > 0

    with pytest.raises(KeyError) as caught:
        verdict(rows(), (broken,))
    assert any(
        "the gate's function broken" in note and "test_compare_rules.py line" in note for note in caught.value.__notes__
    )


# ── other versions ───────────────────────────────────────────────────────────────────────────────────────────


def rival(column, seen=None, **about):
    given = {"fitted": None if column is None else Scores(column), "seen": None, "held": None}
    told = {"champion": "churn@3", **about}
    if seen is not None:
        given["seen"], told["learned"] = digests([seen], KEYED)
    return given, told


def test_any_version_can_be_what_is_to_be_beaten():
    data = rows(2000, good=0.5)
    given, told = rival("third", seen=data.iloc[:500])
    found = verdict(data, (Beats("3"),), more={"rivals": {"3": given}}, rivals={"3": told})
    assert found["outcome"] == "better"
    assert found["sentence"].startswith(
        "better than churn@3 on the 1,500 held-out rows that it was not trained on: roc_auc"
    )
    assert first(found)["figures"]["n"] == 1500
    slower = verdict(data, (NotWorse("3", margin=0.01),), more={"rivals": {"3": given}}, rivals={"3": told})
    assert slower["outcome"] == "better"


def test_a_version_that_is_not_there_is_no_evidence():
    given, told = rival(None, champion=None, unanswered="there is no version or alias 'production'")
    for rule in (Beats("production"), NotWorse("production", margin=0.1), Faster("production")):
        found = verdict(rows(), (rule,), more={"rivals": {"production": given}}, rivals={"production": told})
        assert found["outcome"] == "not enough evidence"
        assert "there is no version or alias 'production'" in found["sentence"]


def test_the_distance_to_the_last_version_that_beat_is_shown_and_decides_nothing():
    data = rows(2000)
    given, told = rival("p")
    about = {"same_declaration": True, "newer_data": True}
    more = {"rivals": {LAST: given}}
    alone = verdict(data, (Improves(),), **about)
    found = verdict(data, (Improves(),), more=more, rivals={LAST: told}, **about)
    assert "; to churn@3, the last that beat: roc_auc −0." in first(found)["text"]
    assert first(found)["figures"]["last_that_beat"]["version"] == "churn@3"
    assert (found["outcome"], found["sentence"]) == (alone["outcome"], alone["sentence"])


# ── newer rows ───────────────────────────────────────────────────────────────────────────────────────────────


def shifted(n_old=1000, n_new=200, roles=KEYED):
    """The champion knows the old world; the challenger answers the new one better and the old one worse."""
    old, new = rows(n_old, seed=1, good=2.5, poor=0.3), rows(n_new, seed=2, good=0.3, poor=3.0, start=n_old)
    past = rows(500, seed=3, start=50_000)
    if roles.time:
        day = pd.Timestamp("2026-01-01")
        old["at"], new["at"], past["at"] = day - pd.Timedelta(days=1), day + pd.Timedelta(days=1), day
    seen, learned = digests([past], roles)
    held = digests([old], roles)[0]
    return pd.concat([old, new], ignore_index=True), {"seen": seen, "held": held}, {"learned": learned}


@pytest.mark.parametrize("roles", [KEYED, Roles(key=("id",), time="at")], ids=["by key", "by time"])
def test_rows_newer_than_the_champions_decide_and_both_differences_are_shown(roles):
    data, more, about = shifted(roles=roles)
    about |= {"same_declaration": True, "newer_data": True}
    found = verdict(data, (Improves(),), more=more, roles=roles, **about)
    assert found["outcome"] == "better"
    assert "on the 200 held-out rows newer than what it was trained on: roc_auc +0." in found["sentence"]
    assert "; on all 1,200: roc_auc −0." in first(found)["text"]
    assert (found["n_newer"], first(found)["figures"]["all"]["n"]) == (200, 1200)


def test_beats_is_about_all_rows():
    data, more, about = shifted()
    found = verdict(data, (Beats(),), more=more, **about)
    assert first(found)["figures"]["n"] == 1200
    assert found["outcome"] == "worse"


def test_sabotage_without_knowing_which_rows_are_newer_the_old_world_decides():
    data, more, about = shifted()
    about |= {"same_declaration": True, "newer_data": True}
    found = verdict(data, (Improves(),), more={**more, "held": None}, **about)
    assert found["outcome"] != "better"
    assert "n_newer" not in found


@pytest.mark.parametrize(("n", "decide"), [(99, False), (100, True)])
def test_a_hundred_newer_rows_are_needed(n, decide):
    data, more, about = shifted(n_new=n)
    found = verdict(data, (NotWorse(),), more=more, **about)
    assert ("rows" in first(found)["figures"]) is decide
    assert first(found)["figures"]["n"] == (n if decide else 1000 + n)


def test_of_grouped_rows_thirty_newer_groups_are_needed_and_evidence_is_counted_in_groups():
    roles = Roles(key=("id",), groups=("house",))
    for per_group, decide in ((8, False), (4, True)):  # 25 and 50 newer groups
        data, more, about = shifted()
        data = data.assign(house=data.id // per_group)
        found = verdict(data, (NotWorse(),), more=more, roles=roles, **about)
        assert ("rows" in first(found)["figures"]) is decide
        assert "clusters" in first(found)["figures"]["method"]
        assert found["n_groups"] == math.ceil(1200 / per_group)


def test_newer_rows_of_one_class_cannot_decide_alone():
    data, more, about = shifted()
    data.loc[1000:, "y"] = 1
    assert "rows" not in first(verdict(data, (NotWorse(),), more=more, **about))["figures"]


# ── accuracy gives way to log loss ───────────────────────────────────────────────────────────────────────────


def test_a_call_has_no_more_rows_than_are_held_out_and_it_is_said():
    assert "time of 60 rows" in first(verdict(rows(60), (Faster(5.0, rows=1000),)))["text"]


@pytest.mark.parametrize("primary", ["accuracy", "f1"])
def test_coarse_metrics_give_way_to_log_loss_in_not_worse_and_it_is_said(primary):
    found = verdict(rows(4000, good=0.5, poor=0.5), (NotWorse(),), metrics=(primary, "roc_auc"))
    assert (first(found)["figures"]["metric"], first(found)["against"]) == ("neg_log_loss", "champion")
    assert found["sentence"].startswith(f"by log_loss, {primary} being too coarse for this: not")
    asked = verdict(rows(4000), (NotWorse(metric=primary),), metrics=(primary,))
    assert first(asked)["figures"]["metric"] == primary
    beat = verdict(rows(4000, good=0.3), (Beats(),), metrics=(primary,))
    assert first(beat)["figures"]["metric"] == primary


@pytest.mark.parametrize("primary", ["accuracy", "f1"])
def test_coarse_metrics_give_way_to_log_loss_on_slices_too(primary):
    found = first(verdict(rows(4000, good=0.5, poor=0.5), (NoWorseOn("sex"),), metrics=(primary, "roc_auc")))
    assert found["figures"]["metric"] == "neg_log_loss"
    assert found["text"].startswith(f"by log_loss, {primary} being too coarse for this: no evidence of harm on 2")
    asked = first(verdict(rows(4000), (NoWorseOn("sex", metric=primary),), metrics=(primary,)))
    assert (asked["figures"]["metric"], "too coarse" in asked["text"]) == (primary, False)


def test_where_the_champion_has_no_lead_by_log_loss_the_declared_metric_stays():
    data = rows(4000)
    sure = data.assign(good=np.where(data.good > 0.5, 0.9999, 0.0001), poor=np.where(data.poor > 0.5, 0.9999, 0.0001))
    found = verdict(sure, (NotWorse(), NoWorseOn("sex")), metrics=("accuracy", "neg_log_loss"))
    assert found["metrics"]["neg_log_loss"]["champion"]["value"] < found["metrics"]["neg_log_loss"]["baseline"]["value"]
    assert [one["figures"]["metric"] for one in found["rules"]] == ["accuracy", "accuracy"]
    assert (first(found)["against"], "too coarse" in found["sentence"]) == ("champion", False)


def test_harm_that_changes_few_labels_is_seen_on_a_slice():
    data = rows(4000, poor=0.5)
    sure = np.where(data.poor > 0.5, 0.999, 0.001)
    harmed = data.assign(good=np.where(data.sex == "F", sure, data.poor))
    assert (np.asarray(harmed.good > 0.5) == np.asarray(data.poor > 0.5)).all()  # no label differs
    found = first(verdict(harmed, (NoWorseOn("sex"),), metrics=("accuracy",)))
    assert (found["outcome"], "log_loss" in found["text"]) == ("fail", True)
    assert first(verdict(harmed, (NoWorseOn("sex", metric="accuracy"),), metrics=("accuracy",)))["outcome"] == "pass"


def test_how_many_rows_would_do_is_said():
    data = rows(60)
    few = verdict(data.assign(good=np.where(data.index < 20, data.good, data.poor)), (Beats(metric="neg_log_loss"),))
    assert "the two differ on only 20 rows; 30 are needed: about 90 held-out rows" in few["sentence"]
    assert "rows would tell" in verdict(rows(300), (NotWorse(metric="accuracy"),))["sentence"]
    value = verdict(rows(300), (AtLeast("roc_auc", 0.5),))["rules"][0]["figures"]["value"]
    assert "rows would tell" in verdict(rows(300), (AtLeast("roc_auc", value - 0.01),))["sentence"]
