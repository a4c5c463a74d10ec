"""Ratios of counts and of means (F1, recall, rates, R²) by their first-order expansion: closed forms, no resampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import UsageError
from penstock.stats.checks import Floats, same_length, vector
from penstock.stats.intervals import Interval, mean_and_se, t_quantile, wilson_interval
from penstock.stats.paired import Difference, count_informative, with_half
from penstock.stats.weighting import checked_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Cells = Callable[[Floats], float]
"""A figure of a confusion matrix (k, k), true class by row; the same for any multiple of the matrix."""
STEP = 1e-4
"""Relative step of a cell for its derivative: truncation and rounding errors are then both below 1e-6."""
SCALES = ("logit", "atanh", "log", "none")


def confusion(y: ArrayLike, label: ArrayLike, weights: ArrayLike | None = None, k: int = 2) -> Floats:
    """Rows by true (first axis) and predicted class code; with weights, what they weigh.

    Examples
    --------
    >>> confusion([0, 1, 1], [0, 1, 0]).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    cell = np.asarray(y).astype(np.int64) * k + np.asarray(label).astype(np.int64)
    return np.bincount(cell, weights=weights, minlength=k * k).reshape(k, k).astype(np.float64)


def gradient(metric: Cells, cells: Floats) -> Floats:
    """Derivative of a figure by the share of rows in each cell of its matrix; 0 for a cell that no row is in.

    Central differences with a step relative to the cell, so no cell is emptied or filled by it.

    Parameters
    ----------
    metric : callable
    cells : float array of shape (k, k)

    Examples
    --------
    >>> recall = lambda m: m[1, 1] / m[1].sum()
    >>> gradient(recall, np.array([[5.0, 1.0], [1.0, 3.0]]))[1].round(4).tolist()
    [-1.875, 0.625]
    """
    share = cells / cells.sum()
    slope = np.zeros(share.shape)
    for at in zip(*np.nonzero(share), strict=True):
        step, moved = STEP * share[at], share.copy()
        moved[at] = share[at] + step
        above = float(metric(moved))
        moved[at] = share[at] - step
        slope[at] = (above - float(metric(moved))) / (2 * step)
    return slope - float((slope * share).sum())


def paired_counts(
    metric: Cells,
    y: ArrayLike,
    label_a: ArrayLike,
    label_b: ArrayLike,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    k: int = 2,
) -> Difference:
    """Difference of a ratio of counts between two models that label the same rows.

    With two classes a row lies in one of eight cells: its true class and what each model says. The eight counts are
    multinomial, and the difference is a smooth function of them: its variance is that of its first-order expansion
    (the delta method; Agresti 2013, Categorical Data Analysis, §16.1; for the recall of two tests on the same rows it
    is McNemar's). With k classes there are k³ cells; with weights or clusters the same expansion is summed over rows
    or clusters (`intervals.mean_and_se`).

    Parameters
    ----------
    metric : callable
        Of a confusion matrix (k, k), true class by row: `metric(cells) -> float`.
    y, label_a, label_b : int arrays of shape (n,)
        Class codes from 0 to k - 1.
    confidence : float, default=0.95
        Of each one-sided bound.
    clusters, weights : arrays of shape (n,), optional
    k : int, default=2

    Returns
    -------
    Difference
        Of `metric(a) - metric(b)`. `n_informative` counts rows that the models label differently and of which the
        metric reads the label: for recall, positive ones. Bounds are open where the expansion has no spread.

    Raises
    ------
    DataError
        If there is no row.
    UsageError
        If lengths differ.

    Examples
    --------
    >>> y = np.repeat([0, 1], 50)
    >>> recall = lambda m: m[1, 1] / m[1].sum()
    >>> d = paired_counts(recall, y, y, np.where(np.arange(100) < 60, 0, y))
    >>> round(d.value, 3), d.n_informative
    (0.2, 10)
    """
    truth, a, b = (np.asarray(one).astype(np.int64) for one in (y, label_a, label_b))
    n = same_length(y=truth, label_a=a, label_b=b)
    w = checked_weights(weights, n)
    cells = [confusion(truth, label, w, k) for label in (a, b)]
    slopes = [gradient(metric, matrix) for matrix in cells]
    influence = slopes[0][truth, a] - slopes[1][truth, b]
    # A row counts if either model's figure would change with the other's label.
    moves = np.zeros(n, dtype=np.bool_)
    for slope in slopes:
        moves |= np.abs(slope[truth, a] - slope[truth, b]) > 1e-9
    mean = mean_and_se(influence, w, clusters)
    value = float(metric(cells[0]) - metric(cells[1]))
    informative = count_informative((a != b) & moves, clusters, w)
    over = "" if clusters is None else f" over {int(mean.df) + 1} clusters"
    method = f"{'eight' if k == 2 else k**3}-cell multinomial{over}"
    half = t_quantile(confidence, mean.df, sides=1) * mean.se if mean.df > 0 and mean.se > 0 else math.inf
    if mean.se == 0 and value == 0:
        half = 0.0
    return with_half(value, half, mean.se, n, informative, method, confidence, mean.df)


