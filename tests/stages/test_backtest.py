"""Figures of the past: measured on the rows of a window, and summed up over windows."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.lifecycle.backtest_page import page
from penstock.stages.backtest import gain_text, measure, result
from penstock.stages.split import split as divide
from penstock.stats.pooled import pooled

SCHEMA = {"task": "binary", "classes": [0, 1], "positive": 1}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600))
    y = (1.5 * a + rng.normal(size=600) > 0).astype(int)
    return pd.DataFrame({"day": pd.date_range("2026-01-01", periods=600, freq="6h"), "a": a, "b": b, "y": y})


@pytest.fixture(scope="module")
def models(rows):
    good = LogisticRegression().fit(rows[["a", "b"]][:200], rows["y"][:200])
    bad = LogisticRegression().fit(rows[["b"]][:200], rows["y"][:200])
    return good, bad


def measured(rows, fitted, *, start="2026-03-01", stop="2026-04-01", **changes):
    good, bad = fitted
    given = {
        "models": {"gated": good, "never": bad, "always": good},
        "abouts": {
            "gated": {"name": "x", "champion_input": ["a", "b"]},
            "never": {"name": "z", "champion_input": ["b"]},
        },
        "newest": {"columns": [{"name": "a"}, {"name": "b"}]},
        "schema": SCHEMA,
        "target": Target("y"),
        "roles": Roles(time="day"),
        "metrics": ("neg_log_loss", "roc_auc"),
        "seed": 0,
    }
    return measure(rows, start=start, stop=stop, **given | changes)


def test_only_the_rows_of_the_window_count(rows, models):
    found = measured(rows, models)
    assert found["n_rows"] == ((rows["day"] >= "2026-03-01") & (rows["day"] < "2026-04-01")).sum() == 124
    later = rows.copy()
    later.loc[later["day"] >= "2026-04-01", ["a", "y"]] = 0
    later.loc[later["day"] < "2026-03-01", "a"] = -9.0
    assert measured(later, models)["figures"] == found["figures"]


def test_the_gated_way_is_held_against_the_others(rows, models):
    found = measured(rows, models)
    figures = {way: one["roc_auc"]["value"] for way, one in found["figures"].items()}
    assert figures["gated"] == figures["always"] > 0.8 > figures["never"]
    assert found["differences"]["always"] == {"value": 0.0, "se": 0.0, "n": 124}
    loss = {way: one["neg_log_loss"]["value"] for way, one in found["figures"].items()}
    assert found["differences"]["never"]["value"] == pytest.approx(loss["gated"] - loss["never"])


def test_a_model_that_cannot_answer_is_said_and_the_others_are_measured(rows, models):
    found = measured(rows.drop(columns="a").assign(c=1.0), models)
    assert set(found["figures"]) == {"never"}
    assert "KeyError" in found["errors"]["gated"]


def test_before_anything_passed_there_is_no_figure(rows, models):
    found = measured(rows, models, models={"gated": None, "never": None, "always": models[0]},
                     abouts={"gated": {}, "never": {}})  # fmt: skip
    assert set(found["figures"]) == {"always"}
    assert found["differences"] == {}


def test_an_empty_window_has_no_figure(rows, models):
    assert measured(rows, models, start="2027-01-01", stop="2027-02-01")["figures"] == {}


def origin(at, **more):
    return {"at": at, "stop": at, "n_known": 100, "skipped": "", **more}


def decision(champion, *, promoted=False):
    return {"outcome": "better", "verdict": "v", "promoted": promoted, "champion_at": champion,
            "first_at": "2026-03-01"}  # fmt: skip


def summed(rows, models, starts=("2026-03-01", "2026-03-20", "2026-04-11", "2026-05-30"), window="30d", cuts=None):
    ends = [*starts[1:], "2026-06-01"]
    measures = [measured(rows, models, start=a, stop=b) for a, b in zip(starts, ends, strict=True)]
    told = {"workflow": "w", "every": "30d", "window": window, "delay": None, "cuts": cuts or {}, "warnings": [],
            "notes": []}  # fmt: skip
    taken = [decision("2026-03-01", promoted=True), decision("2026-03-01"), decision("2026-03-01"),
             decision("2026-05-30", promoted=True)]  # fmt: skip
    return result(
        origins=[origin("2026-02-01", skipped="no row"), *map(origin, starts)],
        decisions=taken,
        splits=[{"n_train": 1, "n_test": 2}] * 4,
        measures=measures,
        told=told,
    )


def test_a_mean_over_windows_is_that_of_all_their_rows(rows, models):
    """Of a loss, which is a mean over rows: against scikit-learn on all rows at once."""
    from sklearn.metrics import log_loss

    found = summed(rows, models)["overall"]["gated"]["neg_log_loss"]
    all_rows = rows[(rows["day"] >= "2026-03-01") & (rows["day"] < "2026-06-01")]
    whole = log_loss(all_rows["y"], models[0].predict_proba(all_rows[["a", "b"]]))
    assert found["value"] == pytest.approx(-whole)
    assert found["low"] < found["value"] < found["high"]


def test_figures_by_age_count_each_window_once(rows, models):
    found = summed(rows, models)
    ages = {one["age_days"]: {way: f["n_windows"] for way, f in one["figures"].items()} for one in found["by_age"]}
    assert ages == {0.0: {"gated": 2, "never": 1}, 19.0: {"gated": 1, "never": 1}, 41.0: {"gated": 1, "never": 1},
                    90.0: {"never": 1}}  # fmt: skip
    assert found["summary"].startswith("2 of 4 models promoted, one every 30d · log_loss")
    assert found["origins"][0]["skipped"] == "no row"


def test_pooled_errors_are_those_of_a_stratified_mean():
    rng = np.random.default_rng(3)
    drawn = np.array([[rng.normal(m, s) for m, s in ((1.0, 0.2), (2.0, 0.1), (4.0, 0.4))] for _ in range(20_000)])
    mean = pooled([1.0, 2.0, 4.0], [0.2, 0.1, 0.4], [5, 3, 2])
    means = drawn @ np.array([0.5, 0.3, 0.2])
    assert mean.value == pytest.approx(1.9)
    assert mean.se == pytest.approx(means.std(), rel=0.02)


def test_means_of_samples_that_overlap_are_not_surer_than_they_are():
    """Windows of three months, one a month, of 24 months with errors of their own: each month counts three times."""
    rng = np.random.default_rng(5)
    means = []
    for _ in range(4000):
        months = rng.normal(size=24)
        windows = [months[i : i + 3].mean() for i in range(22)]
        means.append(pooled(windows, [3**-0.5] * 22, [3] * 22).value)
    blind, bound = (pooled([0.0] * 22, [3**-0.5] * 22, [3] * 22, overlap).se for overlap in (1, 3))
    assert blind < 0.62 * np.std(means)
    assert np.std(means) < bound < 1.15 * np.std(means)


def test_windows_that_overlap_widen_what_is_told_of_them(rows, models):
    plain, wide = (summed(rows, models, window=window) for window in ("30d", "75d"))
    widths = [one["overall"]["gated"]["roc_auc"] for one in (plain, wide)]
    assert widths[1]["high"] - widths[1]["low"] == pytest.approx(3**0.5 * (widths[0]["high"] - widths[0]["low"]))
    assert wide["notes"] == [
        "windows overlap: a row counts up to 3 times, and intervals over windows are widened for it"
    ]
    assert plain["notes"] == []


def test_windows_without_a_row_have_a_summary_too(rows, models):
    found = summed(rows, models, starts=["2027-01-01", "2027-02-01", "2027-03-01", "2027-04-01"])
    assert found["overall"]["gated"]["neg_log_loss"]["value"] is None
    assert found["summary"].startswith("2 of 4 models promoted, one every 30d · no rows came after an origin")
    assert "<svg" not in page(found | {"window": "30d"})


def test_a_source_that_was_not_cut_stands_in_the_summary(rows, models):
    found = summed(rows, models, cuts={"customers": "day", "orders": "", "shops": ""})
    assert found["summary"].endswith(" · orders, shops were not cut, so later rows may have been known")


def test_rows_of_one_group_make_the_interval_wider(rows, models):
    table = pd.concat([rows] * 4, ignore_index=True).assign(home=lambda t: t.index % 600)
    alone, grouped = (
        measured(table, models, roles=Roles(time="day", groups=groups))["figures"]["gated"]["roc_auc"]
        for groups in ((), ("home",))
    )
    assert grouped["value"] == pytest.approx(alone["value"])
    assert grouped["high"] - grouped["low"] > 1.8 * (alone["high"] - alone["low"])


def test_final_rows_that_a_hash_keeps_are_not_measured(rows, models):
    table, roles, split = rows.assign(id=range(600)), Roles(time="day", key=("id",)), Split(by="key", final=0.3)
    given = {"target": Target("y"), "roles": roles, "split": split, "seed": 0, "task": "binary"}
    closed = set(divide(table, **given)[3]["id"])
    found = measured(table, models, roles=roles, split=split)
    window = table[(table["day"] >= "2026-03-01") & (table["day"] < "2026-04-01")]
    assert found["n_rows"] == len(set(window["id"]) - closed) < len(window)


def test_nothing_has_no_mean_and_a_wrong_weight_is_refused():
    with pytest.raises(DataError, match="overlap=0"):
        pooled([1.0], [0.1], [1], overlap=0)
    assert math.isnan(pooled([], [], []).value)
    with pytest.raises(DataError):
        pooled([1.0], [0.1], [0])


def test_a_loss_that_falls_is_told_as_lower():
    assert gain_text("neg_log_loss", {"value": -0.02, "low": -0.03, "high": -0.01}) == (
        "log_loss higher by 0.020 [0.010, 0.030]"
    )
