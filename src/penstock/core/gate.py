"""Rules that a version must pass, as plain values; the numbers are worked out in `stages.compare`."""

from __future__ import annotations

from dataclasses import dataclass


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
        What to beat: an alias, or "baseline".
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

    Parameters
    ----------
    alias : str, default="champion"
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
        The workflow's first metric by default.
    margin : float, optional
        In units of the metric; by default 2 % of the champion's lead over the baseline, printed.
    confidence : float, default=0.95
        For all slices of the column together (Holm).
    """

    column: str
    metric: str | None = None
    margin: float | None = None
    confidence: float = 0.95


Rule = AtLeast | AtMost | Beats | NotWorse | Improves | NoWorseOn
RULE_TYPES: tuple[type, ...] = (AtLeast, AtMost, Beats, NotWorse, Improves, NoWorseOn)
