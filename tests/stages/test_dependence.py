"""Partial dependence is that of the model, bounded, and names nobody; so are the worst mistakes."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

from penstock.stages import mistakes
from penstock.stages.dependence import MAX_COLUMNS, MAX_LEVELS, MAX_VALUES, dependences
from penstock.stages.importance import importances
from penstock.stages.mistakes import worst_rows
from penstock.stages.predicted import predict
from penstock.stages.problem import Problem

NUMBER = Problem("regression", ())
TWO = Problem("binary", ("no", "yes"))
N = 400


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    city = np.where(rng.random(N) < 0.5, "Rome", "Oslo").astype(object)
    city[:3] = "Ada Lovelace, 12 St James Square"
    return pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "city": city})


def learned(frame, truth, last):
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    return make_pipeline(columns, last).fit(frame, truth)


def whole(model, frame):
    return [(model, np.arange(len(frame)))]


def test_of_a_linear_model_it_is_the_line_and_the_middle_half_is_parallel(frame):
    y = 3 * frame.a - frame.b + (frame.city == "Rome")
    model = learned(frame, y, LinearRegression())
    line, level = dependences(whole(model, frame), frame, y, NUMBER, ["a", "city"])
    mean = np.array(line["lines"][0]["mean"])
    assert np.allclose(np.diff(mean) / np.diff(line["at"]), 3, atol=1e-3)
    assert np.ptp(np.array(line["lines"][0]["high"]) - line["lines"][0]["low"]) < 1e-3
    assert set(line["at"]) <= set(frame.a)
    assert len(line["at"]) <= MAX_VALUES
    assert line["deciles"][0] == frame.a.min()
    means = dict(zip(level["at"], level["lines"][0]["mean"], strict=True))
    assert set(means) == {"Rome", "Oslo"}, "a text of three rows is not named"
    assert means["Rome"] - means["Oslo"] == pytest.approx(1, abs=1e-3)
    assert sum(level["rows"]) == N - 3


def test_weights_of_rows_weigh_their_answers(frame):
    y = frame.a * (frame.b > 0)
    frame["b"] = (frame.b > 0).astype(float)
    frame["ab"] = frame.a * frame.b
    model = learned(frame, y, LinearRegression())
    weight = np.where(frame.b > 0, 1.0, 0.0)
    [line] = dependences(whole(model, frame), frame, y, NUMBER, ["b"], weight=weight)
    [bare] = dependences(whole(model, frame), frame, y, NUMBER, ["b"])
    assert line["lines"][0]["mean"] != bare["lines"][0]["mean"]
    assert dependences(whole(model, frame), frame, y, NUMBER, ["b"], weight=np.zeros(N)) == []


def test_it_is_bounded_plain_and_the_same_twice(frame):
    rng = np.random.default_rng(1)
    for i in range(10):
        frame[f"c{i}"] = rng.normal(size=N)
    frame["many"] = [f"level {i % 20}" for i in range(N)]
    columns = make_column_transformer((OneHotEncoder(), ["city", "many"]), remainder="passthrough")
    y = pd.Series(np.where(frame.a > 0, "yes", "no"))
    for last in (LogisticRegression(), LinearSVC()):
        model = make_pipeline(columns, last).fit(frame, y)
        found = dependences(whole(model, frame), frame, y, TWO, ["many", *(f"c{i}" for i in range(10))])
        assert len(found) == MAX_COLUMNS
        assert len(found[0]["at"]) == MAX_LEVELS
        assert "yes" in found[0]["of"]
        text = json.dumps(found, allow_nan=False)
        assert text == json.dumps(
            dependences(whole(model, frame), frame, y, TWO, ["many", *(f"c{i}" for i in range(10))])
        )
        assert len(text) < 10_000


def test_several_classes_have_a_line_each_and_a_constant_none(frame):
    y = pd.Series(np.digitize(frame.a, [-0.5, 0.5]))
    problem = Problem("multiclass", (0, 1, 2))
    frame["same"] = 1.0
    frame["when"] = pd.Timestamp("2026-01-01")
    model = learned(frame.drop(columns="when"), y, LogisticRegression())
    [one] = dependences(whole(model, frame), frame, y, problem, ["same", "when", "a"])
    assert [line["name"] for line in one["lines"]] == ["0", "1", "2"]
    assert np.allclose(np.sum([line["mean"] for line in one["lines"]], axis=0), 1, atol=1e-4)


def test_a_column_of_noise_is_not_told_from_a_useless_one():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"signal": rng.normal(size=600), **{f"n{i}": rng.normal(size=600) for i in range(8)}})
    y = pd.Series(np.where(frame.signal + rng.normal(size=600) > 0, "yes", "no"))
    model = LogisticRegression().fit(frame[:300], y[:300])
    for metric in ("roc_auc", "neg_log_loss", "f1"):
        found = importances([(model, np.arange(300, 600))], frame, y, TWO, metric=metric, seed=0)
        assert found[0]["column"] == "signal"
        assert found[0]["low"] > 0
        assert sum(one["low"] > 0 for one in found) <= 2
        assert all(one["low"] <= one["drop"] <= one["high"] for one in found)


def halves(frame, truth, make):
    """A fit for each half of the rows, learned from the other half."""
    first, second = np.arange(0, len(frame), 2), np.arange(1, len(frame), 2)
    fits = [make().fit(frame.iloc[learn], truth.iloc[learn]) for learn in (second, first)]
    return list(zip(fits, (first, second), strict=True))


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss"])
def test_every_fold_has_its_say_by_its_own_fit(metric):
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.normal(size=600), "n": rng.normal(size=600)})
    y = pd.Series(np.where(frame.x + rng.normal(size=600) > 0, "yes", "no"))
    found = importances(halves(frame, y, LogisticRegression), frame, y, TWO, metric=metric, seed=0)
    (one, first), (other, second) = halves(frame, y, LogisticRegression)
    blind = LogisticRegression().fit(frame, y)
    blind.coef_[:] = 0.0
    alone = importances([(one, first), (blind, second)], frame, y, TWO, metric=metric, seed=0)
    assert found[0]["column"] == alone[0]["column"] == "x"
    assert 0.3 * found[0]["drop"] < alone[0]["drop"] < 0.8 * found[0]["drop"], "a blind fit's half loses nothing"
    [line] = dependences([(one, first), (other, second)], frame, y, TWO, ["x"])
    [half] = dependences([(one, first), (blind, second)], frame, y, TWO, ["x"])
    assert line["n_rows"] == half["n_rows"] == 300
    assert np.ptp(half["lines"][0]["mean"]) == pytest.approx(np.ptp(line["lines"][0]["mean"]) / 2, rel=0.2)


def test_areas_of_fits_on_other_scales_are_not_ranked_together():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.normal(size=600)})
    y = pd.Series(np.where(frame.x + 0.5 * rng.normal(size=600) > 0, "yes", "no"))
    fits = halves(frame, y, LogisticRegression)
    moved = [(fits[0][0], fits[0][1]), (LogisticRegression().fit(frame, y), fits[1][1])]
    moved[1][0].intercept_ += 50.0
    [one] = importances(fits, frame, y, TWO, metric="roc_auc", seed=0)
    [other] = importances(moved, frame, y, TWO, metric="roc_auc", seed=0)
    assert other["drop"] == pytest.approx(one["drop"], abs=0.01)
    assert other["high"] - other["low"] == pytest.approx(one["high"] - one["low"], rel=0.1)


def test_a_fold_without_both_classes_hides_no_interval():
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"x": np.sort(rng.normal(size=300))})
    y = pd.Series(np.where(np.arange(300) >= 250, "yes", "no"))
    y[30] = "yes"
    model = LogisticRegression().fit(frame, y)
    fits = [(model, np.arange(0, 100)), (model, np.arange(100, 200)), (model, np.arange(200, 300))]
    [one] = importances(fits, frame, y, TWO, metric="roc_auc", seed=0)
    assert one["low"] is not None
    assert one["low"] < one["drop"] < one["high"]


def worst(frame):
    y = pd.Series(np.where(frame.a > 0, "yes", "no"))
    model = learned(frame, y, LogisticRegression())
    wrong = y.copy()
    wrong[:3] = np.where(y[:3] == "yes", "no", "yes")
    answers = predict(model, frame, wrong, TWO)
    return worst_rows(answers, np.arange(N), frame, ["city", "a"])


def test_the_rows_of_mistakes_are_told_without_texts_that_few_share(frame):
    first = worst(frame)[:3]
    assert {one["row"] for one in first} == {0, 1, 2}
    for one in first:
        assert one["values"] == {"a": frame.a[one["row"]]}
        assert one["rare"] == ["city"]
        assert (one["score"] > 0.5) == (one["predicted"] == "yes")
    assert "Lovelace" not in json.dumps(worst(frame))


def test_without_that_rule_a_name_would_stand_there(frame, monkeypatch):
    monkeypatch.setattr(mistakes, "RARE", 1)
    assert "Lovelace" in json.dumps(worst(frame))
