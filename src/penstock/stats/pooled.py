"""One mean out of estimates from independent samples, such as the figures of one model in several windows of time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Pooled(NamedTuple):
    """A weighted mean and its standard error; NaN where there is nothing to take the mean of."""

    value: float
    se: float


def pooled(values: ArrayLike, errors: ArrayLike, weights: ArrayLike, overlap: int = 1) -> Pooled:
    """The weighted mean of independent estimates, and its standard error.

    The weights are fixed numbers (rows), not inverse variances: the mean is then that of all rows together, and no
    sample counts for more because its variance happened to be estimated low. Its variance is the sum of
    ``(w_i / W)**2 * se_i**2`` (the variance of a stratified mean; Cochran, Sampling Techniques, 3rd ed., 5.3).

    Estimates from samples that overlap are not independent. Where they can be dealt into `overlap` sets of disjoint
    samples, the variance of their sum is at most that many times the sum of the variances (Cauchy and Schwarz), and
    that bound is given.

    Parameters
    ----------
    values, errors : array-like of shape (n_samples,)
        Estimates and their standard errors, finite.
    weights : array-like of shape (n_samples,)
        Above 0.
    overlap : int, default=1
        So many samples at most have a row in common.

    Returns
    -------
    Pooled

    Raises
    ------
    DataError
        Of different length, an error below 0, a weight that is not above 0, or an overlap below 1.

    Examples
    --------
    >>> mean = pooled([0.8, 0.6], [0.02, 0.01], [300, 100])
    >>> round(mean.value, 4), round(mean.se, 5)
    (0.75, 0.01521)
    """
    found, error, weight = (np.asarray(one, dtype=np.float64) for one in (values, errors, weights))
    if not found.shape == error.shape == weight.shape or found.ndim != 1:
        raise DataError("values, errors and weights differ in length")
    if not len(found):
        return Pooled(math.nan, math.nan)
    if overlap < 1:
        raise DataError(f"overlap={overlap}: a sample shares its rows with itself at least")
    if (weight <= 0).any() or (error < 0).any():
        raise DataError("a weight must be above 0, and a standard error not below it")
    share = weight / weight.sum()
    return Pooled(float(share @ found), math.sqrt(overlap * float((share**2) @ (error**2))))
