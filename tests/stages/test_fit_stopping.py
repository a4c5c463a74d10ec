"""Rows to stop by are cut by the split's rule inside every fit, and equal a script that does it by hand."""

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, Pool
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from xgboost import XGBClassifier, XGBRegressor

from penstock.core.fit import Fit
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages.guidance import Guidance
from penstock.stages.seeding import seeds
from penstock.stages.train import train

SCHEMA = {"task": "binary", "classes": [0, 1], "positive": 1}
TARGET = Target("y", positive=1)
FEATURES = ["a", "city", "b"]
ROLES = {
    "key": Roles(key=("id",), weight="w", drop=("who", "when")),
    "groups": Roles(key=("id",), groups=("who",), weight="w", drop=("when",)),
    "time": Roles(key=("id",), time="when", weight="w", drop=("who",)),
    "content": Roles(weight="w", drop=("who", "when", "id")),
}
STOP = Fit(early_stopping=0.2, rounds=5)


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["Rome", "Oslo", "Lima"], n)
    y = (a + (city == "Rome") + rng.normal(size=n) > 0.3).astype(int)
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.permutation(n), "h")
    w, who = rng.integers(1, 6, n).astype(float), rng.integers(0, 60, n)
    return pd.DataFrame({"id": np.arange(n), "who": who, "when": when, "a": a, "city": city, "b": b, "w": w, "y": y})


def prep():
    return make_column_transformer(
        (StandardScaler(), ["a", "b"]),
        (TargetEncoder(target_type="binary", cv=KFold(3, shuffle=True, random_state=0)), ["city"]),
    )


def guidance(data, rule, fit=STOP, task="binary"):
    return Guidance(data, fit, target=TARGET, roles=ROLES[rule], split=Split(), seed=0, task=task)


def ours(model, data, rule="key", fit=STOP, schema=SCHEMA, split=None):
    return train(
        data, model=model, target=TARGET, roles=ROLES[rule], schema=schema, split=split or Split(), seed=0, fit=fit
    )


def xgb(leaf, X, y, w, seen, truth, weight):
    leaf.fit(X, y, sample_weight=w, eval_set=[(seen, truth)], sample_weight_eval_set=[weight], verbose=False)


def lgb(leaf, X, y, w, seen, truth, weight):
    stop = [early_stopping(5, verbose=False)]
    leaf.fit(X, y, sample_weight=w, eval_X=(seen,), eval_y=(truth,), eval_sample_weight=[weight], callbacks=stop)


def cat(leaf, X, y, w, seen, truth, weight):
    leaf.fit(X, y, sample_weight=w, eval_set=Pool(seen, truth, weight=weight), early_stopping_rounds=5)


def hist(leaf, X, y, w, seen, truth, weight):
    leaf.set_params(early_stopping=True).fit(X, y, w, X_val=seen, y_val=truth, sample_weight_val=weight)


BOOSTERS = {
    "xgboost": (lambda: XGBClassifier(n_estimators=60, learning_rate=0.5, early_stopping_rounds=5, n_jobs=1), xgb),
    "lightgbm": (lambda: LGBMClassifier(n_estimators=60, learning_rate=0.5, n_jobs=1, verbose=-1), lgb),
    "catboost": (
        lambda: CatBoostClassifier(
            iterations=60, learning_rate=0.5, verbose=0, thread_count=1, allow_writing_files=False
        ),
        cat,
    ),
    "hist": (lambda: HistGradientBoostingClassifier(max_iter=60, learning_rate=0.5), hist),
}


def by_hand(model, data, learn, stop, fit_leaf):
    """What a user would write: transforms fitted without the rows to stop by, which they then transform."""
    head, leaf = clone(model[:-1]), clone(model[-1])
    rows, held = data.iloc[learn], data.iloc[stop]
    X = head.fit_transform(rows[FEATURES], rows["y"])
    seen = head.transform(held[FEATURES])
    fit_leaf(leaf, X, rows["y"], rows["w"].to_numpy(), seen, held["y"], held["w"].to_numpy())
    return lambda frame: leaf.predict_proba(head.transform(frame)), leaf


