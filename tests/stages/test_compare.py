"""Verdicts: error rates by simulation, evidence against told apart from lack of it, and the words."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import f1_score, roc_auc_score

from penstock.core.gate import AtLeast, AtMost, Beats, Improves, MaxGap, NotWorse, NoWorseOn
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages.compare import compare
from penstock.stages.seen import digests
from penstock.stats.profile import from_json

BINARY = {"task": "binary", "classes": [0, 1], "positive": 1}
NUMBER = {"task": "regression"}
ROWS_BY_KEY = Roles(key=("id",))


class Scores(ClassifierMixin, BaseEstimator):
    """Answers with the probability that stands in a column."""

    def __init__(self, column="good"):
        self.column = column
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X):
        return np.column_stack([1 - X[self.column], X[self.column]])

    def predict(self, X):
        return (X[self.column] > 0.5).astype(int).to_numpy()


class Values(RegressorMixin, BaseEstimator):
    """Answers with the value that stands in a column."""

    def __init__(self, column="good"):
        self.column = column

    def predict(self, X):
        return X[self.column].to_numpy()


def rows(n=1500, seed=0, good=1.0, poor=1.0, shared=0.7):
    """Two noisy readings of one truth, whose noise is partly shared as that of two models is."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * truth))).astype(int)
    common = rng.normal(size=n)
    read = [
        1 / (1 + np.exp(-1.5 * (truth + noise * (shared * common + math.sqrt(1 - shared**2) * rng.normal(size=n)))))
        for noise in (good, poor)
    ]
    city = rng.choice(["Rome", "Oslo"], n)
    return pd.DataFrame({"good": read[0], "poor": read[1], "city": city, "y": y})


def verdict(data, rules, champion="poor", metrics=(), schema=BINARY, kind=Scores, slices=(), train=None, **about):
    about = {"champion": "churn@6" if champion else None, **about}
    return compare(
        data, data if train is None else train, fitted=kind("good"), champion=kind(champion) if champion else None,
        about=about, rules=rules, metrics=metrics, slices=slices, target=Target("y"), roles=Roles(), schema=schema,
        seed=0,
    )  # fmt: skip


# ── error rates ──────────────────────────────────────────────────────────────────────────────────────────────

REPS = 250
ERROR = 3 * math.sqrt(0.05 * 0.95 / REPS)


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss"])
def test_of_two_equal_models_one_is_promoted_by_beats_no_more_often_than_stated(metric):
    outcomes = [verdict(rows(300, seed), (Beats(metric=metric),), metrics=(metric,))["outcome"] for seed in range(REPS)]
    assert outcomes.count("better") / REPS <= 0.05 + ERROR
    assert outcomes.count("worse") / REPS <= 0.05 + ERROR


@pytest.mark.campaign
@pytest.mark.parametrize("n", [300, 1000, 5000])
@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss", "neg_brier_score", "accuracy"])
def test_of_two_equal_models_over_sizes_and_metrics(metric, n):
    reps = 1000
    outcomes = [verdict(rows(n, seed), (Beats(metric=metric),), metrics=(metric,))["outcome"] for seed in range(reps)]
    assert outcomes.count("better") / reps <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / reps)


def test_sabotage_a_rule_that_looks_at_the_point_alone_promotes_half():
    """The control: what the simulation above would see if the bound were not used."""
    figures = [verdict(rows(300, seed), (Beats(),))["rules"][0]["figures"] for seed in range(100)]
    assert sum(figure["value"] > 0 for figure in figures) > 30
    assert sum(figure["low"] > 0 for figure in figures) < 15


def test_a_better_model_is_promoted_and_a_worse_one_refused():
    better = [verdict(rows(1500, seed, good=0.6), (Beats(),))["outcome"] for seed in range(20)]
    worse = [verdict(rows(1500, seed, poor=0.6), (Beats(),))["outcome"] for seed in range(20)]
    assert set(better) == {"better"}
    assert set(worse) == {"worse"}