def counts_interval(
    metric: Cells,
    y: ArrayLike,
    label: ArrayLike,
    confidence: float = 0.95,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    k: int = 2,
    scale: str = "logit",
) -> Interval:
    """Two-sided interval of a ratio of counts of one model, by the delta method on a scale that keeps it in range.

    Agresti (2013), Categorical Data Analysis, §16.1. Where the figure stands at an end of its range there is no
    spread to go by; the bound is then Wilson's for the smallest class (all of its rows right, or all wrong).

    Parameters
    ----------
    metric, y, label, clusters, weights, k
        As for `paired_counts`.
    confidence : float, default=0.95
    scale : {"logit", "atanh", "log", "none"}
        For figures in (0, 1), in (-1, 1), above 0, and of any sign.

    Returns
    -------
    Interval

    Raises
    ------
    UsageError
        If `scale` is none of these.

    Examples
    --------
    >>> y = np.repeat([0, 1], 50)
    >>> i = counts_interval(lambda m: m[1, 1] / m[1].sum(), y, np.where(np.arange(100) < 60, 0, 1))
    >>> round(i.low, 3), i.value, round(i.high, 3)
    (0.664, 0.8, 0.89)
    """
    if scale not in SCALES:
        raise UsageError(f"scale={scale!r}: one of {', '.join(SCALES)}")
    truth, said = (np.asarray(one).astype(np.int64) for one in (y, label))
    n = same_length(y=truth, label=said)
    w = checked_weights(weights, n)
    cells = confusion(truth, said, w, k)
    value = float(metric(cells))
    mean = mean_and_se(gradient(metric, cells)[truth, said], w, clusters)
    method = "multinomial cells" if clusters is None else f"multinomial cells over {int(mean.df) + 1} clusters"
    if not math.isfinite(value) or not math.isfinite(mean.se):
        return Interval(-math.inf, value, math.inf, n, method)
    if mean.se == 0.0:
        return _at_an_end(value, truth, n, confidence, scale)
    low, high = _on_scale(value, t_quantile(confidence, mean.df) * mean.se, scale)
    return Interval(low, value, high, n, f"{method}, {scale}" if scale != "none" else method)


def _on_scale(value: float, half: float, scale: str) -> tuple[float, float]:
    """Ends of an interval that is symmetric on a scale."""
    if scale == "logit" and 0 < value < 1:
        centre, width = math.log(value / (1 - value)), half / (value * (1 - value))
        low, high = (_expit(centre + side) for side in (-width, width))
        return low, high
    if scale == "atanh" and -1 < value < 1:
        centre, width = math.atanh(value), half / (1 - value * value)
        return math.tanh(centre - width), math.tanh(centre + width)
    if scale == "log" and value > 0:
        return value * math.exp(-half / value), value * math.exp(min(half / value, 700.0))
    return value - half, value + half


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _at_an_end(value: float, truth: NDArray[np.int64], n: int, confidence: float, scale: str) -> Interval:
    if scale not in ("logit", "atanh") or not abs(value) <= 1:
        return Interval(-math.inf, value, math.inf, n, "no spread")
    sizes = np.bincount(truth)
    fewest = int(sizes[sizes > 0].min())
    wilson = wilson_interval(fewest if value > 0.5 else 0 if value < 0.5 else fewest / 2, fewest, confidence)
    low, high = (2 * wilson.low - 1, 2 * wilson.high - 1) if scale == "atanh" else (wilson.low, wilson.high)
    return Interval(min(low, value), value, max(high, value), n, "Wilson on the smallest class")


def saved_rows(loss: ArrayLike, null: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, Floats]:
    r"""A share of a loss that a model saves, and rows whose mean it is and whose spread is that of its expansion.

    Of :math:`1 - \bar l / \bar m`, where the rows of :math:`m` are the losses of the best constant answer. That answer
    minimises their mean, so its own uncertainty is of second order (the envelope theorem), and the expansion is that
    of a ratio of two means (van der Vaart 1998, §3.1). R², explained variance and the D² figures are of this form.

    Parameters
    ----------
    loss, null : arrays of shape (n,)
        Losses of the model, and of the best constant.
    weights : array of shape (n,), optional

    Returns
    -------
    value : float
        NaN where no loss is left to save.
    rows : float array of shape (n,)

    Examples
    --------
    >>> value, rows = saved_rows([0.0, 1.0, 0.0, 1.0], [2.0, 1.0, 1.0, 4.0])
    >>> value, float(rows.mean())
    (0.75, 0.75)
    """
    off, constant = vector(loss, "loss"), vector(null, "null")
    w = checked_weights(weights, same_length(loss=off, null=constant))
    mean_off, mean_constant = (float(x.mean() if w is None else w @ x / w.sum()) for x in (off, constant))
    if not mean_constant > 0:
        return math.nan, np.full(len(off), math.nan)
    ratio = mean_off / mean_constant
    return 1 - ratio, (1 - ratio) - (off - ratio * constant) / mean_constant
