"""Weights of rows: what they must be, how many rows they are worth, and a proportion under them.

A weight says how many rows of the population one row stands for (survey weights, importance weights). It is not a count
of repetitions: twice the weight is not twice the evidence. So every variance here is that of the linearised estimator,
and doubling all weights changes nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Bools, Floats, vector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def checked_weights(weights: ArrayLike | None, n: int) -> Floats | None:
    """Weights of n rows as float64; None where there are none, or all are equal: equal weights are no weights.

    Raises
    ------
    UsageError
        If there is not one a row, one is negative or not finite, or all are zero.

    Examples
    --------
    >>> checked_weights([2, 2], 2) is None, checked_weights([1, 3], 2)
    (True, array([1., 3.]))
    """
    if weights is None:
        return None
    w = vector(weights, "weights")
    if len(w) != n:
        raise UsageError(f"weights must have one value for each of {n} rows, and has {len(w)}")
    if not (np.all(w >= 0) and 0 < w.sum() < math.inf):
        raise UsageError("weights must be finite, not negative and not all zero")
    return None if w.min() == w.max() else w


def effective_rows(weights: ArrayLike | None, n: int) -> float:
    r"""Equally weighted rows that weigh as much as these: :math:`(\sum w)^2 / \sum w^2`.

    Kish (1965), Survey Sampling, §11.7. At most n, and n where all weights are equal.

    Parameters
    ----------
    weights : array of shape (n,) or None
        None for unweighted rows.
    n : int

    Examples
    --------
    >>> effective_rows([1, 1, 1, 1], 4), effective_rows([2, 1], 2), effective_rows(None, 3)
    (4.0, 1.8, 3.0)
    """
    if weights is None or n == 0:
        return float(n)
    w = np.asarray(weights, dtype=np.float64)
    largest = w.max(initial=0.0)
    if largest <= 0:
        return 0.0
    w = w / largest  # so that no square is too large or too small for a number
    return float(w.sum()) ** 2 / float(w @ w)


def weighted_share(hit: Bools, weights: Floats) -> tuple[float, float]:
    r"""A weighted proportion, and the number of trials that it is worth.

    The latter is :math:`p (1 - p) / V` with the linearised variance :math:`V = \sum w_i^2 (x_i - p)^2 / (\sum w)^2`,
    never more than the rows that have a weight (Korn & Graubard 1998, Survey Methodology 24:193); put into Wilson's
    interval after Dean & Pagano (2015), J. Survey Statistics and Methodology 3:484. Where all rows agree there is no
    variance to go by, and Kish's number stands in.

    Parameters
    ----------
    hit : bool array of shape (n,)
    weights : float array of shape (n,)

    Raises
    ------
    DataError
        If no row has a weight.

    Examples
    --------
    >>> weighted_share(np.array([True, False, False]), np.array([2.0, 1.0, 1.0]))
    (0.5, 2.6666666666666665)
    """
    if not weights.max(initial=0.0) > 0:
        raise DataError("a proportion needs at least one row that has a weight, and there is none")
    weights = weights / weights.max()  # as in `effective_rows`
    total = float(weights.sum())
    share = float(weights[hit].sum()) / total
    variance = float(((weights * (hit - share)) ** 2).sum()) / total**2
    if variance == 0.0:
        return share, effective_rows(weights, len(weights))
    return share, min(share * (1 - share) / variance, float(np.count_nonzero(weights)))


def weighted_quantile(x: ArrayLike, q: float, weights: ArrayLike | None = None) -> float:
    """The least value that at least a share q of the weight does not exceed: the inverse of the distribution function.

    Parameters
    ----------
    x : array of shape (n,)
        At least one value, none missing.
    q : float
        In [0, 1].
    weights : array of shape (n,), optional
        Not negative, not all zero.

    Examples
    --------
    >>> weighted_quantile([3.0, 1.0, 2.0, 4.0], 0.5), weighted_quantile([3.0, 1.0, 2.0], 0.5, [8, 1, 1])
    (2.0, 3.0)
    """
    values = np.asarray(x, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    reached = np.cumsum(w)
    at = int(np.searchsorted(reached, q * reached[-1] * (1 - 1e-12)))
    return float(values[order][min(at, len(values) - 1)])
