"""`penstock init` on real tables and on tables of every shape: what it writes runs, as good as a plain script."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, metrics
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from penstock.core.artifact import Artifact

pytestmark = pytest.mark.slow

MOST_LINES = 25
MOST_ROWS = 1_000
"""Rows of a real table that are used here, evenly spaced: the whole tables take minutes, and end the same way."""
FINE = (0, 4, 7)
"""Exit codes of a run that went to its end: done, refused with a reason, undecided."""

FEW = {"beijing_pm25_hourly.csv.gz", "telco_churn.csv"}
FEW_SHAPES = {"iris", "odd_dates", "repeated_ids"}
"""What each run of the tests goes through: numbers and two classes with gaps, several classes, odd names and dates,
rows that belong together. `make campaign` goes through all the others: it takes minutes."""

REAL = {
    "abalone.csv": ("rings",),
    "adult_train.csv.gz": ("income", "--positive", ">50K"),
    "bank_additional_full.csv.gz": ("y",),
    "beijing_pm25_hourly.csv.gz": ("pm2.5",),
    "bike_day.csv": ("cnt",),
    "bike_hour.csv.gz": ("cnt",),
    "covtype_sample.csv.gz": ("Cover_Type",),
    "german_credit_uci.csv": ("class", "--positive", "2"),
    "horse_colic.csv": ("surgical_lesion", "--positive", "1"),
    "hotel_bookings.csv.gz": ("is_canceled",),
    "nycflights_sample.csv.gz": ("arr_delay",),
    "online_retail.parquet": ("Quantity",),
    "telco_churn.csv": ("Churn",),
    "winequality_white.csv": ("quality",),
}


def thinned(path: Path, folder: Path) -> str:
    """The table with evenly spaced rows, in the same form."""
    name = path.name.replace(".csv.gz", ".csv")
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        table.iloc[:: max(len(table) // MOST_ROWS, 1)].to_parquet(folder / name)
        return name
    text = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, sep="\x01", quoting=3)[0]
    head, rows = text.iloc[:1], text.iloc[1:]
    kept = pd.concat([head, rows.iloc[:: max(len(rows) // MOST_ROWS, 1)]])
    (folder / name).write_text("\n".join(kept) + "\n")
    return name


def started(project: Any, table: str, *words: str) -> tuple[Any, dict[str, Any]]:
    """Init and run; how the run ended, and what init told."""
    target, *rest = words
    init = project.call("init", "--from", table, "--target", target, "--json", "--force", *rest)
    assert init.code == 0, init.text
    told = json.loads(init.out)
    code = [line.strip() for line in told["text"].splitlines()]
    counted = [line for line in code if line and not line.startswith(("#", "import ", "from "))]
    assert len(counted) <= MOST_LINES, told["text"]
    run = project.call("run", told["file"])
    assert run.code in FINE, told["text"] + run.text
    assert run.code == 0 or any(mark in run.out for mark in ("✗", "?")), run.text  # the reason stands on the screen
    return run, told


def parts(project: Any, name: str) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """What the verdict compared, and the two sides."""
    home = project.home()
    verdict = home.ledger.stream(f"{name}/verdict")[-1].body
    compared = home.formats.load(Artifact.from_json(verdict["comparison"]), home.objects)
    split = next(s for s in home.ledger.step_runs(home.ledger.runs(flow=name)[0].id) if s.step == "split")
    train, test = (home.formats.load(artifact, home.objects) for artifact in split.outputs[:2])
    home.ledger.close()
    return compared, train, test


@threadpool_limits.wrap(limits=1)  # as workers have it; threads that wait for each other take minutes
def plain(train: pd.DataFrame, test: pd.DataFrame, target: str, metric: str, hidden: list[str]) -> float:
    """An untuned HistGradientBoosting on the same rows, as a plain script would have it."""
    hidden = [target, *(name for name in train if train[name].dtype.kind == "M"), *hidden]
    coder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    texts = make_column_selector(dtype_exclude=["number", "bool"])
    Model = HistGradientBoostingRegressor if metric == "rmse" else HistGradientBoostingClassifier
    model = make_pipeline(make_column_transformer((coder, texts), remainder="passthrough"), Model(random_state=0))
    model.fit(train.drop(columns=hidden), train[target])
    X, y = test.drop(columns=hidden), test[target]
    if metric == "rmse":
        return -float(metrics.root_mean_squared_error(y, model.predict(X)))
    proba = model.predict_proba(X)
    if metric == "roc_auc":
        return float(metrics.roc_auc_score(y == model.classes_[1], proba[:, 1]))
    return -float(metrics.log_loss(y, proba, labels=model.classes_))


def some(every: Any, few: set[str]) -> list[Any]:
    """Parameters, all but a few for the campaign alone."""
    assert few <= set(every)
    return [pytest.param(one, marks=[pytest.mark.campaign] * (one not in few)) for one in every]


@pytest.mark.parametrize("name", some(REAL, FEW))
def test_a_real_table_begins_with_init(name: str, project: Any, shared_data: Callable[[str], Path]) -> None:
    """With a random split the figure reaches the plain script's, which does not see what init hid either."""
    table = thinned(shared_data(name), project.folder)
    words = REAL[name]
    _, told = started(project, table, *words, "--split", "random", "--name", f"r_{Path(table).stem}")
    compared, train, test = parts(project, told["workflow"])
    primary = compared["primary"]
    figure = compared["metrics"][primary]["challenger"]
    metric = {"roc_auc": "roc_auc", "neg_log_loss": "log_loss"}.get(primary, "rmse")
    hidden = [one["choice"] for one in told["reasons"] if one["topic"] in {"after", "drop", "key", "groups"}]
    assert figure["high"] >= plain(train, test, words[0], metric, [h for h in hidden if h in train])


