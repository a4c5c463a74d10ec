"""A search without `scoring=` chooses by the workflow's first metric, on the rows, weights and columns that judge."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import fbeta_score, get_scorer, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import penstock as ps
from penstock.core.flow import calls_of
from penstock.core.metric import metric, metric_of
from penstock.core.search import open_searches
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.formats.skops import dumps_canonical
from penstock.lifecycle.lower import lower
from penstock.stages.evaluate import evaluate
from penstock.stages.train import fit_on, train

SCHEMA = {"task": "binary", "classes": ["fine", "fraud"], "positive": "fine"}
TARGET = Target("y", positive="fine")
FOLDS = KFold(3, shuffle=True, random_state=0)
GRID = {"max_depth": [1, 2, 3, 4, 6, 8]}


@metric(greater_is_better=False, columns=["amount"])
def cost(y_true, y_pred, *, amount, sample_weight=None):
    return float(np.average(amount * (y_true != y_pred), weights=sample_weight))


@metric
def broken(y_true, y_pred):
    return y_true.no_such_thing


@pytest.fixture
def table():
    rng = np.random.default_rng(7)
    n = 300
    a, b = rng.normal(size=n), rng.normal(size=n)
    y = np.where(np.sin(3 * a) + b + rng.normal(size=n) > 0.8, "fraud", "fine")
    amount, weight = rng.exponential(9.0, n), rng.integers(1, 9, n).astype(float)
    frame = pd.DataFrame({"id": range(n), "a": a, "b": b, "amount": amount, "w": weight, "y": y})
    return frame.sample(frac=1, random_state=1)  # rows are found by their index, not by their number


def tree():
    return DecisionTreeClassifier(random_state=0)


def search(inner=None, **given):
    return GridSearchCV(inner or tree(), GRID, cv=FOLDS, **given)


def run(table, model, metrics, own=(), weight=None):
    roles = Roles(key=("id",), weight=weight, drop=("amount",) if weight else ("amount", "w"))
    known = {"target": TARGET, "roles": roles, "schema": SCHEMA, "split": Split(), "seed": 0}
    return train(table, model=model, **known, metrics=metrics, own=own)


def scores(report):
    return [one["score"] for one in sorted(report["search"]["candidates"], key=lambda one: int(one["params"][KEY]))]


KEY = "max_depth"


def by_hand(table, judge, weight=None):
    """Mean score over the search's folds for each depth, by what `judge` says of the fitted tree and its rows."""
    found = []
    for depth in GRID[KEY]:
        each = []
        for learn, held in FOLDS.split(table):
            rows, asked = table.iloc[learn], table.iloc[held]
            given = {} if weight is None else {"sample_weight": rows[weight]}
            fitted = tree().set_params(max_depth=depth).fit(rows[["a", "b"]], rows["y"], **given)
            each.append(judge(fitted, asked))
        found.append(np.mean(each))
    return found


def test_a_scorers_name_decides_and_the_summary_says_so(table):
    _, report = run(table, search(), ("neg_log_loss", "accuracy"))
    scorer = get_scorer("neg_log_loss")
    assert scores(report) == pytest.approx(
        by_hand(table, lambda model, rows: scorer(model, rows[["a", "b"]], rows["y"]))
    )
    assert report["summary"].endswith("search by log_loss")
    assert report["searches"] == [
        {"path": "model", "estimator": "GridSearchCV", "by": "log_loss", "why_not": ""}
    ]  # fmt: skip


def test_a_metric_of_ones_own_gets_the_columns_and_weights_of_the_rows_that_judge(table):
    def judge(model, rows):
        return -cost(rows["y"], model.predict(rows[["a", "b"]]), amount=rows["amount"], sample_weight=rows["w"])

    _, report = run(table, search(), ("neg_cost",), (cost,), weight="w")
    assert scores(report) == pytest.approx(by_hand(table, judge, "w"))
    assert "search by cost" in report["summary"]
    unweighted = run(table, search(), ("neg_cost",), (cost,))[1]
    assert scores(unweighted) != pytest.approx(scores(report))


def test_the_declared_positive_class_is_scored(table):
    """scikit-learn's f1 raises on text labels; F2 of the first class is not that of the second."""
    f2 = metric_of(make_scorer(fbeta_score, beta=2, pos_label="fine"))
    _, report = run(table, search(), (f2.scorer,), (f2,))
    wanted = by_hand(
        table, lambda model, rows: fbeta_score(rows["y"], model.predict(rows[["a", "b"]]), beta=2, pos_label="fine")
    )
    assert scores(report) == pytest.approx(wanted)


def test_without_metrics_the_tasks_first_decides(table):
    _, report = run(table, search(), ())
    assert "search by roc_auc" in report["summary"]
    scorer = get_scorer("roc_auc")
    assert scores(report) == pytest.approx(
        by_hand(table, lambda model, rows: scorer(model, rows[["a", "b"]], rows["y"]))
    )


