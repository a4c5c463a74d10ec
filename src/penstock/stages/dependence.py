"""Partial dependence: what the model answers on average when one column is set to a value in every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.stages.importance import spread
from penstock.stages.predicted import Predicted, join, predict
from penstock.stages.problem import Problem
from penstock.stages.profiles import compared_as, kind_of
from penstock.stats.weighting import weighted_quantile

MAX_COLUMNS = 5
MAX_ROWS = 300
MAX_VALUES = 16
MAX_LEVELS = 8
MAX_CLASSES = 4
RARE = 10
"""A text that fewer rows share may name a person; it stands in no report."""
FRINGE = 0.02
"""Share of the rows on either side beyond which a number is not set: there the model is hardly known."""


def dependences(
    fits: Sequence[tuple[Any, Any]], X: Any, y: Any, problem: Problem, columns: list[str], *, weight: Any = None
) -> list[dict[str, Any]]:
    """Mean answers over the values of some columns, with the quartiles of the rows' own curves.

    Friedman (2001), Annals of Statistics 29:1189, §8.2; the curves of single rows are those of Goldstein et al. (2015),
    J. Computational and Graphical Statistics 24:44. Each fold's own fit answers for rows of its fold, which it was not
    fitted on; every value is one that occurs, and numbers are set within the middle 96 % only. The cost is at most
    `MAX_COLUMNS` × `MAX_VALUES` × `MAX_ROWS` answers. It shows what the model does, not what would happen if somebody
    changed the column; where columns go together it asks about rows that do not occur.

    Parameters
    ----------
    fits : sequence of (fitted estimator, ndarray of int)
        Each with the positions of rows that it was not fitted on.
    X : DataFrame of shape (n_rows, n_features)
    y : Series of shape (n_rows,)
    problem : Problem
    columns : list of str
        The most important first; at most `MAX_COLUMNS` of those that are numbers, booleans or texts are taken.
    weight : ndarray of shape (n_rows,), optional

    Returns
    -------
    list of dict
        "column", "kind" ("numeric" or "categorical"), "of" (what is answered), "at" (values, rising; or levels, the
        commonest first), "rows" (of each level; for numbers the deciles, least and greatest among them, under
        "deciles"), "n_rows", and "lines": {"name", "mean", "low", "high"}.
    """
    import numpy as np

    named = {str(name): name for name in X.columns}
    few = spread(fits, MAX_ROWS)
    keep = [row for _, rows in few for row in rows]
    judged = np.unique(np.concatenate([np.asarray(rows, dtype=np.int64) for _, rows in fits]))
    weights = None if weight is None else weight[keep]
    if weights is not None and not weights.sum() > 0:
        return []
    found: list[dict[str, Any]] = []
    for name in columns:
        values = X[named[name]].iloc[judged].dropna().reset_index(drop=True) if name in named else ()
        if len(found) == MAX_COLUMNS or not len(values) or kind_of(values) == "datetime":
            continue
        numeric = compared_as(kind_of(values)) == "numeric"
        at = _numbers(values) if numeric else _levels(values)
        if len(at) < 2:
            continue
        asked = [_answers(fitted, X.iloc[rows], y.iloc[rows], problem, named[name], at) for fitted, rows in few]
        told = _told(_by_value(asked, len(at)), at, weights)
        found.append({"column": name, "n_rows": len(keep), **_about(values, at, numeric), **told})
    return found


def _numbers(values: Any) -> Any:
    """Values that occur, about evenly many rows apart, the fringes left out."""
    import numpy as np

    ordered = values.sort_values(kind="stable")
    n = len(ordered)
    first, last = int(FRINGE * n), n - 1 - int(FRINGE * n)
    places = np.unique(np.linspace(first, last, min(n, 4 * MAX_VALUES)).round().astype(int))
    distinct = ordered.iloc[places].drop_duplicates()
    return distinct.iloc[np.unique(np.linspace(0, len(distinct) - 1, MAX_VALUES).round().astype(int))]


def _levels(values: Any) -> Any:
    """One row of each level that is common enough, the commonest first."""
    text = values.map(str)
    counts = text.value_counts()
    common = sorted((name for name, n in counts.items() if n >= RARE), key=lambda name: (-counts[name], name))
    firsts = text.drop_duplicates()
    return values.loc[[firsts.index[firsts == name][0] for name in common[:MAX_LEVELS]]]


def _answers(estimator: Any, X: Any, y: Any, problem: Problem, column: Any, at: Any) -> Predicted:
    """Answers for all rows at all values, in one call: what a pipeline costs is mostly per call."""
    import pandas as pd

    n, k = len(X), len(at)
    repeated = pd.concat([X] * k, ignore_index=True)
    repeated[column] = at.repeat(n).set_axis(repeated.index)
    return predict(estimator, repeated, pd.concat([y] * k, ignore_index=True), problem)


def _by_value(parts: list[Predicted], k: int) -> Predicted:
    """Answers of several fits as one fit's would be: all rows at the first value, then all rows at the second."""
    import numpy as np

    sizes = [len(part) // k for part in parts]
    begins = np.cumsum([0, *(len(part) for part in parts)])
    order = [begins[i] + at * n + np.arange(n) for at in range(k) for i, n in enumerate(sizes)]
    return join(parts).take(np.concatenate(order))


def _about(values: Any, at: Any, numeric: bool) -> dict[str, Any]:
    """Where the values lie and how common they are."""
    import numpy as np

    if numeric:
        deciles = np.quantile(values.to_numpy(dtype=np.float64), np.linspace(0, 1, 11))
        return {"kind": "numeric", "at": [float(value) for value in at], "deciles": [float(one) for one in deciles]}
    counts = values.map(str).value_counts()
    levels = [str(value) for value in at]
    return {"kind": "categorical", "at": levels, "rows": [int(counts[level]) for level in levels]}


def _told(answers: Predicted, at: Any, weights: Any) -> dict[str, Any]:
    """What is answered, as a line for each class that is shown."""
    import numpy as np

    problem, k = answers.problem, len(at)
    if problem.task == "regression":
        of, parts = "prediction", {"": answers.column("value")}
    elif problem.task == "binary" and answers.has_proba:
        of, parts = f"probability of {problem.classes[1]}", {"": answers.column("proba")[:, 1]}
    elif problem.task == "binary" and answers.decision is not None:
        of, parts = f"decision value for {problem.classes[1]}", {"": answers.column("score")}
    else:
        share = answers.column("proba") if answers.has_proba else _one_hot(answers)
        common = np.argsort(-np.bincount(answers.y, minlength=len(problem.classes)), kind="stable")[:MAX_CLASSES]
        of = "probability" if answers.has_proba else "share of rows called so"
        parts = {str(problem.classes[code]): share[:, code] for code in sorted(common)}
    return {"of": of, "lines": [_line(name, one.reshape(k, -1), weights) for name, one in parts.items()]}


def _one_hot(answers: Predicted) -> Any:
    import numpy as np

    return np.eye(len(answers.problem.classes))[answers.column("label").astype(np.int64)]


def _line(name: str, curves: Any, weights: Any) -> dict[str, Any]:
    """Mean and quartiles over the rows, at each value."""
    import numpy as np

    mean = np.average(curves, axis=1, weights=weights)
    low, high = ([weighted_quantile(row, q, weights) for row in curves] for q in (0.25, 0.75))
    return {"name": name, "mean": _rounded(mean), "low": _rounded(low), "high": _rounded(high)}


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
