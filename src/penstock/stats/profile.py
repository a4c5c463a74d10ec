"""Reference profiles: what a bundle keeps of a training column, to test new rows without the table."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import DataError, UsageError
from penstock.stats.checks import Floats, Ints, vector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

MAX_ATOMS = 200
"""A numeric column with at most this many distinct values is kept whole."""
MAX_POINTS = 2_048
"""Of any other, the distribution function is kept exactly at about this many evenly spaced points."""
MAX_CATEGORIES = 1_000
"""Categories counted one by one; the rest are counted together."""


@dataclass(frozen=True, slots=True, eq=False)
class NumericProfile:
    """The distribution function of a numeric column, exact at the values that are kept.

    Attributes
    ----------
    n : int
        Rows, missing ones included.
    missing : int
    values : array of shape (k,)
        Kept values, rising, the least and the largest among them.
    counts : array of shape (k,)
        Rows equal to each kept value.
    between : array of shape (k,)
        Rows strictly between a kept value and the one before. All zero when the profile is the whole
        column; else at most n / `MAX_POINTS` each (rounded up), which bounds the error of a
        Kolmogorov–Smirnov distance by 1 / `MAX_POINTS`, always downwards.
    mean, std : float
        Of all rows that are not missing; NaN when there is none. Population standard deviation.
    """

    n: int
    missing: int
    values: Floats
    counts: Ints
    between: Ints
    mean: float
    std: float

    @property
    def present(self) -> int:
        """Rows that are not missing."""
        return self.n - self.missing

    @property
    def exact(self) -> bool:
        """Whether every distinct value is kept."""
        return not self.between.any()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; infinities as text, `between` left out when it is all zero."""
        body = {
            "kind": "numeric",
            "n": self.n,
            "missing": self.missing,
            "values": [_number(value) for value in self.values.tolist()],
            "counts": self.counts.tolist(),
            "mean": _number(self.mean),
            "std": _number(self.std),
        }
        return body if self.exact else {**body, "between": self.between.tolist()}


@dataclass(frozen=True, slots=True)
class CategoricalProfile:
    """Counts of the categories of a column.

    Attributes
    ----------
    n : int
        Rows, missing ones included.
    missing : int
    counts : dict of str to int
        The most frequent categories by their text, most frequent first.
    other : int
        Rows of all categories that are not listed.
    other_categories : int
        How many those are.
    """

    n: int
    missing: int
    counts: Mapping[str, int]
    other: int
    other_categories: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kind": "categorical",
            "n": self.n,
            "missing": self.missing,
            "counts": dict(self.counts),
            "other": self.other,
            "other_categories": self.other_categories,
        }


Profile = NumericProfile | CategoricalProfile


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def from_json(body: Mapping[str, Any]) -> Profile:
    """A profile from its JSON.

    Raises
    ------
    DataError
        If it is not a profile.

    Examples
    --------
    >>> from_json(categorical_profile(["a", "b", "a"]).to_json()).counts
    {'a': 2, 'b': 1}
    """
    try:
        if body["kind"] == "categorical":
            listed = {str(name): int(count) for name, count in body["counts"].items()}
            return CategoricalProfile(
                int(body["n"]), int(body["missing"]), listed, int(body["other"]), int(body["other_categories"])
            )
        if body["kind"] == "numeric":
            values = np.array([float(value) for value in body["values"]], dtype=np.float64)
            counts = np.array(body["counts"], dtype=np.int64)
            between = np.array(body.get("between", [0] * len(values)), dtype=np.int64)
            if not len(values) == len(counts) == len(between):
                raise DataError("a reference profile is damaged: its lists differ in length")
            return NumericProfile(
                int(body["n"]),
                int(body["missing"]),
                values,
                counts,
                between,
                float(body["mean"]),
                float(body["std"]),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a reference profile is damaged: {type(error).__name__}: {error}") from error
    raise DataError(f"a reference profile has the unknown kind {body['kind']!r}")


def numeric_profile(x: ArrayLike) -> NumericProfile:
    """Profile of a numeric column.

    Parameters
    ----------
    x : array of shape (n,)
        Numbers, booleans or times; NaN and NaT are missing.

    Raises
    ------
    UsageError
        If the values are not numbers.

    Examples
    --------
    >>> p = numeric_profile([1.0, 2.0, 2.0, float("nan")])
    >>> p.n, p.missing, p.values.tolist(), p.counts.tolist(), p.exact
    (4, 1, [1.0, 2.0], [1, 2], True)
    """
    array = vector(x, "x")
    present = np.sort(array[~np.isnan(array)])
    n, m = len(array), len(present)
    if m == 0:
        nothing = np.array([], dtype=np.int64)
        return NumericProfile(n, n, present, nothing, nothing, math.nan, math.nan)
    ends = np.append(np.flatnonzero(present[1:] != present[:-1]), m - 1)  # last row of each run of ties
    at_most = ends + 1
    counts = np.diff(at_most, prepend=0)
    if len(ends) > MAX_ATOMS:
        # The values of evenly spaced order statistics, first and last included.
        ranks = np.linspace(0, m - 1, min(MAX_POINTS, m)).round().astype(np.int64)
        kept = np.unique(np.searchsorted(ends, ranks))
        ends, at_most, counts = ends[kept], at_most[kept], counts[kept]
    between = np.diff(at_most, prepend=0) - counts
    with np.errstate(invalid="ignore"):
        mean, std = float(present.mean()), float(present.std())
    return NumericProfile(n, n - m, present[ends], counts, between, mean, std)


def categorical_profile(values: ArrayLike) -> CategoricalProfile:
    """Profile of a categorical column.

    Parameters
    ----------
    values : array of shape (n,)
        Text, numbers or booleans; None, NaN, NaT and NA are missing.

    Raises
    ------
    UsageError
        If the values are not one-dimensional.

    Examples
    --------
    >>> p = categorical_profile(np.array(["a", None, "b", "a"], dtype=object))
    >>> p.n, p.missing, dict(p.counts), p.other
    (4, 1, {'a': 2, 'b': 1}, 0)
    """
    counts, missing = count_categories(values)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = ordered[MAX_CATEGORIES:]
    return CategoricalProfile(
        missing + sum(counts.values()),
        missing,
        dict(ordered[:MAX_CATEGORIES]),
        sum(count for _, count in rest),
        len(rest),
    )


def count_categories(values: ArrayLike) -> tuple[dict[str, int], int]:
    """Rows of each category, by its text, and the number of missing rows.

    Examples
    --------
    >>> count_categories(np.array([1, 2.0, float("nan"), "x"], dtype=object))
    ({'1': 1, '2': 1, 'x': 1}, 1)
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"values must be one-dimensional, and have shape {array.shape}")
    counts: dict[str, int] = {}
    missing = 0
    if array.dtype.kind in "mM":
        present = ~np.isnat(array)
        missing = int(len(array) - np.count_nonzero(present))
        array = array[present].astype(str)
    for value, count in Counter(array.tolist()).items():
        if is_missing(value):
            missing += count
        else:
            text = category_text(value)
            counts[text] = counts.get(text, 0) + count
    return counts, missing


def is_missing(value: Any) -> bool:
    """None, NaN, NaT and NA: what does not equal itself."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124
    except (TypeError, ValueError):  # pandas' NA refuses to be true or false
        return True


def category_text(value: Any) -> str:
    """The text that names a category; 1 and 1.0 are the same one.

    Examples
    --------
    >>> category_text(1.0), category_text(True), category_text("1")
    ('1', 'True', '1')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