def test_a_searchs_own_scoring_stays(table):
    _, report = run(table, search(scoring="accuracy"), ("neg_log_loss",))
    assert "searches" not in report
    scorer = get_scorer("accuracy")
    assert scores(report) == pytest.approx(
        by_hand(table, lambda model, rows: scorer(model, rows[["a", "b"]], rows["y"]))
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_in_processes_of_the_searchs_own_it_is_the_same(table, jobs):
    _, report = run(table, search(n_jobs=jobs), ("neg_log_loss",), weight="w")
    wanted = by_hand(
        table,
        lambda model, rows: -log_loss(rows["y"], model.predict_proba(rows[["a", "b"]]), sample_weight=rows["w"]),
        "w",
    )
    assert scores(report) == pytest.approx(wanted)


def test_inside_a_pipeline_or_a_calibrator_it_leaves_nothing_of_ours(table):
    inside = make_pipeline(StandardScaler(), search())
    fitted, report = run(table, inside, ("neg_cost",), (cost,), weight="w")
    assert report["searches"][0]["path"] == "model.gridsearchcv"
    assert fitted[-1].scoring is None
    assert "FirstMetric" not in repr(vars(fitted[-1]))
    assert dumps_canonical(fitted)
    calibrated = CalibratedClassifierCV(search(), cv=2)
    fitted, report = run(table, calibrated, ("neg_cost",), (cost,))
    assert "search by cost" in report["summary"]
    assert all("FirstMetric" not in repr(vars(one.estimator)) for one in fitted.calibrated_classifiers_)


def test_where_the_target_is_not_the_tables_a_search_keeps_its_default_and_it_is_said():
    number = Target("y")
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": rng.normal(size=60), "y": rng.normal(size=60)})
    grid = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2)
    model = TransformedTargetRegressor(grid, transformer=StandardScaler())
    known = {"target": number, "roles": Roles(), "schema": {"task": "regression"}, "split": Split(), "seed": 0}
    _, report = train(data, model=model, **known, metrics=("neg_mean_absolute_error",))
    assert report["searches"][0]["why_not"] == "inside TransformedTargetRegressor the target is not the table's"
    assert "search by scikit-learn's default score" in report["summary"]
    places = open_searches(StackingClassifier([("g", search()), ("l", LogisticRegression())]))
    assert [place.why_not for place in places] == ["inside StackingClassifier the target is not the table's"]


def test_a_metric_that_raises_fails_the_fit_rather_than_choosing_by_nothing(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's word that scoring failed
        with pytest.raises(AttributeError) as caught:
            run(table, search(), ("broken",), (broken,))
    assert "a search chose by broken" in str(caught.value.__notes__)


def test_rows_that_are_not_the_tables_are_no_evidence(table):
    """Sabotage: the same index over other rows would bring other rows' amounts."""
    from penstock.errors import StepOutputError
    from penstock.stages.problem import problem_of
    from penstock.stages.searches import judge_by_first

    roles = Roles(key=("id",), drop=("amount",))
    model = search()
    by = judge_by_first(
        model, table, problem_of(SCHEMA, TARGET), roles=roles, metrics=("neg_cost",), own=(cost,)
    )  # fmt: skip
    fitted = tree().fit(table[["a", "b"]], table["y"])
    assert np.isfinite(by(fitted, table[["a", "b"]], table["y"]))
    other = table["y"].sample(frac=1, random_state=2).set_axis(table.index)
    with pytest.raises(StepOutputError, match="no rows of the table"):
        by(fitted, table[["a", "b"]], other)


def test_folds_of_the_evaluation_choose_as_the_kept_fit_does(table, monkeypatch):
    seen = []
    from penstock.stages import evaluate as module

    def watched(*args, **kwargs):
        done = fit_on(*args, **kwargs)
        seen.append(done.searches[0]["by"])
        return done

    monkeypatch.setattr(module, "fit_on", watched)
    roles = Roles(key=("id",), drop=("amount",))
    known = {"target": TARGET, "roles": roles, "schema": SCHEMA, "split": Split(folds=2), "seed": 0}
    evaluate(table, model=search(), **known, metrics=("neg_cost",), own=(cost,), slices=())
    assert seen == ["cost", "cost"]


def lowered(model, **fields):
    declared = ps.Workflow(name="churn", data=ps.read("customers.csv"), target="churned", model=model, **fields)
    outputs, _ = lower(declared, "churn.py")
    return {call.name: call.kwargs for call in calls_of(outputs)}


def test_only_the_first_metric_reaches_a_fit_and_only_where_a_search_wants_one():
    given = {"metrics": [cost, "roc_auc", broken]}
    assert {"metrics", "own"}.isdisjoint(lowered(tree(), **given)["train"])
    assert {"metrics", "own"}.isdisjoint(lowered(search(scoring="accuracy"), **given)["train"])
    found = lowered(RandomizedSearchCV(tree(), GRID, n_iter=2), **given)["train"]
    assert (found["metrics"], found["own"]) == (("neg_cost",), (cost,))
    assert lowered(search(), metrics=["roc_auc", cost])["train"]["metrics"] == ("roc_auc",)
    assert "own" not in lowered(search(), metrics=["roc_auc", cost])["train"]
    assert lowered({"a": search(), "b": tree()})["train"]["metrics"] == ()
