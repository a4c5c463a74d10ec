"""Poisson bootstrap for metrics without a closed form; deterministic for a seed, bounded in cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import UsageError
from penstock.stats.checks import Floats, check_level, codes, same_length
from penstock.stats.intervals import Interval
from penstock.stats.paired import Difference, count_informative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Metric = Callable[..., float]

MAX_DRAWS = 100_000_000
"""Rows times replicates that a call may cost; beyond, fewer replicates, but never below `MIN_BOOT`."""
MIN_BOOT = 200
UNDEFINED = 0.01
"""Share of replicates without a value above which it is said."""
_BITS = 16


def _poisson_table() -> NDArray[np.uint8]:
    """Poisson(1) inverted at 65,536 equal steps, a draw being one look-up; no probability off by more than 2⁻¹⁶."""
    probability = np.exp(-1.0) / np.array([math.factorial(k) for k in range(10)], dtype=np.float64)
    steps = (np.arange(1 << _BITS) + 0.5) / (1 << _BITS)
    return np.searchsorted(np.cumsum(probability), steps).astype(np.uint8)


def _weights(n: int, n_boot: int, seed: int, clusters: ArrayLike | None) -> Iterator[NDArray[np.uint8]]:
    """Poisson(1) weights of n rows, n_boot times; one weight a cluster where clusters are given."""
    table = _poisson_table()
    rng = np.random.default_rng(seed)
    group, units = (None, n) if clusters is None else codes(clusters, n)
    for _ in range(n_boot):
        drawn = table[rng.integers(0, 1 << _BITS, size=units, dtype=np.uint16)]
        yield drawn if group is None else drawn[group]


def replicates(n_boot: int, n: int) -> int:
    """Replicates that are really drawn for n rows.

    Raises
    ------
    UsageError
        If `n_boot` is less than 1.

    Examples
    --------
    >>> replicates(1_000, 10_000), replicates(1_000, 400_000), replicates(1_000, 10_000_000)
    (1000, 250, 200)
    """
    if n_boot < 1:
        raise UsageError(f"n_boot must be at least 1, and is {n_boot}")
    return min(n_boot, max(MIN_BOOT, MAX_DRAWS // n))


def poisson_bootstrap(
    metric: Metric,
    columns: tuple[NDArray[Any], ...],
    n_boot: int = 1_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    *,
    weighted: bool = False,
) -> Floats:
    """A metric on resampled rows: each row (or cluster) occurs Poisson(1) times.

    Chamandy, Muralidharan, Najmi & Naidu (2012), "Estimating uncertainty for massive data streams". Rows are
    repeated by an index, so any function of arrays will do; with `weighted=True` the counts are passed
    instead, as `metric(*columns, weights=w)`.

    Parameters
    ----------
    metric : callable
        `metric(*columns) -> float`.
    columns : tuple of arrays with n rows each
        Of shape (n,) or (n, k).
    n_boot : int, default=1_000
        At most; see `replicates`.
    seed : int, default=0
        The same seed gives the same replicates, whatever was drawn elsewhere.
    clusters : array of shape (n,), optional
        Rows of a cluster are drawn together.
    weighted : bool, default=False

    Returns
    -------
    float array of shape (replicates,)
        NaN where the metric is not defined on the rows drawn: it returned no finite number, or raised an
        arithmetic error or a `ValueError` (one class only, say).

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ, or `n_boot` is less than 1.

    Examples
    --------
    >>> draws = poisson_bootstrap(np.mean, (np.arange(100.0),), n_boot=500)
    >>> len(draws), bool(48 < draws.mean() < 51), bool(2.4 < draws.std() < 3.4)
    (500, True, True)
    """
    n = same_length(**{f"column {i}": column for i, column in enumerate(columns)})
    drawn = [
        _defined(metric, columns, w, weighted=weighted) for w in _weights(n, replicates(n_boot, n), seed, clusters)
    ]
    return np.array(drawn, dtype=np.float64)


def _defined(metric: Metric, columns: tuple[NDArray[Any], ...], weights: NDArray[np.uint8], *, weighted: bool) -> float:
    """The metric on one draw, NaN where it has no value there."""
    if not weights.any():
        return math.nan
    try:
        if weighted:
            value = float(metric(*columns, weights=weights.astype(np.float64)))
        else:
            rows = np.repeat(np.arange(len(weights)), weights)
            value = float(metric(*(column[rows] for column in columns)))
    except (ValueError, ArithmeticError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def _bound(draws: Floats, level: float, undefined: float) -> float:
    """Percentile of the replicates, each undefined one counted as the worst case."""
    ordered = np.sort(np.where(np.isnan(draws), undefined, draws))
    position = level * (len(ordered) - 1)
    # Outwards to the next replicate: interpolating towards an infinity has no meaning, and this errs safely.
    index = math.floor(position) if undefined < 0 else math.ceil(position)
    return float(ordered[index])


def _told(draws: Floats) -> str:
    """How many replicates, and how many have no value where that is more than one in a hundred."""
    undefined = int(np.isnan(draws).sum())
    told = f"{len(draws)} replicates"
    return told if undefined <= UNDEFINED * len(draws) else f"{told}, {undefined} of them without a value"


def _spread(draws: Floats) -> float:
    defined = draws[~np.isnan(draws)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else math.inf


def weighted_bootstrap(
    functions: tuple[Callable[[NDArray[Any]], float], ...],
    n: int,
    n_boot: int = 1_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Floats:
    """Figures of the same resampled rows, given how often each row occurs: what is sorted is sorted once, before.

    Parameters
    ----------
    functions : tuple of callables
        `function(counts) -> float`, the counts an array of uint8 of shape (n,); NaN or a `ValueError` for no value.
    n : int
        Rows.
    n_boot, seed, clusters
        See `poisson_bootstrap`; equal seeds give equal draws.

    Returns
    -------
    float array of shape (replicates, len(functions))

    Examples
    --------
    >>> weighted_bootstrap((lambda w: float(w.sum()),), 100, n_boot=2).shape
    (2, 1)
    """
    found = [[_value(f, w) for f in functions] for w in _weights(n, replicates(n_boot, n), seed, clusters)]
    return np.array(found, dtype=np.float64)


def _value(function: Callable[[NDArray[Any]], float], counts: NDArray[Any]) -> float:
    try:
        value = function(counts)
    except (ValueError, ArithmeticError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def interval_of_draws(value: float, draws: Floats, n: int, confidence: float = 0.95) -> Interval:
    """Percentile interval from replicates of a figure; see `bootstrap_interval`."""
    tail, method = (1.0 - check_level(confidence)) / 2, f"bootstrap, {_told(draws)}"
    if not math.isfinite(value):
        return Interval(-math.inf, value, math.inf, n, method)
    low, high = _bound(draws, tail, -math.inf), _bound(draws, 1.0 - tail, math.inf)
    return Interval(min(low, value), value, max(high, value), n, method)


def difference_of_draws(value: float, draws: Floats, n: int, informative: int, confidence: float = 0.95) -> Difference:
    """One-sided percentile bounds from replicates of a difference; see `paired_bootstrap`."""
    check_level(confidence)
    method = f"paired bootstrap, {_told(draws)}"
    if not math.isfinite(value):
        return Difference(value, -math.inf, math.inf, math.inf, n, informative, method, confidence)
    low, high = _bound(draws, 1.0 - confidence, -math.inf), _bound(draws, confidence, math.inf)
    return Difference(value, min(low, value), max(high, value), _spread(draws), n, informative, method, confidence)


def bootstrap_interval(
    metric: Metric,
    arrays: tuple[NDArray[Any], ...],
    confidence: float = 0.95,
    n_boot: int = 1_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Two-sided percentile interval of a metric of whole columns.

    Parameters
    ----------
    metric : callable
        `metric(*arrays) -> float`.
    arrays : tuple of arrays with n rows each
    confidence : float, default=0.95
    n_boot, seed, clusters
        See `poisson_bootstrap`.

    Returns
    -------
    Interval
        It always holds the estimate itself. Replicates without a value count as the worst case at either end.

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ, or `confidence` is not in (0, 1).

    Examples
    --------
    >>> i = bootstrap_interval(np.median, (np.arange(101.0),), n_boot=400)
    >>> i.low < i.value == 50.0 < i.high
    True
    """
    check_level(confidence)
    draws = poisson_bootstrap(metric, arrays, n_boot, seed, clusters)
    return interval_of_draws(float(metric(*arrays)), draws, len(arrays[0]), confidence)


