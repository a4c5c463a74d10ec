"""Candidates: the one-standard-error rule, on the same rows; only the winner is fitted; faults are told by name."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

from penstock.core.notes import take
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError
from penstock.stages import candidates
from penstock.stages.candidates import candidate, choose, over_folds, train_winner
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.seeding import seeded
from penstock.stages.stored import from_frame
from penstock.stats.paired import Difference

BINARY = {"task": "binary", "classes": [0, 1], "positive": 1}
KNOWN = {"target": Target("y"), "roles": Roles(key=("id",)), "schema": BINARY, "split": Split(folds=4), "seed": 0}


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=500, bend=0.0, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": range(n), "a": rng.normal(size=n), "b": rng.normal(size=n)})
    lift = frame.a + bend * frame.b**2 + rng.normal(size=n)
    return frame.assign(y=np.digitize(lift, np.quantile(lift, np.linspace(0, 1, classes + 1)[1:-1])))


def chosen(data, models, metrics=(), schema=BINARY):
    known = {**KNOWN, "schema": schema}
    made = {n: candidate(data, name=n, model=m, metrics=metrics, slices=(), **known) for n, m in models.items()}
    return choose(
        reports={name: report for name, (report, _) in made.items()},
        predictions={name: frame for name, (_, frame) in made.items()},
        names=tuple(models), metrics=metrics, schema=schema, target=Target("y"), seed=0,
    )  # fmt: skip


def test_the_better_one_wins_wherever_it_stands():
    data = table(bend=1.5)
    models = {"linear": LogisticRegression(), "trees": HistGradientBoostingClassifier(max_iter=20)}
    report, predictions, winner = chosen(data, models)
    assert winner == "trees" == report["winner"]
    assert report["why"] == "trees is the best by roc_auc"
    first, second = report["candidates"]
    assert (first["name"], first["chosen"], first["behind"]) == ("trees", True, None)
    assert second["behind"]["low"] > 0
    assert second["behind"]["text"].startswith("trees roc_auc +")
    assert len(predictions) == len(data)
    assert chosen(data, dict(reversed(models.items())))[2] == "trees"
    json.dumps(report, allow_nan=False)


def test_within_one_standard_error_the_first_listed_wins():
    data = table()
    linear, trees = LogisticRegression(), HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=4)
    close = {"one": LogisticRegression(C=0.5), "two": LogisticRegression(C=1.0), "trees": trees}
    report, _, winner = chosen(data, close)
    assert winner == "one"
    best = report["candidates"][0]["name"]
    assert best == "one" or report["why"].startswith(f"one is listed before {best}, the best by roc_auc")
    assert chosen(data, {"two": LogisticRegression(C=1.0), "one": LogisticRegression(C=0.5)})[2] == "two"
    assert chosen(data, {"same": linear, "again": clone(linear)})[2] == "same"


def test_the_rule_is_one_standard_error_and_no_more():
    def behind(value, se):
        return Difference(value, value - se, value + se, se, 100, 50, "t")

    assert candidates._as_good(behind(0.01, 0.01))
    assert not candidates._as_good(behind(0.011, 0.01))
    assert candidates._as_good(behind(0.0, 0.0))
    assert not candidates._as_good(behind(0.1, float("inf")))


def test_equally_good_candidates_are_not_chosen_by_luck():
    """Sabotage: the best by figure alone would be another one from table to table; the rule keeps to the first."""
    winners, best = set(), set()
    for seed in range(8):
        models = {
            "one": LogisticRegression(C=1.0),
            "two": LogisticRegression(C=0.9),
            "three": LogisticRegression(C=1.1),
        }
        report, _, winner = chosen(table(200, seed=seed), models, ("neg_log_loss",))
        winners.add(winner)
        best.add(report["candidates"][0]["name"])
    assert len(best) > 1
    assert winners == {"one"}


def test_a_difference_over_folds_is_of_the_figures_themselves():
    data = table()
    report, frame, _ = chosen(data, {"good": LogisticRegression(), "guess": DummyClassifier()})
    answers = from_frame(frame, Problem("binary", (0, 1)))
    flipped = Predicted(answers.problem, answers.y, answers.answers[:, [0, 2, 1, *range(3, answers.answers.shape[1])]],
                        answers.proba, None)  # fmt: skip
    plain = Predicted(answers.problem, answers.y, answers.answers, answers.proba, None)
    d = over_folds("roc_auc", plain, flipped, frame.fold.to_numpy(), seed=0)
    assert d.value == pytest.approx(2 * report["metrics"]["roc_auc"]["value"] - 1)
    assert d.low < d.value < d.high


def test_a_metric_that_one_cannot_answer_is_refused_by_its_name():
    with pytest.raises(DeclarationError, match=r"candidate 'svm': metrics=: 'neg_log_loss' needs probabilities"):
        chosen(table(), {"linear": LogisticRegression(), "svm": LinearSVC()}, ("neg_log_loss",))


def test_without_a_declared_metric_all_are_compared_by_one_that_all_can_answer():
    data = table(classes=3)
    schema = {"task": "multiclass", "classes": [0, 1, 2]}
    report, _, _ = chosen(data, {"ridge": RidgeClassifier(), "linear": LogisticRegression()}, schema=schema)
    assert report["chosen_by"] == "accuracy"
    assert chosen(data, {"linear": LogisticRegression()}, schema=schema)[0]["chosen_by"] == "neg_log_loss"


def test_only_the_winner_is_fitted_and_as_it_would_be_alone():
    data = table()
    models = {"linear": LogisticRegression(), "broken": "never looked at"}
    fitted, report = train_winner(data, winner="linear", model=models, **KNOWN)
    alone = seeded(LogisticRegression(), 0).fit(data[["a", "b"]], data.y)
    assert np.array_equal(fitted.coef_, alone.coef_)
    assert (report["candidate"], report["summary"].partition(":")[0]) == ("linear", "linear")


def test_seconds_are_noted_and_not_kept():
    take()
    report, _ = candidate(table(), name="linear", model=LogisticRegression(), metrics=(), slices=(), **KNOWN)
    noted = take()
    assert noted["fit_s"] > 0 < noted["predict_s"]
    assert "fit_s" not in json.dumps(report)