@pytest.mark.parametrize("name", ["hotel_bookings.csv.gz"])
def test_a_table_with_times_is_split_by_time(name: str, project: Any, shared_data: Callable[[str], Path]) -> None:
    table = thinned(shared_data(name), project.folder)
    run, _ = started(project, table, *REAL[name], "--name", f"t_{Path(table).stem}")
    assert " · by time from " in run.out


def many(n: int, n_columns: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(n, n_columns)), columns=[f"x{i}" for i in range(n_columns)])
    return made.assign(y=made["x0"] + made["x1"] + rng.normal(size=n))


def bundled(load: Callable[..., Any]) -> pd.DataFrame:
    found = load(as_frame=True)
    return found.frame.rename(columns={found.target.name: "y"})


def odd_names() -> pd.DataFrame:
    made = many(300, 4)
    return made.rename(columns={"x0": 'a "b"', "x1": "class", "x2": "été", "x3": "a b,c"})


def words_only() -> pd.DataFrame:
    rng = random.Random(0)
    made = pd.DataFrame({f"w{i}": [rng.choice("abcd") for _ in range(500)] for i in range(5)})
    return made.assign(y=(made["w0"] == "a").map({True: "yes", False: "no"}))


def dates() -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=600)
    made = many(600, 3)
    return made.assign(seen=days.strftime("%d.%m.%Y"), booked=days.strftime("%Y-%m-%d"), sent=days.strftime("%m/%d/%Y"))


def odd_dates() -> pd.DataFrame:
    """Odd names and dates in one table."""
    return dates().rename(columns={"x0": 'a "b"', "x1": "class", "x2": "été", "booked": "a b,c"})


def rare() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = many(6_000, 3)
    return made.assign(y=(made["y"] + rng.normal(size=6_000) > 5.2).astype(int))


def repeated_ids() -> pd.DataFrame:
    return many(900, 3).assign(patient_id=[f"P{i // 4}" for i in range(900)], void=[None] * 900)


def truths() -> pd.DataFrame:
    made = many(400, 3)
    return made.assign(y=made["y"] > 0, flag=made["x2"] > 1, sometimes=[[True, None, False][i % 3] for i in range(400)])


def gaps_in_target() -> pd.DataFrame:
    made = many(500, 3)
    return made.assign(y=made["y"].where(made.index % 7 > 0))


SHAPES = {
    "iris": lambda: bundled(datasets.load_iris),
    "wine": lambda: bundled(datasets.load_wine),
    "breast_cancer": lambda: bundled(datasets.load_breast_cancer),
    "diabetes": lambda: bundled(datasets.load_diabetes),
    "wide": lambda: many(400, 800),
    "tiny": lambda: many(30, 2),
    "odd_names": odd_names,
    "words_only": words_only,
    "dates": dates,
    "odd_dates": odd_dates,
    "rare": rare,
    "repeated_ids": repeated_ids,
    "truths": truths,
    "gaps_in_target": gaps_in_target,
}


@pytest.mark.parametrize("shape", some(SHAPES, FEW_SHAPES))
def test_a_table_of_any_shape_begins_with_init(shape: str, project: Any) -> None:
    SHAPES[shape]().to_csv(project.folder / f"{shape}.csv", index=False)
    started(project, f"{shape}.csv", "y")


def test_what_init_cannot_know_is_asked_for(project: Any, shared_data: Callable[[str], Path]) -> None:
    table = thinned(shared_data("adult_train.csv.gz"), project.folder)
    asked = project.call("init", "--from", table, "--target", "income", "--out", "asked.py")
    assert asked.code == 2
    assert "which class of 'income' is the positive one" in asked.err
    assert "--positive '>50K'" in asked.err
    assert not (project.folder / "asked.py").exists()


def test_the_screen_says_each_decision(project: Any, shared_data: Callable[[str], Path]) -> None:
    table = thinned(shared_data("bike_day.csv"), project.folder)
    told = project.call("init", "--from", table, "--target", "cnt", "--out", "said.py")
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[0] == "bike_day · 731 rows × 16 columns of bike_day.csv"
    assert any("casual, registered · cnt = casual + registered, exactly" in line for line in lines)
    assert lines[-1] == "next  penstock try said.py · penstock run said.py"
    assert len(lines) <= 20
