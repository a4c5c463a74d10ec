"""Columns that are probably known only after the event. Training rows only: this is the part that looks at the target.

What statistics tell apart (copies, re-codings, exact sums, a missing cell that tells the class) is taken out. What
they cannot (an honest strong predictor looks the same) is taken out where the name says so too, and told otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.stages.betrayal import judged
from penstock.stages.problem import Problem
from penstock.stages.questions import speaks_late
from penstock.stages.roles import LIKELY, SURE, UNSURE, Reason
from penstock.stages.skill import folds, gini, of_all, of_one, thinned
from penstock.stages.suspects import betrayed

if TYPE_CHECKING:
    import pandas as pd

STRONG = 0.5
"""A column alone with this share of the model's skill is taken out if its name speaks of what comes after."""
ALMOST_ALL = 0.9
"""A column alone with this share is told of, whatever its name."""
WORTH_TELLING = 0.5
"""Least skill of the model, and of a column in question."""
MOST_BLOCKS = 10


def late_columns(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> tuple[list[Reason], list[Reason]]:
    """Columns to keep from the model because they tell what has happened.

    Flagged columns are taken out and the search is repeated until it is quiet: a strong leak masks weaker ones.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        Training rows, only what the model would see.
    y : Series of shape (n_rows,)
    problem : Problem

    Returns
    -------
    after : list of Reason
        Topic "after": to be hidden.
    doubts : list of Reason
        Topic "doubt": left in, to be looked at.
    """
    after: list[Reason] = []
    doubts: dict[str, Reason] = {}
    while X.shape[1]:
        found, unsure = _betrayed(X, y, problem)
        doubts |= unsure
        if not found:
            break
        after += found
        X = X.drop(columns=[one.choice for one in found])
    named, more = _too_good(X, y, problem)
    known = {one.choice for one in (*after, *named)}
    told = doubts | {one.choice: one for one in more}
    return after + named, [one for name, one in told.items() if name not in known]


def _betrayed(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> tuple[list[Reason], dict[str, Reason]]:
    """Columns that the audit would call errors, and those that it would warn of."""
    found: dict[str, Reason] = {}
    doubts: dict[str, Reason] = {}
    for one in betrayed(*judged(X, problem.encode(y), None)[:2], problem):
        names = [one.column] if one.column in X.columns else one.column.split(" + ")
        confidence = LIKELY if one.kind == "absence" else SURE
        for name in names:
            if one.grade == "error" and name in X.columns:
                found.setdefault(name, Reason("after", name, one.what, confidence))
            elif name in X.columns:
                doubts.setdefault(name, Reason("doubt", name, f"{one.what}: is it known in time?", UNSURE))
    return list(found.values()), doubts


def _too_good(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> tuple[list[Reason], list[Reason]]:
    """Columns that alone have much of what the whole model knows."""
    if problem.task == "multiclass" or X.shape[1] < 2 or len(X) < 200:
        return [], []
    rows = thinned(*X.shape)
    X, truth, fold = X.iloc[rows], problem.encode(y)[rows], folds(len(rows))
    whole = gini(truth, of_all(X, truth, problem, fold), problem)
    if whole < WORTH_TELLING:
        return [], []
    after, doubts = [], []
    for name in X.columns:
        alone = gini(truth, of_one(X[name], truth, problem, fold), problem)
        told = f"alone it has {100 * min(alone / whole, 1):.0f} % of the skill of a model with all columns"
        if speaks_late(str(name), problem.column) and alone >= STRONG * whole:
            after.append(Reason("after", str(name), f"{told}, and its name speaks of what comes after", UNSURE))
        elif alone >= max(ALMOST_ALL * whole, WORTH_TELLING):
            whose = f"{100 * ALMOST_ALL:.0f} % or more of the skill of a model with all columns"
            why = f"alone it has {whose}: is it known when the model is asked?"
            doubts.append(Reason("doubt", str(name), why, UNSURE))
    return after, doubts


def drifts(y: pd.Series[Any], problem: Problem) -> Reason | None:
    """Whether the target moves along the file: its rows may stand in the order of time.

    A chi-square test (classes) or an analysis of variance (numbers) over ten blocks of rows, told where p < 1e-6 and
    the blocks' levels go one way (rank correlation with their place of 0.8 or more).

    Parameters
    ----------
    y : Series of shape (n_rows,)
        Of training rows, in the order of the file.
    problem : Problem
    """
    import numpy as np
    from scipy import stats

    truth = problem.encode(y)
    if len(truth) < MOST_BLOCKS * 50:
        return None
    blocks = np.array_split(truth, MOST_BLOCKS)
    if problem.task == "regression":
        p, levels = stats.f_oneway(*blocks).pvalue, [float(block.mean()) for block in blocks]
        ends = [f"mean {level:.4g}" for level in (levels[0], levels[-1])]
    else:
        p = stats.chi2_contingency(
            [np.bincount(block, minlength=len(problem.classes)) + 0.5 for block in blocks]
        ).pvalue
        code = 1 if problem.task == "binary" else int(np.bincount(truth).argmax())
        levels = [float((block == code).mean()) for block in blocks]
        ends = [f"{100 * level:.1f} %" for level in (levels[0], levels[-1])]
    one_way = abs(float(stats.spearmanr(levels, range(MOST_BLOCKS)).statistic)) >= 0.8
    if not (p < 1e-6 and one_way):
        return None
    what = problem.column if problem.task == "regression" else f"{problem.column} = {_label(problem)}"
    why = f"{what} goes from {ends[0]} in the first tenth of the file to {ends[1]} in the last: if its rows stand in "
    return Reason("order", "file", why + "order of time, give them a time column and hold out the newest", UNSURE)


def _label(problem: Problem) -> str:
    return repr(problem.positive) if problem.task == "binary" else "its commonest class"
