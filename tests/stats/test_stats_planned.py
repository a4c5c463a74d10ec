"""Standard errors that are told before there is a model, against simulation of the same law."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from penstock.errors import UsageError
from penstock.stats.planned import AUC, R2, auc_se, binary_se, number_se

REPS, N_POSITIVE, N_NEGATIVE = 1500, 120, 280


@pytest.fixture(scope="module")
def answers():
    """Many held-out samples under the law: labels, log-odds of shape (REPS, n)."""
    rng = np.random.default_rng(4)
    distance = np.sqrt(2) * stats.norm.ppf(AUC)
    y = np.repeat([True, False], [N_POSITIVE, N_NEGATIVE])
    base = special.logit(N_POSITIVE / (N_POSITIVE + N_NEGATIVE))
    mean = base + np.where(y, 1, -1) * distance**2 / 2
    return y, mean + distance * rng.standard_normal((REPS, len(y)))


@pytest.mark.parametrize(("area", "n_positive", "n_negative"), [(0.8, 60, 240), (0.95, 30, 30)])
def test_the_error_of_an_area_is_exact_for_exponential_scores(area, n_positive, n_negative):
    rng = np.random.default_rng(8)
    odds = area / (1 - area)  # P(odds · E > E') = odds / (1 + odds) for standard exponential E and E'
    areas = [
        (odds * rng.standard_exponential(n_positive)[:, None] > rng.standard_exponential(n_negative)).mean()
        for _ in range(6000)
    ]
    assert np.mean(areas) == pytest.approx(area, abs=0.003)
    assert np.std(areas) == pytest.approx(auc_se(area, n_positive, n_negative), rel=0.03)


def test_the_law_has_the_area_that_it_is_named_for_and_is_calibrated(answers):
    y, log_odds = answers
    areas = [metrics.roc_auc_score(y, one) for one in log_odds[:200]]
    assert np.mean(areas) == pytest.approx(AUC, abs=0.005)
    rows = np.abs(log_odds) < 0.2  # where it says about one half, about one half are positive
    told = special.expit(log_odds[rows]).mean()
    assert np.broadcast_to(y, log_odds.shape)[rows].mean() == pytest.approx(told, abs=0.01)


@pytest.mark.parametrize("name", ["neg_log_loss", "neg_brier_score", "recall", "roc_auc"])
def test_spread_over_samples_with_fixed_classes(answers, name):
    """Classes are fixed here: for a mean over all rows that is a part of its variance, so it is a lower bound there."""
    y, log_odds = answers
    p = special.expit(log_odds)
    if name == "roc_auc":
        values = [metrics.roc_auc_score(y, one) for one in log_odds[:600]]
    elif name == "recall":
        values = (log_odds[:, y] > 0).mean(axis=1)
    else:
        loss = -np.log(np.where(y, p, 1 - p)) if name == "neg_log_loss" else (y - p) ** 2
        values = loss.mean(axis=1)
    told = binary_se(name, N_POSITIVE, N_NEGATIVE)
    if name in ("recall", "roc_auc"):
        # Hanley and McNeil's own law of scores is another one (exponential): their error is a little larger.
        assert np.std(values) == pytest.approx(told, rel=0.08 if name == "recall" else 0.12)
    else:
        assert 0.75 * told < np.std(values) < 1.05 * told


@pytest.mark.parametrize("name", ["accuracy", "precision", "f1", "balanced_accuracy", "neg_log_loss"])
def test_spread_over_samples_of_rows(name):
    rng = np.random.default_rng(5)
    distance, n = np.sqrt(2) * stats.norm.ppf(AUC), N_POSITIVE + N_NEGATIVE
    y = rng.random((REPS, n)) < N_POSITIVE / n
    log_odds = special.logit(N_POSITIVE / n) + np.where(y, 1, -1) * distance**2 / 2
    log_odds += distance * rng.standard_normal(y.shape)
    said, p = log_odds > 0, special.expit(log_odds)
    tp, fp, fn = (said & y).sum(1), (said & ~y).sum(1), (~said & y).sum(1)
    tn = n - tp - fp - fn
    values = {
        "accuracy": (tp + tn) / n,
        "precision": tp / (tp + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "neg_log_loss": -np.log(np.where(y, p, 1 - p)).mean(1),
    }[name]
    assert np.std(values) == pytest.approx(binary_se(name, N_POSITIVE, N_NEGATIVE), rel=0.08)


@pytest.mark.parametrize("name", ["neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error"])
def test_spread_of_errors_of_a_number(name):
    rng = np.random.default_rng(6)
    errors = 3 * np.sqrt(1 - R2) * rng.standard_normal((4000, 250))
    square = (errors**2).mean(1)
    values = {
        "neg_mean_squared_error": square,
        "neg_root_mean_squared_error": np.sqrt(square),
        "neg_mean_absolute_error": np.abs(errors).mean(1),
    }[name]
    assert np.std(values) == pytest.approx(number_se(name, 3.0, 250), rel=0.05)


def test_spread_of_r_squared():
    rng = np.random.default_rng(7)
    told = rng.standard_normal((4000, 250))
    y = np.sqrt(R2) * told + np.sqrt(1 - R2) * rng.standard_normal(told.shape)
    squares = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(told, y, strict=True)]
    assert np.std(squares) == pytest.approx(number_se("r2", 1.0, 250), rel=0.05)


def test_what_has_no_closed_form_is_not_told():
    assert binary_se("average_precision", 10, 10) is None
    assert number_se("max_error", 1.0, 10) is None
    with pytest.raises(UsageError, match="rows of both classes"):
        auc_se(0.8, 0, 5)
