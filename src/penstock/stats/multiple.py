"""Several tests at once: Holm's step-down rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import UsageError
from penstock.stats.checks import Bools, Floats, check_level, vector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def holm(p_values: ArrayLike, alpha: float = 0.05) -> tuple[Bools, Floats]:
    """Holm's step-down test: the chance of any false rejection is at most `alpha`, however the tests depend.

    Holm (1979), Scandinavian Journal of Statistics 6:65. A NaN counts as 1: it never rejects, and it still
    costs the others its share.

    Parameters
    ----------
    p_values : array of shape (k,)
    alpha : float, default=0.05

    Returns
    -------
    reject : bool array of shape (k,)
    adjusted : float array of shape (k,)
        `reject` is `adjusted <= alpha`.

    Raises
    ------
    UsageError
        If a p-value lies outside [0, 1], or `alpha` outside (0, 1).

    Examples
    --------
    >>> reject, adjusted = holm([0.01, 0.04, 0.03])
    >>> reject.tolist(), adjusted.round(3).tolist()
    ([True, False, False], [0.03, 0.06, 0.06])
    """
    check_level(alpha, "alpha")
    p = vector(p_values, "p_values")
    p = np.where(np.isnan(p), 1.0, p)
    if np.any((p < 0) | (p > 1)):
        raise UsageError("p-values must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(p) else steps
    return adjusted <= alpha, adjusted
