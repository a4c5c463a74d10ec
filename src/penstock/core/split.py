"""How rows are divided into those to learn from and those to judge by."""

from __future__ import annotations

import re
from dataclasses import dataclass

RULES = ("key", "time", "groups", "random")
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|min|h|d|w)$")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration_s(text: str) -> float:
    """Seconds in a duration such as "90d", "12h", "30min", "45s" or "2w".

    Raises
    ------
    ValueError
        If the text is not a number followed by one of those units.

    Examples
    --------
    >>> duration_s("2h")
    7200.0
    """
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as '90d', '12h', '30min', '45s' or '2w'")
    return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are held out.

    Parameters
    ----------
    test : float or str, default=0.2
        A share of rows; a duration ("90d": the newest rows); or a date ("2026-01-01": rows from then on).
    by : {"key", "time", "groups", "random"}, optional
        The rule. By default by time if the workflow declares `time`, else by groups if it declares `groups`,
        else by key (without a key, by the row's content, so that equal rows share a side).
    gap : str, optional
        Rows this close before the first held-out row are left out of training; default the target's delay.
    folds : int, default=5
        Folds of the cross-validation inside the training rows, made by the same rule.
    stable : bool, default=True
        A row keeps its side when the table grows. False gives exact quotas, stratified for classes.
    salt : int, default=0
        Another salt is another split.

    Examples
    --------
    >>> Split(test="90d", by="time", gap="24h").by
    'time'
    """

    test: float | str = 0.2
    by: str | None = None
    gap: str | None = None
    folds: int = 5
    stable: bool = True
    salt: int = 0
