"""The fit equals scikit-learn's own, bit for bit; what is left out, timed and blamed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import RFECV, SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    TimeSeriesSplit,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from penstock.core.notes import take
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages.inner import inner_places
from penstock.stages.problem import problem_of
from penstock.stages.seeding import seeds
from penstock.stages.split import fold_indices
from penstock.stages.train import features_and_target, prepared, train

SCHEMA = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
TARGET = Target("y", positive="yes")
ROLES = Roles(key=("id",), drop=("note",))


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=240, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n)
    y = np.where(a + (city == "Rome") + rng.normal(size=n) > 0.3, "yes", "no")
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(n), "h")
    return pd.DataFrame({"id": np.arange(n) + 7, "a": a, "city": city, "b": b, "note": "x", "y": y, "when": when})


def prep():
    return make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"])
    )


MODELS = {
    "logistic": lambda: make_pipeline(prep(), LogisticRegression()),
    "target encoder": lambda: make_pipeline(
        make_column_transformer((TargetEncoder(), ["city"]), remainder="passthrough"), LogisticRegression()
    ),
    "forest": lambda: make_pipeline(prep(), RandomForestClassifier(8)),
    "extra trees": lambda: make_pipeline(prep(), ExtraTreesClassifier(8, bootstrap=True)),
    "boosting": lambda: make_pipeline(prep(), HistGradientBoostingClassifier(max_iter=8, early_stopping=True)),
    "gradient boosting": lambda: make_pipeline(prep(), GradientBoostingClassifier(n_estimators=8, subsample=0.5)),
    "sgd": lambda: make_pipeline(prep(), SGDClassifier(loss="log_loss")),
    "mlp": lambda: make_pipeline(prep(), MLPClassifier((4,), max_iter=200, tol=1e-1)),
    "svc": lambda: make_pipeline(prep(), SVC()),
    "neighbours": lambda: make_pipeline(prep(), SimpleImputer(), KNeighborsClassifier()),
    "bayes": lambda: make_pipeline(prep(), GaussianNB()),
    "quantiles": lambda: make_pipeline(
        prep(), QuantileTransformer(n_quantiles=20, subsample=100), DecisionTreeClassifier()
    ),
    "vote": lambda: make_pipeline(prep(), VotingClassifier([("a", GaussianNB()), ("b", RandomForestClassifier(4))])),
    "grid": lambda: GridSearchCV(make_pipeline(prep(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}),
    "grid inside": lambda: make_pipeline(prep(), GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 4]}, cv=3)),
    "random search": lambda: RandomizedSearchCV(
        make_pipeline(prep(), RandomForestClassifier(4)), {"randomforestclassifier__max_depth": [2, 3, 4]}, n_iter=2
    ),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(prep(), RandomForestClassifier(4)), cv=3),
    "calibrated together": lambda: CalibratedClassifierCV(make_pipeline(prep(), SVC()), ensemble=False),
    "threshold": lambda: TunedThresholdClassifierCV(make_pipeline(prep(), LogisticRegression()), scoring="f1_macro"),
    "cv path": lambda: make_pipeline(
        prep(), LogisticRegressionCV(Cs=2, cv=3, use_legacy_attributes=False, l1_ratios=(0,), scoring="accuracy")
    ),
    "selector": lambda: make_pipeline(prep(), RFECV(LogisticRegression()), SelectKBest(k="all"), GaussianNB()),
    "stack": lambda: make_pipeline(prep(), StackingClassifier([("t", DecisionTreeClassifier(max_depth=2))])),
}


def plain_fit(model, data, split, roles):
    """What a user would write by hand."""
    by_hand = clone(model).set_params(**seeds(model, 0))
    for place in inner_places(model):
        rule = split if place.folds is None else dataclasses.replace(split, folds=place.folds)
        folds = fold_indices(data, target=TARGET, roles=roles, split=rule, seed=0, task="binary")
        by_hand.set_params(**{place.path: folds})
    X = data[[c for c in data.columns if c in ("a", "city", "b")]]
    return by_hand.fit(X, data["y"])


def answers(fitted, X):
    asked = ("predict", "predict_proba", "decision_function")
    return {name: getattr(fitted, name)(X).tolist() for name in asked if hasattr(fitted, name)}


@pytest.mark.parametrize("name", MODELS)
def test_the_fit_is_scikit_learns_own_bit_for_bit(name):
    data, split = table(), Split(folds=4)
    roles = Roles(key=("id",), drop=("note", "when"))
    model = MODELS[name]()
    fitted, report = train(data, model=model, target=TARGET, roles=roles, schema=SCHEMA, split=split, seed=0)
    by_hand = plain_fit(model, data, split, roles)
    X = table(seed=1)[["a", "city", "b"]]
    assert answers(fitted, X) == answers(by_hand, X)
    assert list(fitted.feature_names_in_) == ["a", "city", "b"]
    assert report["n_rows"] == len(data)
    assert report["left_out"] == {"id": "key", "note": "drop", "when": "drop"}


def test_another_seed_gives_another_forest_and_the_same_seed_the_same():
    kwargs = {"model": MODELS["forest"](), "target": TARGET, "roles": ROLES, "schema": SCHEMA, "split": Split()}
    data = table().drop(columns="when")
    one, again, other = (answers(train(data, **kwargs, seed=seed)[0], data) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_an_int_cv_means_our_folds_not_the_librarys():
    """The safeguard's control: without it, by time, a search would judge the past by the future."""
    data, split, roles = table().drop(columns="note"), Split(by="time"), Roles(key=("id",), time="when")
    model = GridSearchCV(make_pipeline(prep(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=3)
    fitted, report = train(data, model=model, target=TARGET, roles=roles, schema=SCHEMA, split=split, seed=0)
    assert fitted.steps[-1][1].C in (0.1, 1.0)  # of a search, what it chose
    problem = problem_of(SCHEMA, TARGET)
    search, _ = prepared(model, data, problem, target=TARGET, roles=roles, split=split, seed=0)
    assert all(max(learn) < min(judge) for learn, judge in search.cv)
    assert len(search.cv) == 3
    assert report["inner_folds"] == [
        {"path": "cv", "estimator": "GridSearchCV", "folds": 3, "ours": True, "why_not": ""}
    ]
    assert model.cv == 3
    library = clone(model).fit(data[["a", "city", "b"]], data["y"])
    assert report["search"]["best_score"] not in library.cv_results_["mean_test_score"].tolist()


@pytest.mark.parametrize("cv", [KFold(3), TimeSeriesSplit(3), StratifiedKFold(3)])
def test_a_splitter_of_the_users_is_left(cv):
    assert inner_places(GridSearchCV(Ridge(), {}, cv=cv)) == []


def test_inside_a_resampler_rows_are_unknown_and_it_is_said():
    model = CalibratedClassifierCV(GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2))
    assert [(place.path, place.ours) for place in inner_places(model)] == [("cv", True), ("estimator__cv", False)]


def test_folds_by_time_are_no_partition_for_a_stack():
    data, roles = table().drop(columns="note"), Roles(key=("id",), time="when")
    stack = make_pipeline(prep(), StackingClassifier([("t", DecisionTreeClassifier(max_depth=2))], cv=2))
    _, report = train(data, model=stack, target=TARGET, roles=roles, schema=SCHEMA, split=Split(), seed=0)
    (place,) = report["inner_folds"]
    assert not place["ours"]
    assert "held out once" in place["why_not"]


def test_report_counts_features_in_and_out_and_notes_the_time_apart():
    take()
    fitted, report = train(
        table(), model=MODELS["logistic"](), target=TARGET, roles=Roles(key=("id",), drop=("note", "when")),
        schema=SCHEMA, split=Split(), seed=0,
    )  # fmt: skip
    assert report["summary"] == "LogisticRegression · 3 → 5 features · seed 0"
    noted = take()
    assert 0 < noted["preprocess_s"] <= noted["fit_s"]
    assert not [name for name in report if name.endswith("_s")]
    assert fitted.memory is None


def test_an_error_of_the_estimators_passes_with_the_column_named():
    with pytest.raises(ValueError, match="could not convert string") as caught:
        train(
            table().drop(columns=["when", "note"]), model=LogisticRegression(), target=TARGET, roles=Roles(key=("id",)),
            schema=SCHEMA, split=Split(), seed=0,
        )  # fmt: skip
    assert caught.value.__notes__ == ["penstock: text, which this estimator cannot read, in column 'city'"]


def test_missing_and_infinite_values_are_blamed():
    data = table().drop(columns=["when", "note", "city"])
    kwargs = {"model": LogisticRegression(), "target": TARGET, "roles": Roles(key=("id",)), "schema": SCHEMA}
    with pytest.raises(ValueError, match="NaN") as caught:
        train(data.assign(b=data.b.where(data.b < 1)), **kwargs, split=Split(), seed=0)
    assert caught.value.__notes__ == ["penstock: missing values in column 'b'"]
    with pytest.raises(ValueError, match="infinity") as caught:
        train(data.assign(b=data.b.where(data.b < 1, np.inf)), **kwargs, split=Split(), seed=0)
    assert caught.value.__notes__ == ["penstock: infinite values in column 'b'"]


def test_texts_as_classes_are_blamed_where_an_estimator_out_of_reach_takes_numbers_only():
    data = table()[["id", "a", "y"]].assign(y=lambda t: np.where(t.a > t.a.median(), "yes", "no"))
    schema = {**SCHEMA, "classes": ["no", "yes"], "positive": "yes"}
    kwargs = {"target": TARGET, "roles": Roles(key=("id",)), "schema": schema, "split": Split(), "seed": 0}
    with pytest.raises(ValueError, match="Invalid classes") as caught:
        train(data, model=AdaBoostClassifier(XGBClassifier(n_estimators=1)), **kwargs)
    assert any("code the target so in a step" in note for note in caught.value.__notes__)


def test_dates_are_blamed():
    data = table().drop(columns=["note", "city"])
    with pytest.raises(Exception, match=r"dtype|promote|float") as caught:  # whatever the library calls it
        train(
            data, model=LogisticRegression(), target=TARGET, roles=Roles(key=("id",)), schema=SCHEMA,
            split=Split(), seed=0,
        )  # fmt: skip
    assert any("dates" in note and "'when'" in note for note in caught.value.__notes__)


class Broken(BaseEstimator):
    """Raises what no one understands."""

    def fit(self, X, y):
        raise KeyError("nothing to see")


def test_an_error_that_nothing_explains_gets_no_note():
    with pytest.raises(KeyError) as caught:
        train(table(), model=Broken(), target=TARGET, roles=ROLES, schema=SCHEMA, split=Split(), seed=0)
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("roles", "data", "words"),
    [
        (Roles(drop=("id", "a", "city", "b", "note", "when")), table(), "no column is left"),
        (Roles(features=("a", "zzz")), table(), "zzz"),
        (ROLES, table().iloc[:0], "no row"),
        (ROLES, table().drop(columns="y"), "the target"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(roles, data, words):
    with pytest.raises(DataError, match=words):
        features_and_target(data, TARGET, roles)


class Unseeded(BaseEstimator):
    """Draws from the global generators, as some third-party estimators do."""

    def fit(self, X, y):
        self.drawn_ = np.random.rand()
        return self


def test_what_draws_from_the_global_generator_draws_the_same_and_leaves_it_alone():
    kwargs = {"target": TARGET, "roles": ROLES, "schema": SCHEMA, "split": Split(), "seed": 0}
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    one = train(table(), model=Unseeded(), **kwargs)[0].drawn_
    assert np.random.rand() == expected
    assert train(table(), model=Unseeded(), **kwargs)[0].drawn_ == one


def test_truths_with_gaps_are_a_target_once_their_rows_are_dropped():
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [True, None, False]})
    assert table["y"].dtype == object
    known = table[table["y"].notna()]
    assert features_and_target(known, Target("y", missing="drop"), Roles())[1].dtype == bool
