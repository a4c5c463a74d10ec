"""Weights and groups reach what they are meant for, and equal the hand-written fit bit for bit."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import make_scorer, max_error, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages.evaluate import evaluate
from penstock.stages.train import train
from penstock.stages.weights import weights_of

SCHEMA = {"task": "binary", "classes": [0, 1], "positive": 1}
NUMBER = {"task": "regression"}
TARGET = Target("y", positive=1)
ROLES = Roles(key=("id",), groups=("who",), weight="w")
FEATURES = ["a", "city", "b"]
KEEP = KFold(3, shuffle=True, random_state=0)


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=240, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n)
    y = (a + (city == "Rome") + rng.normal(size=n) > 0.3).astype(int)
    w = rng.integers(1, 6, n).astype(float)
    return pd.DataFrame(
        {"id": np.arange(n), "who": rng.integers(0, 40, n), "a": a, "city": city, "b": b, "w": w, "y": y}
    )


def prep():
    return make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"])
    )


def fitted_by_us(model, data=None, schema=SCHEMA, roles=ROLES, **kwargs):
    data = table() if data is None else data
    return train(data, model=model, target=TARGET, roles=roles, schema=schema, split=Split(), seed=0, **kwargs)


def answers(fitted, X):
    asked = ("predict", "predict_proba", "decision_function")
    return {name: getattr(fitted, name)(X).tolist() for name in asked if hasattr(fitted, name)}


def by_hand(model, name, data=None):
    data = table() if data is None else data
    return clone(model).fit(data[FEATURES], data["y"], **{name: data["w"].to_numpy()})


def tree():
    return DecisionTreeClassifier(max_depth=2, random_state=1)


def both():
    return [("t", tree()), ("n", GaussianNB())]


PLAIN = {
    "pipeline": (make_pipeline(prep(), LogisticRegression()), "logisticregression__sample_weight"),
    "adaboost": (
        make_pipeline(prep(), AdaBoostClassifier(n_estimators=4, random_state=1)),
        "adaboostclassifier__sample_weight",
    ),
    "boosting": (
        make_pipeline(prep(), HistGradientBoostingClassifier(max_iter=5, random_state=1)),
        "histgradientboostingclassifier__sample_weight",
    ),
    "grid": (
        GridSearchCV(
            make_pipeline(prep(), DecisionTreeClassifier(max_depth=3, random_state=1)),
            {"decisiontreeclassifier__max_depth": [3]},
            cv=KEEP,
        ),
        "decisiontreeclassifier__sample_weight",
    ),
    "selected": (
        make_pipeline(prep(), SelectFromModel(RandomForestClassifier(4, random_state=1)), LogisticRegression()),
        "logisticregression__sample_weight",
    ),
    "stack": (
        make_pipeline(prep(), StackingClassifier(both(), cv=KEEP)),
        "stackingclassifier__sample_weight",
    ),
    "vote": (
        make_pipeline(prep(), VotingClassifier(both())),
        "votingclassifier__sample_weight",
    ),
    "calibrated": (
        make_pipeline(prep(), CalibratedClassifierCV(tree(), cv=KEEP)),
        "calibratedclassifiercv__sample_weight",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("routing", [False, True])
def test_a_weight_reaches_the_learner_and_equals_the_hand_written_fit(name, routing):
    model, keyword = PLAIN[name]
    expected = by_hand(model, keyword)
    unweighted = clone(model).fit(table()[FEATURES], table()["y"])
    with sklearn.config_context(enable_metadata_routing=routing):
        fitted, report = fitted_by_us(model)
    X = table(seed=1)[FEATURES]
    assert answers(fitted, X) == answers(expected, X)
    assert answers(fitted, X) != answers(unweighted, X)
    assert report["fit"]["weight"] == "w"
    assert report["fit"]["weighted"]
    assert "weighted by w" in report["summary"]


def test_what_is_kept_is_plain():
    from penstock.formats.skops import dumps_canonical, types_in

    model = GridSearchCV(make_pipeline(prep(), AdaBoostClassifier(n_estimators=2)), {}, cv=GroupKFold(3))
    fitted, _ = fitted_by_us(model)
    names = types_in(dumps_canonical(fitted))
    assert not [name for name in names if name.startswith("penstock")]
    assert not [name for name in names if "MetadataRequest" in name]


def test_requests_of_the_users_own_are_kept_and_obeyed():
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        model = make_pipeline(scaler, LogisticRegression().set_fit_request(sample_weight=True))
        data = table().drop(columns="city")
        fitted, _ = fitted_by_us(model, data)
        expected = clone(model).fit(data[["a", "b"]], data["y"], sample_weight=data["w"].to_numpy())
    assert fitted[0].mean_.tolist() == expected[0].mean_.tolist()
    assert fitted[0].mean_.tolist() != StandardScaler().fit(data[["a", "b"]]).mean_.tolist()
    assert "_metadata_request" in vars(fitted[0])


def weighted_auc(y, score, sample_weight=None):
    return roc_auc_score(y, score, sample_weight=sample_weight)


@pytest.mark.parametrize(
    "scoring", ["roc_auc", ["roc_auc", "accuracy"], make_scorer(weighted_auc, response_method="predict_proba"), None]
)
def test_a_search_is_scored_with_weights(scoring):
    data, tree = table(), DecisionTreeClassifier(random_state=1)
    grid = {"decisiontreeclassifier__max_depth": [1, 2, 4]}
    refit = "roc_auc" if isinstance(scoring, list) else True
    model = GridSearchCV(make_pipeline(prep(), tree), grid, cv=KEEP, scoring=scoring, refit=refit)
    _, report = fitted_by_us(model, data)
    name = "accuracy" if scoring is None else "roc_auc"
    scores = []
    for depth in (1, 2, 4):
        values = []
        for learn, judge in KEEP.split(data):
            pipe = make_pipeline(prep(), clone(tree).set_params(max_depth=depth))
            rows, held = data.iloc[learn], data.iloc[judge]
            pipe.fit(rows[FEATURES], rows["y"], decisiontreeclassifier__sample_weight=rows["w"])
            judge_by = sklearn.metrics.get_scorer(name)
            values.append(judge_by(pipe, held[FEATURES], held["y"], sample_weight=held["w"]))
        scores.append(np.mean(values))
    assert report["search"]["best_score"] == pytest.approx(max(scores), abs=1e-12)


def test_a_scorer_that_takes_no_weights_is_left_alone():
    data = table().assign(y=lambda t: t["a"] * 2 + t["b"])
    model = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=KEEP, scoring=make_scorer(max_error, greater_is_better=False))
    _, report = fitted_by_us(model, data.drop(columns="city"), NUMBER)
    assert report["search"]["best_score"] < 0


def test_a_transformed_target_and_one_against_the_rest_take_weights():
    data = table().assign(y=lambda t: np.exp(t["a"]))
    for inner in (Ridge(), None):
        model = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp)
        fitted, _ = fitted_by_us(model, data.drop(columns="city"), NUMBER)
        X = data[["a", "b"]]
        expected = clone(inner or LinearRegression()).fit(X, np.log(data["y"]), sample_weight=data["w"])
        assert fitted.regressor_.coef_.ravel().tolist() == pytest.approx(expected.coef_.tolist(), abs=1e-12)
    many = table().drop(columns="city").assign(y=lambda t: np.digitize(t["a"], [-0.5, 0.5]))
    schema = {"task": "multiclass", "classes": [0, 1, 2]}
    fitted, _ = fitted_by_us(OneVsRestClassifier(LogisticRegression()), many, schema)
    for label, one in enumerate(fitted.estimators_):
        by = LogisticRegression().fit(many[["a", "b"]], many["y"] == label, sample_weight=many["w"])
        assert one.coef_.tolist() == pytest.approx(by.coef_)


def test_bagging_and_thresholds_take_weights():
    for model in (
        make_pipeline(prep(), BaggingClassifier(DecisionTreeClassifier(max_depth=2), 3)),
        make_pipeline(prep(), BaggingClassifier(n_estimators=3)),
        TunedThresholdClassifierCV(make_pipeline(prep(), LogisticRegression()), scoring="f1", cv=3),
    ):
        fitted, report = fitted_by_us(model)
        assert report["fit"]["weighted"]
        plain, _ = fitted_by_us(model, roles=Roles(key=("id",), groups=("who",), drop=("w",)))
        assert answers(fitted, table(seed=1)[FEATURES]) != answers(plain, table(seed=1)[FEATURES])


def test_a_zero_weight_is_as_good_as_no_row():
    data = table().assign(w=lambda t: t["w"] - 1)
    fitted, _ = fitted_by_us(make_pipeline(prep(), LogisticRegression(tol=1e-10)), data)
    assert fitted[-1].n_iter_.max() > 0
    alone = data[data.w > 0]
    head = fitted[:-1]
    again = LogisticRegression(tol=1e-10).fit(head.transform(alone[FEATURES]), alone["y"], sample_weight=alone["w"])
    assert np.allclose(again.coef_, fitted[-1].coef_, atol=1e-4)


class NoWeights(ClassifierMixin, BaseEstimator):
    """Would raise if it were fitted at all."""

    def fit(self, X, y):
        raise AssertionError("fitted before it was refused")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (make_pipeline(prep(), NoWeights()), r"model\.noweights"),
        (
            GridSearchCV(make_pipeline(prep(), KNeighborsClassifier()), {}, cv=3),
            r"model\.estimator\.kneighborsclassifier",
        ),
        (VotingClassifier([("n", NoWeights()), ("l", LogisticRegression())]), r"model\.n"),
        (StackingClassifier([("l", LogisticRegression())], final_estimator=NoWeights()), r"model\.final_estimator"),
    ],
)
def test_what_takes_no_weights_is_refused_before_anything_is_fitted(model, path):
    with pytest.raises(DeclarationError, match=f"{path}: .* takes no weights of rows"):
        fitted_by_us(model)


def test_rows_that_a_step_resamples_cannot_be_weighted():
    from imblearn.pipeline import make_pipeline as make_sampled
    from imblearn.under_sampling import RandomUnderSampler

    with pytest.raises(DeclarationError, match="weights would not follow"):
        fitted_by_us(make_sampled(prep(), RandomUnderSampler(), LogisticRegression()))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, np.nan, 2.0], "missing or infinite: rows \\[1\\]"),
        ([1.0, np.inf, 2.0], "missing or infinite"),
        ([1.0, 2.0, -0.5], "negative: rows \\[2\\]"),
        ([0.0, 0.0, 0.0], "all weights are zero"),
        (["1", "2", "3"], "weights are numbers"),
        ([True, False, True], "weights are numbers"),
    ],
)
def test_weights_that_are_none_are_refused(values, words):
    with pytest.raises(DataError, match=words):
        weights_of(pd.DataFrame({"w": values}), Roles(weight="w"))


def test_a_weight_that_is_not_there_is_named():
    with pytest.raises(DataError, match="no column 'w'"):
        weights_of(pd.DataFrame({"x": [1]}), Roles(weight="w"))
    assert weights_of(pd.DataFrame({"x": [1]}), Roles()) is None


@pytest.mark.parametrize("search", [GridSearchCV, HalvingGridSearchCV])
@pytest.mark.parametrize("splitter", [StratifiedGroupKFold(3), GroupKFold(3)])
def test_groups_reach_the_users_own_splitter(search, splitter):
    data, roles = table(), Roles(key=("id",), groups=("who",), drop=("w",))
    extra = {"min_resources": 60, "random_state": 0} if search is HalvingGridSearchCV else {}
    tree = make_pipeline(prep(), DecisionTreeClassifier(random_state=1))
    model = search(tree, {"decisiontreeclassifier__max_depth": [1, 3]}, cv=splitter, **extra)
    _, report = fitted_by_us(model, data, roles=roles)
    expected = clone(model).fit(data[FEATURES], data["y"], groups=data["who"].to_numpy())
    assert report["search"]["best_score"] == expected.best_score_
    assert report["fit"]["groups"] == ["who"]


def test_groups_of_two_columns_are_one_group_each_pair():
    roles = Roles(key=("id",), groups=("who", "city"), drop=("w",))
    model = GridSearchCV(LogisticRegression(), {}, cv=GroupKFold(3))
    data = table()
    _, report = fitted_by_us(model, data, roles=roles)
    pairs = data["who"].astype(str) + data["city"]
    expected = clone(model).fit(data[["a", "b"]], data["y"], groups=pairs)
    assert report["fit"]["groups"] == ["who", "city"]
    assert np.isfinite(report["search"]["best_score"])
    assert abs(report["search"]["best_score"] - expected.best_score_) < 0.2


def test_a_splitter_by_groups_without_groups_is_refused():
    model = GridSearchCV(LogisticRegression(), {}, cv=GroupKFold(3))
    with pytest.raises(DeclarationError, match="GroupKFold divides rows by groups"):
        fitted_by_us(model, roles=Roles(key=("id",), drop=("w", "city", "who")))


def test_a_splitter_that_wants_no_groups_gets_none():
    model = GridSearchCV(LogisticRegression(), {}, cv=StratifiedKFold(3))
    _, report = fitted_by_us(model, table().drop(columns="city"), roles=Roles(groups=("who",), drop=("w", "id")))
    assert "fit" not in report


def test_folds_of_the_evaluation_are_fitted_with_weights_too():
    data = table()
    model = make_pipeline(prep(), LogisticRegression())
    known = {"target": TARGET, "schema": SCHEMA, "split": Split(), "metrics": ("roc_auc",), "slices": (), "seed": 0}
    _, weighted = evaluate(data, model=model, roles=ROLES, **known)
    _, plain = evaluate(data, model=model, roles=Roles(key=("id",), groups=("who",), drop=("w",)), **known)
    assert weighted["row"].tolist() == plain["row"].tolist()
    assert weighted["proba"].tolist() != plain["proba"].tolist()
