r"""How wide an interval will be before there is a model: standard errors under a stated law.

Two classes: a calibrated model whose log-odds are normal in either class with one variance (the binormal law), so
strong that its AUC is `AUC`. With :math:`d = \sqrt 2 \, \Phi^{-1}(\mathrm{AUC})` and base rate :math:`\pi` they are
:math:`N(\mathrm{logit}\,\pi \pm d^2/2,\; d^2)`: the log likelihood ratio of two normal laws :math:`d` apart is normal
with variance :math:`d^2` and means :math:`\pm d^2/2` (Green and Swets, 1966, Signal Detection Theory and
Psychophysics), so these log-odds are the true ones. A number: errors are normal, and R² is `R2`. Several classes:
bounds that no model exceeds, or that none with such areas does. Models that are better than that have narrower
intervals, heavier tails wider ones.

With weights, rows of a class count for :math:`(\sum w)^2 / \sum w^2` (Kish 1965, Survey Sampling, 11.7), and a class
for the share of the weight that it has: an estimate with influence :math:`\psi` has the variance
:math:`\sum_c p_c^2 \, E_c \psi^2 / n_c`. Without weights that is :math:`E \psi^2 / n`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
GRID = 2_000
"""Quantiles of either class over which average precision is integrated."""
ALIKE = {
    "f1_micro": "accuracy",
    "precision_micro": "accuracy",
    "recall_micro": "accuracy",
    "recall_weighted": "accuracy",
    "recall_macro": "balanced_accuracy",
}
"""Scorers that are others by another name."""
LOSSES = {
    "neg_log_loss": "log",
    "neg_brier_score": "square",
    "d2_log_loss_score": "log",
    "d2_brier_score": "square",
}
OF_TWO = (
    "roc_auc",
    "average_precision",
    *LOSSES,
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "jaccard",
    "matthews_corrcoef",
    "f1_macro",
    "precision_macro",
    "jaccard_macro",
    *ALIKE,
)
"""Metrics of two classes that `binary_se` knows."""
OF_SEVERAL = (
    "accuracy",
    "top_k_accuracy",
    "balanced_accuracy",
    "roc_auc_ovr",
    "roc_auc_ovr_weighted",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
    *ALIKE,
)
"""Metrics of several classes that `several_se` knows."""
OF_NUMBERS = (
    "neg_root_mean_squared_error",
    "neg_mean_squared_error",
    "neg_mean_absolute_error",
    "neg_median_absolute_error",
    "r2",
    "explained_variance",
    "d2_absolute_error_score",
)
"""Metrics of a number that `number_se` knows."""


def auc_se(area: float, n_positive: float, n_negative: float) -> float:
    r"""Standard error of an area under the ROC curve (Hanley and McNeil, 1982, Radiology 143:29, equation 1).

    .. math:: \sqrt{\frac{A(1-A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2)}{n_+ n_-}}, \quad
              Q_1 = \frac{A}{2-A}, \; Q_2 = \frac{2A^2}{1+A}

    Exact where the scores of both classes are exponential; for normal ones a little too large.

    Parameters
    ----------
    area : float
        In (0, 1).
    n_positive, n_negative : float
        From 1; with weights, what they are worth.

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


def binary_se(metric: str, n_positive: float, n_negative: float, share: float | None = None) -> float | None:
    """Standard error of a metric of two classes under the law of this module; None for one that is not known.

    Ratios of counts by the delta method on the multinomial of the four cells (Agresti, 2013, Categorical Data
    Analysis, 16.1), at the threshold of one half; means of a loss by their variance under the law, and their ratios to
    the loss of the base rate by the delta method; average precision by its influence function (see `_precision_se`).

    Parameters
    ----------
    metric : str
        A scorer's name.
    n_positive, n_negative : float
        From 1; with weights, what the rows of a class are worth.
    share : float, optional
        Of the positive class in the weight; by default of the rows.

    Examples
    --------
    >>> round(binary_se("roc_auc", 374, 1035), 4)
    0.0147
    >>> binary_se("f1_weighted", 374, 1035) is None
    True
    """
    metric = ALIKE.get(metric, metric)
    share = n_positive / (n_positive + n_negative) if share is None else share
    rows = np.array([n_positive, n_negative])
    if metric == "roc_auc":
        return auc_se(AUC, n_positive, n_negative)
    if metric == "average_precision":
        return _precision_se(share, rows)
    if metric in LOSSES:
        return _loss_se(metric, share, rows)
    cells = _cells(share)
    slope = _slope(metric, cells)
    if slope is None:
        return None
    squares = cells * (slope - cells @ slope) ** 2
    return math.sqrt(share * squares[:2].sum() / n_positive + (1 - share) * squares[2:].sum() / n_negative)


