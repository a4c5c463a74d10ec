"""Deciding again and again on one hold-out: levels that share one alpha, and how lucky the best of several was.

Plain arithmetic: who holds the record of the looks works the level of the next one out before anything is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from penstock.errors import UsageError

DECAY = 1.1
"""The share of test j falls as j ** -DECAY. Steeper, the first looks would have more, and each find would pay back so
much at once that a year of weekly tests with a find a quarter would hold a false one more often than alpha."""
_ZETA = 10.584448464950803
"""Riemann's zeta at DECAY: what the shares are divided by, so that all of them together are 1."""
START = 0.5
"""The part of alpha that can be spent before anything was found."""


def share(j: int) -> float:
    """What test number j takes of an amount that is spread over all tests to come; all shares together are 1.

    Examples
    --------
    >>> [round(share(j), 4) for j in (1, 2, 10)]
    [0.0945, 0.0441, 0.0075]
    """
    return 0.0 if j < 1 else j**-DECAY / _ZETA


def next_level(won: Sequence[bool], alpha: float = 0.05) -> float:
    r"""The level of the next test, after a sequence of tests of which some found something.

    LORD++ (Ramdas, Yang, Wainwright and Jordan 2017, "Online control of the false discovery rate with decaying
    memory", section 3): with tests found at :math:`\tau_1 < \tau_2 < …`, start :math:`W_0 = \alpha / 2` and shares
    :math:`\gamma_j \propto j^{-1.1}` (any non-increasing shares that sum to 1 will do),

    .. math:: \alpha_t = \gamma_t W_0 + (\alpha - W_0)\,\gamma_{t-\tau_1} + \alpha \sum_{j \ge 2} \gamma_{t-\tau_j}.

    So :math:`\sum_{i \le t} \alpha_i \le \alpha \max(R_t, 1)` at every t, R being the number of finds, and the
    false discovery rate is at most alpha where p-values are super-uniform given what came before. As long as
    nothing was found the levels sum to at most :math:`W_0`: that anything is found among equals has at most this
    probability, however the tests depend.

    Parameters
    ----------
    won : sequence of bool
        Of each test so far, in order, whether it found something.
    alpha : float, default=0.05
        In (0, 1]; the level is proportional to it, so 1.0 gives the level as a share of alpha.

    Returns
    -------
    float

    Raises
    ------
    UsageError
        If `alpha` is not in (0, 1].

    Examples
    --------
    >>> round(next_level([]), 5), round(next_level([False]), 5), round(next_level([False, True]), 5)
    (0.00236, 0.0011, 0.00307)
    """
    _check(alpha)
    t, start = len(won) + 1, START * alpha
    found = [i for i, one in enumerate(won, 1) if one]
    level = share(t) * start
    if found:
        level += (alpha - start) * share(t - found[0])
        level += alpha * sum(share(t - i) for i in found[1:])
    return level


def levels(won: Sequence[bool], alpha: float = 0.05) -> list[float]:
    """The level that each of these tests had.

    Examples
    --------
    >>> [round(level, 5) for level in levels([False, True, False])]
    [0.00236, 0.0011, 0.00307]
    """
    return [next_level(won[:i], alpha) for i in range(len(won))]


def alpha_left(won: Sequence[bool], alpha: float = 0.05) -> float:
    """What of alpha has not been spent after these tests: the start, and what finds paid back, less all levels.

    Never negative. The levels of all tests to come, if none finds anything, sum to it.

    Examples
    --------
    >>> round(alpha_left([]), 5), round(alpha_left([False]), 5), round(alpha_left([True]), 5)
    (0.025, 0.02264, 0.04764)
    """
    _check(alpha)
    found = sum(map(bool, won))
    budget = START * alpha if not found else alpha * found
    return max(budget - sum(levels(won, alpha)), 0.0)


def winners_luck(se: float, tried: int) -> float:
    r"""A bound on how much too good the figure of the best of several models may be expected to be.

    Of `tried` figures measured on the same rows, each with error of standard deviation `se` at most, the expected
    largest error is at most :math:`\mathrm{se}\,\sqrt{2 \ln k}` however they depend (the maximal inequality for
    sub-Gaussian variables; Boucheron, Lugosi and Massart 2013, "Concentration inequalities", theorem 2.5).

    Parameters
    ----------
    se : float
        Standard error of the figure.
    tried : int
        Models that were held against these rows, the best one included.

    Returns
    -------
    float
        In the figure's units; 0 for a single model, NaN without a standard error.

    Examples
    --------
    >>> winners_luck(0.01, 1), round(winners_luck(0.01, 10), 4)
    (0.0, 0.0215)
    """
    if not math.isfinite(se):
        return math.nan
    return se * math.sqrt(2 * math.log(max(tried, 1)))


def _check(alpha: float) -> None:
    if not 0 < alpha <= 1:
        raise UsageError(f"alpha must be above 0 and at most 1, not {alpha}")
