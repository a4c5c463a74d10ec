"""Area under the ROC curve with its exact U-statistic covariance (DeLong), in O(n log n)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Bools, Floats, codes, labels, same_length, vector
from penstock.stats.intervals import Interval, normal_quantile, t_quantile, wilson_interval
from penstock.stats.weighting import checked_weights, effective_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def placements(y: Bools, score: Floats, weights: Floats | None = None) -> Floats:
    """For each row, the share of the other class that it is ranked on the right side of; ties count half.

    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837. One sort of the scores, as
    in Sun & Xu (2014), IEEE Signal Processing Letters 21:1389; the mean over either class is the area.

    Parameters
    ----------
    y : bool array of shape (n,)
        Both classes occur.
    score : float array of shape (n,)
        Higher means more likely positive; no NaN.
    weights : float array of shape (n,), optional
        Shares are then of the other class's weight.

    Returns
    -------
    float array of shape (n,)

    Examples
    --------
    >>> placements(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
    array([0.75, 0.5 , 1.  ])
    >>> placements(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]), np.array([1.0, 1.0, 3.0]))
    array([0.875, 0.5  , 1.   ])
    """
    order = np.argsort(score)
    ranked = score[order]
    positive = y[order]
    n = len(ranked)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each run of ties
    size = np.diff(last, prepend=-1)
    mass = positive if weights is None else np.where(positive, weights[order], 0.0)
    weight_to = last + 1 if weights is None else np.cumsum(weights[order])[last]
    positives_to = np.cumsum(mass)[last]
    positives_in = np.diff(positives_to, prepend=0)
    below = positives_to - positives_in / 2  # positives below the run, with half of those in it
    weight_in = size if weights is None else np.diff(weight_to, prepend=0)
    negatives_below = (weight_to - positives_to) - (weight_in - positives_in) / 2
    n_positive = positives_to[-1]
    share_for_positive = negatives_below / (weight_to[-1] - n_positive)
    share_for_negative = 1.0 - below / n_positive
    ranked_share = np.where(positive, np.repeat(share_for_positive, size), np.repeat(share_for_negative, size))
    result = np.empty(n)
    result[order] = ranked_share
    return result


def roc_auc(y: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive row outranks a negative one, ties counting half.

    Parameters
    ----------
    y : array of shape (n,)
        0/1 or booleans; 1 is the positive class.
    score : array of shape (n,)
    weights : array of shape (n,), optional
        Rows are then drawn in proportion to their weights.

    Raises
    ------
    DataError
        If only one class occurs (among rows that have a weight), or a score is NaN.
    UsageError
        If lengths differ.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    positive, scores = _checked(y, np.asarray(score)[np.newaxis])
    w = class_weights(positive, weights)
    share = placements(positive, scores[0], w)[positive]
    return float(share.mean() if w is None else w[positive] @ share / w[positive].sum())


def class_weights(positive: Bools, weights: ArrayLike | None) -> Floats | None:
    """Weights that give either class some; None for unweighted rows.

    Raises
    ------
    DataError
        If the rows of a class weigh nothing together.
    UsageError
        If they are no weights.
    """
    w = checked_weights(weights, len(positive))
    if w is not None and not (w[positive].sum() > 0 and w[~positive].sum() > 0):
        raise DataError("the area under the ROC curve needs both classes among the rows that have a weight")
    return w


def delong(
    y: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None, weights: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Areas of k scores on the same rows, and the covariance of the areas.

    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837.

    Parameters
    ----------
    y : array of shape (n,)
        0/1 or booleans; 1 is the positive class.
    scores : array of shape (k, n)
    clusters : array of shape (n,), optional
        Rows with the same label are dependent (visits of one patient); a cluster may hold both classes. The
        covariance is then that of the sums of the rows' influences over clusters, after Obuchowski (1997),
        Biometrics 53:567.
    weights : array of shape (n,), optional
        Sampling weights; see `areas`.

    Returns
    -------
    aucs : array of shape (k,)
    covariance : array of shape (k, k)
        NaN where a class has a single row, or all rows are one cluster: there is then nothing to estimate a
        variance from.

    Raises
    ------
    DataError
        If only one class occurs, or a score is NaN.
    UsageError
        If shapes do not fit.

    Examples
    --------
    >>> aucs, covariance = delong([0, 0, 1, 1], [[0.1, 0.4, 0.35, 0.8], [0.1, 0.2, 0.3, 0.4]])
    >>> aucs.tolist(), covariance.tolist()
    ([0.75, 1.0], [[0.125, 0.0], [0.0, 0.0]])
    """
    positive, matrix = _checked(y, scores)
    w = class_weights(positive, weights)
    return areas(positive, np.stack([placements(positive, row, w) for row in matrix]), clusters, w)