def several_se(metric: str, rows: Sequence[float], shares: Sequence[float] | None = None) -> float | None:
    r"""A bound on the standard error of a metric of several classes; None for one that is not known.

    A share of rows has at most :math:`\sqrt{\sum_k p_k^2 / 4 n_k}`, a mean of recalls at most
    :math:`\sqrt{\sum_k 1 / 4 n_k} / K`. A mean of areas errs at most as the mean of their errors does, whatever their
    correlation; each is taken at `AUC`.

    Parameters
    ----------
    metric : str
        A scorer's name.
    rows : sequence of float, one a class
        From 1; with weights, what the rows of a class are worth.
    shares : sequence of float, optional
        Of the classes in the weight; by default of the rows.

    Examples
    --------
    >>> round(several_se("accuracy", [100, 100, 200]), 4), round(several_se("balanced_accuracy", [100, 100, 200]), 4)
    (0.025, 0.0264)
    """
    metric, n = ALIKE.get(metric, metric), np.asarray(rows, dtype=np.float64)
    share = n / n.sum() if shares is None else np.asarray(shares, dtype=np.float64)
    if metric in ("accuracy", "top_k_accuracy"):
        return math.sqrt(float((share**2 / (4 * n)).sum()))
    if metric == "balanced_accuracy":
        return math.sqrt(float((1 / (4 * n)).sum())) / len(n)
    if metric in ("roc_auc_ovr", "roc_auc_ovr_weighted"):
        errors = np.array([auc_se(AUC, one, n.sum() - one) for one in n])
        return float(share @ errors if metric.endswith("weighted") else errors.mean())
    if metric in ("roc_auc_ovo", "roc_auc_ovo_weighted"):
        pairs = [(i, j) for i in range(len(n)) for j in range(i)]
        errors = np.array([auc_se(AUC, n[i], n[j]) for i, j in pairs])
        weight = np.array([share[i] + share[j] for i, j in pairs]) if metric.endswith("weighted") else None
        return float(np.average(errors, weights=weight))
    return None


def number_se(metric: str, deviation: float, n: float) -> float | None:
    r"""Standard error of a metric of a number under the law of this module; None for one that is not known.

    Errors are :math:`N(0, \sigma^2)` with :math:`\sigma^2 = (1 - R^2)` times the variance of the target: squares of
    them have variance :math:`2\sigma^4`, absolute ones :math:`(1 - 2/\pi)\sigma^2`, their median :math:`m` has
    :math:`1 / 4 n f(m)^2` with the density :math:`f` of absolute errors (van der Vaart 1998, Asymptotic Statistics,
    21.2); for R² itself :math:`4R^2(1-R^2)^2/n` (Olkin and Finn, 1995, Psychological Bulletin 118:155), and the share
    of the variance that is explained has the same, since the mean error is known to the first order. The ratio of mean
    absolute errors by the delta method, with the covariance of absolute values of a normal pair (Leone, Nelson and
    Nottingham 1961, Technometrics 3:543).

    Parameters
    ----------
    metric : str
        A scorer's name.
    deviation : float
        Standard deviation of the target.
    n : float
        Held-out rows; with weights, what they are worth.

    Examples
    --------
    >>> round(number_se("neg_mean_squared_error", 2.0, 200), 3)
    0.2
    """
    left = math.sqrt(1 - R2)  # both the errors' part of the deviation, and their correlation with the target
    error = deviation * left
    middle = float(special.ndtri(0.75))
    density = 2 * math.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
    shared = 2 / math.pi * (math.sqrt(1 - left**2) + left * math.asin(left) - 1)
    known = {
        "neg_mean_squared_error": error**2 * math.sqrt(2 / n),
        "neg_root_mean_squared_error": error / math.sqrt(2 * n),
        "neg_mean_absolute_error": error * math.sqrt((1 - 2 / math.pi) / n),
        "neg_median_absolute_error": error / (2 * density * math.sqrt(n)),
        "r2": 2 * math.sqrt(R2) * (1 - R2) / math.sqrt(n),
        "explained_variance": 2 * math.sqrt(R2) * (1 - R2) / math.sqrt(n),
        # With A and B the mean absolute errors of the model and of the median, both in deviations of their own, A / B
        # is 1 and the ratio is `left` times it.
        "d2_absolute_error_score": left * math.sqrt(math.pi / 2 * (2 * (1 - 2 / math.pi) - 2 * shared) / n),
    }
    return known.get(metric)


def _distance() -> float:
    """How many deviations the two normal laws of log-odds are apart."""
    return math.sqrt(2) * float(special.ndtri(AUC))