def test_a_model_worse_by_the_margin_seldom_passes_not_worse_and_an_equal_one_mostly():
    """Means with a known truth: squared errors of two readings whose noise differs by exactly the margin."""
    margin, passed, equal = 0.1, 0, 0
    for seed in range(REPS):
        rng = np.random.default_rng(seed)
        y, common = 3 * rng.normal(size=400), rng.normal(size=400)
        own = rng.normal(size=(3, 400)) * 0.5
        base = pd.DataFrame({"y": y, "poor": y + 0.8 * common + own[0]})
        same = base.assign(good=y + 0.8 * common + own[1])
        extra = math.sqrt(0.25 + margin) / 0.5
        bad = base.assign(good=y + 0.8 * common + extra * own[2])
        rule = (NotWorse(metric="neg_mean_squared_error", margin=margin),)
        kwargs = {"schema": NUMBER, "kind": Values, "metrics": ("neg_mean_squared_error",)}
        passed += verdict(bad, rule, **kwargs)["outcome"] == "better"
        equal += verdict(same, rule, **kwargs)["outcome"] == "better"
    assert passed / REPS <= 0.05 + ERROR
    assert equal / REPS > 0.4


def test_equal_models_seldom_fail_on_slices():
    refused = sum(
        verdict(rows(600, seed), (NoWorseOn("city", metric="neg_log_loss", margin=0.0),))["outcome"] == "worse"
        for seed in range(100)
    )
    assert refused / 100 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


# ── each rule ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "outcome", "mark"),
    [
        (AtLeast("roc_auc", 0.5), "better", "≥ 0.500 ✓"),
        (AtLeast("roc_auc", 0.99), "worse", "≥ 0.990 ✗"),
        (AtMost("log_loss", 2.0), "better", "≤ 2.000 ✓"),
        (AtMost("log_loss", 0.01), "worse", "≤ 0.010 ✗"),
        (AtMost("roc_auc", 0.99), "better", "≤ 0.990 ✓"),
        (AtMost("roc_auc", 0.5), "worse", "≤ 0.500 ✗"),
        (AtLeast("neg_log_loss", -2.0), "better", "≤ 2.000 ✓"),
    ],
)
def test_a_metric_against_a_value(rule, outcome, mark):
    found = verdict(rows(), (rule,))
    assert found["outcome"] == outcome
    assert found["rules"][0]["text"].endswith(mark)


def test_between_the_bounds_it_is_not_known_but_by_the_point_it_is():
    data = rows(200)
    value = verdict(data, (AtLeast("roc_auc", 0.5),))["rules"][0]["figures"]["value"]
    assert verdict(data, (AtLeast("roc_auc", value - 0.001),))["outcome"] == "not enough evidence"
    assert verdict(data, (AtLeast("roc_auc", value - 0.001, by="point"),))["outcome"] == "better"
    assert verdict(data, (AtLeast("roc_auc", value + 0.001, by="point"),))["outcome"] == "worse"


def test_the_bound_is_one_sided_at_the_stated_confidence():
    figures = verdict(rows(), (AtLeast("accuracy", 0.5, confidence=0.95),))["rules"][0]["figures"]
    half = 1.6449 * math.sqrt(figures["value"] * (1 - figures["value"]) / figures["n"])
    assert figures["value"] - figures["low"] == pytest.approx(half, rel=0.02)


def test_few_rows_that_tell_are_not_enough():
    found = verdict(rows(25, good=0.1, poor=5.0), (Beats(),))
    assert found["outcome"] == "not enough evidence"
    assert "rows; 30 are needed" in found["sentence"]
    assert verdict(rows(25), (AtLeast("roc_auc", 0.01),))["outcome"] == "not enough evidence"
    twins = rows(500).assign(poor=lambda t: t.good)
    assert "differ on only 0 rows" in verdict(twins, (NotWorse(),))["sentence"]


