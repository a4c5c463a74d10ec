"""Every figure with weights: scikit-learn's, repeated rows', and exactly today's where all weights are equal."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer

from penstock.core.gate import AtLeast, Beats
from penstock.core.names import CLASSIFICATION_SCORERS, REGRESSION_SCORERS, UNWEIGHTED
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages import scoring
from penstock.stages.cohort import as_answers, decay
from penstock.stages.compare import compare
from penstock.stages.curves import confusion, curves
from penstock.stages.evaluate import evaluate
from penstock.stages.predicted import Predicted, join
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import difference, interval, interval_over_folds

TWO, THREE, NUMBER = Problem("binary", (0, 1)), Problem("multiclass", (0, 1, 2)), Problem("regression")
NAMES = {
    "binary": [n for n in CLASSIFICATION_SCORERS if n not in (*scoring.NEEDS_MULTICLASS, *UNWEIGHTED)],
    "multiclass": [n for n in CLASSIFICATION_SCORERS if n not in (*scoring.NEEDS_BINARY, *UNWEIGHTED)],
    "regression": [n for n in REGRESSION_SCORERS if n not in UNWEIGHTED],
}
EVERY = [(problem, name) for problem in (TWO, THREE, NUMBER) for name in NAMES[problem.task]]


def answers(problem, seed=0, n=240, noise=1.0, y=None):
    rng = np.random.default_rng(seed)
    if problem.task == "regression":
        y = rng.exponential(size=n) + 0.5 if y is None else y
        found = Predicted(problem, y, np.maximum(y + noise * rng.normal(size=n), 0.01)[:, None])
    else:
        k = len(problem.classes)
        y = rng.integers(0, k, n) if y is None else y
        raw = np.round(noise * rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y], 1)
        proba = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        found = Predicted(problem, y, np.column_stack([proba.argmax(axis=1), proba]), proba=slice(1, 1 + k))
    return replace(found, weight=rng.integers(1, 5, n).astype(float))


def test_the_list_of_scorers_without_weights_is_the_librarys():
    problems = {name: problem for problem, name in EVERY}
    problems |= {name: NUMBER if name in REGRESSION_SCORERS else TWO for name in UNWEIGHTED}
    problems |= dict.fromkeys(scoring.NEEDS_MULTICLASS, THREE)
    refused = []
    for name, problem in problems.items():
        found = answers(problem)
        try:
            get_scorer(name)(found.guise(), found.answers, found.y, sample_weight=found.weight)
        except (TypeError, ValueError):
            refused.append(name)
    assert sorted(refused) == sorted(UNWEIGHTED)


@pytest.mark.parametrize(("problem", "name"), EVERY)
def test_a_weighted_figure_is_scikit_learns_and_that_of_repeated_rows(problem, name):
    found = answers(problem)
    theirs = get_scorer(name)(found.guise(), found.answers, found.y, sample_weight=found.weight)
    ours = scoring.figure(name, found)
    assert ours == pytest.approx(theirs, rel=1e-10)
    assert scoring.figure(name, scoring.narrow(name, found)) == pytest.approx(ours, rel=1e-12)
    rows = np.repeat(np.arange(len(found)), found.weight.astype(int))
    repeated = replace(found.take(rows), weight=None)
    assert ours == pytest.approx(scoring.figure(name, repeated), rel=1e-10)


@pytest.mark.parametrize(("problem", "name"), [(p, n) for p, n in EVERY if "median" not in n])
def test_equal_weights_give_the_unweighted_interval_and_difference(problem, name):
    a = answers(problem)
    b = replace(answers(problem, 1, noise=2.0, y=a.y), weight=None)
    bare, equal = replace(a, weight=None), replace(a, weight=np.full(len(a), 3.0))
    for one, other in (
        (interval(name, bare, n_boot=40), interval(name, equal, n_boot=40)),
        (difference(name, bare, b, n_boot=40), difference(name, equal, replace(b, weight=equal.weight), n_boot=40)),
    ):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), rel=1e-9)


@pytest.mark.parametrize(("problem", "name"), EVERY)
def test_a_weighted_interval_holds_its_figure_and_a_difference_turns_round(problem, name):
    a = answers(problem)
    b = replace(answers(problem, 1, noise=2.0, y=a.y), weight=a.weight)
    found = interval(name, a, n_boot=60)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(scoring.figure(name, a))
    there, back = difference(name, a, b, n_boot=60), difference(name, b, a, n_boot=60)
    assert there.value == pytest.approx(-back.value, abs=1e-12)


def test_answers_keep_their_weights_when_taken_joined_and_stored():
    found = answers(TWO)
    halves = [found.take(slice(0, 100)), found.take(slice(100, None))]
    np.testing.assert_array_equal(join(halves).weight, found.weight)
    assert found.to_frame()["weight"].tolist() == found.weight.tolist()
    assert "weight" not in replace(found, weight=None).to_frame().columns


def test_over_folds_the_weighted_areas_are_averaged_by_what_the_folds_weigh():
    found, fold = answers(TWO), np.repeat([0, 1, 2], 80)
    parts = [found.take(fold == i) for i in range(3)]
    areas = [scoring.figure("roc_auc", part) for part in parts]
    expected = np.average(areas, weights=[part.weight.sum() for part in parts])
    shown = interval_over_folds("roc_auc", found, fold)
    assert shown.value == pytest.approx(expected)
    assert shown.method == "weighted DeLong over 3 folds, logit"


def test_curves_and_confusion_are_those_of_repeated_rows():
    found = answers(TWO)
    rows = np.repeat(np.arange(len(found)), found.weight.astype(int))
    repeated = replace(found.take(rows), weight=None)
    assert confusion(found)["counts"] == confusion(repeated)["counts"]
    mine, theirs = curves(found), curves(repeated)
    assert mine["roc"] == theirs["roc"]
    assert mine["precision_recall"] == theirs["precision_recall"]
    assert all(bin_["low"] <= bin_["observed"] <= bin_["high"] for bin_ in mine["calibration"])


# ── the stages ───────────────────────────────────────────────────────────────────────────────────────────────────


def table(n=600, seed=0):
    """Rows of weight 9 carry noise only: a weighted figure is far below the unweighted one."""
    rng = np.random.default_rng(seed)
    x, heavy = rng.normal(size=n), rng.random(n) < 0.3
    y = np.where(rng.random(n) < np.where(heavy, 0.5, 1 / (1 + np.exp(-3 * x))), "yes", "no")
    return pd.DataFrame({"id": range(n), "x": x, "w": np.where(heavy, 9.0, 1.0), "y": y, "v": 2 * x + heavy})


SCHEMA = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
COMMON = {"target": Target("y"), "schema": SCHEMA, "slices": (), "seed": 0, "metrics": ("roc_auc", "accuracy")}


def report(weight, **more):
    roles = Roles(key=("id",), weight=weight, drop=("v", "w"))
    given = {**COMMON, "roles": roles, "split": Split(folds=3), **more}
    return evaluate(table(), model=LogisticRegression(), **given)


def test_evaluate_weights_figures_baseline_importance_and_slices():
    weighted, predictions = report("w", slices=("x",))
    bare, _ = report(None, slices=("x",))
    assert "weight" not in bare
    assert weighted["weight"]["column"] == "w"
    assert weighted["weight"]["n_effective"] < 400
    assert weighted["metrics"]["roc_auc"]["value"] < bare["metrics"]["roc_auc"]["value"] - 0.1
    assert weighted["metrics"]["accuracy"]["baseline"] != bare["metrics"]["accuracy"]["baseline"]
    assert weighted["importance"][0]["drop"] < bare["importance"][0]["drop"]
    assert {one["label"] for one in weighted["slices"]} == {one["label"] for one in bare["slices"]}
    assert predictions["weight"].sum() == table()["w"].sum()


def test_compare_judges_with_weights_and_counts_rows_as_what_they_are_worth():
    frame = table(900)
    train, test = frame[:600], frame[600:].reset_index(drop=True)
    model = LogisticRegression().fit(train[["x"]], train["y"])
    given = {
        **COMMON,
        "fitted": model,
        "champion": None,
        "about": {},
        "rules": (AtLeast("roc_auc", 0.6), Beats("baseline")),
    }
    found = {
        weight: compare(test, train, roles=Roles(key=("id",), weight=weight, drop=("v", "w")), **given)
        for weight in (None, "w")
    }
    assert found[None]["outcome"] == "better"
    weighted = found["w"]["metrics"]["roc_auc"]["challenger"]
    assert weighted["method"].startswith("weighted DeLong")
    assert weighted["value"] < found[None]["metrics"]["roc_auc"]["challenger"]["value"] - 0.1
    few = test.assign(w=[1e6] * 5 + [1e-3] * (len(test) - 5))
    lean = compare(few, train, roles=Roles(key=("id",), weight="w", drop=("v", "w")), **given)
    assert lean["outcome"] == "not enough evidence"
    assert "only 5 rows" in lean["rules"][0]["text"]


def test_a_regressors_baseline_is_the_weighted_mean():
    roles = Roles(key=("id",), weight="w", drop=("y", "w"))
    given = {"target": Target("v"), "roles": roles, "schema": {"task": "regression"}, "seed": 0, "slices": ()}
    found, _ = evaluate(
        table(), model=LinearRegression(), split=Split(folds=3), metrics=("neg_root_mean_squared_error",), **given
    )
    assert found["metrics"]["neg_root_mean_squared_error"]["method"] == "weighted t"


def test_a_monitor_without_the_weights_does_not_judge_and_says_so():
    joined = as_answers(pd.DataFrame({"value": [1.0, 2.0, 3.0], "v": [1.0, 2.5, 3.0]}))
    notes = []
    given = ({"task": "regression"}, ("r2",), "v", {}, 0.05, notes)
    assert decay(joined, *given, weight="w") == {}
    assert "neither input rows nor labels have" in notes[0]
    found = decay(joined.assign(w=[1.0, 5.0, 1.0]), *given, weight="w")["r2"]["value"]
    bare = decay(joined, *given)["r2"]["value"]
    assert math.isfinite(found)
    assert found != bare