def _loss_se(metric: str, share: float, rows: Floats) -> float:
    """Of a mean loss, or of one minus its ratio to the loss of the base rate, by Gauss–Hermite quadrature."""
    distance, base = _distance(), float(special.logit(share))
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight, mass = weight / weight.sum(), np.array([share, 1 - share])
    sign = np.array([[1.0], [-1.0]])
    log_odds = base + sign * distance**2 / 2 + distance * node  # of shape (2, NODES): positive rows, negative ones
    wrong = special.expit(-sign * log_odds)
    loss = np.logaddexp(0.0, -sign * log_odds) if LOSSES[metric] == "log" else wrong**2
    mean = float(mass @ (loss @ weight))
    influence = loss - mean
    if metric.startswith("d2_"):
        log = LOSSES[metric] == "log"
        simple = float(special.entr(mass).sum()) if log else share * (1 - share)
        slope = -base if log else 1 - 2 * share
        influence = mean * slope / simple**2 * (np.array([[1.0], [0.0]]) - share) - influence / simple
    return math.sqrt(float(mass**2 @ ((influence**2) @ weight / rows)))


def _precision_se(share: float, rows: Floats) -> float:
    r"""Of average precision, by its influence function (the functional delta method; van der Vaart 1998, 20.1).

    It is :math:`E_+ h(x)` with the precision :math:`h = \pi S_+ / (\pi S_+ + (1-\pi) S_-)` among rows with a score of
    :math:`x` or more, of which the classes have the shares :math:`S_+` and :math:`S_-`. The latter, and the base rate
    :math:`\pi`, are estimated with it: the derivatives of :math:`h` by each of the three tell what that adds.
    """
    distance = _distance()
    middle = (np.arange(GRID) + 0.5) / GRID
    negative = special.ndtri(middle)  # scores in deviations; those of positive rows lie a distance further up
    positive = negative + distance
    upper, lower = special.ndtr(distance - positive), special.ndtr(-positive)
    said = share * upper + (1 - share) * lower
    precision = share * upper / said
    by_upper = share * (1 - share) * lower / said**2
    by_lower = -share * (1 - share) * upper / said**2
    by_share = float((upper * lower / said**2).mean())
    of_positive = precision - precision.mean() + by_upper.cumsum() / GRID - (by_upper * upper).mean()
    below = np.append(0.0, by_lower.cumsum() / GRID)[np.searchsorted(positive, negative, side="right")]
    variances = np.array([of_positive.var(), below.var()])
    return math.sqrt(float(((variances + (by_share * share * (1 - share)) ** 2) / rows).sum()))


def _cells(share: float) -> Floats:
    """Shares of true positives, false negatives, false positives and true negatives at the threshold of one half."""
    distance, base = _distance(), float(special.logit(share))
    found = share * special.ndtr((base + distance**2 / 2) / distance)
    false = (1 - share) * special.ndtr((base - distance**2 / 2) / distance)
    return np.array([found, share - found, false, 1 - share - false])


def _slope(metric: str, cells: Floats) -> Floats | None:
    """Gradient of a ratio of counts by the four cells; of a mean over both classes that of either, halved."""
    single, macro, _ = metric.partition("_macro")
    if macro:
        one, other = _slope(single, cells), _slope(single, cells[::-1])
        return None if one is None or other is None else (one + other[::-1]) / 2
    tp, fn, fp, tn = cells
    positive, negative, twice = tp + fn, fp + tn, 2 * tp + fn + fp
    recall = np.array([fn, -tp, 0.0, 0.0]) / positive**2
    known = {
        "accuracy": np.array([1.0, 0.0, 0.0, 1.0]),
        "recall": recall,
        "precision": np.array([fp, 0.0, -tp, 0.0]) / (tp + fp) ** 2,
        "f1": np.array([2 * (fn + fp), -2 * tp, -2 * tp, 0.0]) / twice**2,
        "jaccard": np.array([fn + fp, -tp, -tp, 0.0]) / (tp + fn + fp) ** 2,
        "balanced_accuracy": (recall + np.array([0.0, 0.0, -tn, fp]) / negative**2) / 2,
        "matthews_corrcoef": _phi_slope(cells),
    }
    return known.get(metric)


def _phi_slope(cells: Floats) -> Floats:
    """Of the correlation of two labels: that of its numerator, less half of what its four margins take of it."""
    tp, fn, fp, tn = cells
    margins = {(1, 1, 0, 0): tp + fn, (0, 0, 1, 1): fp + tn, (1, 0, 1, 0): tp + fp, (0, 1, 0, 1): fn + tn}
    scale = math.sqrt(math.prod(float(one) for one in margins.values()))
    taken = sum(np.array(inside) / margin for inside, margin in margins.items())
    found: Floats = np.array([tn, -fp, -fn, tp]) / scale - (tp * tn - fn * fp) / scale / 2 * taken
    return found
