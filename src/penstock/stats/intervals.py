"""Confidence intervals of one figure: a mean by t (cluster-robust), a proportion by Wilson, a quantile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from penstock.errors import DataError, UsageError
from penstock.stats.checks import check_level, codes, json_number, vector
from penstock.stats.weighting import checked_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval.

    Attributes
    ----------
    low, high : float
        Bounds. Infinite where the rows do not bound the figure at all (one row, or a NaN among the values).
    value : float
        The estimate itself.
    n : int
        Rows it was computed from.
    method : str
        How, in a few words.
    """

    low: float
    value: float
    high: float
    n: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an open bound and a NaN are null.

        Examples
        --------
        >>> Interval(0.1, 0.2, float("inf"), 7, "t").to_json()
        {'low': 0.1, 'value': 0.2, 'high': None, 'n': 7, 'method': 't'}
        """
        return {
            "low": json_number(self.low),
            "value": json_number(self.value),
            "high": json_number(self.high),
            "n": self.n,
            "method": self.method,
        }


class Mean(NamedTuple):
    """A (weighted) mean with its standard error and the degrees of freedom of that error."""

    value: float
    se: float
    df: float


def normal_quantile(confidence: float, *, sides: int = 2) -> float:
    """Standard normal quantile of a bound: 1.96 for two sides at 0.95, 1.645 for one.

    Raises
    ------
    UsageError
        If `confidence` is not in (0, 1), or `sides` is neither 1 nor 2.

    Examples
    --------
    >>> round(normal_quantile(0.95), 4), round(normal_quantile(0.95, sides=1), 4)
    (1.96, 1.6449)
    """
    return float(special.ndtri(_tail(confidence, sides)))


def t_quantile(confidence: float, df: float, *, sides: int = 2) -> float:
    """Student's t quantile of a bound; `df` may be infinite, and none (≤ 0) gives infinity.

    Raises
    ------
    UsageError
        If `confidence` is not in (0, 1), or `sides` is neither 1 nor 2.

    Examples
    --------
    >>> round(t_quantile(0.95, 9), 3), t_quantile(0.95, 0)
    (2.262, inf)
    """
    level = _tail(confidence, sides)
    if df <= 0:
        return math.inf
    return float(special.ndtri(level) if math.isinf(df) else special.stdtrit(df, level))


def _tail(confidence: float, sides: int) -> float:
    if sides not in {1, 2}:
        raise UsageError(f"sides must be 1 or 2, and is {sides}")
    return 1.0 - (1.0 - check_level(confidence)) / sides


def mean_and_se(x: ArrayLike, weights: ArrayLike | None = None, clusters: ArrayLike | None = None) -> Mean:
    r"""Mean, standard error and degrees of freedom, for weighted and for clustered rows.

    The linearised (sandwich) variance of a ratio of sums, :math:`\frac{G}{G-1}\sum_g s_g^2` with
    :math:`s_g = \sum_{i \in g} w_i (x_i - \bar x) / \sum w` (Liang & Zeger 1986; Cochran 1977, ch. 6).
    Without weights and with every row its own cluster it is exactly :math:`s^2 / n`.

    Parameters
    ----------
    x : array of shape (n,)
    weights : array of shape (n,), optional
        Not negative, not all zero. Sampling weights: doubling all of them changes nothing, and equal ones are none.
    clusters : array of shape (n,), optional
        Rows with the same label are dependent; degrees of freedom are then clusters - 1.

    Returns
    -------
    Mean
        `se` is infinite for a single row or cluster; all is NaN or infinite when `x` holds a NaN.

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ or weights are negative.

    Examples
    --------
    >>> mean_and_se([1.0, 2.0, 3.0, 4.0])
    Mean(value=2.5, se=0.6454972243679028, df=3.0)
    """
    values = vector(x, "x")
    n = len(values)
    if n == 0:
        raise DataError("a mean needs at least one row, and there is none")
    w = checked_weights(weights, n)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(values.mean() if w is None else w @ values / w.sum())
        if not math.isfinite(mean):
            return Mean(math.nan, math.inf, 0.0)
        parts = (values - mean) / n if w is None else w * (values - mean) / w.sum()
    units = n if w is None else int(np.count_nonzero(w))
    if clusters is not None:
        group, units = codes(clusters, n)
        parts = np.bincount(group, weights=parts, minlength=units)
    if units < 2:
        return Mean(mean, math.inf, 0.0)
    return Mean(mean, math.sqrt(units / (units - 1) * float(parts @ parts)), float(units - 1))


def mean_interval(
    x: ArrayLike,
    confidence: float = 0.95,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Two-sided t interval of a mean, cluster-robust when `clusters` is given.

    Parameters
    ----------
    x : array of shape (n,)
        Per-row values, such as losses.
    confidence : float, default=0.95
    weights, clusters : arrays of shape (n,), optional
        See `mean_and_se`.

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ, weights are negative, or `confidence` is not in (0, 1).

    Notes
    -----
    It covers at its level for bounded and light-tailed rows from a few hundred rows on. With heavy tails
    (squared errors of t₃ residuals) it covers less than it says, at any n; so does every bootstrap.

    Examples
    --------
    >>> i = mean_interval([1.0, 2.0, 3.0, 4.0])
    >>> round(i.low, 3), i.value, round(i.high, 3)
    (0.446, 2.5, 4.554)
    """
    mean = mean_and_se(x, weights, clusters)
    n = len(np.asarray(x))
    quantile = t_quantile(confidence, mean.df)
    method = "t" if clusters is None else f"t over {int(mean.df) + 1} clusters"
    if not (math.isfinite(mean.se) and math.isfinite(quantile)):
        return Interval(-math.inf, mean.value, math.inf, n, method)
    return Interval(mean.value - quantile * mean.se, mean.value, mean.value + quantile * mean.se, n, method)


