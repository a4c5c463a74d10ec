"""Two samples, one law? Kolmogorov–Smirnov, Wasserstein, chi-square; the reference is never exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Floats, Ints, vector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

EXACT_ROWS = 1_000
"""The exact law of the Kolmogorov–Smirnov statistic is used up to this size of the smaller sample …"""
EXACT_LARGER = 10_000
"""… and this size of the larger one (scipy's own limit); the asymptotic law beyond."""
MIN_EXPECTED = 10.0
"""Cells of a chi-square with a smaller expected count are pooled. Cochran (1954), Biometrics 10:417, asks for 5; with
that, rows of 200 against 1,000 alarmed at 0.58 % where Holm over twelve columns asks for 0.42 %; with 10, at 0.46 %."""


class Outcome(NamedTuple):
    """A test statistic and its p-value."""

    statistic: float
    p_value: float


class Merged(NamedTuple):
    """Two samples counted over their pooled distinct values.

    `counts_x[i]` and `counts_y[i]` are the rows equal to `values[i]`; `distance` is the Kolmogorov–Smirnov
    statistic, `transport` the Wasserstein distance, `distinct` the number of pooled distinct values.
    """

    merged: Floats
    cumulative_x: Ints
    ends: Ints
    distance: float
    transport: float
    n_x: int
    n_y: int

    def atoms(self) -> tuple[Floats, Ints, Ints]:
        """Pooled distinct values, with their counts in either sample."""
        to_x = self.cumulative_x[self.ends]
        to_both = self.ends + 1
        return self.merged[self.ends], np.diff(to_x, prepend=0), np.diff(to_both - to_x, prepend=0)


def merge_sorted(xs: Floats, ys: Floats) -> Merged:
    """Both distances between two sorted samples in one merge.

    Parameters
    ----------
    xs, ys : sorted arrays of shapes (n,) and (m,), without NaN, not empty

    Returns
    -------
    Merged

    Notes
    -----
    The stable argsort of two sorted runs is a linear merge. The distance is the largest difference of the two
    distribution functions over the *last* row of each run of ties, in whole numbers until the last
    division; the Wasserstein distance is the area between the functions (Ramdas, Trillos & Cuturi 2017,
    Entropy 19:47).
    """
    n, m = len(xs), len(ys)
    both = np.concatenate([xs, ys])
    order = np.argsort(both, kind="stable")
    merged = both[order]
    cumulative_x = np.cumsum(order < n, dtype=np.int64)
    # n * m * (F - G) after each row, exact: F = cx / n, G = (k - cx) / m.
    apart = np.abs(cumulative_x * (n + m) - np.arange(1, n + m + 1) * n)
    changes = merged[1:] != merged[:-1]
    ends = np.append(np.flatnonzero(changes), n + m - 1)
    distance = int(apart[ends].max()) / (n * m)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(merged)
    if math.isinf(merged[0]) or math.isinf(merged[-1]):
        # Between equal infinities, and where F = G, nothing is transported.
        gaps = np.where(changes & (apart[:-1] > 0), gaps, 0.0)
    area = float(gaps @ apart[:-1])
    return Merged(merged, cumulative_x, ends, distance, area / (n * m), n, m)


def _present(values: ArrayLike, name: str) -> Floats:
    """Sorted values without NaN; at least one."""
    array = vector(values, name)
    array = array[~np.isnan(array)]
    if len(array) == 0:
        raise DataError(f"{name} holds no value that is not missing")
    return np.sort(array)


def ks_two_sample(x: ArrayLike, y: ArrayLike) -> Outcome:
    """Two-sample Kolmogorov–Smirnov test, two-sided.

    The statistic is that of `scipy.stats.ks_2samp`. With ties the p-value is conservative.

    Parameters
    ----------
    x, y : arrays of shapes (n,) and (m,)
        NaN is left out; `drift.column_drift` tests its share.

    Raises
    ------
    DataError
        If a sample has no value.
    UsageError
        If a sample is not numeric or not one-dimensional.

    Examples
    --------
    >>> test = ks_two_sample([1, 2, 3, 4], [3, 4, 5, 6])
    >>> test.statistic, round(test.p_value, 4)
    (0.5, 0.7714)
    """
    merged = merge_sorted(_present(x, "x"), _present(y, "y"))
    return Outcome(merged.distance, ks_p_value(merged.distance, merged.n_x, merged.n_y))


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """Wasserstein (earth mover's) distance of order 1, in the unit of the values.

    Equal to `scipy.stats.wasserstein_distance`. NaN is left out.

    Parameters
    ----------
    x, y : arrays of shapes (n,) and (m,)

    Raises
    ------
    DataError
        If a sample has no value.

    Examples
    --------
    >>> wasserstein([0, 1, 3], [5, 6, 8])
    5.0
    """
    return merge_sorted(_present(x, "x"), _present(y, "y")).transport


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Chance of a Kolmogorov–Smirnov distance at least this large under one continuous law.

    Exact up to `EXACT_ROWS` rows in the smaller and `EXACT_LARGER` in the larger sample; beyond, the law of
    one sample of n m / (n + m) rows, as `scipy.stats.ks_2samp(method="asymp")`.

    Parameters
    ----------
    distance : float
    n, m : int
        Sizes of the two samples.

    Examples
    --------
    >>> round(ks_p_value(0.5, 4, 4), 4), ks_p_value(0.0, 10, 10)
    (0.7714, 1.0)
    """
    if distance <= 0.0:
        return 1.0
    if min(n, m) <= EXACT_ROWS and max(n, m) <= EXACT_LARGER:
        p = _exact_p(distance, max(n, m), min(n, m))
        # The exact law is computed as 1 - inside; far out that is rounding only.
        if p > 1e-9:
            return p
    from scipy.stats import kstwo

    return float(np.clip(kstwo.sf(distance, max(round(n * m / (n + m)), 1)), 0.0, 1.0))


def _exact_p(distance: float, n: int, m: int) -> float:
    """P(D >= distance) by counting lattice paths inside the band (Hodges 1958, Arkiv för Matematik 3:469).

    `inside[j]` counts the paths from the origin to (i, j) that keep |i / m - j / n| < distance, scaled row
    by row.
    """
    common = math.gcd(n, m)
    step_n, step_m = n // common, m // common
    limit = round(distance * step_n * m)  # on the grid of 1 / lcm(n, m), where distances lie
    inside = np.zeros(n + 1)
    inside[: min(-(-limit // step_m), n + 1)] = 1.0
    log_scale, previous = 0.0, 0
    for i in range(1, m + 1):
        low = max((i * step_n - limit) // step_m + 1, 0)
        high = min(-(-(i * step_n + limit) // step_m), n + 1)
        if low >= high:
            return 1.0
        inside[previous:low] = 0.0
        row = inside[low:high]
        np.cumsum(row, out=row)
        largest = row[-1]
        if largest > 1e100:
            row /= largest
            log_scale += math.log(largest)
        previous = low
    if inside[n] <= 0.0:
        return 1.0
    paths = special.gammaln(n + m + 1) - special.gammaln(n + 1) - special.gammaln(m + 1)
    return float(np.clip(-np.expm1(math.log(inside[n]) + log_scale - paths), 0.0, 1.0))


def chi2_two_sample(counts_a: ArrayLike, counts_b: ArrayLike) -> Outcome:
    r"""Pooled two-sample chi-square test of homogeneity, with rare categories kept apart.

    Expected counts come from *both* samples (Pearson 1911, Biometrika 8:250). Categories whose smaller
    expected count is below `MIN_EXPECTED` are pooled. If their pool still is, the test falls into its two
    independent parts: chi-square within the frequent categories, Fisher's exact test of rare against
    frequent; the p-value is then twice the smaller one (Bonferroni). So ten rows of a category never seen
    before are found at any size.

    Parameters
    ----------
    counts_a, counts_b : arrays of shape (k,)
        Rows of each category in either sample.

    Returns
    -------
    Outcome
        `statistic` is the chi-square of the frequent categories (0 if there is at most one).

    Raises
    ------
    DataError
        If a sample is empty.
    UsageError
        If lengths differ, or a count is negative or not whole.

    Examples
    --------
    >>> test = chi2_two_sample([30, 70], [45, 55])
    >>> test.statistic, round(test.p_value, 4)
    (4.8, 0.0285)
    >>> chi2_two_sample([5000, 0], [190, 10]).p_value < 1e-12
    True
    """
    table = _counts(counts_a, counts_b)
    sizes = table.sum(axis=1)
    if sizes.min() == 0:
        raise DataError("a sample without rows cannot be compared")
    total = table.sum(axis=0)
    table, total = table[:, total > 0], total[total > 0]
    smaller_share = sizes.min() / sizes.sum()
    rare = total * smaller_share < MIN_EXPECTED
    if not rare.any():
        return _pearson(table)
    pool, frequent = table[:, rare].sum(axis=1), table[:, ~rare]
    if pool.sum() * smaller_share >= MIN_EXPECTED:
        return _pearson(np.column_stack([frequent, pool]))
    rest = frequent.sum(axis=1)
    exact = _fisher(pool, rest)
    within = _pearson(frequent)
    if frequent.shape[1] < 2:
        return Outcome(0.0, exact)
    return Outcome(within.statistic, min(1.0, 2.0 * min(exact, within.p_value)))


def _counts(counts_a: ArrayLike, counts_b: ArrayLike) -> Floats:
    a, b = vector(counts_a, "counts_a"), vector(counts_b, "counts_b")
    if len(a) != len(b):
        raise UsageError(f"counts must be of the same categories; there are {len(a)} and {len(b)}")
    table = np.stack([a, b])
    if not np.all((table >= 0) & (table == np.floor(table)) & np.isfinite(table)):
        raise UsageError("counts must be whole and not negative")
    return table


def _pearson(table: Floats) -> Outcome:
    """Pearson's chi-square of a 2 x k table; a statistic of 0 when a row is empty or there is one column."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if table.shape[1] < 2 or rows.min() == 0:
        return Outcome(0.0, 1.0)
    expected = np.outer(rows, columns) / rows.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return Outcome(statistic, float(special.chdtrc(table.shape[1] - 1, statistic)))


def _fisher(rare: Floats, rest: Floats) -> float:
    """Two-sided Fisher exact test of a 2 x 2 table: tables no likelier than this one (Fisher 1935)."""
    a, b = (int(v) for v in rare)
    n, m = a + int(rest[0]), b + int(rest[1])
    k = a + b
    possible = np.arange(max(0, k - m), min(k, n) + 1)
    log_probability = _log_choose(n, possible) + _log_choose(m, k - possible) - _log_choose(n + m, np.asarray(k))
    here = log_probability[a - possible[0]]
    return float(min(1.0, np.exp(log_probability[log_probability <= here + 1e-7]).sum()))


def _log_choose(n: int, k: Ints) -> Floats:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1), dtype=np.float64)