def test_a_nan_never_passes():
    one_class = rows(200).assign(y=1)
    rules = (AtLeast("roc_auc", 0.1), Beats(), NotWorse(margin=9.0), AtLeast("roc_auc", 0.1, by="point"))
    found = verdict(one_class, rules, train=rows(200))
    assert [rule["outcome"] for rule in found["rules"]] == ["unknown"] * 4
    assert found["outcome"] == "not enough evidence"
    json.dumps(found, allow_nan=False)


def test_improves_is_not_worse_for_the_same_declaration_on_newer_data_and_beats_else():
    data = rows(3000)
    fresh = verdict(data, (Improves(),), same_declaration=True, newer_data=True)
    assert fresh["outcome"] == "better"
    assert fresh["sentence"].startswith("not worse than churn@6 by more than ")
    for about in ({}, {"same_declaration": True}, {"newer_data": True}):
        other = verdict(data, (Improves(),), **about)
        assert other["outcome"] == "not enough evidence"
        assert "evidence that it is better than churn@6" in other["sentence"]


def test_the_default_margin_lies_between_one_and_five_percent_of_the_lead():
    for data, share in ((rows(60), 0.05), (rows(100_000, shared=0.95), 0.01)):
        found = verdict(data, (NotWorse(),))
        lead = found["metrics"]["roc_auc"]["champion"]["value"] - found["metrics"]["roc_auc"]["baseline"]["value"]
        assert -found["rules"][0]["figures"]["required"] == pytest.approx(share * lead)
    rule = verdict(rows(15_000), (NotWorse(),))["rules"][0]
    assert -rule["figures"]["required"] == pytest.approx(2.49 * rule["figures"]["se"])


def test_a_champion_that_is_no_better_than_the_baseline_gives_no_margin():
    data = rows(2000).assign(poor=lambda t: 1 - t.poor)
    found = verdict(data, (NotWorse(),))
    assert found["rules"][0]["against"] == "baseline"
    assert found["outcome"] == "better"


def test_harm_on_one_slice_refuses_though_the_whole_is_better():
    data = rows(4000, good=0.6)
    data.loc[data.city == "Oslo", "good"] = 1 - data.poor[data.city == "Oslo"]
    data.loc[data.city == "Rome", "good"] = np.where(data.y == 1, 0.95, 0.05)[data.city == "Rome"]
    found = verdict(data, (Beats(), NoWorseOn("city")))
    assert [rule["outcome"] for rule in found["rules"]] == ["pass", "fail"]
    assert found["outcome"] == "worse"
    assert "city=Oslo" in found["sentence"]


def test_small_slices_are_not_judged_and_it_is_said():
    data = rows(1000).assign(city=["Oslo"] * 10 + ["Rome"] * 990)
    rule = verdict(data, (NoWorseOn("city"),))["rules"][0]
    assert rule["outcome"] == "pass"
    assert "1 with fewer than 30 rows that tell, not judged" in rule["text"]
    assert [one["outcome"] for one in rule["figures"]["slices"]] == ["unknown", "pass"]


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_champion_the_baseline_decides():
    found = verdict(rows(), (NotWorse(), NoWorseOn("city")), champion=None)
    assert [rule["outcome"] for rule in found["rules"]] == ["pass", "pass", "pass"]
    assert [rule["decides"] for rule in found["rules"]] == [False, False, True]
    assert all("nothing to compare" in rule["text"] for rule in found["rules"][:2])
    assert found["sentence"].startswith("better than the baseline: roc_auc +0.")
    assert found["against"] is None
    assert set(found["metrics"]["roc_auc"]) == {"challenger", "baseline"}


def test_a_first_model_that_knows_nothing_is_not_promoted():
    rng = np.random.default_rng(0)
    blind = rows(2000).assign(good=lambda t: rng.random(len(t)))
    assert verdict(blind, (Improves(), NotWorse()), champion=None, metrics=("neg_log_loss",))["outcome"] == "worse"


