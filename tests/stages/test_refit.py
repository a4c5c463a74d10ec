"""The twin that is served: everything fixed that the first fit found out, fitted on all rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock.core.fit import Fit
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.refit import refit, settled
from penstock.stages.train import train

KNOWN = {
    "target": Target("y"),
    "roles": Roles(key=("id",)),
    "schema": {"task": "binary", "classes": [0, 1], "positive": 1},
    "split": Split(folds=3),
    "seed": 0,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def sides(n=300):
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"id": range(n), "a": rng.normal(size=n), "b": rng.normal(size=n)})
    data["y"] = (data.a + rng.normal(size=n) > 0).astype(int)
    return data.iloc[: n * 4 // 5].reset_index(drop=True), data.iloc[n * 4 // 5 :].reset_index(drop=True)


def twins(model):
    learn, held = sides()
    judged, _ = train(learn, model=model, **KNOWN)
    served, report = refit(learn, held, fitted=judged, **KNOWN)
    return judged, served, report


def test_it_equals_a_fit_on_all_rows():
    learn, held = sides()
    judged, served, report = twins(make_pipeline(StandardScaler(), LogisticRegression()))
    rows = pd.concat([learn, held], ignore_index=True)
    by_hand = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[["a", "b"]], rows.y)
    assert np.array_equal(served[-1].coef_, by_hand[-1].coef_)
    assert not np.array_equal(served[-1].coef_, judged[-1].coef_)
    assert (report["n_rows"], report["n_train"], report["n_test"]) == (300, 240, 60)
    assert "its judged twin knows 240 of them" in report["summary"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_search_is_not_repeated_its_choice_stays(nested):
    search = GridSearchCV(LogisticRegression(), {"C": [0.001, 0.1, 10.0]}, cv=3)
    judged, served, _ = twins(make_pipeline(StandardScaler(), search) if nested else search)
    chosen = judged[-1].best_params_["C"] if nested else judged.C
    last = served[-1] if nested else served
    assert type(last) is LogisticRegression
    assert chosen == last.C


@pytest.mark.parametrize(
    ("model", "count", "off"),
    [
        (
            HistGradientBoostingClassifier(early_stopping=True, n_iter_no_change=2),
            "max_iter",
            ("early_stopping", False),
        ),
        (GradientBoostingClassifier(n_iter_no_change=2), "n_estimators", ("n_iter_no_change", None)),
        (SGDClassifier(early_stopping=True, n_iter_no_change=2), "max_iter", ("early_stopping", False)),
    ],
)
def test_where_a_fit_stopped_early_the_twin_goes_as_far(model, count, off):
    judged, served, report = twins(make_pipeline(StandardScaler(), model))
    found = getattr(judged[-1], "n_estimators_", None) or judged[-1].n_iter_
    assert report["fixed"] == {f"{type(model).__name__.lower()}__{count}": found}
    assert getattr(served[-1], count) == found < model.get_params()[count]
    assert getattr(served[-1], off[0]) == off[1]


def test_boosters_of_other_libraries_keep_their_best_iteration():
    xgboost = pytest.importorskip("xgboost")
    learn, held = sides()
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, n_jobs=1)
    model.fit(learn[["a", "b"]], learn.y, eval_set=[(held[["a", "b"]], held.y)], verbose=False)
    twin, fixed = settled(model)
    assert fixed == {"n_estimators": model.best_iteration + 1}
    assert twin.early_stopping_rounds is None
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=60, n_jobs=1, verbosity=-1)
    stop = [lightgbm.early_stopping(2, verbose=False)]
    model.fit(learn[["a", "b"]], learn.y, eval_X=held[["a", "b"]], eval_y=held.y, callbacks=stop)
    assert settled(model)[1] == {"n_estimators": model.best_iteration_}
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(
        iterations=60, early_stopping_rounds=2, verbose=False, thread_count=1, allow_writing_files=False
    )
    model.fit(learn[["a", "b"]], learn.y, eval_set=(held[["a", "b"]], held.y))
    twin, fixed = settled(model)
    assert fixed == {"iterations": model.get_best_iteration() + 1}
    assert twin.fit(learn[["a", "b"]], learn.y).tree_count_ == fixed["iterations"]


def test_what_did_not_stop_early_is_only_copied():
    model = HistGradientBoostingClassifier(max_iter=5).fit([[0], [1]] * 20, [0, 1] * 20)
    twin, fixed = settled(model)
    assert (fixed, twin.max_iter) == ({}, 5)
    assert not hasattr(twin, "classes_")


def test_the_learner_inside_a_transformed_target_is_found():
    inside = HistGradientBoostingRegressor(early_stopping=True, n_iter_no_change=2, random_state=0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    model = TransformedTargetRegressor(inside, func=np.arcsinh, inverse_func=np.sinh).fit(
        X, X[:, 0] ** 3 + rng.normal(size=200)
    )
    twin, fixed = settled(model)
    assert fixed == {"regressor__max_iter": model.regressor_.n_iter_}
    assert twin.regressor.early_stopping is False


def test_inner_folds_are_made_anew_over_all_rows():
    judged, served, _ = twins(CalibratedClassifierCV(LogisticRegression(), cv=3))
    assert max(rows.max() for pair in judged.cv for rows in pair) == 239
    assert max(rows.max() for pair in served.cv for rows in pair) == 299


def test_what_boosts_inside_an_ensemble_stops_anew():
    """Its fits stopped at rounds of their own: with none to stop by each would go on to the last."""
    learn, held = sides(600)
    known = {**KNOWN, "fit": Fit(early_stopping=0.2, rounds=5)}
    model = CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=150, learning_rate=0.3), cv=2)
    judged, _ = train(learn, model=model, **known)
    served, report = refit(learn, held, fitted=judged, **known)
    for fitted in (judged, served):
        assert max(one.estimator.n_iter_ for one in fitted.calibrated_classifiers_) < 100
    assert "its parts stop anew" in report["summary"]


def test_an_ensemble_of_a_library_that_needs_rows_to_stop_by_is_given_them():
    xgboost = pytest.importorskip("xgboost")
    learn, held = sides()
    known = {**KNOWN, "fit": Fit(early_stopping=0.2)}
    judged, _ = train(
        learn, model=VotingClassifier([("x", xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3))]), **known
    )
    served, _ = refit(learn, held, fitted=judged, **known)
    assert served.estimators_[0].best_iteration < 59


def test_without_fixing_the_iterations_the_twin_would_go_its_own_way():
    """Sabotage: a plain fit on all rows stops somewhere else."""
    model = HistGradientBoostingClassifier(early_stopping=True, n_iter_no_change=1, learning_rate=0.3)
    learn, held = sides()
    judged, served, _ = twins(model)
    again, _ = train(pd.concat([learn, held], ignore_index=True), model=model, **KNOWN)
    assert served.n_iter_ == judged.n_iter_
    assert again.n_iter_ != judged.n_iter_
