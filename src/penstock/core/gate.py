"""Rules that a version must pass, as plain values; the numbers are worked out in `stages.compare`."""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

RATES = ("tpr", "fpr", "selection_rate")
"""Rates of a binary classifier that `MaxGap` knows beside metrics."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A metric must be at least a value: its one-sided lower bound at `confidence`, or the figure itself.

    Parameters
    ----------
    metric : str
        A scorer's name. Scores whose name begins with `neg_` are compared as they are.
    value : float
    by : {"bound", "point"}, default="bound"
        What is held against the value.
    confidence : float, default=0.95

    Examples
    --------
    >>> AtLeast("roc_auc", 0.75)
    AtLeast(metric='roc_auc', value=0.75, by='bound', confidence=0.95)
    """

    metric: str
    value: float
    by: str = "bound"
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class AtMost:
    """An error must be at most a value: its one-sided upper bound at `confidence`, or the figure itself.

    Errors are named without `neg_` and are positive numbers: `AtMost("root_mean_squared_error", 40)`.

    Parameters
    ----------
    metric : str
    value : float
    by : {"bound", "point"}, default="bound"
    confidence : float, default=0.95
    """

    metric: str
    value: float
    by: str = "bound"
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Beats:
    """The lower bound of the paired difference to another version must be above `by`.

    Parameters
    ----------
    alias : str, default="champion"
        What to beat: an alias, the number of a version ("7"), or "baseline".
    metric : str, optional
        The workflow's first metric by default.
    by : float, default=0.0
    confidence : float, default=0.95
    """

    alias: str = "champion"
    metric: str | None = None
    by: float = 0.0
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class NotWorse:
    """The lower bound of the paired difference to another version must be above minus `margin`.

    Held-out rows that are newer than the champion's training data decide, once there are 100 of them (30 groups,
    where rows are grouped); else all that it has not learned from. Accuracy and F1, where no metric is named, give
    way to log loss, which tells two versions of a model apart on far fewer rows.

    Parameters
    ----------
    alias : str, default="champion"
        An alias, the number of a version ("7"), or "baseline".
    metric : str, optional
        The workflow's first metric by default.
    margin : float, optional
        In units of the metric. By default the smallest margin between 1 % and 5 % of the champion's lead over
        the baseline that has 80 % power on these rows (2.49 standard errors); it is printed.
    confidence : float, default=0.95
    """

    alias: str = "champion"
    metric: str | None = None
    margin: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Improves:
    """`NotWorse` when the champion was made by the same declaration from older data, else `Beats`.

    Parameters
    ----------
    metric : str, optional
        The workflow's first metric by default.
    confidence : float, default=0.95
    """

    metric: str | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class NoWorseOn:
    """On no slice of a column may the challenger be worse than the champion by more than `margin`.

    Parameters
    ----------
    column : str
        Any column of the table, one that the model does not see too.
    metric : str, optional
        The workflow's first metric by default; log loss where that is accuracy or F1, as for `NotWorse`.
    margin : float, optional
        In units of the metric; by default 2 % of the champion's lead over the baseline, printed.
    confidence : float, default=0.95
        For all slices of the column together (Holm).
    """

    column: str
    metric: str | None = None
    margin: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class MaxGap:
    """Between no two slices of a column may a rate, or a metric, differ by more than `at_most`.

    Parameters
    ----------
    metric : str
        "tpr" (equal opportunity), "fpr", "selection_rate" (demographic parity), or a metric.
    by : str
        Any column of the table, one that the model does not see too.
    at_most : float
        In units of the rate or metric.
    confidence : float, default=0.95
        It passes when for each pair of slices the one-sided upper bound of their difference is at most this; it fails
        when the lower bound of some pair, corrected for their number, is above it.

    Examples
    --------
    >>> MaxGap("tpr", by="gender", at_most=0.1)
    MaxGap(metric='tpr', by='gender', at_most=0.1, confidence=0.95)
    """

    metric: str
    by: str
    at_most: float
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration error of the probabilities must be at most a value: its one-sided upper bound at `confidence`.

    The error is the root mean square, over bins of equally many rows, of how far the mean probability lies from the
    share of rows for which it came true. Of several classes the predicted one is taken.

    Parameters
    ----------
    at_most : float, default=0.05
    bins : int, default=10
        At most: each has at least 30 rows.
    confidence : float, default=0.95

    Examples
    --------
    >>> Calibrated(at_most=0.03)
    Calibrated(at_most=0.03, bins=10, confidence=0.95)
    """

    at_most: float = 0.05
    bins: int = 10
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Faster:
    """A prediction must take less time than another version's, or than a number of seconds.

    Both models answer the same rows in turn in one process, with the threads that a worker has; it is a figure of that
    machine.

    Parameters
    ----------
    than : str or float, default="champion"
        An alias, the number of a version ("7"), or seconds for one call.
    by : float, default=0.0
        Share of the other's time that must be saved: 0.2 asks for four fifths of it. Not for seconds.
    rows : int, default=1
        Rows of one call.
    confidence : float, default=0.95
        Of the bound of the median ratio of times (of the median time, for seconds).

    Examples
    --------
    >>> Faster(than=0.01, rows=100)
    Faster(than=0.01, by=0.0, rows=100, confidence=0.95)
    """

    than: str | float = "champion"
    by: float = 0.0
    rows: int = 1
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Smaller:
    """The stored estimator must have fewer bytes than another version's, or than a number.

    Parameters
    ----------
    than : str or int, default="champion"
        An alias, the number of a version ("7"), or bytes.
    by : float, default=0.0
        Share of the other's size that must be saved. Not for bytes.

    Examples
    --------
    >>> Smaller(than=5_000_000)
    Smaller(than=5000000, by=0.0)
    """

    than: str | int = "champion"
    by: float = 0.0


Rule = (
    AtLeast | AtMost | Beats | NotWorse | Improves | NoWorseOn | MaxGap | Calibrated | Faster | Smaller | FunctionType
)
RULE_TYPES: tuple[type, ...] = (
    AtLeast,
    AtMost,
    Beats,
    NotWorse,
    Improves,
    NoWorseOn,
    MaxGap,
    Calibrated,
    Faster,
    Smaller,
)
ALWAYS = ("champion", "baseline")
LAST = "last that beat"
"""Stands among the rivals for the last champion that had to beat somebody; no alias can be called so."""


def rivals(rules: Any) -> tuple[str, ...]:
    """Aliases and numbers of versions that rules name, beside those that are there anyway.

    Parameters
    ----------
    rules : iterable of rules

    Examples
    --------
    >>> rivals([Beats("7"), NotWorse(), Faster("production"), Smaller(1000), Beats("7")])
    ('7', 'production')
    """
    named = [getattr(rule, "alias", None) or getattr(rule, "than", None) for rule in rules]
    return tuple(dict.fromkeys(one for one in named if isinstance(one, str) and one not in ALWAYS))


def said(rule: Rule) -> str:
    """A rule as it was declared; a function by its name."""
    return rule.__name__ if isinstance(rule, FunctionType) else repr(rule)