def paired_bootstrap(
    metric: Metric,
    y: NDArray[Any],
    pred_a: NDArray[Any],
    pred_b: NDArray[Any],
    confidence: float = 0.95,
    n_boot: int = 1_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    beside: tuple[NDArray[Any], ...] = (),
    weights: ArrayLike | None = None,
) -> Difference:
    """Difference of a metric of two models on the same resampled rows, with percentile bounds.

    Parameters
    ----------
    metric : callable
        `metric(y, prediction, *beside) -> float`.
    y : array of shape (n,)
    pred_a, pred_b : arrays of shape (n,) or (n, k)
    confidence : float, default=0.95
        Of each one-sided bound, as everywhere in `Difference`.
    n_boot, seed, clusters
        See `poisson_bootstrap`.
    beside : tuple of arrays with n rows each
        What the metric is given too: weights, other columns. They stay with their rows.
    weights : array of shape (n,), optional
        Only to count what the rows are worth on which the models differ; the metric reads its own from `beside`.

    Returns
    -------
    Difference
        `metric(a) - metric(b)`. A replicate on which either metric has no value counts as the worst case
        for each bound, so bounds are open when that happens more often than 1 - confidence. Where the two
        differ only by a constant amount from few rows, use more rows: a bootstrap cannot know.

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ, or `confidence` is not in (0, 1).

    Examples
    --------
    >>> y = np.arange(50.0)
    >>> error = lambda y, p: float(np.median(np.abs(y - p)))
    >>> d = paired_bootstrap(error, y, y + 2.0, y + 1.0, n_boot=200)
    >>> d.value, d.low, d.high, d.n_informative
    (1.0, 1.0, 1.0, 50)
    """
    check_level(confidence)
    n = same_length(y=y, pred_a=pred_a, pred_b=pred_b)

    def difference(truth: NDArray[Any], a: NDArray[Any], b: NDArray[Any], *more: NDArray[Any]) -> float:
        return float(metric(truth, a, *more)) - float(metric(truth, b, *more))

    value = difference(y, pred_a, pred_b, *beside)
    draws = poisson_bootstrap(difference, (y, pred_a, pred_b, *beside), n_boot, seed, clusters)
    differs = (np.asarray(pred_a) != np.asarray(pred_b)).reshape(n, -1).any(axis=1)
    informative = count_informative(differs, clusters, weights)
    return difference_of_draws(value, draws, n, informative, confidence)
