"""What a bundle says of its model's input is found by trying, and golden rows come back as they were answered."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from penstock.core.answer import answers
from penstock.core.target import Roles, Target
from penstock.stages.package import GOLDEN_ROWS, columns_read, golden_rows, package
from penstock.stats.profile import from_json

SCHEMA = {"task": "binary", "classes": ["no", "yes"], "positive": "yes"}
ROLES = Roles(key=("id",))


pytestmark = pytest.mark.usefixtures("one_thread")


def table(n=80):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": range(n),
            "age": rng.integers(18, 80, n),
            "income": rng.normal(1000, 100, n),
            "city": rng.choice(["Rome", "Oslo"], n),
            "member": rng.random(n) < 0.5,
            "y": np.where(np.arange(n) % 2, "yes", "no"),
        }
    )
    return frame.assign(income=frame.income.where(frame.id != 3))


def packed(encoder, imputer=None, data=None):
    data = table() if data is None else data
    prep = make_column_transformer(
        (encoder, ["city"]), (imputer or SimpleImputer(), ["income"]), ("passthrough", ["age", "member"])
    )
    fitted = make_pipeline(prep, LogisticRegression(max_iter=1000)).fit(
        data[["age", "income", "city", "member"]], data.y
    )
    contract, golden, profile = package(data, fitted=fitted, target=Target("y"), roles=ROLES, schema=SCHEMA, seed=0)
    return {column["name"]: column for column in contract["columns"]}, contract, golden, profile, fitted


def test_an_unseen_category_is_refused_where_the_encoder_raises_and_counted_where_it_ignores():
    assert packed(OneHotEncoder(sparse_output=False))[0]["city"]["unseen"] == "refuse"
    assert packed(OneHotEncoder(handle_unknown="ignore", sparse_output=False))[0]["city"]["unseen"] == "count"


def test_an_unseen_number_is_refused_where_it_is_a_category():
    data = table().assign(age=lambda t: t.age % 4)
    prep = make_column_transformer((OneHotEncoder(), ["age"]))
    fitted = make_pipeline(prep, LogisticRegression()).fit(data[["age"]], data.y)
    roles = Roles(features=("age",))
    contract, _, _ = package(data, fitted=fitted, target=Target("y"), roles=roles, schema=SCHEMA)
    assert contract["columns"] == [
        {
            "name": "age", "dtype": "int64", "kind": "integer", "categories": [0, 1, 2, 3], "unseen": "refuse",
            "missing": "refuse", "min": 0, "max": 3,
        }
    ]  # fmt: skip


def test_a_missing_value_is_refused_where_the_model_raises():
    columns = packed(OneHotEncoder(handle_unknown="ignore", sparse_output=False))[0]
    assert {name: column["missing"] for name, column in columns.items()} == {
        "age": "refuse", "income": "allow", "city": "allow", "member": "refuse",
    }  # fmt: skip


def test_the_contract_says_types_levels_and_ranges():
    columns, contract, _, _, fitted = packed(OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    assert (contract["task"], contract["classes"], contract["positive"]) == ("binary", ["no", "yes"], "yes")
    assert list(columns) == ["age", "income", "city", "member"]
    assert [columns[name]["kind"] for name in columns] == ["integer", "number", "text", "boolean"]
    assert columns["city"]["categories"] == ["Oslo", "Rome"]
    assert columns["age"]["categories"] is None
    assert columns["age"]["min"] == table().age.min()
    assert columns["income"]["max"] == pytest.approx(table().income.max())
    assert contract["classes"] == fitted.classes_.tolist()


def test_golden_rows_are_answered_as_expected_from_their_json():
    columns, contract, golden, _, fitted = packed(OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    golden = json.loads(json.dumps(golden, allow_nan=False))
    rows = pd.DataFrame(golden["rows"]).astype({name: column["dtype"] for name, column in columns.items()})
    assert answers(fitted, rows, contract) == golden["expected"]
    assert len(golden["rows"]) == GOLDEN_ROWS
    assert any(row["income"] is None for row in golden["rows"])
    assert table().age.max() in [row["age"] for row in golden["rows"]]


def test_the_same_table_gives_the_same_bytes():
    one, two = (json.dumps(packed(OrdinalEncoder())[1:4]) for _ in range(2))
    assert one == two


def test_the_profile_is_of_the_training_inputs():
    profile = packed(OrdinalEncoder())[3]
    assert profile["n"] == 80
    assert set(profile["columns"]) == {"age", "income", "city", "member"}
    assert from_json(profile["columns"]["city"]).counts == table().city.value_counts().to_dict()
    assert from_json(profile["columns"]["income"]).missing == 1


def test_a_category_column_and_few_rows():
    data = table(6).assign(city=lambda t: t.city.astype("category"))
    X = data[["age", "income", "city", "member"]]
    fitted = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=2).fit(X, data.y)
    contract, golden, _ = package(data, fitted=fitted, target=Target("y"), roles=ROLES, schema=SCHEMA)
    assert contract["columns"][2]["dtype"] == "category"
    assert contract["columns"][2]["categories"] == ["Oslo", "Rome"]
    assert len(golden["rows"]) == 6


def test_a_regression_has_no_classes_and_times_are_text():
    data = table().assign(when=pd.date_range("2026-01-01", periods=80), z=np.arange(80.0))
    days = FunctionTransformer(lambda times: times.apply(lambda column: column.dt.day))
    model = make_pipeline(make_column_transformer(("passthrough", ["age"]), (days, ["when"])), LinearRegression())
    model.fit(data[["age", "when"]], data.z)
    contract, golden, _ = package(
        data, fitted=model, target=Target("z"), roles=Roles(features=("age", "when")), schema={"task": "regression"}
    )
    assert contract["classes"] is None
    assert contract["columns"][1]["min"] == "2026-01-01T00:00:00"
    assert golden["rows"][0]["when"].startswith("2026-")
    assert set(golden["expected"][0]) == {"value"}


def test_golden_rows_are_within_the_table():
    assert golden_rows(table(1)) == [0]
    assert len(golden_rows(table(500))) == GOLDEN_ROWS


def test_columns_that_the_pipeline_drops_are_not_asked_for() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": [1.0, 0.0] * 10, "unused": ["x", "y"] * 10})
    y = frame["a"] > 1
    chosen = ColumnTransformer([("num", StandardScaler(), ["a", "b"])])
    model = make_pipeline(chosen, LogisticRegression()).fit(frame, y)
    assert columns_read(model, frame) == ["a", "b"]


def test_a_model_that_checks_its_columns_is_given_all_of_them() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": [1.0, 0.0] * 10})
    assert columns_read(LogisticRegression().fit(frame, frame["a"] > 1), frame) == ["a", "b"]
