"""Every kind of bad table is refused by name, all faults at once; a good one passes untouched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.core.source import Source
from penstock.core.target import Roles, Target
from penstock.errors import DeclarationError, ValidationFailedError
from penstock.stages import conform, ingest
from penstock.stages.validate import validate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def table(n=8, **columns):
    base = {
        "id": range(n),
        "age": np.arange(n) + 20,
        "city": ["Bern", "Rom"] * (n // 2),
        "y": ["no", "yes"] * (n // 2),
    }
    return pd.DataFrame(base | columns)


def check(frame, *, target=None, schema=None, **options):
    roles = Roles(**({"key": ("id",)} | {k: v for k, v in options.items() if k not in ("slices", "task")}))
    more = {k: v for k, v in options.items() if k in ("slices", "task")}
    return validate(frame, target=target or Target("y"), roles=roles, schema=schema, **more)


def kinds(frame, **options):
    """(kind, column) of each failure."""
    with pytest.raises(ValidationFailedError) as caught:
        check(frame, **options)
    error = caught.value
    assert error.exit_code == 3
    assert len(str(error)) < 6000
    json.dumps(error.report)
    for failure in error.report["failures"]:
        assert failure["count"] >= 1
        assert len(failure["samples"]) <= 5
        assert failure["text"] in str(error)
    return [(failure["kind"], failure["column"]) for failure in error.report["failures"]], error


# ── what passes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_table_passes_and_is_put_in_the_order_of_its_key():
    frame = table().sample(frac=1, random_state=0)
    out, schema, report = check(frame, slices=("city",))
    assert out["id"].tolist() == list(range(8))
    assert out.index.tolist() == list(range(8))
    assert schema["task"] == "binary"
    assert (schema["classes"], schema["positive"]) == (["no", "yes"], "yes")
    assert report["summary"] == "8 rows × 4 columns · binary, y = yes 50.0 % · schema inferred"
    again, same, report = check(out, schema=schema)
    assert same == schema
    pd.testing.assert_frame_equal(again, out)
    assert report["summary"].endswith("holds against the schema")


def test_with_a_time_rows_are_in_its_order_then_the_keys():
    frame = table(when=pd.to_datetime(["2026-01-02", "2026-01-01"] * 4))
    out, _, _ = check(frame.iloc[::-1], time="when")
    assert out["id"].tolist() == [1, 3, 5, 7, 0, 2, 4, 6]


def test_without_a_key_the_order_stays():
    frame = table().sample(frac=1, random_state=0)
    assert check(frame, key=())[0]["age"].tolist() == frame["age"].tolist()


def test_rows_without_a_target_are_dropped_where_declared():
    frame = table(y=[1.0, 0.0, None, 1.0, 0.0, 1.0, None, 0.0])
    out, schema, report = check(frame, target=Target("y", missing="drop"))
    assert len(out) == 6
    assert report["dropped"] == {"target missing": 2}
    assert "2 rows dropped (target missing)" in report["summary"]
    assert (out["y"].dtype, schema["classes"], schema["positive"]) == (np.int64, [0, 1], 1)


@pytest.mark.parametrize(
    ("labels", "positive", "found"),
    [
        ([True, False], None, True),
        ([0, 1], None, 1),
        ([1.0, 0.0], None, 1),
        (["No", "YES"], None, "YES"),
        (["true", "FALSE"], None, "true"),
        ([1, 2], 2, 2),
        ([1, 2], "2", 2),
        (["a", "b"], "a", "a"),
        ([0, 1], 0, 0),
    ],
)
def test_the_positive_class(labels, positive, found):
    _, schema, _ = check(table(y=labels * 4), target=Target("y", positive=positive))
    assert schema["positive"] == found
    assert type(schema["positive"]) is type(found) or labels == [1.0, 0.0]


@pytest.mark.parametrize("labels", [[1, 2], ["good", "bad"], [-1, 1], ["yes", "maybe"], ["1", "2"]])
def test_the_positive_class_is_never_guessed(labels):
    with pytest.raises(DeclarationError, match="It is never guessed") as caught:
        check(table(y=labels * 4))
    assert caught.value.exit_code == 2
    for label in labels:
        assert repr(label) in caught.value.faults[0]
    assert "positive=" in caught.value.hint


def test_a_positive_class_that_does_not_exist_is_refused():
    with pytest.raises(DeclarationError, match="positive='Y' is not a class of 'y': 'no' and 'yes'"):
        check(table(), target=Target("y", positive="Y"))
    with pytest.raises(DeclarationError, match="but 'y' is a multiclass target"):
        check(table(y=[*"abcd", *"abcd"]), target=Target("y", positive="a"))


def test_the_estimators_kind_decides_the_task():
    frame = table(y=[3, 4, 5, 6] * 2)
    assert check(frame)[1]["task"] == "multiclass"
    _, schema, report = check(frame, task="regression")
    assert "classes" not in schema
    assert "regression of y" in report["summary"]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────


def test_columns_that_are_named_must_be_there():
    found, error = kinds(
        table().drop(columns="y"),
        target=Target("yy", after=("late",)),
        groups=("citi",),
        weight="wgt",
        time="when",
        slices=("agee",),
        drop=("gone",),
    )
    assert found == [("missing column", name) for name in ("yy", "citi", "when", "wgt", "agee", "gone", "late")]
    assert 'did you mean "city"' in str(error)
    assert 'did you mean "age"' in str(error)


@pytest.mark.parametrize(
    ("frame", "options", "expected"),
    [
        (table(y="no"), {}, ("constant target", "y")),
        (table(y=["no", None] * 4), {}, ("target missing", "y")),
        (table().head(1), {}, ("rows", "y")),
        (table().head(0), {}, ("rows", "y")),
        (table(y=None), {"target": Target("y", missing="drop")}, ("rows", "y")),
        (table(y=[1.5, np.inf] * 4), {}, ("infinite", "y")),
        (table(age=[1.0, -np.inf] * 4), {}, ("infinite", "age")),
        (table(age=np.nan), {}, ("all null", "age")),
        (table(id=[0, 1, 2, 3, 4, 5, 6, 6]), {}, ("duplicate key", "id")),
        (table(id=[0, 1, 2, 3, 4, 5, 6, None]), {}, ("null key", "id")),
        (table(when=["2026-01-01", "soon"] * 4), {"time": "when"}, ("type", "when")),
        (table(when=["2026-01-01", None] * 4), {"time": "when"}, ("null time", "when")),
        (table(w=[1.0, -1.0] * 4), {"weight": "w"}, ("weight", "w")),
        (table(w=0), {"weight": "w"}, ("weight", "w")),
        (table(w="a"), {"weight": "w"}, ("type", "w")),
        (table(), {"drop": ("age", "city")}, ("no features", "")),
    ],
)
def test_tables_that_cannot_be_learned_from(frame, options, expected):
    found, _ = kinds(frame, **options)
    assert expected in found


def test_all_null_columns_are_named_with_the_remedy_and_may_be_dropped():
    frame = table(a=np.nan, b=None)
    found, error = kinds(frame)
    assert found == [("all null", "a")]
    assert "2 columns have no value in any row: 'a', 'b'" in str(error)
    assert "drop=['a', 'b']" in error.hint
    check(frame, drop=("a", "b"))


def test_samples_name_row_value_and_key():
    frame = table(age=[1.0, 2.0, np.inf, 4.0, 5.0, 6.0, 7.0, 8.0])
    _, error = kinds(frame)
    assert error.report["failures"][0]["samples"] == [{"row": 3, "value": "inf", "key": ["2"]}]
    assert error.report["failures"][0]["count"] == 1


def test_all_failures_are_told_at_once_and_stay_short():
    frame = table(n=2000, id=0, age=np.inf, y=["no" * 500, None] * 1000, **{f"empty{i}": np.nan for i in range(300)})
    found, error = kinds(frame)
    assert {kind for kind, _ in found} == {"target missing", "constant target", "all null", "infinite", "duplicate key"}
    assert "and 280 more" in str(error)


# ── against a schema ─────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = check(table(score=[1.0, 2.5] * 4, flag=[True, False] * 4))[1]


def fresh(**columns):
    return table(**({"score": [1.0, 2.5] * 4, "flag": [True, False] * 4} | columns))


@pytest.mark.parametrize(
    ("frame", "expected", "text"),
    [
        (fresh(city=["Bern", "Paris"] * 4), ("categories", "city"), "'Paris' (4)"),
        (fresh(age=[20, 2000] * 4), ("range", "age"), "outside 0 … 34 in 4 rows"),
        (fresh(age=[-1, 20] * 4), ("range", "age"), "row 1: -1"),
        (fresh(age=[20.5, 21] * 4), ("type", "age"), "was integer and is now number: 4 values"),
        (fresh(age=[*["20"] * 7, "x"]), ("type", "age"), "text: 1 value does not fit (row 8: 'x'"),
        (fresh(age=["20", "x"] * 4), ("type", "age"), "was integer and is now text: 4 values do not fit (row 2: 'x'"),
        (fresh(score=["a", "b"] * 4), ("type", "score"), "was number and is now text"),
        (fresh(city=[1, 2] * 4), ("type", "city"), "was text and is now integer"),
        (fresh(flag=[0, 2] * 4), ("type", "flag"), "was boolean and is now integer: 4 values"),
        (fresh(age=pd.to_datetime(["2026-01-01"] * 8)), ("type", "age"), "is now datetime"),
        (fresh(age=[20.0, None] * 4), ("nulls", "age"), "missing in 4 rows; the schema allows none"),
        (fresh().drop(columns="age").assign(Age=1), ("missing column", "age"), 'did you mean "Age"'),
        (fresh(new=1), ("extra column", "new"), "the model would see it"),
        (fresh(y=["no.", "yes."] * 4), ("labels", "y"), "are 'no.', 'yes.'; the schema has 'no', 'yes'"),
        (fresh(y=[0, 1] * 4), ("type", "y"), "was text and is now integer"),
    ],
)
def test_what_differs_from_the_schema_is_a_failure_of_its_own_kind(frame, expected, text):
    found, error = kinds(frame, schema=SCHEMA)
    assert expected in found
    assert text in str(error)


@pytest.mark.parametrize(
    "frame",
    [
        fresh(age=[21.0, 22.0] * 4),
        fresh(score=[1, 2] * 4),
        fresh(flag=[1.0, 0.0] * 4),
        fresh(flag=[1, 0] * 4),
        fresh(city="Bern"),
        fresh(city=pd.Categorical(["Bern", "Rom"] * 4)),
        fresh(y=["yes", "yes", "no", "yes"] * 2),
        fresh()[["y", "flag", "score", "city", "age", "id"]],
    ],
)
def test_what_does_not_differ_in_meaning_passes(frame):
    check(frame, schema=SCHEMA)


def test_columns_that_the_model_does_not_see_may_come_and_go():
    _, schema, _ = check(table(note="x"), drop=("note",))
    _, _, report = check(table(other="x", note="y"), drop=("other", "note"), schema=schema)
    assert report["notes"] == ["other is new (the model does not see it)"]
    with pytest.raises(ValidationFailedError, match="drop names the column 'note'"):
        check(table(), drop=("note",), schema=schema)
    assert check(table(), schema=schema)[2]["notes"] == ["note is gone (the model does not see it)"]


def test_a_column_that_people_declared_unique_is_held_to_it():
    schema = SCHEMA | {"columns": [c | ({"unique": True} if c["name"] == "age" else {}) for c in SCHEMA["columns"]]}
    check(fresh(), schema=schema)
    found, error = kinds(fresh(age=[20, 21, 22, 23, 24, 25, 26, 26]), schema=schema)
    assert found == [("unique", "age")]
    assert "row 8: 26" in str(error)


def test_another_target_than_the_schemas_is_refused():
    found, _ = kinds(fresh(), target=Target("city"), schema=SCHEMA)
    assert ("target", "city") in found


@pytest.mark.parametrize("check_name", ["check_target", "check_features", "check_key", "check_schema"])
def test_sabotage_each_check_is_needed(monkeypatch, check_name):
    """Without the check, its bad table passes: the failure above comes from nowhere else."""
    bad = {
        "check_target": (table(y=1), None),
        "check_features": (table(age=np.inf), None),
        "check_key": (table(id=0), None),
        "check_schema": (fresh(age=2000), SCHEMA),
    }[check_name]
    kinds(bad[0], schema=bad[1], target=Target("y", positive=1) if check_name == "check_target" else None)
    monkeypatch.setattr(conform, check_name, lambda *_args: [])
    check(bad[0], schema=bad[1], target=Target("y", positive=1) if check_name == "check_target" else None)


# ── real tables ──────────────────────────────────────────────────────────────────────────────────────────────


def shared(name, **options):
    if not (DATA / name).exists():
        pytest.skip(f"the shared table {name} is absent: ../shared/data")
    return ingest.read(Source(str(DATA / name), ".csv", **options))[0].to_pandas()


def test_adult_test_labels_are_caught_by_the_training_schema():
    adult = {"target": Target("income", positive=">50K"), "roles": Roles(weight="fnlwgt")}
    _, schema, report = validate(shared("adult_train.csv.gz"), schema=None, **adult)
    assert report["summary"] == "32,561 rows × 15 columns · binary, income = >50K 24.1 % · schema inferred"
    with pytest.raises(ValidationFailedError) as caught:
        validate(shared("adult_test.csv.gz"), schema=schema, **adult)
    assert [failure["kind"] for failure in caught.value.report["failures"]] == ["labels"]
    assert "the labels of 'income' are '<=50K.', '>50K.'; the schema has '<=50K', '>50K'" in str(caught.value)


def test_beijing_needs_a_word_on_missing_targets():
    frame = shared("beijing_pm25_hourly.csv.gz")
    with pytest.raises(ValidationFailedError, match=r"missing in 2,067 of 43,824 rows"):
        validate(frame, target=Target("pm2.5"), roles=Roles(), schema=None)
    _, schema, report = validate(frame, target=Target("pm2.5", missing="drop"), roles=Roles(), schema=None)
    assert (schema["task"], report["n_rows"]) == ("regression", 41757)


@pytest.mark.parametrize(
    ("name", "target", "task"),
    [
        ("german_credit_uci.csv", Target("class", positive=2), "binary"),
        ("covtype_sample.csv.gz", Target("Cover_Type"), "multiclass"),
        ("abalone.csv", Target("rings"), "regression"),
        ("bike_hour.csv.gz", Target("cnt"), "regression"),
        ("telco_churn.csv", Target("Churn"), "binary"),
    ],
)
def test_real_tables_hold_against_their_own_schema(name, target, task):
    out, schema, _ = validate(shared(name), target=target, roles=Roles(), schema=None)
    assert schema["task"] == task
    assert validate(out, target=target, roles=Roles(), schema=schema)[1] == schema


def test_repeated_hospital_numbers_are_no_key():
    with pytest.raises(ValidationFailedError, match="does not name one row"):
        validate(
            shared("horse_colic.csv"),
            target=Target("surgical_lesion", positive=1),
            roles=Roles(key=("hospital_number",)),
            schema=None,
        )