@pytest.mark.parametrize("labels", [["no", "yes"], [1, 2]], ids=["texts", "one and two"])
@pytest.mark.parametrize("name", BOOSTERS)
def test_the_labels_themselves_change_nothing(name, labels):
    data, model = table(), make_pipeline(prep(), BOOSTERS[name][0]())
    told = data.assign(y=data["y"].map(dict(enumerate(labels))))
    fitted, report = ours(model, data)
    target, schema = Target("y", positive=labels[1]), {"task": "binary", "classes": labels, "positive": labels[1]}
    again, other = train(
        told, model=model, target=target, roles=ROLES["key"], schema=schema, split=Split(), seed=0, fit=STOP
    )
    X = table(seed=1)[FEATURES]
    assert np.array_equal(fitted.predict_proba(X), again.predict_proba(X))
    assert other["fit"] == report["fit"]


@pytest.mark.parametrize("name", BOOSTERS)
def test_it_equals_the_script(name):
    make, fit_leaf = BOOSTERS[name]
    data = table()
    model = make_pipeline(prep(), make())
    model = model.set_params(**seeds(model, 0))
    fitted, report = ours(model, data)
    learn, stop = guidance(data, "key").divide(np.arange(len(data)))
    predict, _ = by_hand(model, data, learn, stop, fit_leaf)
    X = table(seed=1)[FEATURES]
    assert np.array_equal(fitted.predict_proba(X), predict(X))
    (one,) = report["fit"]["fits"]
    assert (one["rows"], one["validation_rows"]) == (len(learn), len(stop))
    assert 1 <= one["best_iteration"] < 60
    assert f"best at round {one['best_iteration']}, judged by {len(stop)} rows" in report["summary"]
    assert type(fitted).__name__ == "Pipeline"
    assert type(fitted[-1]) is type(make())


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_inside_each_fold_of_a_search_too(name):
    make, fit_leaf = BOOSTERS[name]
    data, folds = table(), KFold(3)
    leaf = type(make()).__name__.lower()
    base = make_pipeline(prep(), make())
    base = base.set_params(**seeds(base, 0))
    model = GridSearchCV(base, {f"{leaf}__max_depth": [2, 4]}, cv=folds, scoring="neg_log_loss")
    fitted, report = ours(model, data)
    cut = guidance(data, "key")
    scores = []
    for depth in (2, 4):
        values = []
        for rows, judge in folds.split(data):
            learn, stop = cut.divide(rows)
            candidate = clone(base).set_params(**{f"{leaf}__max_depth": depth})
            predict, _ = by_hand(candidate, data, rows[learn], rows[stop], fit_leaf)
            held = data.iloc[judge]
            values.append(-log_loss(held["y"], predict(held[FEATURES]), sample_weight=held["w"]))
        scores.append(np.mean(values))
    assert report["search"]["best_score"] == max(scores)
    learn, stop = cut.divide(np.arange(len(data)))
    chosen = clone(base).set_params(**{f"{leaf}__max_depth": (2, 4)[int(np.argmax(scores))]})
    predict, _ = by_hand(chosen, data, learn, stop, fit_leaf)
    X = table(seed=1)[FEATURES]
    assert np.array_equal(fitted.predict_proba(X), predict(X))


@pytest.mark.parametrize("rule", ROLES)
@pytest.mark.parametrize("some", [False, True])
def test_rows_are_cut_by_the_splits_own_rule(rule, some):
    data = table()
    rows = np.flatnonzero(np.arange(len(data)) % 3 > 0) if some else np.arange(len(data))
    learn, stop = guidance(data, rule).divide(rows)
    assert not set(learn) & set(stop)
    assert set(learn) | set(stop) == set(range(len(rows)))
    assert 0.1 < len(stop) / len(rows) < 0.32
    left, right = data.iloc[rows[learn]], data.iloc[rows[stop]]
    if rule == "time":
        assert left["when"].max() < right["when"].min()
        assert len(stop) == round(0.2 * len(rows))
    if rule == "groups":
        assert not set(left["who"]) & set(right["who"])
    again, other = guidance(data, rule).divide(rows)
    assert again.tolist() == learn.tolist()
    if rule == "key":  # a row's side does not hang on the others
        everything = set(guidance(data, rule).divide(np.arange(len(data)))[1].tolist())
        assert set(rows[other].tolist()) <= everything