def test_all_rules_must_pass_and_evidence_against_one_outweighs_doubt():
    data = rows(300)
    assert verdict(data, (AtLeast("roc_auc", 0.5), Beats()))["outcome"] == "not enough evidence"
    assert verdict(data, (AtLeast("roc_auc", 0.999), Beats()))["outcome"] == "worse"


def test_a_champion_that_cannot_answer_is_no_evidence():
    found = verdict(rows(), (Beats(), NoWorseOn("city")), champion="gone")
    assert found["outcome"] == "not enough evidence"
    assert "KeyError" in found["sentence"]
    asked = verdict(rows(), (Beats(),), champion_input=["zzz"])
    assert asked["outcome"] == "not enough evidence"


def test_the_champion_is_given_the_columns_that_it_reads():
    data = rows(2000, good=0.5)
    found = compare(
        data, data, fitted=Scores("good"), champion=Scores("poor"),
        about={"champion": "m@1", "champion_input": ["poor"]}, rules=(Beats(),), metrics=(), slices=(),
        target=Target("y"), roles=Roles(drop=("poor",)), schema=BINARY, seed=0,
    )  # fmt: skip
    assert found["outcome"] == "better"


def test_a_lower_error_is_told_as_lower():
    rng = np.random.default_rng(0)
    y = rng.normal(size=800)
    data = pd.DataFrame({"y": y, "good": y + 0.5 * rng.normal(size=800), "poor": y + 0.9 * rng.normal(size=800)})
    found = verdict(data, (Beats(), AtMost("root_mean_squared_error", 0.6)), schema=NUMBER, kind=Values)
    assert found["outcome"] == "better"
    assert found["sentence"].startswith("better than churn@6: root_mean_squared_error lower by 0.")
    assert found["rules"][1]["text"].startswith("root_mean_squared_error 0.4")
    turned = data.rename(columns={"good": "poor", "poor": "good"})
    worse = verdict(turned, (Beats(),), schema=NUMBER, kind=Values)
    assert worse["sentence"].startswith("worse than churn@6: root_mean_squared_error higher by 0.")


def test_the_verdict_is_plain_the_same_twice_and_says_what_it_is_about():
    args = (rows(), (Improves(), Beats(metric="f1"), NoWorseOn("city")))
    found = verdict(*args, slices=("city",))
    assert json.dumps(found, allow_nan=False) == json.dumps(verdict(*args, slices=("city",)))
    assert "1,500 held-out rows" in found["scope"]
    assert "not about the procedures" in found["scope"]
    assert from_json(found["prediction_profile"]["columns"]["score"]).n == 1500
    assert [one["label"] for one in found["slices"]] == ["city=Oslo", "city=Rome"]
    assert found["summary"] == found["sentence"]


def test_rules_that_cannot_be_judged_are_all_refused_at_once():
    with pytest.raises(DeclarationError, match="2 faults"):
        verdict(rows(), (AtLeast("r2", 0.1), MaxGap("max_error", by="city", at_most=1)))


def test_a_held_out_label_of_no_class_is_an_error():
    with pytest.raises(DataError, match="none of the classes"):
        verdict(rows().assign(y=7), (Beats(),), train=rows())


def test_where_no_slice_has_enough_rows_nothing_is_refused_and_it_is_said():
    data = rows(200).assign(city=[f"c{i % 40}" for i in range(200)])
    rule = verdict(data, (NoWorseOn("city"),))["rules"][0]
    assert rule["outcome"] == "pass"
    assert "other values" not in rule["text"]
    assert [one["outcome"] for one in rule["figures"]["slices"]][:20] == ["unknown"] * 20
    alone = verdict(rows(60).assign(city=[f"c{i % 10}" for i in range(60)]), (NoWorseOn("city"),))["rules"][0]
    assert alone["text"] == (
        "no slice of city has enough rows to judge; 10 with fewer than 30 rows that tell, not judged ✓"
    )


