"""How far probabilities lie from what comes true, with bounds: binned, free of the bias that noise in the bins adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Floats, codes, same_length, vector
from penstock.stats.intervals import Interval, normal_quantile
from penstock.stats.weighting import checked_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEAST = 30
"""Rows of a bin at least."""


def bins_of(proba: Floats, bins: int = 10) -> NDArray[np.int64]:
    """Bins of about equally many rows, in the order of the probabilities; equal ones share a bin.

    Parameters
    ----------
    proba : float array of shape (n,)
    bins : int, default=10
        At most; fewer where a bin would have less than `LEAST` rows.

    Returns
    -------
    int array of shape (n,)
        From 0, none empty.

    Examples
    --------
    >>> bins_of(np.arange(90) / 90, 2).tolist() == [0] * 45 + [1] * 45
    True
    """
    n = len(proba)
    k = max(1, min(bins, n // LEAST))
    ranked = np.sort(proba)
    cuts = np.unique(ranked[[n * i // k for i in range(1, k)]]) if k > 1 else np.empty(0)
    found = np.searchsorted(cuts, proba, side="right")
    return np.unique(found, return_inverse=True)[1].reshape(n)


def calibration_error(
    proba: ArrayLike,
    hit: ArrayLike,
    confidence: float = 0.95,
    bins: int = 10,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Interval:
    r"""Root mean square over bins of mean probability against share of hits, with two-sided bounds.

    With :math:`d` the differences of the bins, :math:`V` their covariance and :math:`W` the diagonal matrix of their
    shares, :math:`d'Wd` exceeds the squared error by :math:`tr(WV)` on average: that is taken off (Bröcker 2012,
    Climate Dynamics 39:655; Kumar, Liang & Ma 2019, NeurIPS 32). Its variance is
    :math:`2 tr(WVWV) + 4 \delta'WVW\delta` for normal differences with means :math:`\delta`; with :math:`d` for
    :math:`\delta` this is too large rather than too small, so that the upper bound errs safely where a model is
    calibrated well. A bin's variance is never less than probabilities that hold would give.

    Within a bin errors may cancel: the figure is a lower bound of the error that finer bins would show (Kumar et al.,
    proposition 3.3).

    Parameters
    ----------
    proba : array of shape (n,)
        In [0, 1].
    hit : array of shape (n,)
        0/1 or booleans.
    confidence : float, default=0.95
        Of both ends together.
    bins : int, default=10
    clusters, weights : arrays of shape (n,), optional

    Returns
    -------
    Interval
        At and above 0.

    Raises
    ------
    DataError
        If there is no row, or a probability is NaN or outside [0, 1].
    UsageError
        If lengths differ, `bins` is less than 1, or `confidence` is not in (0, 1).

    Examples
    --------
    >>> i = calibration_error(np.full(1000, 0.3), np.arange(1000) < 400, bins=1)
    >>> round(i.low, 3), round(i.value, 3), round(i.high, 3)
    (0.06, 0.099, 0.126)
    """
    p, y = vector(proba, "proba"), vector(hit, "hit")
    n = same_length(proba=p, hit=y)
    if bins < 1:
        raise UsageError(f"bins must be at least 1, and is {bins}")
    if n == 0 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("a calibration error needs rows with probabilities between 0 and 1")
    w = checked_weights(weights, n)
    mass = np.full(n, 1 / n) if w is None else w / w.sum()
    group = bins_of(p, bins)
    k = int(group.max()) + 1
    share = np.bincount(group, mass, k)
    kept = share > 0
    inside = mass / np.where(share > 0, share, 1.0)[group]  # a row's part in its bin
    gap = np.bincount(group, inside * (y - p), k)
    influence = inside * (y - p - gap[group])
    covariance = _covariance(influence, group, k, clusters)
    at_least = np.bincount(group, inside**2 * p * (1 - p), k)
    covariance[np.diag_indices(k)] = np.maximum(covariance.diagonal(), at_least)
    weighted = covariance[np.ix_(kept, kept)] * share[kept]
    gap, share = gap[kept], share[kept]
    raw, bias = float(share @ gap**2), float(np.trace(weighted))
    variance = 2 * float(np.trace(weighted @ weighted)) + 4 * float(
        (share * gap) @ covariance[np.ix_(kept, kept)] @ (share * gap)
    )
    half = normal_quantile(confidence) * math.sqrt(max(variance, 0.0))
    low, value, high = (math.sqrt(max(raw - bias + side, 0.0)) for side in (-half, 0.0, half))
    return Interval(low, value, high, n, f"{len(share)} bins")


def _covariance(influence: Floats, group: NDArray[np.int64], k: int, clusters: ArrayLike | None) -> Floats:
    """Covariance (k, k) of the bins' differences: of rows, or of the sums of clusters, which may span bins."""
    if clusters is None:
        size = np.bincount(group, minlength=k)
        scale = size / np.maximum(size - 1, 1)
        return np.diag(np.bincount(group, influence**2, k) * scale)
    unit, count = codes(clusters, len(influence))
    sums = np.bincount(unit * k + group, influence, count * k).reshape(count, k)
    return np.asarray(sums.T @ sums * (count / max(count - 1, 1)), dtype=np.float64)
