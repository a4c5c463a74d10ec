"""Intervals hold the figure and cover; differences have the right sign, size and error rate."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from penstock.core.names import CLASSIFICATION_SCORERS, REGRESSION_SCORERS
from penstock.stages import scoring
from penstock.stages.predicted import Predicted
from penstock.stages.problem import Problem
from penstock.stages.uncertainty import difference, interval, interval_over_folds

BINARY = Problem("binary", (0, 1))
NUMBER = Problem("regression")


def classes(rng, n=400, noise=1.0, y=None):
    y = (rng.random(n) < 0.4).astype(int) if y is None else y
    p = 1 / (1 + np.exp(-(2 * y - 1 + noise * rng.normal(size=len(y)))))
    return Predicted(BINARY, y, np.column_stack([p > 0.5, 1 - p, p]).astype(float), proba=slice(1, 3))


def numbers(rng, n=300, noise=1.0, y=None):
    y = rng.exponential(size=n) + 0.5 if y is None else y
    return Predicted(NUMBER, y, np.maximum(y + noise * rng.normal(size=len(y)), 0.01)[:, None])


@pytest.mark.parametrize("name", [n for n in CLASSIFICATION_SCORERS if n not in scoring.NEEDS_MULTICLASS])
def test_an_interval_holds_its_figure(name):
    predicted = classes(np.random.default_rng(0))
    found = interval(name, predicted, n_boot=50)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(scoring.figure(name, predicted))


@pytest.mark.parametrize("name", REGRESSION_SCORERS)
def test_an_interval_of_a_number_holds_its_figure(name):
    predicted = numbers(np.random.default_rng(0))
    found = interval(name, predicted, n_boot=50)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(scoring.figure(name, predicted))


def test_closed_forms_come_first():
    rng = np.random.default_rng(0)
    methods = {name: interval(name, classes(rng)).method for name in ("roc_auc", "accuracy", "recall", "neg_log_loss")}
    assert methods == {"roc_auc": "DeLong, logit", "accuracy": "Wilson", "recall": "Wilson", "neg_log_loss": "t"}
    assert interval("neg_root_mean_squared_error", numbers(rng)).method == "t"
    assert interval("f1", classes(rng)).method == "Wilson of hits, through F1"
    assert interval("balanced_accuracy", classes(rng)).method == "multinomial cells, logit"
    assert interval("r2", numbers(rng)).method == "t of a ratio"
    assert "bootstrap, 400" in interval("average_precision", classes(rng)).method


@pytest.mark.parametrize("name", ["neg_log_loss", "neg_root_mean_squared_error", "r2"])
def test_intervals_cover(name):
    """200 draws of 400 rows: nominal 0.95, Monte-Carlo error 1.5 points."""
    make = classes if name == "neg_log_loss" else numbers
    kwargs = {} if name == "neg_log_loss" else {"noise": 0.5}
    truth = scoring.figure(name, make(np.random.default_rng(99), n=400_000, **kwargs))
    hits = 0
    for seed in range(200):
        found = interval(name, make(np.random.default_rng(seed), n=400, **kwargs), seed=seed, n_boot=100)
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / 200 <= 0.99


@pytest.mark.parametrize("name", ["roc_auc", "neg_log_loss", "accuracy", "f1", "average_precision", "neg_brier_score"])
def test_a_better_model_has_a_positive_difference_and_swapping_turns_it(name):
    rng = np.random.default_rng(1)
    good = classes(rng, 2000, noise=0.7)
    poor = classes(rng, noise=2.0, y=good.y)
    there, back = difference(name, good, poor, n_boot=100), difference(name, poor, good, n_boot=100)
    assert there.low > 0 > back.high
    assert there.value == pytest.approx(-back.value)
    assert there.value == pytest.approx(scoring.figure(name, good) - scoring.figure(name, poor))


def test_a_root_is_compared_by_the_delta_method():
    """Its standard error equals that of resampling."""
    rng = np.random.default_rng(2)
    a = numbers(rng, 1000, noise=0.5)
    b = numbers(rng, noise=0.6, y=a.y)
    name = "neg_root_mean_squared_error"
    found = difference(name, a, b)
    drawn = [rng.integers(0, 1000, 1000) for _ in range(400)]
    resampled = [scoring.figure(name, a.take(rows)) - scoring.figure(name, b.take(rows)) for rows in drawn]
    assert found.value == pytest.approx(scoring.figure(name, a) - scoring.figure(name, b))
    assert found.se == pytest.approx(np.std(resampled), rel=0.15)


def test_models_that_answer_in_different_ways_are_compared():
    rng = np.random.default_rng(3)
    proba = classes(rng)
    logit = np.log(proba.answers[:, 2] / proba.answers[:, 1])
    decision = Predicted(BINARY, proba.y, np.column_stack([proba.answers[:, 0], logit]), decision=slice(1, 2))
    for name in ("roc_auc", "average_precision", "f1"):
        assert difference(name, proba, decision, n_boot=50).value == pytest.approx(0, abs=1e-12)
    assert difference("f1", proba, decision, n_boot=50).n_informative == 0


def test_what_cannot_be_known_has_open_bounds():
    one_class = classes(np.random.default_rng(0), y=np.ones(50, dtype=int))
    found = interval("roc_auc", one_class)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isnan(found.value)
    apart = difference("roc_auc", one_class, one_class)
    assert (apart.low, apart.high) == (-math.inf, math.inf)


def test_areas_are_averaged_over_folds_not_pooled():
    """Fits on different scales: pooled, the area of a perfect ranking within each fold would fall."""
    rng = np.random.default_rng(4)
    y = np.tile([0, 1], 200)
    fold = np.repeat([0, 1], 200)
    p = np.clip(0.25 + 0.1 * y + 0.4 * fold + 0.05 * rng.normal(size=400), 0.01, 0.99)
    predicted = Predicted(BINARY, y, np.column_stack([p > 0.5, 1 - p, p]).astype(float), proba=slice(1, 3))
    by_fold = np.mean([roc_auc_score(y[fold == k], p[fold == k]) for k in (0, 1)])
    found = interval_over_folds("roc_auc", predicted, fold)
    assert found.value == pytest.approx(by_fold)
    assert found.low < by_fold < found.high
    assert interval("roc_auc", predicted).high < found.low