def test_a_metric_without_a_value_on_any_slice_does_not_pass():
    data = rows(400).assign(city=lambda t: np.where(t.y == 1, "Oslo", "Rome"))  # one class each
    found = verdict(data, (NoWorseOn("city", metric="roc_auc"),))
    assert found["outcome"] == "not enough evidence"
    assert found["sentence"] == "not enough evidence: roc_auc has no value on any slice of city"


# ── rows that the champion has seen ──────────────────────────────────────────────────────────────────────────


def with_seen(data, seen, champion="poor", roles=None, rules=(Improves(),)):
    return compare(
        data, data, fitted=Scores("good"), champion=Scores(champion), about={"champion": "churn@6"}, rules=rules,
        metrics=(), slices=(), target=Target("y"), roles=roles or Roles(), schema=BINARY, seed=0, seen=seen,
    )  # fmt: skip


def remembered(n=1000):
    """A champion that knows by heart the first half of the rows and nothing of the others."""
    data = rows(n, seed=3)
    data["poor"] = 0.5 + 0.4 * np.where(np.arange(n) < n // 2, 2 * data["y"] - 1, 0)
    data["id"] = np.arange(n)
    return data, data.iloc[: n // 2]


@pytest.mark.parametrize("roles", [Roles(), Roles(key=("id",))], ids=["by content", "by key"])
def test_a_champion_is_not_asked_about_rows_that_it_was_trained_on(roles):
    data, seen = remembered()
    fair = with_seen(data, seen, roles=roles)
    assert fair["outcome"] == "better"
    assert "on the 500 held-out rows that it was not trained on" in fair["sentence"]
    assert fair["rules"][0]["figures"]["n"] == 500
    assert fair["metrics"]["roc_auc"]["champion"]["value"] == 0.5
    assert fair["metrics"]["roc_auc"]["challenger"]["n"] == 1000
    assert with_seen(data, None, roles=roles)["outcome"] == "worse"  # what it would be without the safeguard


def test_a_champion_that_has_seen_nearly_all_rows_cannot_answer():
    data, _ = remembered()
    found = with_seen(data, data.iloc[:990])
    assert found["outcome"] == "not enough evidence"
    assert "it was trained on 990 of these 1,000 rows" in found["sentence"]


def test_rows_seen_by_nobody_or_of_another_table_change_nothing():
    data, _ = remembered()
    plain = with_seen(data, None)
    assert with_seen(data, data.assign(id=data["id"] + 5_000)) == plain
    untold = with_seen(data, pd.DataFrame({"other": [1, 2]}))
    assert untold | {"notes": []} == plain
    assert "rows that churn@6 has seen may be among these" in untold["notes"][0]


def test_slices_and_margins_are_of_the_same_rows():
    data, seen = remembered()
    found = with_seen(data, seen, rules=(NotWorse(), NoWorseOn("city")))
    assert found["outcome"] == "better"
    assert sum(one["n"] for one in found["rules"][1]["figures"]["slices"]) == 500


# ── digests, refits, thresholds ──────────────────────────────────────────────────────────────────────────────


def by_digests(data, seen, roles=ROWS_BY_KEY, rules=(Improves(),), decision=None, metrics=(), champion="poor", **about):
    known, learned = digests([seen], roles)
    return compare(
        data, data, fitted=Scores("good"), champion=Scores(champion), rules=rules, metrics=metrics, slices=(),
        about={"champion": "churn@6", "learned": learned, **about}, target=Target("y"), roles=roles, schema=BINARY,
        seed=0, seen=known, decision=decision,
    )  # fmt: skip


@pytest.mark.parametrize("roles", [Roles(), ROWS_BY_KEY], ids=["by content", "by key"])
def test_digests_protect_as_the_rows_themselves_do(roles):
    data, seen = remembered()
    assert by_digests(data, seen, roles) == with_seen(data, seen, roles=roles)


def test_a_refitted_champion_is_fought_on_newer_rows_and_it_is_said_how_many():
    data, seen = remembered()
    found = by_digests(data, seen, champion_refit=True)
    assert (found["outcome"], found["n_fresh"]) == ("better", 500)
    assert found["notes"] == ["churn@6 was refitted on all rows that there were; 500 of these 1,000 are newer"]


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        (0.99999, "the threshold 0.99999 calls none of the 1,000 held-out rows 1: the highest score is 0.9"),
        (0.0, "the threshold 0 calls every one of the 1,000 held-out rows 1: the lowest score is 0.0"),
        (0.5, ""),
    ],
)
def test_a_threshold_under_which_all_rows_get_one_label_passes_rules_of_scores_but_is_told(threshold, told):
    data, seen = remembered()
    found = by_digests(data, seen, decision={"threshold": threshold})
    assert found["outcome"] == "better", "the rule reads scores"
    assert [note[: len(told)] for note in found["notes"]] == ([told] if told else [])


