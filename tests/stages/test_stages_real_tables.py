"""Real tables through train and compare: within its own interval of a plain scikit-learn script on the same rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from penstock.core.gate import AtLeast, AtMost, Improves
from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.stages.compare import compare
from penstock.stages.split import split
from penstock.stages.train import train


def encoded(final):
    texts = make_column_selector(dtype_include=["object", "string", "str"])
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_pipeline(make_column_transformer((encode, texts), remainder="passthrough"), final)


def adult(data):
    table = pd.read_csv(data("adult_train.csv.gz"), skipinitialspace=True, na_values="?").iloc[:12_000]
    schema = {"task": "binary", "classes": ["<=50K", ">50K"], "positive": ">50K"}
    model = encoded(HistGradientBoostingClassifier(max_iter=30))
    return table, Target("income", positive=">50K"), Roles(), schema, model, Split(), AtLeast("roc_auc", 0.88)


def telco(data):
    table = pd.read_csv(data("telco_churn.csv"), na_values=[" "])
    schema = {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes"}
    model = encoded(HistGradientBoostingClassifier(max_iter=30))
    return table, Target("Churn"), Roles(key=("customerID",)), schema, model, Split(), AtLeast("roc_auc", 0.78)


def german(data):
    table = pd.read_csv(data("german_credit_uci.csv"))
    schema = {"task": "binary", "classes": [1, 2], "positive": 2}
    model = encoded(HistGradientBoostingClassifier(max_iter=30))
    return table, Target("class", positive=2), Roles(), schema, model, Split(), AtLeast("roc_auc", 0.6)


def covtype(data):
    table = pd.read_csv(data("covtype_sample.csv.gz"))
    schema = {"task": "multiclass", "classes": [1, 2, 3, 4, 5, 6, 7]}
    model = HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=8)
    return table, Target("Cover_Type"), Roles(), schema, model, Split(), AtMost("log_loss", 1.0)


def bike(data):
    table = pd.read_csv(data("bike_hour.csv.gz"), parse_dates=["dteday"])
    roles = Roles(time="dteday", drop=("instant", "casual", "registered"))
    model = HistGradientBoostingRegressor(max_iter=50)
    rule = AtMost("root_mean_squared_error", 120)
    return table, Target("cnt"), roles, {"task": "regression"}, model, Split(test="60d"), rule


@pytest.mark.parametrize("make", [adult, telco, german, covtype, bike], ids=lambda make: make.__name__)
def test_a_verdict_is_within_its_interval_of_a_plain_script(make, shared_data):
    table, target, roles, schema, model, rule, gate = make(shared_data)
    common = {"target": target, "roles": roles, "schema": schema, "seed": 0}
    with threadpool_limits(1):
        learn, held, _ = split(table, target=target, roles=roles, split=rule, seed=0, task=schema["task"])
        fitted, _ = train(learn, model=model, split=rule, **common)
        found = compare(
            held,
            learn,
            fitted=fitted,
            champion=None,
            about={},
            rules=(gate, Improves()),
            metrics=(),
            slices=(),
            **common,
        )
        X = roles.visible(list(table.columns), target)
        plain = clone(model).fit(learn[X], learn[target.column])
        primary, expected = plain_figure(plain, held[X], held[target.column], schema)
    figure = found["metrics"][primary]["challenger"]
    assert found["primary"] == primary
    assert figure["low"] <= expected <= figure["high"]
    assert found["outcome"] == "better", found["sentence"]


def plain_figure(plain, X, y, schema):
    if schema["task"] == "binary":
        at = plain.classes_.tolist().index(schema["positive"])
        return "roc_auc", roc_auc_score(y == schema["positive"], plain.predict_proba(X)[:, at])
    if schema["task"] == "multiclass":
        return "neg_log_loss", -log_loss(y, plain.predict_proba(X), labels=plain.classes_)
    return "neg_root_mean_squared_error", -root_mean_squared_error(y, np.asarray(plain.predict(X)))
