r"""How wide an interval will be before there is a model: standard errors under a stated law.

Two classes: a calibrated model whose log-odds are normal in either class with one variance (the binormal law), so
strong that its AUC is `AUC`. With :math:`d = \sqrt 2 \, \Phi^{-1}(\mathrm{AUC})` and base rate :math:`\pi` they are
:math:`N(\mathrm{logit}\,\pi \pm d^2/2,\; d^2)`: the log likelihood ratio of two normal laws :math:`d` apart is normal
with variance :math:`d^2` and means :math:`\pm d^2/2` (Green and Swets, 1966, Signal Detection Theory and
Psychophysics), so these log-odds are the true ones. A number: errors are normal, and R² is `R2`. Models that are better
than that have narrower intervals, heavier tails wider ones.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from penstock.errors import UsageError
from penstock.stats.checks import Floats

AUC = 0.8
"""How strong the model of two classes is taken to be."""
R2 = 0.5
"""How strong the model of a number is taken to be."""
NODES = 64
"""Of the Gauss–Hermite quadrature."""


def auc_se(area: float, n_positive: int, n_negative: int) -> float:
    r"""Standard error of an area under the ROC curve (Hanley and McNeil, 1982, Radiology 143:29, equation 1).

    .. math:: \sqrt{\frac{A(1-A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2)}{n_+ n_-}}, \quad
              Q_1 = \frac{A}{2-A}, \; Q_2 = \frac{2A^2}{1+A}

    Exact where the scores of both classes are exponential; for normal ones a little too large.

    Parameters
    ----------
    area : float
        In (0, 1).
    n_positive, n_negative : int
        From 1.

    Raises
    ------
    UsageError
        If a class is empty or the area is none.

    Examples
    --------
    >>> round(auc_se(0.8, 100, 400), 4)
    0.0279
    """
    if not 0 < area < 1 or n_positive < 1 or n_negative < 1:
        raise UsageError(f"an area in (0, 1) and rows of both classes are needed: {area}, {n_positive}, {n_negative}")
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n_positive - 1) * (one - area**2) + (n_negative - 1) * (two - area**2)
    return math.sqrt(spread / (n_positive * n_negative))


def binary_se(metric: str, n_positive: int, n_negative: int) -> float | None:
    """Standard error of a metric of two classes under the law of this module; None for one that has no closed form.

    Ratios of counts by the delta method on the multinomial of the four cells (Agresti, 2013, Categorical Data
    Analysis, 16.1), at the threshold of one half; means of a loss by their variance under the law.

    Parameters
    ----------
    metric : str
        A scorer's name.
    n_positive, n_negative : int
        From 1.

    Examples
    --------
    >>> round(binary_se("roc_auc", 374, 1035), 4)
    0.0147
    >>> binary_se("average_precision", 374, 1035) is None
    True
    """
    if metric == "roc_auc":
        return auc_se(AUC, n_positive, n_negative)
    n = n_positive + n_negative
    if metric in ("neg_log_loss", "neg_brier_score"):
        return math.sqrt(_loss_variance(metric, n_positive / n) / n)
    cells = _cells(n_positive / n)
    slope = _slope(metric, cells)
    return None if slope is None else math.sqrt((cells @ slope**2 - (cells @ slope) ** 2) / n)


def number_se(metric: str, deviation: float, n: int) -> float | None:
    r"""Standard error of a metric of a number under the law of this module; None for one that has no closed form.

    Errors are :math:`N(0, \sigma^2)` with :math:`\sigma^2 = (1 - R^2)` times the variance of the target: squares of
    them have variance :math:`2\sigma^4`, absolute ones :math:`(1 - 2/\pi)\sigma^2`; for R² itself
    :math:`4R^2(1-R^2)^2/n` (Olkin and Finn, 1995, Psychological Bulletin 118:155).

    Parameters
    ----------
    metric : str
        A scorer's name.
    deviation : float
        Standard deviation of the target.
    n : int
        Held-out rows.

    Examples
    --------
    >>> round(number_se("neg_mean_squared_error", 2.0, 200), 3)
    0.2
    """
    error = deviation * math.sqrt(1 - R2)
    known = {
        "neg_mean_squared_error": error**2 * math.sqrt(2 / n),
        "neg_root_mean_squared_error": error / math.sqrt(2 * n),
        "neg_mean_absolute_error": error * math.sqrt((1 - 2 / math.pi) / n),
        "r2": 2 * math.sqrt(R2) * (1 - R2) / math.sqrt(n),
    }
    return known.get(metric)


def _distance() -> float:
    """How many deviations the two normal laws of log-odds are apart."""
    return math.sqrt(2) * float(special.ndtri(AUC))


def _loss_variance(metric: str, share: float) -> float:
    """Variance of a row's loss under the law, by Gauss–Hermite quadrature over the log-odds of either class."""
    distance, base = _distance(), float(special.logit(share))
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = weight / weight.sum()
    mean = square = 0.0
    for sign, mass in ((1.0, share), (-1.0, 1 - share)):
        log_odds = base + sign * distance**2 / 2 + distance * node
        wrong = special.expit(-sign * log_odds)
        loss = np.logaddexp(0.0, -sign * log_odds) if metric == "neg_log_loss" else wrong**2
        mean += mass * float(weight @ loss)
        square += mass * float(weight @ loss**2)
    return square - mean**2


def _cells(share: float) -> Floats:
    """Shares of true positives, false negatives, false positives and true negatives at the threshold of one half."""
    distance, base = _distance(), float(special.logit(share))
    found = share * special.ndtr((base + distance**2 / 2) / distance)
    false = (1 - share) * special.ndtr((base - distance**2 / 2) / distance)
    return np.array([found, share - found, false, 1 - share - false])


def _slope(metric: str, cells: Floats) -> Floats | None:
    """Gradient of a ratio of counts by the four cells."""
    tp, fn, fp, tn = cells
    positive, negative, twice = tp + fn, fp + tn, 2 * tp + fn + fp
    recall = np.array([fn, -tp, 0.0, 0.0]) / positive**2
    known = {
        "accuracy": np.array([1.0, 0.0, 0.0, 1.0]),
        "recall": recall,
        "precision": np.array([fp, 0.0, -tp, 0.0]) / (tp + fp) ** 2,
        "f1": np.array([2 * (fn + fp), -2 * tp, -2 * tp, 0.0]) / twice**2,
        "balanced_accuracy": (recall + np.array([0.0, 0.0, -tn, fp]) / negative**2) / 2,
    }
    return known.get(metric)