def test_by_time_rows_whose_label_was_not_known_at_the_cut_are_left_out():
    data = table()
    cut = Guidance(
        data, STOP, target=Target("y", delay="24h"), roles=ROLES["time"], split=Split(), seed=0, task="binary"
    )
    learn, stop = cut.divide(np.arange(len(data)))
    assert data["when"].iloc[stop].min() - data["when"].iloc[learn].max() >= pd.Timedelta("24h")
    assert len(learn) + len(stop) < len(data)


def test_both_classes_are_on_both_sides_even_when_one_is_rare():
    data = table().assign(y=lambda t: (t.index % 130 == 7).astype(int))
    learn, stop = guidance(data, "key").divide(np.arange(len(data)))
    assert set(data["y"].iloc[learn]) == set(data["y"].iloc[stop]) == {0, 1}


def test_too_few_rows_to_cut_are_refused():
    with pytest.raises(DataError, match="to stop by"):
        guidance(table(4).assign(who=1), "groups").divide(np.arange(4))


def test_the_transforms_never_see_the_rows_to_stop_by():
    """Sabotage of the law: absurd values in the rows that are cut off must not move the scaler."""
    data = table()
    learn, stop = guidance(data, "key").divide(np.arange(len(data)))
    wild = data.assign(a=data["a"].where(~data.index.isin(stop), 1e6))
    scaler = lambda rows: ours(make_pipeline(prep(), BOOSTERS["hist"][0]()), rows)[0][0].transformers_[0][1]  # noqa: E731
    assert scaler(wild).mean_.tolist() == scaler(data).mean_.tolist()
    assert scaler(wild).mean_.tolist() == StandardScaler().fit(data[["a", "b"]].iloc[learn]).mean_.tolist()


def test_a_bare_booster_a_transformed_target_and_a_resampling_pipeline():
    from imblearn.pipeline import make_pipeline as make_sampled
    from imblearn.under_sampling import RandomUnderSampler

    data = table().drop(columns="city")
    _, report = ours(LGBMClassifier(n_estimators=80, verbose=-1), data)
    assert report["fit"]["fits"][0]["best_iteration"] < 80
    number = data.assign(y=np.exp(data["a"]))
    model = TransformedTargetRegressor(XGBRegressor(n_estimators=90), func=np.log, inverse_func=np.exp)
    fitted, report = ours(model, number, schema={"task": "regression"})
    assert type(fitted.regressor_).__name__ == "XGBRegressor"
    assert report["fit"]["fits"][0]["best_iteration"] <= 90
    sampled = make_sampled(StandardScaler(), RandomUnderSampler(), LGBMClassifier(n_estimators=80, verbose=-1))
    plain = Roles(key=("id",), drop=("who", "when", "w"))
    _, report = train(data, model=sampled, target=TARGET, roles=plain, schema=SCHEMA, split=Split(), seed=0, fit=STOP)
    assert report["fit"]["fits"][0]["best_iteration"] < 80
    model = TransformedTargetRegressor(LGBMRegressor(n_estimators=9, verbose=-1))
    assert ours(model, number, schema={"task": "regression"})[1]["fit"]["fits"]


def test_a_patience_without_rows_is_refused_in_our_own_words():
    model = make_pipeline(prep(), XGBClassifier(early_stopping_rounds=5))
    with pytest.raises(DeclarationError, match=r"early_stopping_rounds needs rows to stop by"):
        ours(model, table(), fit=None)


