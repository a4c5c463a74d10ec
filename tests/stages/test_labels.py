"""XGBoost takes classes as 0, 1, 2 … only; its user's labels go in and come out, and the fit is that of the numbers."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRFClassifier

from penstock.core.fit import Fit
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.formats.skops import dumps_canonical, loads
from penstock.stages import labels
from penstock.stages.evaluate import evaluate
from penstock.stages.package import package
from penstock.stages.refit import refit
from penstock.stages.train import train

FEATURES = ["a", "b"]
STOP = {"fit": Fit(early_stopping=0.2, rounds=3)}
BINARY = (["no", "yes"], [False, True], [1, 2])
THREE = ["c", "a", "b"]
"""Not in their order, so that a place and a number cannot be taken for one another."""


pytestmark = pytest.mark.usefixtures("one_thread")


def booster(**given):
    return XGBClassifier(n_estimators=8, n_jobs=1, **given)


MODELS = {
    "alone": (booster, {}),
    "random forest": (lambda: XGBRFClassifier(n_estimators=4, n_jobs=1), {}),
    "pipeline": (lambda: make_pipeline(StandardScaler(), booster()), {}),
    "stopping": (lambda: make_pipeline(StandardScaler(), booster()), STOP),
    "search around": (
        lambda: GridSearchCV(make_pipeline(StandardScaler(), booster()), {"xgbclassifier__max_depth": [1, 3]}, cv=2),
        {**STOP, "metrics": ("neg_log_loss",)},
    ),
    "search inside": (lambda: make_pipeline(StandardScaler(), GridSearchCV(booster(), {"max_depth": [1, 3]})), {}),
    "calibrated": (lambda: CalibratedClassifierCV(booster(), cv=2), {}),
    "stack": (lambda: StackingClassifier([("x", booster()), ("l", LogisticRegression())], cv=2), {}),
    "selecting": (lambda: make_pipeline(StandardScaler(), RFE(booster(), n_features_to_select=1)), {}),
}


def table(names, n=300, seed=0):
    """Rows whose label is one of `names`, by a number that grows with `a`."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    code = np.digitize(a + rng.normal(size=n), [0.0] if len(names) == 2 else [-0.5, 0.5])
    weight = rng.integers(1, 5, n).astype(float)
    return pd.DataFrame({"id": np.arange(n), "a": a, "b": b, "w": weight, "y": [names[one] for one in code]})


def known(names):
    positive = names[1] if len(names) == 2 else None
    schema = {"task": "binary" if positive is not None else "multiclass", "classes": sorted(names)}
    return {
        "target": Target("y", positive=positive),
        "roles": Roles(key=("id",), weight="w"),
        "schema": {**schema, "positive": positive},
        "split": Split(folds=2),
        "seed": 0,
    }


def fitted_on(names, model, **given):
    return train(table(names), model=model, **known(names), **given)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_fit_of_the_numbers_that_the_labels_stand_for(name):
    make, given = MODELS[name]
    plain, report = fitted_on([2, 0, 1], make(), **given)
    named, told = fitted_on(THREE, make(), **given)
    X = table(THREE, seed=1)[FEATURES]
    assert np.array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert named.classes_.tolist() == ["a", "b", "c"]
    assert named.predict(X).tolist() == [["a", "b", "c"][code] for code in plain.predict(X)]
    assert told.get("fit") == report.get("fit")
    assert told["summary"] == report["summary"]


@pytest.mark.parametrize("names", BINARY, ids=str)
def test_answers_carry_labels_of_any_kind_and_a_bundle_reads_without_us(names):
    named, _ = fitted_on(names, MODELS["stopping"][0](), **STOP)
    data = table(names)
    assert named.classes_.tolist() == names
    assert {type(label) for label in named.predict(data[FEATURES]).tolist()} == {type(names[0])}
    stored = dumps_canonical(named)
    assert stored == dumps_canonical(fitted_on(names, MODELS["stopping"][0](), **STOP)[0])
    assert b"penstock" not in stored
    assert np.array_equal(loads(stored).predict(data[FEATURES]), named.predict(data[FEATURES]))
    about = known(names)
    contract = package(data, fitted=named, target=about["target"], roles=about["roles"], schema=about["schema"])[0]
    assert (contract["classes"], contract["positive"]) == (names, names[1])


def test_what_was_numbers_is_left_as_it_is():
    fitted, _ = fitted_on([0, 1], booster())
    assert type(fitted) is XGBClassifier
    X, y = table([0, 1])[FEATURES], table([0, 1])["y"]
    by_hand = clone(fitted).fit(X, y, sample_weight=table([0, 1])["w"])
    assert np.array_equal(fitted.predict_proba(X), by_hand.predict_proba(X))


def test_what_is_kept_can_be_fitted_anew_by_its_user():
    fitted, _ = fitted_on(["no", "yes"], booster())
    data = table(["no", "yes"], seed=2)
    assert clone(fitted).fit(data[FEATURES], data["y"]).classes_.tolist() == ["no", "yes"]


def test_the_served_twin_has_labels_and_the_rounds_of_the_judged_one():
    named, report = fitted_on(THREE, MODELS["stopping"][0](), **STOP)
    data = table(THREE)
    twin, told = refit(data, data[:0], fitted=named, **known(THREE), **STOP)
    assert told["fixed"] == {"xgbclassifier__n_estimators": report["fit"]["fits"][0]["best_iteration"]}
    assert twin.classes_.tolist() == ["a", "b", "c"]


def test_a_fold_of_a_cross_validation_may_lack_a_class():
    data = table(THREE, n=120)
    data.loc[data["y"] == "b", "y"] = "a"
    data.loc[data.index[3], "y"] = "b"
    report, answers = evaluate(data, model=booster(), **known(THREE), metrics=("accuracy",), slices=())
    assert report["metrics"]["accuracy"]["value"] > 0.5
    assert set(answers["label"]) <= set(THREE)


def test_a_label_of_rows_to_stop_by_only_is_said():
    with pytest.raises(ValueError, match="'b' is a label of rows to stop by only"):
        labels.codes(["a", "b"], ["a", "c"])


def test_a_subclass_that_fits_in_its_own_way_is_let_be():
    class Own(XGBClassifier):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X, np.where(y == "yes", 1, 0), sample_weight=sample_weight)

    assert labels.takes_numbers_only(booster())
    assert not labels.takes_numbers_only(Own())
    assert not labels.takes_numbers_only(LGBMClassifier())


def test_a_weighted_stack_over_a_pipeline_can_be_stored():
    stack = StackingClassifier([("x", make_pipeline(StandardScaler(), booster())), ("l", LogisticRegression())], cv=2)
    fitted, _ = fitted_on([0, 1], stack)
    assert type(fitted.named_estimators_["x"]).__name__ == "Pipeline"
    assert b"penstock" not in dumps_canonical(fitted)
