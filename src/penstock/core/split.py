"""How rows are divided into those to learn from and those to judge by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from penstock.core.tree import QUIET

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
    test : float, str, Ref, splitter or callable, default=0.2
        A share of rows; a duration ("90d": the newest rows); a date ("2026-01-01": rows from then on); an official
        test file, `read(…)` or the result of steps: every one of its rows is held out, and nothing else; a splitter of
        scikit-learn's form, whose last pair is taken; or a function from the table to a mask, True for held-out rows.
    by : {"key", "time", "groups", "random"}, optional
        The rule. By default by time if the workflow declares `time`, else by groups if it declares `groups`,
        else by key (without a key, by the row's content, so that equal rows share a side).
    gap : str, optional
        Rows this close before the first held-out row are left out of training; default the target's delay.
    folds : int or splitter, default=5
        Folds of the cross-validation inside the training rows, made by the same rule; or a splitter's own.
    stable : bool, default=True
        A row keeps its side when the table grows. False gives exact quotas, stratified for classes.
    salt : int, default=0
        Another salt is another split.
    horizon : str, optional
        By time: how far a label reaches into the future ("30d": cancelled within 30 days). Rows whose horizon reaches
        past the first held-out row leave training, and the folds are purged alike.
    final : float or str, optional
        A second hold-out, kept from training, cross-validation *and* the gate: a share, or by time also a span or a
        date. `penstock run --final` opens it, on record.

    Examples
    --------
    >>> Split(test="90d", by="time", gap="24h").by
    'time'
    """

    test: Any = 0.2
    by: str | None = None
    gap: str | None = None
    folds: Any = 5
    stable: bool = True
    salt: int = 0
    horizon: str | None = field(default=None, metadata=QUIET)
    final: float | str | None = field(default=None, metadata=QUIET)

    @property
    def shares(self) -> bool:
        """Whether `test` says how much is held out, rather than which rows."""
        return isinstance(self.test, int | float | str)

    def rule(self, *, time: object, groups: object, key: object) -> str:
        """The rule by which rows are told apart, given the roles that are declared.

        Examples
        --------
        >>> Split().rule(time=None, groups=(), key=("id",))
        'key'
        """
        by = self.by or ("time" if time else "groups" if groups else "key")
        if by != "key":
            return by
        return "groups" if groups else "key" if key else "content"


def is_splitter(value: object) -> bool:
    """Whether a value has the form of scikit-learn's splitters: an object with `split` and `get_n_splits`.

    Examples
    --------
    >>> is_splitter("a text has a split too")
    False
    """
    methods = (getattr(value, "split", None), getattr(value, "get_n_splits", None))
    return not isinstance(value, type) and all(map(callable, methods))