def test_random_rows_of_an_estimators_own_are_noted_under_a_split_by_time():
    model = make_pipeline(prep(), HistGradientBoostingClassifier(max_iter=5, early_stopping=True))
    _, report = ours(model, table(), "time", fit=None)
    assert "draws at random, while the split is by time" in report["fit"]["notes"][0]
    _, report = ours(model, table(), "key", fit=None)
    assert "notes" not in report["fit"]
    _, report = ours(model, table(), "time")
    assert "notes" not in report["fit"]
    few = make_pipeline(prep(), HistGradientBoostingClassifier(max_iter=5))  # "auto": not on so few rows
    _, report = ours(few, table(), "time", fit=None)
    assert "notes" not in report["fit"]


def sampled_model():
    return make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])),
        LogisticRegression(C=100),
    )


def test_sampling_by_class_keeps_probabilities_calibrated():
    data = table(12_000).assign(y=lambda t: (t["a"] + np.random.default_rng(5).normal(size=len(t)) > 2.2).astype(int))
    roles = Roles(key=("id",), drop=("who", "when", "w"))
    known = {"target": TARGET, "roles": roles, "schema": SCHEMA, "split": Split(), "seed": 0}
    fitted, report = train(data, model=sampled_model(), **known, fit=Fit(sample={0: 0.2, 1: 1.0}))
    kept = report["fit"]["fits"][0]["rows"]
    assert kept == pytest.approx(0.2 * (data.y == 0).sum() + (data.y == 1).sum(), rel=0.05)
    mean = fitted.predict_proba(data[FEATURES])[:, 1].mean()
    assert mean == pytest.approx(data["y"].mean(), rel=0.05)
    whole, _ = train(data, model=sampled_model(), **known)
    assert np.abs(fitted.predict_proba(data[FEATURES]) - whole.predict_proba(data[FEATURES])).mean() < 0.01
    # The control: the same rows without standing for the others give probabilities far too high.
    guide = Guidance(data, Fit(sample={0: 0.2}), target=TARGET, roles=roles, split=Split(), seed=0, task="binary")
    rows, none = guide.divide(np.arange(len(data)))
    assert len(none) == 0
    biased = clone(sampled_model()).fit(data[FEATURES].iloc[rows], data["y"].iloc[rows])
    assert biased.predict_proba(data[FEATURES])[:, 1].mean() > 2 * data["y"].mean()


def test_sampling_and_stopping_and_weights_together():
    data = table(900)
    fitted, report = ours(
        make_pipeline(prep(), XGBClassifier(n_estimators=50)), data, fit=Fit(early_stopping=0.2, sample={0: 0.5})
    )
    (one,) = report["fit"]["fits"]
    assert one["rows"] + one["validation_rows"] < 0.85 * len(data)
    assert report["fit"]["sample"] == {"0": 0.5}
    assert type(fitted[-1]) is XGBClassifier


def test_a_share_that_leaves_no_row_is_told_in_our_words():
    with pytest.raises(DataError, match=r"sample=0\.0001 leaves none of 400 rows"):
        ours(sampled_model(), table(), fit=Fit(sample=0.0001))


def test_one_share_for_all_needs_no_weights():
    from sklearn.neighbors import KNeighborsClassifier

    roles = Roles(key=("id",), drop=("who", "when", "w"))
    model = make_pipeline(sampled_model()[0], KNeighborsClassifier())
    known = {"target": TARGET, "roles": roles, "schema": SCHEMA, "split": Split(), "seed": 0}
    fitted, report = train(table(), model=model, **known, fit=Fit(sample=0.5))
    assert 150 < report["fit"]["fits"][0]["rows"] < 250
    assert fitted[-1].n_samples_fit_ == report["fit"]["fits"][0]["rows"]
    with pytest.raises(DeclarationError, match="takes no weights of rows"):
        train(table(), model=model, **known, fit=Fit(sample={0: 0.5}))


@pytest.mark.parametrize(
    ("sample", "schema", "words"),
    [({2: 0.5}, SCHEMA, "2, which is no class"), ({0: 0.5}, {"task": "regression"}, "the target is a number")],
)
def test_sampling_of_what_is_no_class_is_refused(sample, schema, words):
    with pytest.raises(DeclarationError, match=words):
        ours(sampled_model(), table(), fit=Fit(sample=sample), schema=schema)