def areas(
    positive: Bools, share: Floats, clusters: ArrayLike | None = None, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    r"""`delong` from the placements (k, n) of k scores.

    With weights the area is the ratio :math:`\sum_{+-} w_i w_j [s_i > s_j] / \sum_{+-} w_i w_j`. Its linearised
    influences are :math:`w_i (V_i - A) / \sum w` within the row's own class, :math:`V_i` being the placement
    (van der Vaart 1998, §12.2, for a weighted two-sample U-statistic), and the covariance is the sum of their
    products, times m/(m - 1) for the m rows of each class that have a weight. Equal weights give DeLong's own.
    """
    if weights is None:
        of_positive, of_negative = share[:, positive], share[:, ~positive]
        aucs = of_positive.mean(axis=1)
        if clusters is None:
            return aucs, _mean_covariance(of_positive) + _mean_covariance(of_negative)
        influence = (share - aucs[:, np.newaxis]) / np.where(positive, positive.sum(), (~positive).sum())
    else:
        inside = [np.flatnonzero(side & (weights > 0)) for side in (positive, ~positive)]
        aucs = share[:, inside[0]] @ weights[inside[0]] / weights[inside[0]].sum()
        influence = np.zeros(share.shape)
        for rows in inside:
            influence[:, rows] = (share[:, rows] - aucs[:, np.newaxis]) * (weights[rows] / weights[rows].sum())
        if clusters is None:
            return aucs, np.sum([_cluster_covariance(influence[:, rows]) for rows in inside], axis=0)
    group, count = codes(clusters, len(positive))
    return aucs, _cluster_covariance(np.stack([np.bincount(group, row, count) for row in influence]))


def several(
    y: NDArray[np.int64],
    scores: Floats,
    *,
    pairs: bool = False,
    prevalence: bool = False,
    weights: Floats | None = None,
) -> tuple[float, Floats]:
    r"""Area for several classes: averaged over each class against the rest, or over pairs of classes.

    The former after Provost & Domingos (2000), the latter after Hand & Till (2001), Machine Learning 45:171. Each area
    is a two-sample U-statistic with DeLong's influences (`areas`); their average has the average of these, and where
    it is by prevalence, the classes' shares add theirs.

    Parameters
    ----------
    y : int array of shape (n,)
        Class codes; every class occurs.
    scores : float array of shape (n, k)
    pairs : bool, default=False
        Average over pairs of classes, each of the two ranked by its own score.
    prevalence : bool, default=False
        Weigh each area by how many rows have its class (its classes).
    weights : array of shape (n,), optional
        Sampling weights.

    Returns
    -------
    value : float
    influence : array of shape (n,)
        The square sum over rows (or over sums of clusters) is the variance.

    Raises
    ------
    DataError
        If a class does not occur.

    Examples
    --------
    >>> y = np.array([0, 0, 1, 1, 2, 2])
    >>> value, influence = several(y, np.eye(3)[y])
    >>> value, float(influence @ influence)
    (1.0, 0.0)
    """
    k = scores.shape[1]
    mass = np.bincount(y, weights=weights, minlength=k) / (len(y) if weights is None else weights.sum())
    if len(mass) > k or not (mass > 0).all():
        raise DataError("an area for several classes needs every class among the rows")
    own = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    groups = list(itertools.combinations(range(k), 2)) if pairs else [(one,) for one in range(k)]
    shared = k - 1 if pairs else 1  # of the shares of the classes of all groups
    total, influence, of_class = 0.0, np.zeros(len(y)), np.zeros(k)
    for classes in groups:
        rows = np.flatnonzero(np.isin(y, classes)) if pairs else np.arange(len(y))
        area, part = _area_of(y[rows], scores[rows], classes, None if weights is None else weights[rows])
        factor = float(mass[list(classes)].sum()) / shared if prevalence else 1 / len(groups)
        influence[rows] += factor * part
        of_class[list(classes)] += area / shared
        total += factor * area
    return total, influence + own * (of_class[y] - total) if prevalence else influence


def _area_of(y: NDArray[np.int64], scores: Floats, classes: tuple[int, ...], w: Floats | None) -> tuple[float, Floats]:
    """Mean area of some classes, each against the other rows by its own score, and the rows' influences."""
    area, part = 0.0, np.zeros(len(y))
    inside = np.ones(len(y)) if w is None else w
    for one in classes:
        positive = y == one
        share = placements(positive, scores[:, one], w)
        mean = float(inside[positive] @ share[positive] / inside[positive].sum())
        side = np.where(positive, inside[positive].sum(), inside[~positive].sum())
        part += inside * (share - mean) / side / len(classes)
        area += mean / len(classes)
    return area, part


def _cluster_covariance(sums: Floats) -> Floats:
    """Covariance (k, k) from the influence of each cluster (k, G); NaN for a single one."""
    k, count = sums.shape
    if count < 2:
        return np.full((k, k), np.nan)
    return np.asarray(sums @ sums.T * (count / (count - 1)), dtype=np.float64)


def _mean_covariance(parts: Floats) -> Floats:
    """Covariance (k, k) of the means of k rows of parts; NaN when there is a single column."""
    k, n = parts.shape
    if n < 2:
        return np.full((k, k), np.nan)
    centred = parts - parts.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / ((n - 1) * n), dtype=np.float64)


