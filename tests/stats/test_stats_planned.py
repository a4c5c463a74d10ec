"""Standard errors that are told before there is a model, against simulation of the same law."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from penstock.core.names import SCORERS
from penstock.errors import UsageError
from penstock.stats.planned import (
    ALIKE,
    AUC,
    OF_NUMBERS,
    OF_SEVERAL,
    OF_TWO,
    R2,
    auc_se,
    binary_se,
    number_se,
    several_se,
)

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


def areas(y, scores):
    """Areas under the ROC curve of many samples, scores of shape (reps, n), by ranks."""
    n = y.sum()
    return (stats.rankdata(scores, axis=1)[:, y].sum(1) - n * (n + 1) / 2) / (n * (~y).sum())


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
    assert metrics.roc_auc_score(y, log_odds[0]) == pytest.approx(areas(y, log_odds)[0])
    assert np.mean(areas(y, log_odds)) == pytest.approx(AUC, abs=0.005)
    rows = np.abs(log_odds) < 0.2  # where it says about one half, about one half are positive
    told = special.expit(log_odds[rows]).mean()
    assert np.broadcast_to(y, log_odds.shape)[rows].mean() == pytest.approx(told, abs=0.01)


@pytest.mark.parametrize("name", ["neg_log_loss", "neg_brier_score", "recall", "roc_auc"])
def test_spread_over_samples_with_fixed_classes(answers, name):
    """Classes are fixed here: for a mean over all rows that is a part of its variance, so it is a lower bound there."""
    y, log_odds = answers
    p = special.expit(log_odds)
    if name == "roc_auc":
        values = areas(y, log_odds)
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


def drawn(n, share, reps, seed=5):
    """Labels and log-odds under the law, rows drawn at random: of shape (reps, n)."""
    rng = np.random.default_rng(seed)
    distance = np.sqrt(2) * stats.norm.ppf(AUC)
    y = rng.random((reps, n)) < share
    return y, special.logit(share) + np.where(y, 1, -1) * distance**2 / 2 + distance * rng.standard_normal(y.shape)


OF_COUNTS = {
    "accuracy": lambda tp, fn, fp, tn: (tp + tn) / (tp + fn + fp + tn),
    "precision": lambda tp, _fn, fp, _tn: tp / (tp + fp),
    "recall": lambda tp, fn, _fp, _tn: tp / (tp + fn),
    "f1": lambda tp, fn, fp, _tn: 2 * tp / (2 * tp + fp + fn),
    "jaccard": lambda tp, fn, fp, _tn: tp / (tp + fp + fn),
    "balanced_accuracy": lambda tp, fn, fp, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2,
    "f1_macro": lambda tp, fn, fp, tn: tp / (2 * tp + fp + fn) + tn / (2 * tn + fp + fn),
    "jaccard_macro": lambda tp, fn, fp, tn: (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2,
    "precision_macro": lambda tp, fn, fp, tn: (tp / (tp + fp) + tn / (tn + fn)) / 2,
    "matthews_corrcoef": lambda tp, fn, fp, tn: (
        (tp * tn - fp * fn) / np.sqrt((tp + fn) * (tp + fp) * (tn + fp) * (tn + fn))
    ),
}


@pytest.fixture(scope="module")
def rows_drawn():
    return drawn(N_POSITIVE + N_NEGATIVE, N_POSITIVE / (N_POSITIVE + N_NEGATIVE), REPS)


@pytest.mark.parametrize("name", OF_COUNTS)
def test_spread_of_ratios_of_counts_over_samples_of_rows(name, rows_drawn):
    y, log_odds = rows_drawn
    said = log_odds > 0
    cells = [(said & y).sum(1), (~said & y).sum(1), (said & ~y).sum(1), (~said & ~y).sum(1)]
    values = OF_COUNTS[name](*(one.astype(float) for one in cells))
    assert np.std(values) == pytest.approx(binary_se(name, N_POSITIVE, N_NEGATIVE), rel=0.08)


@pytest.mark.parametrize("name", ["neg_log_loss", "d2_log_loss_score", "neg_brier_score", "d2_brier_score"])
def test_spread_of_losses_over_samples_of_rows(name, rows_drawn):
    y, log_odds = rows_drawn
    p, share = special.expit(log_odds), y.mean(1)
    log = "log" in name
    loss = (-np.log(np.where(y, p, 1 - p)) if log else (y - p) ** 2).mean(1)
    simple = special.entr(share) + special.entr(1 - share) if log else share * (1 - share)
    values = 1 - loss / simple if name.startswith("d2_") else loss
    assert np.std(values) == pytest.approx(binary_se(name, N_POSITIVE, N_NEGATIVE), rel=0.08)


@pytest.mark.parametrize(("n", "share"), [(400, 0.3), (1500, 0.06)])
def test_spread_of_average_precision_over_samples_of_rows(n, share):
    values = [metrics.average_precision_score(*one) for one in zip(*drawn(n, share, 500), strict=True)]
    assert np.std(values) == pytest.approx(binary_se("average_precision", n * share, n * (1 - share)), rel=0.1)


@pytest.mark.parametrize("name", ["neg_log_loss", "accuracy", "recall", "average_precision"])
def test_spread_where_rows_of_one_class_weigh_more(name):
    """A quarter of the rows is positive, the others weigh three times as much: a tenth of the weight is positive."""
    n, heavy = 600, 3.0
    whole = 1 / 4 + heavy * 3 / 4
    y, log_odds = drawn(n, 0.25, 500)
    log_odds += special.logit(0.25 / whole) - special.logit(0.25)  # calibrated to the weighted rows
    weight = np.where(y, 1.0, heavy)
    said, p = log_odds > 0, special.expit(log_odds)
    if name == "average_precision":
        values = [metrics.average_precision_score(a, b, sample_weight=w) for a, b, w in
                  zip(y, log_odds, weight, strict=True)]  # fmt: skip
    elif name == "recall":
        values = (said & y).sum(1) / y.sum(1)
    else:
        row = -np.log(np.where(y, p, 1 - p)) if name == "neg_log_loss" else said == y
        values = (weight * row).sum(1) / weight.sum(1)
    told = binary_se(name, n / 4, 3 * n / 4, share=0.25 / whole)
    assert np.std(values) == pytest.approx(told, rel=0.1)
    assert told != pytest.approx(binary_se(name, n / 4, 3 * n / 4), rel=0.1)


@pytest.fixture(scope="module")
def classes_drawn():
    """Labels of three classes, and their probabilities in many samples, each class with an area of about 0.8."""
    y = np.repeat([0, 1, 2], [60, 90, 150])
    score = np.random.default_rng(3).standard_normal((400, 300, 3)) + 1.05 * np.eye(3)[y]
    return y, special.softmax(score, axis=2)


def several_figures(name, y, p):
    right = p.argmax(2) == y
    if name in ("accuracy", "top_k_accuracy"):
        return right.mean(1) if name == "accuracy" else (p.argmin(2) != y).mean(1)
    if name == "balanced_accuracy":
        return np.mean([right[:, y == k].mean(1) for k in range(3)], axis=0)
    if "ovr" in name:
        each = [(areas(y == k, p[:, :, k]), (y == k).mean()) for k in range(3)]
    else:
        pairs = [(i, j) for i in range(3) for j in range(i)]
        each = [(np.mean([areas(y[some] == a, p[:, some, a]) for a in (i, j)], axis=0), some.mean())
                for i, j in pairs for some in [(y == i) | (y == j)]]  # fmt: skip
    weights = [share for _, share in each] if name.endswith("weighted") else None
    return np.average([area for area, _ in each], axis=0, weights=weights)


@pytest.mark.parametrize("name", [name for name in OF_SEVERAL if name not in ALIKE])
def test_of_several_classes_no_spread_exceeds_the_bound(name, classes_drawn):
    spread, told = np.std(several_figures(name, *classes_drawn)), several_se(name, [60, 90, 150])
    assert 0.4 * told < spread < 1.04 * told  # of 400 samples


OF_ERRORS = ("neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error",
             "neg_median_absolute_error")  # fmt: skip


@pytest.mark.parametrize("name", OF_ERRORS)
def test_spread_of_errors_of_a_number(name):
    rng = np.random.default_rng(6)
    errors = 3 * np.sqrt(1 - R2) * rng.standard_normal((4000, 250))
    square = (errors**2).mean(1)
    values = {
        "neg_mean_squared_error": square,
        "neg_root_mean_squared_error": np.sqrt(square),
        "neg_mean_absolute_error": np.abs(errors).mean(1),
        "neg_median_absolute_error": np.median(np.abs(errors), axis=1),
    }[name]
    assert np.std(values) == pytest.approx(number_se(name, 3.0, 250), rel=0.05)


def test_spread_of_r_squared():
    rng = np.random.default_rng(7)
    told = rng.standard_normal((4000, 250))
    y = np.sqrt(R2) * told + np.sqrt(1 - R2) * rng.standard_normal(told.shape)
    squares = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(told, y, strict=True)]
    assert np.std(squares) == pytest.approx(number_se("r2", 1.0, 250), rel=0.05)


@pytest.mark.parametrize("name", ["explained_variance", "d2_absolute_error_score"])
def test_spread_of_shares_that_are_explained(name):
    rng = np.random.default_rng(8)
    told = np.sqrt(R2) * rng.standard_normal((3000, 250))
    y = told + np.sqrt(1 - R2) * rng.standard_normal(told.shape)
    if name == "explained_variance":
        values = 1 - (y - told).var(axis=1) / y.var(axis=1)
    else:
        values = 1 - np.abs(y - told).mean(1) / np.abs(y - np.median(y, axis=1)[:, None]).mean(1)
    assert np.std(values) == pytest.approx(number_se(name, 1.0, 250), rel=0.06)


def test_every_name_is_known_and_is_a_scorer():
    for names, se in ((OF_TWO, lambda name: binary_se(name, 40, 60)),
                      (OF_SEVERAL, lambda name: several_se(name, [40, 60])),
                      (OF_NUMBERS, lambda name: number_se(name, 1.0, 100))):  # fmt: skip
        assert set(names) <= set(SCORERS)
        assert all(se(name) > 0 for name in names)


def test_what_has_no_closed_form_is_not_told():
    assert binary_se("f1_weighted", 10, 10) is None
    assert several_se("neg_log_loss", [10, 10, 10]) is None
    assert number_se("max_error", 1.0, 10) is None
    with pytest.raises(UsageError, match="rows of both classes"):
        auc_se(0.8, 0, 5)
