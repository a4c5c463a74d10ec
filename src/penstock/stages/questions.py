"""Questions about columns that may be known only after the event: no statistic can answer them, a person can.

A departure delay that tells the delay of arrival and a distance that tells the fare are the same number. So each is a
note, answered once: `ps.Audit(known_late=[…])` takes the column out, `waive={column: why}` keeps it. Training rows
only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from penstock.stages.betrayal import Finding
from penstock.stages.moments import Moment, as_times, dates_of, sounds_late
from penstock.stages.problem import Problem
from penstock.stages.roles import words_of
from penstock.stages.skill import explained, folds, of_all, of_one, thinned

if TYPE_CHECKING:
    import pandas as pd

ALMOST_ALL = 0.9
"""A column alone with this share of the model's skill is asked about."""
WORTH_ASKING = 0.5
"""Least skill of the model."""
SKILL_ROWS = 200
ROUNDS = 5
NAMED = 0.05
"""Least skill of a column that is asked about for its name."""
LATER = 0.05
LATER_ROWS = 20
"""A date is asked about where it is later than its row's time in at least this share of rows, and so many rows."""
MOST_NAMES = 10
_PLAIN = frozenset(
    {"type", "class", "code", "name", "number", "value", "rate", "date", "time", "total", "count", "level"}
)
"""Words that many columns share with a target, which say nothing of when they are known."""


def questions(
    X: pd.DataFrame, truth: Any, problem: Problem, *, groups: Any = None, time: pd.Series[Any] | None = None
) -> list[Finding]:
    """Notes about columns that are too good, named as if after the event, or dated after it.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        Without the columns of which something graver is known: a strong leak masks weaker ones.
    truth : ndarray of shape (n_rows,)
        Class codes or numbers.
    problem : Problem
    groups : ndarray of int, shape (n_rows,), optional
        Rows of one group share a fold.
    time : Series of shape (n_rows,), optional
        The time of each row's event.

    Returns
    -------
    list of Finding
        One for a column at most.
    """
    if len(X) < SKILL_ROWS or not X.shape[1]:
        return []
    rows = thinned(len(X), X.shape[1])
    X, truth = X.iloc[rows], truth[rows]
    fold = folds(len(X), None if groups is None else groups[rows])
    alone = {name: explained(truth, of_one(X[name], truth, problem, fold), problem) for name in X.columns}
    found = too_good(X, truth, problem, fold, alone)
    found += _later(X, time.iloc[rows], {one.column for one in found}) if time is not None else []
    return found + _named(alone, problem, {one.column for one in found}, len(X))


def too_good(X: pd.DataFrame, truth: Any, problem: Problem, fold: Any, alone: dict[Any, float]) -> list[Finding]:
    """Every column that alone has `ALMOST_ALL` of the skill of a model with all; taken out, and the rest again.

    The model is fitted only where a column could have so much: alone it must have `ALMOST_ALL` × `WORTH_ASKING`.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
    truth, problem, fold
        As for `skill.of_all`.
    alone : dict
        Column → share of the deviance that it alone explains.
    """
    found: list[Finding] = []
    left = list(X.columns)
    for _ in range(ROUNDS):
        if len(left) < 2 or max(alone[name] for name in left) < ALMOST_ALL * WORTH_ASKING:
            break
        whole = explained(truth, of_all(X[left], truth, problem, fold), problem)
        strong = [name for name in left if alone[name] >= ALMOST_ALL * whole]
        if whole < WORTH_ASKING or not strong:
            break
        for name in strong:
            share = 100 * min(alone[name] / whole, 1)
            what = f"{name} alone has {share:.0f} % of the skill of a model with all columns: is it known in time?"
            found.append(Finding("note", "skill", what, str(name), len(X)))
        left = [name for name in left if name not in strong]
    return found


def speaks_late(name: str, target: str) -> bool:
    """Whether a column's name speaks of what comes after the event, or of the target.

    Examples
    --------
    >>> speaks_late("call_duration", "y"), speaks_late("churn_score", "churned"), speaks_late("cancel_fee", "cancel")
    (True, True, True)
    >>> speaks_late("age", "y")
    False
    """
    shared = {word for word in words_of(target) if len(word) > 3} - _PLAIN
    return sounds_late(name) or bool(shared & set(words_of(name)))


def _named(alone: dict[Any, float], problem: Problem, known: Collection[str], rows: int) -> list[Finding]:
    """Columns that say something of the target, and whose names speak of what comes after; the strongest first."""
    found = []
    for name in sorted(alone, key=lambda one: -alone[one]):
        if alone[name] >= NAMED and str(name) not in known and speaks_late(str(name), problem.column):
            what = f"{name} is named like something that is known after the event: is it known in time?"
            found.append(Finding("note", "name", what, str(name), rows))
    return found[:MOST_NAMES]


def _later(X: pd.DataFrame, time: pd.Series[Any], known: Collection[str]) -> list[Finding]:
    """Dates that lie after the time of their row's event."""
    import numpy as np

    from penstock.stages.keys import times

    event = times(time)
    if event.dtype.kind != "M":
        return []
    days = "datetime64[D]"
    whole_days = bool((event.astype(days) == event)[~np.isnat(event)].all())
    found = []
    for name, form in dates_of(X, [str(one) for one in X.columns if str(one) not in known]).items():
        present = X[[name]].dropna()
        at = times(as_times(present, Moment(name, "", form=form)))
        at = at.astype(days) if whole_days else at
        later = at > event[X[name].notna().to_numpy()]
        n = int(later.sum())
        if n >= LATER_ROWS and n >= LATER * len(at):
            what = f"{name} is later than {time.name} in {n:,} of {len(at):,} rows: is it known in time?"
            found.append(Finding("note", "timing", what, name, len(at)))
    return found
