"""Features that name rows rather than describe them. Training rows only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.stages.betrayal import Finding
from penstock.stages.problem import Problem
from penstock.stages.profiles import kind_of
from penstock.stages.roles import is_prose, names_things

if TYPE_CHECKING:
    import pandas as pd

UNIQUE_ROWS = 50
RANK = 0.3
"""Rank correlation with the target from which an identifier is a warning."""
CODE_DIGITS = 5
"""Numbers of one length, this or more, look like codes; amounts have several lengths."""
EVEN = 1.63
"""Critical value of sqrt(n) times the Kolmogorov distance at 1 %: numbers spread this evenly were given out."""


def identifiers(X: pd.DataFrame, truth: Any, problem: Problem) -> list[Finding]:
    """Whole numbers and texts that never repeat, and look as if they had been given out.

    One whose order goes with the target is a warning, because it stands for time or for the order of the file; any
    other is a note. A whole number is taken for an identifier if it is named as one, counts the rows, is spread evenly,
    or always has the same number of digits: an amount may also be different in every row.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        What the model sees of the training rows.
    truth : ndarray of shape (n_rows,)
        Class codes or numbers.
    problem : Problem

    Returns
    -------
    list of Finding
    """
    found = []
    for name in X.columns:
        column = X[name].dropna()
        rows = X[name].notna().to_numpy()
        if len(column) < max(UNIQUE_ROWS, len(X) / 2) or column.nunique() < len(column):
            continue
        if not _looks_given(column, str(name)):
            continue
        rank = _goes_with(column, truth[rows], problem)
        example = f"{name}={plain(column.iloc[0])!r}"
        if rank > RANK:
            what = f"{name} is different in every row and goes with {problem.column} (rank correlation {rank:.2f}): "
            found.append(Finding("warning", "identifier", what + "drop= it", str(name), len(column), example))
        else:
            what = f"{name} is different in every row: if it names rows, declare it as key= or drop= it"
            found.append(Finding("note", "identifier", what, str(name), len(column), example))
    return found


def _looks_given(column: pd.Series[Any], name: str) -> bool:
    import numpy as np

    kind = kind_of(column)
    if kind == "text":
        return not is_prose(column)
    if kind not in {"integer", "number"}:
        return False
    x = column.to_numpy(dtype=np.float64)
    if not (np.isfinite(x).all() and (x == np.round(x)).all()):
        return False
    x = np.sort(x)
    span = x[-1] - x[0]
    if names_things(name) or span < 3 * len(x):
        return True
    if x[0] >= 10 ** (CODE_DIGITS - 1) and math.floor(math.log10(x[0])) == math.floor(math.log10(x[-1])):
        return True
    place, steps = (x - x[0]) / span, np.arange(len(x)) / (len(x) - 1)
    return float(np.abs(place - steps).max()) < EVEN / math.sqrt(len(x))


def _goes_with(column: pd.Series[Any], truth: Any, problem: Problem) -> float:
    """The greatest |rank correlation| with the target, or with one of its classes."""
    import numpy as np
    import pandas as pd

    kind = kind_of(column)
    x = pd.factorize(column.astype(str), sort=True)[0] if kind == "text" else column.to_numpy(dtype=np.float64)
    if problem.task != "multiclass":
        return abs(_rank_correlation(x, truth))
    return max(abs(_rank_correlation(x, truth == code)) for code in np.unique(truth))


def _rank_correlation(x: Any, y: Any) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0
