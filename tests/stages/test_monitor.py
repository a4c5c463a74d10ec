"""Windows: the false-alarm rate, shifts that are seen, labels that come late."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import penstock as ps
from penstock.core.answer import answers
from penstock.core.data_check import check, check_of
from penstock.core.flow import calls_of
from penstock.core.gate import Beats
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.lifecycle.monitor import lower_window
from penstock.stages.compare import compare
from penstock.stages.monitor import window
from penstock.stages.package import package

TASKS = {
    "binary": {"task": "binary", "classes": ["no", "yes"], "positive": "yes"},
    "multiclass": {"task": "multiclass", "classes": ["ant", "bee", "cat"]},
    "regression": {"task": "regression"},
}
METRICS = {
    "binary": ("roc_auc", "neg_log_loss"),
    "multiclass": ("accuracy",),
    "regression": ("neg_mean_absolute_error",),
}


def traffic(n, seed, task="binary", shift=0.0, noise=1.0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "a": rng.normal(shift, 1, n),
            "count": rng.poisson(3, n),
            "city": rng.choice(["Rome", "Oslo"], n),
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), "h"),
        }
    )
    lift = 2 * frame.a + (frame.city == "Rome") + noise * rng.normal(size=n)
    if task == "regression":
        return frame.assign(y=lift)
    labels = np.array(TASKS[task]["classes"])
    return frame.assign(y=labels[np.digitize(lift, [0.5] if task == "binary" else [-0.5, 1.5])])


@pytest.fixture(scope="module", params=list(TASKS))
def bundle(request):
    return made(request.param)


@pytest.fixture(scope="module")
def binary():
    return made("binary")


def made(task):
    train, test = traffic(2000, 1, task), traffic(1000, 2, task)
    final = LinearRegression() if task == "regression" else LogisticRegression()
    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["city"]), ("passthrough", ["a", "count"]))
    roles, schema, target = Roles(key=("id",)), TASKS[task], Target("y")
    model = make_pipeline(encode, final).fit(train.drop(columns=["id", "y"]), train.y)
    contract, _, profile = package(train, fitted=model, target=target, roles=roles, schema=schema)
    found = compare(
        test, train, fitted=model, champion=None, about={}, rules=(Beats("baseline"),), metrics=METRICS[task],
        slices=(), target=target, roles=roles, schema=schema, seed=0,
    )  # fmt: skip
    reference = {name: figures["challenger"] for name, figures in found["metrics"].items()}
    return task, model, contract, profile, found["prediction_profile"], reference


def watch(bundle, data, labels=None, on=("id",), **changes):
    task, model, contract, profile, prediction_profile, reference = bundle
    X = data[[column["name"] for column in contract["columns"]]]
    predictions = pd.DataFrame(answers(model, X, contract)).assign(id=data.id.to_numpy())
    settings = {
        "profile": profile, "prediction_profile": prediction_profile, "input": contract, "predictions": predictions,
        "labels": labels, "label_on": on, "metrics": METRICS[task], "target": Target("y"),
        "reference_metrics": reference,
    } | changes  # fmt: skip
    return window(X, **settings)


def test_calm_windows_raise_an_alarm_at_most_at_the_stated_rate(bundle):
    """80 windows with labels; drift and decay at 1 % each, so 2 % together, Monte-Carlo error 1.6 points."""
    alarms = 0
    for seed in range(10, 90):
        data = traffic(300, seed, bundle[0])
        alarms += watch(bundle, data, data[["id", "y"]])["alarm"]
    assert alarms / 80 <= 0.02 + 3 * 0.016


def test_a_shift_is_seen_in_input_and_answers(bundle):
    found = watch(bundle, traffic(400, 3, bundle[0], shift=0.6))
    assert found["alarm"]
    assert {one["kind"] for one in found["alarms"]} == {"input drift", "prediction drift"}
    assert "a" in {one["what"] for one in found["alarms"]}
    assert found["summary"].startswith("alarm: ")
    json.dumps(found, allow_nan=False)


def test_sabotage_without_the_test_of_a_column_its_shift_is_missed(binary):
    profile = {"n": 2000, "columns": {k: v for k, v in binary[3]["columns"].items() if k != "a"}}
    data = traffic(400, 3, shift=0.6)
    assert not watch(binary, data, profile=profile, prediction_profile=None)["alarm"]
    assert watch(binary, data, prediction_profile=None)["alarm"]


def test_missing_values_and_new_categories_are_drift(binary):
    data = traffic(300, 4)
    holes = data.assign(a=data.a.where(np.arange(300) > 30))
    new = data.assign(city=["Lima"] * 20 + data.city.tolist()[20:])
    assert [one["what"] for one in window_of(binary, holes)["alarms"]] == ["a"]
    assert [one["what"] for one in window_of(binary, new)["alarms"]] == ["city"]
    assert window_of(binary, data)["alarms"] == []


def window_of(bundle, data):
    """Inputs alone: the model would refuse to answer."""
    return window(
        data.drop(columns=["id", "y"]), profile=bundle[3], prediction_profile=bundle[4], input=bundle[2],
        predictions=None, labels=None, label_on=("id",), metrics=(), target=Target("y"), reference_metrics={},
    )  # fmt: skip


def test_worse_answers_are_decay(bundle):
    data = traffic(400, 5, bundle[0], noise=6.0)
    found = watch(bundle, data, data[["id", "y"]])
    assert [one["kind"] for one in found["alarms"]] == ["decay"] * len(found["alarms"])
    assert found["alarms"]
    assert "(was " in found["alarms"][0]["text"]
    assert found["share_labelled"] == 1.0


def test_late_labels_are_joined_the_last_one_counts_and_the_share_is_told(binary):
    data = traffic(400, 6)
    part = data[["id", "y"]].iloc[::2]
    stale = part.assign(y=np.where(part.y == "yes", "no", "yes"))
    unknown = pd.DataFrame({"id": ["elsewhere"], "y": ["yes"]})
    found = watch(binary, data, pd.concat([stale, part, unknown]))
    assert (found["n_labelled"], found["share_labelled"]) == (200, 0.5)
    assert not found["alarm"]
    assert "50% labelled" in found["summary"]
    assert watch(binary, data, stale)["alarm"]


def test_labels_are_joined_by_key_whatever_its_type(binary):
    data = traffic(200, 7).assign(id=range(200))
    labels = pd.DataFrame({"id": [f"{i}" for i in range(200)], "y": data.y})
    assert watch(binary, data, labels)["n_labelled"] == 200
    assert watch(binary, data, labels.assign(id=[float(i) for i in range(200)]))["n_labelled"] == 200


def test_labels_without_their_columns_are_refused(binary):
    data = traffic(50, 8)
    with pytest.raises(DataError, match="'y'"):
        watch(binary, data, data[["id"]])
    with pytest.raises(DataError, match="'order'"):
        watch(binary, data, data[["y"]].assign(who=1), on=("order",))


def test_few_rows_give_no_verdict_and_it_is_said(binary):
    data = traffic(20, 9, shift=9.0)
    found = watch(binary, data, data[["id", "y"]])
    assert not found["alarm"]
    assert found["summary"].startswith("no verdict: only 20 rows")
    assert any("have a label" in note for note in found["notes"])


def test_absent_and_unreadable_columns_are_noted_not_passed_over(binary):
    data = traffic(100, 10).drop(columns=["id", "y", "count"]).assign(a="text")
    found = window_of(binary, data.assign(id=0, y=0))
    assert {one["column"] for one in found["drift"]} == {"city"}
    assert any("'count' is absent" in note for note in found["notes"])
    assert any("'a' was not tested" in note for note in found["notes"])


def test_nothing_to_compare_is_said(binary):
    found = window(
        None, profile=binary[3], prediction_profile=None, input=binary[2], predictions=None, labels=None,
        label_on=(), metrics=(), target=Target("y"), reference_metrics={},
    )  # fmt: skip
    assert found["summary"] == "no verdict: nothing to compare"


def test_a_verdicts_metrics_may_be_given_as_they_are_and_the_id_is_used_without_the_key(binary):
    data = traffic(300, 11, noise=6.0)
    verdicts = {name: {"challenger": figure, "baseline": None} for name, figure in binary[5].items()}
    found = watch(binary, data, data[["id", "y"]], on=("customer",), reference_metrics=verdicts)
    assert found["n_labelled"] == 300
    assert "decay" in {one["kind"] for one in found["alarms"]}


def test_the_key_is_taken_from_the_input_rows_where_the_answers_lack_it(binary):
    data = traffic(60, 12).assign(customer=range(60))
    labels = pd.DataFrame({"customer": range(60), "y": data.y})
    contract = {**binary[2], "columns": [*binary[2]["columns"], {"name": "customer", "kind": "integer"}]}
    X = data[[column["name"] for column in contract["columns"]]]
    predictions = pd.DataFrame(answers(binary[1], X, contract))
    found = window(
        X, profile=binary[3], prediction_profile=None, input=contract, predictions=predictions, labels=labels,
        label_on=("customer",), metrics=(), target=Target("y"), reference_metrics={},
    )  # fmt: skip
    assert found["n_labelled"] == 60


# ── checks of the user's own ────────────────────────────────────────────────────────────────────────────────


def few_prizes(table):
    return table["count"] < 5


@check(severity="warning")
def many_rows(table):
    return "" if len(table) > 1000 else f"only {len(table)} rows"


def no_missing_target(table):
    return table["y"].notna()


def test_checks_run_on_a_table_and_what_fails_is_an_alarm(binary):
    checks = tuple(check_of(one) for one in (few_prizes, many_rows, no_missing_target))
    data = traffic(200, 3).drop(columns="y")
    found = watch(binary, data, checks=checks)
    bad = int((data["count"] >= 5).sum())
    assert [one["kind"] for one in found["alarms"]] == ["check"]
    assert found["alarms"][0]["text"].startswith(f"check few_prizes does not hold in {bad} rows (row ")
    assert found["alarm"]
    assert found["checks"] == 3
    assert "warning: check many_rows: only 200 rows" in found["notes"]
    assert "the check no_missing_target could not be run on this table: KeyError: 'y'" in found["notes"]
    assert found["summary"].startswith("alarm: check few_prizes does not hold")
    calm = watch(binary, data[data["count"] < 5], checks=checks[:1])
    assert "check" not in [one["kind"] for one in calm["alarms"]]
    assert "checks" not in watch(binary, data)


def test_checks_are_of_tables_and_not_of_the_log():
    declared = ps.Workflow(
        name="shop", data=ps.read("sales.csv"), target="y", model=LogisticRegression(), checks=[few_prizes]
    )

    def asked(data):
        outputs, _ = lower_window(declared, {"data": data, "log": "log"})
        return next(call for call in calls_of(outputs) if call.entry.endswith("monitor:window")).kwargs

    assert [one.name for one in asked("april.csv")["checks"]] == ["few_prizes"]
    assert "checks" not in asked(None)


def test_a_table_is_read_as_the_declared_source_is():
    def source_of(data, path):
        declared = ps.Workflow(name="shop", data=data, target="y", model=LogisticRegression())
        outputs, _ = lower_window(declared, {"data": path, "log": "log"})
        return next(call for call in calls_of(outputs) if call.kind == "source").args[0]

    declared = ps.read("sales.csv", na=["?"], strip=False, sep=";", encoding="latin-1", dates=["day"])
    same, other = source_of(declared, "april.csv"), source_of(declared, "april.tsv")
    assert (same.na, same.strip, same.sep, same.encoding) == (("?",), False, ";", "latin-1")
    assert (other.na, other.strip, other.sep, other.encoding) == (("?",), False, None, None)
    assert same.dates == ()  # columns that this table need not have
    assert source_of(prepared.ref(), "april.csv").na == ()


@ps.step
def prepared() -> pd.DataFrame:
    return pd.DataFrame({"y": [0, 1]})


@pytest.mark.parametrize("name", ["y", "label", "score", "value"])
def test_a_target_may_be_called_as_an_answer_is(name):
    """Else the truth would be judged by itself, and no model would ever decay."""
    rng = np.random.default_rng(0)
    said, truth = (rng.choice(["no", "yes"], 200) for _ in range(2))
    answers = pd.DataFrame({"id": range(200), "label": said, "score": rng.random(200)})
    given = {
        "profile": {"columns": {}}, "prediction_profile": None, "predictions": answers, "label_on": ("id",),
        "input": TASKS["binary"] | {"columns": []}, "metrics": ("accuracy",), "reference_metrics": {},
    }  # fmt: skip
    found = window(None, labels=pd.DataFrame({"id": range(200), name: truth}), target=Target(name), **given)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx((said == truth).mean())
    number = answers.assign(value=0.0)[["id", "value"]]
    given |= {"predictions": number, "input": {"task": "regression", "columns": []}, "metrics": ("neg_max_error",)}
    found = window(None, labels=pd.DataFrame({"id": range(200), name: 1.5}), target=Target(name), **given)
    assert found["metrics"]["neg_max_error"]["value"] == -1.5
