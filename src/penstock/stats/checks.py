"""What the numerics demand of their arguments, said in sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.errors import DataError, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def vector(values: ArrayLike, name: str = "values") -> Floats:
    """One-dimensional float64 array.

    Times become nanoseconds since 1970 (rounded to float64), NaT becomes NaN, booleans 0 and 1.

    Raises
    ------
    UsageError
        If the values have another shape, or are not numbers.

    Examples
    --------
    >>> vector([True, False])
    array([1., 0.])
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"{name} must be one-dimensional, and has shape {array.shape}")
    if array.dtype.kind in "mM":
        unit = "datetime64[ns]" if array.dtype.kind == "M" else "timedelta64[ns]"
        return np.where(np.isnat(array), np.nan, array.astype(unit).astype(np.int64).astype(np.float64))
    try:
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must be numbers, and has dtype {array.dtype}: {error}") from error


def same_length(**arrays: NDArray[Any]) -> int:
    """The common number of rows of some arrays.

    Raises
    ------
    UsageError
        If two lengths differ.
    DataError
        If there is no row.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(f"arrays must have one row each for the same rows; their lengths are {listed}")
    n = next(iter(lengths.values()))
    if n == 0:
        raise DataError(f"there is no row: {', '.join(lengths)} of length 0")
    return n


def labels(y: ArrayLike) -> Bools:
    """0/1 or boolean labels of two classes as booleans.

    Raises
    ------
    DataError
        If other values occur, or only one class does.

    Examples
    --------
    >>> labels([0, 1, 1])
    array([False,  True,  True])
    """
    array = vector(y, "y")
    positive: Bools = array == 1.0
    if not np.all(positive | (array == 0.0)):
        raise DataError("y must hold 0 and 1 only (1 is the positive class)", hint="encode the labels first")
    count = int(positive.sum())
    if count in {0, len(array)}:
        which = "positive" if count else "negative"
        raise DataError(f"the area under the ROC curve needs both classes: all {len(array)} rows are {which}")
    return positive


def codes(clusters: ArrayLike, n: int) -> tuple[Ints, int]:
    """Cluster labels as integers 0 … G-1, and G.

    Raises
    ------
    UsageError
        If there is not one label a row.
    """
    array = np.asarray(clusters)
    if array.shape != (n,):
        raise UsageError(f"clusters must have one label for each of {n} rows, and has shape {array.shape}")
    unique, inverse = np.unique(array, return_inverse=True)
    return inverse.astype(np.int64), len(unique)


def check_level(level: float, name: str = "confidence") -> float:
    """A probability strictly between 0 and 1.

    Raises
    ------
    UsageError
        If it is not.
    """
    if not 0.0 < level < 1.0:
        raise UsageError(f"{name} must lie strictly between 0 and 1, and is {level}")
    return float(level)


def json_number(value: float) -> float | None:
    """A finite number, or None: JSON has no infinity, and an open bound is no bound.

    Examples
    --------
    >>> json_number(float("-inf")) is None
    True
    """
    return float(value) if math.isfinite(value) else None