def delong_interval(
    y: ArrayLike,
    score: ArrayLike,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Interval:
    """Two-sided interval of an area: DeLong's error on the logit scale, so that it stays in [0, 1].

    Pepe (2003), The Statistical Evaluation of Medical Tests, §5.2. Where the two classes are parted
    perfectly, that error is zero and says nothing; the bound is then Wilson's for the smaller class (all of
    its rows ranked right).

    Parameters
    ----------
    y, score : arrays of shape (n,)
    confidence : float, default=0.95
    clusters : array of shape (n,), optional
        See `delong`; the quantile is then t's for the number of clusters.
    weights : array of shape (n,), optional
        See `areas`.

    Raises
    ------
    DataError
        If only one class occurs, or a score is NaN.
    UsageError
        If lengths differ, or `confidence` is not in (0, 1).

    Examples
    --------
    >>> i = delong_interval([0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.35, 0.3, 0.8, 0.9])
    >>> round(i.low, 3), round(i.value, 3), round(i.high, 3)
    (0.173, 0.778, 0.983)
    """
    quantile = normal_quantile(confidence)
    if clusters is not None:
        quantile = t_quantile(confidence, codes(clusters, len(np.asarray(y)))[1] - 1)
    positive, _ = _checked(y, np.asarray(score)[np.newaxis])
    weights = class_weights(positive, weights)
    aucs, covariance = delong(y, np.asarray(score)[np.newaxis], clusters, weights)
    area, variance, n = float(aucs[0]), float(covariance[0, 0]), len(positive)
    if area in {0.0, 1.0} or variance == 0.0:
        return _perfect(area, fewer_of(positive, weights), n, confidence)
    if math.isnan(variance):
        return Interval(0.0, area, 1.0, n, "DeLong, one row or cluster")
    method = "DeLong, logit" if clusters is None else "DeLong over clusters, logit"
    method = method if weights is None else method.replace("DeLong", "weighted DeLong")
    logit, half = math.log(area / (1 - area)), quantile * math.sqrt(variance) / (area * (1 - area))
    return Interval(float(special.expit(logit - half)), area, float(special.expit(logit + half)), n, method)


def fewer_of(positive: Bools, weights: ArrayLike | None = None) -> int:
    """Rows of the smaller class; with weights, what the rows of either class are worth, at least 1."""
    if weights is None:
        return min(int(positive.sum()), int((~positive).sum()))
    w = np.asarray(weights, dtype=np.float64)
    return max(1, min(int(effective_rows(w[side], int(side.sum()))) for side in (positive, ~positive)))


def _perfect(area: float, fewer: int, n: int, confidence: float) -> Interval:
    wilson = wilson_interval(round(area * fewer), fewer, confidence)
    return Interval(min(wilson.low, area), area, max(wilson.high, area), n, "Wilson on the smaller class")


def _checked(y: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2:
        raise UsageError(f"scores must have shape (k, n), and have shape {matrix.shape}")
    same_length(y=vector(y, "y"), scores=matrix.T)
    if np.isnan(matrix).any():
        raise DataError("a score is NaN", hint="a model that answers NaN cannot be ranked")
    return labels(y), matrix
