"""Has a column moved? Two-sample tests per column, of missing values too, corrected over the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Floats, Ints, json_number, vector
from penstock.stats.multiple import holm
from penstock.stats.profile import (
    CategoricalProfile,
    NumericProfile,
    Profile,
    count_categories,
    from_json,
)
from penstock.stats.two_sample import (
    MIN_EXPECTED,
    Outcome,
    chi2_two_sample,
    ks_p_value,
    ks_two_sample,
    merge_sorted,
    wasserstein,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "ColumnDrift",
    "ColumnResult",
    "Kind",
    "against_profile",
    "chi2_two_sample",
    "column_drift",
    "ks_two_sample",
    "table_drift",
    "wasserstein",
]

Kind = Literal["numeric", "categorical"]
_NONE = np.array([], dtype=np.int64)

FEW_ATOMS = 25
"""Numeric columns with at most this many pooled distinct values are tested by chi-square on them: with so
many ties Kolmogorov–Smirnov is far too cautious, and bins would hide a shift."""
ROWS_PER_ATOM = 10
"""… but only with this many rows for each distinct value: a handful of unequal numbers is no discrete law."""
HEAVY = 0.1
"""A value that this share of the pooled rows repeats (the zeros of a column of amounts) is compared by its share, and
the other rows among themselves: left in, its ties would blind Kolmogorov–Smirnov."""


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """A two-sample test of one column.

    Attributes
    ----------
    statistic : float
        Of the test that `method` names.
    p_value : float
        Of the column as a whole, missing values included.
    effect : float
        How far. Numeric: Wasserstein distance in standard deviations of the reference (of the current rows where
        the reference is constant). Categorical: total variation distance, in [0, 1]. Sampling noise is in it: two
        equal samples with many categories are some way apart too.
    method : str
        The test that gave the p-value: "ks" (statistic: the Kolmogorov–Smirnov distance of the values), "chi2" (the
        chi-square over all categories or distinct values), or "shares" (the largest change in the share of a heavily
        repeated value or of missing rows).
    n_reference, n_current : int
        Rows, missing ones included.
    missing_reference, missing_current : float
        Shares of missing rows.
    """

    statistic: float
    p_value: float
    effect: float
    method: str
    n_reference: int
    n_current: int
    missing_reference: float = 0.0
    missing_current: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite effect is null."""
        return {
            "statistic": json_number(self.statistic),
            "p_value": self.p_value,
            "effect": json_number(self.effect),
            "method": self.method,
            "n_reference": self.n_reference,
            "n_current": self.n_current,
            "missing_reference": self.missing_reference,
            "missing_current": self.missing_current,
        }


@dataclass(frozen=True, slots=True)
class ColumnResult:
    """One column of a table: its test, its p-value adjusted for the number of columns, the answer."""

    column: str
    drift: ColumnDrift
    adjusted: float
    drifted: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "column": self.column,
            **self.drift.to_json(),
            "adjusted": self.adjusted,
            "drifted": self.drifted,
        }


@dataclass(frozen=True, slots=True)
class _Rows:
    """How many rows there are on either side, and how many of them are missing."""

    n: int
    m: int
    missing_n: int
    missing_m: int

    def __post_init__(self) -> None:
        for count, name in ((self.n, "reference"), (self.m, "current")):
            if count == 0:
                raise DataError(f"the {name} rows are empty: there is nothing to compare")

    def result(self, test: Outcome, effect: float, method: str) -> ColumnDrift:
        shares = self.missing_n / self.n, self.missing_m / self.m
        return ColumnDrift(test.statistic, test.p_value, effect, method, self.n, self.m, *shares)

    def with_shares(self, values: Outcome, effect: float, atoms_n: Ints, atoms_m: Ints) -> ColumnDrift:
        """Join a test of the other values with one of the shares of heavy atoms and of missing rows.

        The two look at independent parts of the column; the p-value is twice the smaller one (Bonferroni).
        """
        if len(atoms_n) + self.missing_n + self.missing_m == 0:
            return self.result(values, effect, "ks")
        cells_n = np.array([*atoms_n, self.missing_n, self.n - self.missing_n - atoms_n.sum()])
        cells_m = np.array([*atoms_m, self.missing_m, self.m - self.missing_m - atoms_m.sum()])
        shares = chi2_two_sample(cells_n, cells_m)
        if shares.p_value < values.p_value:
            largest = float(np.abs(cells_n / self.n - cells_m / self.m)[:-1].max())
            return self.result(Outcome(largest, min(1.0, 2 * shares.p_value)), effect, "shares")
        return self.result(Outcome(values.statistic, min(1.0, 2 * values.p_value)), effect, "ks")

    def by_atoms(self, counts_n: Ints, counts_m: Ints, effect: float) -> ColumnDrift:
        """Chi-square on the distinct values, missing being one more of them."""
        counts = np.append(counts_n, self.missing_n), np.append(counts_m, self.missing_m)
        return self.result(chi2_two_sample(*counts), effect, "chi2")