HEAVY = 0.25
"""Share of one row in a variance, from which on the variance cannot be relied on."""


def largest_share(x: ArrayLike) -> float:
    """Share of the largest deviation in the sum of squared deviations: near 0 where the variance is finite.

    The ratio of maximum and sum vanishes with more rows if and only if the mean exists (O'Brien 1980, Journal of
    Applied Probability 17:539; Embrechts, Klüppelberg & Mikosch 1997, Modelling Extremal Events, §6.2.6); here, of
    squared deviations. From `HEAVY` on a t interval of the mean covers less than it says.

    Parameters
    ----------
    x : array of shape (n,)

    Returns
    -------
    float
        0 where nothing varies or a value is not finite.

    Examples
    --------
    >>> round(largest_share([1.0, 2.0, 3.0, 100.0]), 2), largest_share([1.0, 1.0])
    (0.75, 0.0)
    """
    values = vector(x, "x")
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (values - values.mean()) ** 2 if len(values) else values
        total = float(squares.sum())
    return float(squares.max()) / total if 0 < total < math.inf else 0.0


def wilson_interval(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209).

    Parameters
    ----------
    k, n : int or float
        Successes among trials; `0 <= k <= n`. Not whole for weighted rows (`weighting.weighted_share`).
    confidence : float, default=0.95

    Raises
    ------
    DataError
        If there is no trial.
    UsageError
        If `k` is not between 0 and `n`, or `confidence` not in (0, 1).

    Examples
    --------
    >>> i = wilson_interval(8, 10)
    >>> round(i.low, 4), i.value, round(i.high, 4)
    (0.4902, 0.8, 0.9433)
    """
    if n <= 0:
        raise DataError("a proportion needs at least one row, and there is none")
    if not 0 <= k <= n:
        raise UsageError(f"k must lie between 0 and n = {n}, and is {k}")
    z = normal_quantile(confidence)
    share = k / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At the ends one bound is the share itself; rounding must not move it past.
    low = 0.0 if k == 0 else centre - half
    high = 1.0 if k == n else centre + half
    return Interval(low, share, high, math.ceil(n), "Wilson")


def quantile_interval(x: ArrayLike, q: float, confidence: float = 0.95) -> Interval:
    """Distribution-free interval of a quantile, between two order statistics.

    The number of rows below the true quantile is binomial (David & Nagaraja 2003, §7.1), so the bounds are
    the order statistics at its tail quantiles; at least the stated confidence for any continuous law.

    Parameters
    ----------
    x : array of shape (n,)
        NaN is refused.
    q : float
        In (0, 1); 0.99 for p99.
    confidence : float, default=0.95

    Returns
    -------
    Interval
        A bound is infinite where no order statistic reaches far enough.

    Raises
    ------
    DataError
        If there is no row, or a NaN.
    UsageError
        If `q` or `confidence` is not in (0, 1).

    Examples
    --------
    >>> i = quantile_interval(range(1, 101), 0.5)
    >>> i.low, i.value, i.high
    (40.0, 50.5, 61.0)
    """
    values = np.sort(vector(x, "x"))
    n = len(values)
    if n == 0 or math.isnan(values[-1]):
        raise DataError("a quantile needs rows without missing values")
    check_level(q, "q")
    tail = (1.0 - check_level(confidence)) / 2
    counts = np.arange(n + 1)
    at_most = special.bdtr(counts, n, q)  # P(rows below the quantile <= k)
    lower = int(np.searchsorted(at_most, tail, "right"))  # the largest r with P(B <= r - 1) <= tail
    upper = int(np.searchsorted(at_most, 1.0 - tail, "left")) + 1  # the least s with P(B >= s) <= tail
    low = float(values[lower - 1]) if lower >= 1 else -math.inf
    high = float(values[upper - 1]) if upper <= n else math.inf
    return Interval(low, float(np.quantile(values, q)), high, n, "order statistics")
