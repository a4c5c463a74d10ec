"""Cells that are missing, or there, for one class only: what is filled in after the event tells of it by that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.stages.betrayal import Finding, apart
from penstock.stages.problem import Problem

if TYPE_CHECKING:
    import pandas as pd

STATE_ROWS = 20
"""Rows of a state from which it is judged."""
MOSTLY = 0.97
"""Share of one class in a state from which that is a warning."""
CHANCE = 1e-6
LIFT = 0.1
"""Rows of other classes are at most this share of what the table would have: else any state of a rare class counts."""


def absences(X: pd.DataFrame, truth: Any, problem: Problem, groups: Any = None) -> list[Finding]:
    """Columns whose missing cells, or whose present ones, stand for one class.

    Were a state independent of the class, n rows of it would all be of a class of share s with probability at most
    s**n (they are drawn without replacement). For "nearly all" the chance is the upper tail of the hypergeometric
    distribution.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
    truth : ndarray of int, shape (n_rows,)
        Class codes.
    problem : Problem
    groups : ndarray of int, shape (n_rows,), optional

    Returns
    -------
    list of Finding
        Errors where all rows of a state are of one class, warnings where more than `MOSTLY` are.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> died = np.repeat([0, 1], 50)
    >>> boat = pd.DataFrame({"boat": np.where(died == 1, None, "7")})
    >>> absences(boat, died, Problem("binary", ("no", "yes"), "died"))[0].what
    "where boat is missing, died is 'yes' in all 50 rows"
    """
    found = []
    for name in X.columns:
        missing = X[name].isna().to_numpy()
        if not missing.any() or missing.all():
            continue
        new = apart(groups, missing.astype(int), truth)
        judged = [_state(missing[new] == one, truth[new]) for one in (True, False)]
        state, (grade, code, n, of) = min(
            zip(("missing", "present"), judged, strict=True),
            key=lambda pair: ("error", "warning", "").index(pair[1][0]),
        )
        if grade:
            whole = f"in all {of:,} rows" if n == of else f"in {n:,} of {of:,} rows"
            what = f"where {name} is {state}, {problem.column} is {problem.classes[code]!r} {whole}"
            found.append(Finding(grade, "absence", what, str(name), of))
    return found


def _state(rows: Any, truth: Any) -> tuple[str, int, int, int]:
    """Grade ("" for none), class, its rows and all rows of a state."""
    import numpy as np
    from scipy.stats import hypergeom

    n, total = int(rows.sum()), len(truth)
    if not STATE_ROWS <= n <= total - STATE_ROWS:
        return "", 0, 0, n
    inside, overall = np.bincount(truth[rows], minlength=truth.max() + 1), np.bincount(truth)
    code = int(inside.argmax())
    most, share = int(inside[code]), overall[code] / total
    if most == n:
        certain = n * math.log(share) < math.log(CHANCE) if share < 1 else False
        return ("error" if certain else ""), code, n, n
    lifted = 1 - most / n <= LIFT * (1 - share)
    if most / n > MOSTLY and lifted and hypergeom.sf(most - 1, total, int(overall[code]), n) < CHANCE:
        return "warning", code, most, n
    return "", code, most, n