def column_drift(reference: ArrayLike | Profile | Mapping[str, Any], current: ArrayLike, kind: Kind) -> ColumnDrift:
    """Test whether two sets of rows of a column come from one law.

    Categorical: chi-square. Numeric: chi-square on the distinct values where there are few, else
    Kolmogorov–Smirnov, with the shares of missing rows and of heavily repeated values tested beside it. Both sides
    count as samples.

    Parameters
    ----------
    reference : array of shape (n,), or a profile of such an array (or its JSON)
    current : array of shape (m,)
    kind : {"numeric", "categorical"}

    Raises
    ------
    DataError
        If either side has no row, or a profile is damaged.
    UsageError
        If `kind` is unknown, contradicts the profile, or the values are not numbers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> drift = column_drift(rng.poisson(3.0, 1000), rng.poisson(3.4, 1000), "numeric")
    >>> drift.method, drift.p_value < 0.01
    ('chi2', True)
    """
    if kind not in {"numeric", "categorical"}:
        raise UsageError(f"kind must be 'numeric' or 'categorical', and is {kind!r}")
    if isinstance(reference, Mapping):
        reference = from_json(reference)
    if isinstance(reference, NumericProfile | CategoricalProfile):
        is_numeric = isinstance(reference, NumericProfile)
        if is_numeric != (kind == "numeric"):
            raise UsageError(f"the profile is {'numeric' if is_numeric else 'categorical'}, not {kind}")
        return against_profile(reference, current)
    if kind == "categorical":
        return _categorical(*count_categories(reference), *count_categories(current))
    return _numeric(vector(reference, "reference"), vector(current, "current"))


def _numeric(reference: Floats, current: Floats) -> ColumnDrift:
    xs, ys = (np.sort(array[~np.isnan(array)]) for array in (reference, current))
    rows = _Rows(len(reference), len(current), len(reference) - len(xs), len(current) - len(ys))
    if not (len(xs) and len(ys)):
        return rows.with_shares(Outcome(0.0, 1.0), 0.0, _NONE, _NONE)
    merged = merge_sorted(xs, ys)
    effect = _in_deviations(merged.transport, _deviation(xs), ys)
    repeated = np.diff(merged.ends, prepend=-1) >= HEAVY * (len(xs) + len(ys))
    if _is_discrete(len(merged.ends), len(xs) + len(ys)):
        _, counts_x, counts_y = merged.atoms()
        return rows.by_atoms(counts_x, counts_y, effect)
    if not repeated.any():
        return rows.with_shares(_ks(merged.distance, len(xs), len(ys)), effect, _NONE, _NONE)
    atoms, counts_x, counts_y = merged.atoms()
    atoms, counts_x, counts_y = atoms[repeated], counts_x[repeated], counts_y[repeated]
    xs, ys = _without(xs, atoms), _without(ys, atoms)
    distance = merge_sorted(xs, ys).distance if len(xs) and len(ys) else 0.0
    return rows.with_shares(_ks(distance, len(xs), len(ys)), effect, counts_x, counts_y)


def _ks(distance: float, n: int, m: int) -> Outcome:
    return Outcome(distance, ks_p_value(distance, n, m))