def test_without_newer_rows_a_refitted_champion_cannot_be_fought():
    data, _ = remembered()
    found = by_digests(data, data, champion_refit=True)
    assert found["outcome"] == "not enough evidence"
    assert "it was refitted on all rows; 0 of these 1,000 are newer, 30 are needed" in found["sentence"]


def test_where_a_refitted_champions_rows_cannot_be_told_it_is_not_compared():
    data, seen = remembered()
    known, learned = digests([seen.assign(gone=1)], Roles())
    found = compare(
        data, data, fitted=Scores("good"), champion=Scores("poor"), rules=(Improves(),), metrics=(), slices=(),
        about={"champion": "churn@6", "learned": learned, "champion_refit": True}, target=Target("y"), roles=Roles(),
        schema=BINARY, seed=0, seen=known,
    )  # fmt: skip
    assert "the columns are gone that name the rows that it has learned from; declare key=" in found["sentence"]


def test_what_cannot_be_protected_is_said():
    data, _ = remembered()
    found = verdict(data, (Improves(),), unseen_from="churn@6 carries no digests")
    assert found["notes"] == ["churn@6 carries no digests"]


def test_each_model_is_judged_at_its_own_threshold():
    data = rows(2000)
    plain = verdict(data, (Beats(),), metrics=("f1",))["metrics"]["f1"]
    decided = compare(
        data, data, fitted=Scores("good"), champion=Scores("poor"), rules=(Beats(),), metrics=("f1", "roc_auc"),
        slices=(), about={"champion": "churn@6", "champion_threshold": 0.2}, target=Target("y"), roles=Roles(),
        schema=BINARY, seed=0, decision={"threshold": 0.8},
    )  # fmt: skip
    for who, column, threshold in (("challenger", "good", 0.8), ("champion", "poor", 0.2)):
        by_hand = f1_score(data.y, data[column] >= threshold)
        assert decided["metrics"]["f1"][who]["value"] == pytest.approx(by_hand)
        assert by_hand != pytest.approx(plain[who]["value"])
    assert decided["metrics"]["roc_auc"]["challenger"]["value"] == pytest.approx(roc_auc_score(data.y, data.good))


def same(data, metrics, champion_threshold, rules=(Improves(),)):
    return compare(
        data, data, fitted=Scores("good"), champion=Scores("good"), rules=rules, metrics=metrics, slices=(),
        about={"champion": "churn@6", "same_estimator": True, "champion_threshold": champion_threshold},
        target=Target("y"), roles=Roles(), schema=BINARY, seed=0, decision={"threshold": 0.5},
    )  # fmt: skip


def test_of_one_estimator_under_two_thresholds_scores_are_no_worse_and_labels_decide():
    data = rows(3000)
    found = same(data, ("roc_auc", "f1"), 0.9)
    assert (found["outcome"], "the estimator is the same" in found["sentence"]) == ("better", True)
    assert same(data, ("f1",), 0.95)["outcome"] == "better"
    assert same(data, ("f1",), 0.35)["outcome"] == "worse"


def test_the_same_estimator_does_not_beat_itself():
    found = same(rows(3000), ("roc_auc",), 0.9, (Beats("champion"),))
    assert found["outcome"] == "not enough evidence"
