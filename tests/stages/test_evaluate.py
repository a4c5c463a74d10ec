"""Cross-validated figures equal scikit-learn's; the report is bounded, deterministic and plain JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock
from penstock.core.notes import take
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages.evaluate import evaluate
from penstock.stages.split import fold_indices

BINARY = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
NUMBER = {"task": "regression"}
ROLES = Roles(key=("id",))
SPLIT = Split(folds=4)


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=400, schema=BINARY):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": range(n), "a": rng.normal(size=n), "b": rng.normal(size=n)})
    frame["city"] = rng.choice(["Rome", "Oslo"], n)
    noise = np.where(frame.city == "Oslo", 2.0, 0.5) * rng.normal(size=n)
    lift = 2 * frame.a + noise
    if schema is BINARY:
        return frame.assign(y=np.where(lift > 0, "yes", "no"))
    if schema is NUMBER:
        return frame.assign(y=lift + 10)
    return frame.assign(y=np.digitize(lift, [-1, 1]))


def model(final=None):
    return make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["city"])),
        LogisticRegression() if final is None else final,
    )


def judged(data=None, estimator=None, schema=BINARY, metrics=(), slices=(), roles=ROLES, split=SPLIT):
    data = table(schema=schema) if data is None else data
    return evaluate(
        data, model=estimator or model(), target=Target("y"), roles=roles, schema=schema, split=split,
        metrics=metrics, slices=slices, seed=0,
    )  # fmt: skip


def test_figures_equal_scikit_learns_cross_validation_by_our_folds():
    data = table()
    report, predictions = judged(data)
    folds = fold_indices(data, target=Target("y"), roles=ROLES, split=SPLIT, seed=0, task="binary")
    X = data[["a", "b", "city"]]
    areas = cross_val_score(model(), X, data.y, cv=folds, scoring="roc_auc")
    weights = [len(judge) for _, judge in folds]
    assert report["metrics"]["roc_auc"]["value"] == pytest.approx(np.average(areas, weights=weights))
    assert [fold["metrics"]["roc_auc"] for fold in report["folds"]] == pytest.approx(areas.tolist())
    proba = cross_val_predict(model(), X, data.y, cv=folds, method="predict_proba")
    assert report["metrics"]["neg_log_loss"]["value"] == pytest.approx(-log_loss(data.y, proba))
    assert predictions.row.tolist() == list(range(400))
    assert predictions.proba.to_numpy() == pytest.approx(proba[:, 1])
    assert predictions.y_true.tolist() == data.y.tolist()


def test_summary_says_figure_interval_baseline_and_worst_slice():
    report, _ = judged(slices=("city",))
    figure = report["metrics"]["roc_auc"]
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["baseline"] == 0.5
    assert report["summary"].startswith(f"roc_auc {figure['value']:.3f} [")
    assert "· baseline 0.500 · worst slice city=Oslo 0." in report["summary"]
    assert [one["label"] for one in report["slices"]] == ["city=Oslo", "city=Rome"]
    assert sum(one["n"] for one in report["slices"]) == 400


def test_errors_are_shown_positive_lower_is_better():
    report, predictions = judged(schema=NUMBER, estimator=model(LinearRegression()))
    figure = report["metrics"]["neg_root_mean_squared_error"]
    assert figure["value"] < 0 < figure["shown"]["low"] < figure["shown"]["value"] < figure["shown"]["high"]
    assert "root_mean_squared_error 1." in report["summary"]
    assert "(lower is better) · baseline 2." in report["summary"]
    assert set(predictions) == {"row", "fold", "y_true", "value"}


@pytest.mark.parametrize(
    "schema", [BINARY, NUMBER, {"task": "multiclass", "classes": [0, 1, 2]}], ids=["two", "number", "three"]
)
def test_the_report_is_plain_bounded_and_the_same_twice(schema):
    estimator = model(RandomForestRegressor(5) if schema is NUMBER else None)
    take()
    report, predictions = judged(schema=schema, estimator=estimator, slices=("city", "a"))
    text = json.dumps(report, allow_nan=False)
    assert len(text) < 60_000
    again, same = judged(schema=schema, estimator=estimator, slices=("city", "a"))
    assert json.dumps(again) == text
    pd.testing.assert_frame_equal(same, predictions)
    assert len(take()["fold_s"]) == 4
    assert report["n_judged"] == 400
    assert "hold-out was not opened" in report["scope"]


def test_importance_finds_the_column_that_matters():
    report, _ = judged()
    importance = {one["column"]: one["drop"] for one in report["importance"]}
    assert report["importance"][0]["column"] == "a"
    assert importance["a"] > 0.2 > abs(importance["b"])


def test_the_worst_mistakes_come_first():
    report, predictions = judged()
    worst = report["worst_rows"]
    assert len(worst) == 10
    assert worst == sorted(worst, key=lambda one: -one["loss"])
    proba = np.where(predictions.y_true == "yes", predictions.proba, 1 - predictions.proba)
    assert worst[0]["row"] == int(predictions.row[proba.argmin()])
    assert all(one["y_true"] != one["predicted"] for one in worst[:3])


def test_curves_and_confusion_add_up():
    report, predictions = judged()
    confusion = np.array(report["confusion"]["counts"])
    assert report["confusion"]["classes"] == ["no", "yes"]
    assert confusion.sum() == 400
    assert np.trace(confusion) == (predictions.y_true == predictions.label).sum()
    roc = report["curves"]["roc"]
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][-1]) == (0, 1)
    bins = report["curves"]["calibration"]
    assert sum(one["n"] for one in bins) == 400
    assert all(one["low"] <= one["observed"] <= one["high"] for one in bins)


def test_by_time_only_rows_after_the_first_fold_are_judged():
    data = table().assign(when=pd.date_range("2026-01-01", periods=400, freq="h"))
    report, predictions = judged(data, roles=Roles(key=("id",), time="when"))
    assert report["n_judged"] < report["n_rows"] == 400
    assert predictions.row.min() > 0


def test_a_model_without_probabilities_has_no_log_loss():
    report, predictions = judged(estimator=model(RidgeClassifier()))
    assert list(report["metrics"]) == ["roc_auc"]
    assert "decision" in predictions
    assert "calibration" not in report["curves"]


def test_many_metrics_have_a_baseline_or_none():
    report, _ = judged(metrics=("f1", "average_precision", "accuracy", "matthews_corrcoef"))
    assert list(report["metrics"]) == ["f1", "average_precision", "accuracy", "matthews_corrcoef"]
    assert all(isinstance(one["baseline"], float) for one in report["metrics"].values())
    assert report["primary"] == "f1"


class NeverFitted(ClassifierMixin, BaseEstimator):
    """Fails if it is fitted at all."""

    def fit(self, X, y):
        raise AssertionError("fitted before the metrics were checked")


def test_a_wrong_metric_or_slice_is_told_before_anything_is_fitted():
    with pytest.raises(DeclarationError, match="'r2'"):
        judged(estimator=NeverFitted(), metrics=("r2",))
    with pytest.raises(DataError, match="'zzz'"):
        judged(estimator=NeverFitted(), slices=("zzz",))


def test_labels_one_and_two_score_the_declared_class():
    data = table().assign(y=lambda t: np.where(t.y == "yes", 1, 2))
    by_one, _ = judged(data, schema={"task": "binary", "classes": [1, 2], "positive": 1}, metrics=("recall",))
    by_text, _ = judged(table(), metrics=("recall",))
    assert by_one["metrics"]["recall"]["value"] == by_text["metrics"]["recall"]["value"]


@pytest.mark.parametrize("name", ["telco", "german"])
def test_real_tables_reach_the_figures_known_for_them(name, shared_data):
    if name == "telco":
        data = pd.read_csv(shared_data("telco_churn.csv"), na_values=[" "]).fillna({"TotalCharges": 0.0})
        target, schema = Target("Churn"), {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes"}
        roles, least = Roles(key=("customerID",)), 0.83
    else:
        data = pd.read_csv(shared_data("german_credit_uci.csv"))
        target, schema = Target("class"), {"task": "binary", "classes": [1, 2], "positive": 2}
        roles, least = Roles(), 0.74
    texts = [c for c in roles.visible(list(data), target) if data[c].dtype == "str" or data[c].dtype == object]
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts), remainder="passthrough"
    )
    estimator = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=30))
    report, _ = evaluate(
        data, model=estimator, target=target, roles=roles, schema=schema, split=Split(folds=3), metrics=("roc_auc",),
        slices=(), seed=0,
    )  # fmt: skip
    assert report["metrics"]["roc_auc"]["value"] > least


def test_a_category_that_a_fold_lacks_is_blamed_on_its_column():
    data = table().assign(city=lambda t: np.where(t.id == 3, "Lima", t.city))
    with pytest.raises(ValueError, match="unknown categories") as caught:
        judged(data)
    assert caught.value.__notes__ == ["penstock: a category that the rows it was fitted on lack, in column 'city'"]


PROGRAM = """
import hashlib, json, sys
sys.path[:0] = sys.argv[1:]
import test_evaluate as t
from penstock.core.gate import Beats, Improves, NoWorseOn
from penstock.stages.audit import audit
from penstock.stages.compare import compare
from penstock.stages.package import package
from penstock.stages.train import train
kw = dict(target=t.Target("y"), roles=t.ROLES, schema=t.BINARY)
data = t.table()
learn, held = data.iloc[:300], data.iloc[300:]
model = t.model(t.HistGradientBoostingClassifier(max_iter=5, early_stopping=True))
fitted, report = train(learn, model=model, split=t.SPLIT, seed=0, **kw)
found = [report, t.judged(data, model, slices=("city",))[0], audit(learn, held, **kw)]
found += package(learn, fitted=fitted, **kw)
found.append(compare(held, learn, fitted=fitted, champion=None, about={}, rules=(Improves(), Beats("baseline", "f1"),
    NoWorseOn("city")), metrics=(), slices=("city",), seed=0, **kw))
print(hashlib.sha256(json.dumps(found, allow_nan=False).encode()).hexdigest())
"""


def test_what_the_stages_give_does_not_depend_on_process_or_hash_seed():
    source = Path(penstock.__file__).parents[1]
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(source)],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_a_metric_without_a_value_on_dealt_rows_leaves_the_column_out():
    """A linear model may answer below -1, where a logarithmic error is not defined."""
    data = table(schema=NUMBER).assign(y=lambda t: np.exp(t.y / 4), b=lambda t: t.a + 0.01 * t.b)
    report, _ = judged(
        data, estimator=model(LinearRegression()), schema=NUMBER,
        metrics=("neg_mean_squared_log_error", "neg_mean_poisson_deviance"),
    )  # fmt: skip
    text = json.dumps(report, allow_nan=False)
    assert "NaN" not in text
    assert set(report["metrics"]) == {"neg_mean_squared_log_error", "neg_mean_poisson_deviance"}