def _without(ordered: Floats, values: Floats) -> Floats:
    """Sorted rows less those equal to one of a few values."""
    keep = np.ones(len(ordered), dtype=np.bool_)
    for low, high in zip(np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right"), strict=True):
        keep[low:high] = False
    return ordered[keep]


def _is_discrete(distinct: int, n: int) -> bool:
    return distinct <= FEW_ATOMS and n >= ROWS_PER_ATOM * distinct


def _deviation(values: Floats) -> float:
    with np.errstate(invalid="ignore"):
        return float(values.std())


def _in_deviations(transport: float, deviation: float, current: Floats) -> float:
    if transport == 0.0:
        return 0.0
    scale = deviation if deviation > 0 else _deviation(current)
    return transport / scale if math.isfinite(transport) and scale > 0 else math.inf


def _categorical(
    reference: Mapping[str, int], missing_n: int, current: Mapping[str, int], missing_m: int
) -> ColumnDrift:
    names = list(dict.fromkeys([*reference, *current]))
    a = np.array([*(reference.get(name, 0) for name in names), missing_n])
    b = np.array([*(current.get(name, 0) for name in names), missing_m])
    rows = _Rows(int(a.sum()), int(b.sum()), missing_n, missing_m)
    effect = float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    return rows.result(chi2_two_sample(a, b), effect, "chi2")


def against_profile(profile: Profile | Mapping[str, Any], current: ArrayLike) -> ColumnDrift:
    """Test new rows of a column against a profile of its reference rows, a sample of their number.

    Where the profile keeps every distinct value the answer is that of `column_drift` on the reference rows
    themselves. Else the Kolmogorov–Smirnov distance is the largest one *at the values that are kept*: never
    above the true one, and at most 1 / `profile.MAX_POINTS` below it, so the alarm rate never rises.

    Parameters
    ----------
    profile : NumericProfile, CategoricalProfile, or the JSON of one
    current : array of shape (m,)

    Raises
    ------
    DataError
        If either side has no row, or the profile is damaged.
    UsageError
        If the values of a numeric column are not numbers.

    Examples
    --------
    >>> from penstock.stats.profile import numeric_profile
    >>> rng = np.random.default_rng(0)
    >>> profile = numeric_profile(rng.normal(size=5000))
    >>> against_profile(profile, rng.normal(0.5, 1.0, 500)).p_value < 0.001
    True
    """
    if isinstance(profile, Mapping):
        profile = from_json(profile)
    if isinstance(profile, CategoricalProfile):
        return _against_categories(profile, *count_categories(current))
    array = vector(current, "current")
    ys = np.sort(array[~np.isnan(array)])
    rows = _Rows(profile.n, len(array), profile.missing, len(array) - len(ys))
    if not (len(ys) and profile.present):
        return rows.with_shares(Outcome(0.0, 1.0), 0.0, _NONE, _NONE)
    return _against_numbers(profile, ys, rows)


def _against_numbers(profile: NumericProfile, ys: Floats, rows: _Rows) -> ColumnDrift:
    """`_numeric`, step by step, with the distribution function of the reference known at some values only."""
    effect = _in_deviations(_transport(profile, ys), profile.std, ys)
    values, counts, between = _aligned(profile, ys)
    edges = np.searchsorted(ys, values, "right")
    counts_y = edges - np.searchsorted(ys, values, "left")
    pooled = profile.present + len(ys)
    if profile.exact and _is_discrete(len(values), pooled):
        return rows.by_atoms(counts, counts_y, effect)
    heavy = counts + counts_y >= HEAVY * pooled
    light, light_y = np.where(heavy, 0, counts), np.where(heavy, 0, counts_y)
    n, m = profile.present - int(counts[heavy].sum()), len(ys) - int(counts_y[heavy].sum())
    at, at_y = np.cumsum(light + between), edges - np.cumsum(counts_y - light_y)
    # The distribution functions differ most at a kept value or just before one; n * m times that is a whole number.
    apart = np.maximum(np.abs(at * m - at_y * n), np.abs((at - light) * m - (at_y - light_y) * n))
    distance = int(apart.max()) / (n * m) if n and m else 0.0
    return rows.with_shares(_ks(distance, n, m), effect, counts[heavy], counts_y[heavy])


def _aligned(profile: NumericProfile, ys: Floats) -> tuple[Floats, Ints, Ints]:
    """Values, counts and rows between, over the pooled distinct values where the profile is exact."""
    if not profile.exact:
        return profile.values, profile.counts, profile.between
    values = np.union1d(profile.values, ys)
    counts = np.zeros(len(values), dtype=np.int64)
    counts[np.searchsorted(values, profile.values)] = profile.counts
    return values, counts, np.zeros_like(counts)


def _transport(profile: NumericProfile, ys: Floats) -> float:
    """Wasserstein distance, the rows between two kept values laid half on either.

    Exact when all values are kept; else off by less than (largest - least) / (2 `MAX_POINTS`).
    """
    between = profile.between
    mass = profile.counts + between / 2 + np.append(between[1:], 0) / 2
    both = np.concatenate([profile.values, ys])
    order = np.argsort(both, kind="stable")  # a merge: both are sorted
    points = both[order]
    kept_to = np.cumsum(order < len(profile.values))[:-1]
    of_reference = np.append(0.0, np.cumsum(mass))[kept_to]
    of_current = np.arange(1, len(points)) - kept_to
    apart = np.abs(of_reference / profile.present - of_current / len(ys))
    with np.errstate(invalid="ignore"):
        gaps = np.diff(points)
    # As in `merge_sorted`; the shares are not whole numbers here, hence the rounding bound.
    return float(np.where((points[1:] != points[:-1]) & (apart > 1e-12), gaps, 0.0) @ apart)


def _against_categories(profile: CategoricalProfile, current: Mapping[str, int], missing: int) -> ColumnDrift:
    """Categories that the profile does not list are its "other" ones, if it has any.

    The last ones of the list are there because the *reference* happened to have one more of them: compared by name
    they would seem to fall, in every new sample. So only those are compared by name whose *pooled* count puts them
    safely (four standard errors) above the end of the list, and is not rare either; the rest join the others.
    """
    if not profile.other:
        return _categorical(profile.counts, profile.missing, current, missing)
    n, m = profile.n - profile.missing, sum(current.values())
    least = min(profile.counts.values())
    safe = (least + 4.0 * math.sqrt(least) + 4.0) * (n + m) / n
    frequent = MIN_EXPECTED * (n + m) / max(min(n, m), 1)
    pooled = {name: count + current.get(name, 0) for name, count in profile.counts.items()}
    named = [name for name, count in pooled.items() if count >= max(safe, frequent)]
    reference = {name: profile.counts[name] for name in named}
    seen = {name: current.get(name, 0) for name in named}
    # A name that no category's text can have, NUL being refused by every format that is read.
    reference["\0other"] = n - sum(reference.values())
    seen["\0other"] = m - sum(seen.values())
    return _categorical(reference, profile.missing, seen, missing)


def table_drift(
    columns: Mapping[str, tuple[ArrayLike | Profile | Mapping[str, Any], ArrayLike, Kind]],
    alpha: float = 0.05,
) -> list[ColumnResult]:
    """Test every column of a table; the chance of any false alarm in the table is at most `alpha` (Holm).

    Parameters
    ----------
    columns : dict of column name to (reference, current, kind)
        As the arguments of `column_drift`.
    alpha : float, default=0.05
        Per table, not per column.

    Returns
    -------
    list of ColumnResult
        In the order of `columns`.

    Raises
    ------
    DataError, UsageError
        As `column_drift`.

    Examples
    --------
    >>> x = np.arange(1000.0)
    >>> [(r.column, r.drifted) for r in table_drift({"a": (x, x + 300, "numeric"), "b": (x, x, "numeric")})]
    [('a', True), ('b', False)]
    """
    drifts = {name: column_drift(*column) for name, column in columns.items()}
    reject, adjusted = holm([drift.p_value for drift in drifts.values()], alpha)
    return [
        ColumnResult(name, drift, float(p), bool(drifted))
        for (name, drift), p, drifted in zip(drifts.items(), adjusted, reject, strict=True)
    ]
