"""Columns that give the target away: copies, re-codings, exact sums, identifiers. Training rows only.

What no statistic can tell from an honest predictor, such as a duration known only after the call, is not found here:
declare it with `Target.after` or `drop`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.stages.problem import Problem
from penstock.stages.profiles import compared_as, kind_of, values_of
from penstock.stages.roles import is_prose
from penstock.stats.auc import roc_auc

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 50_000
PURE = 0.999
"""Share of rows whose value foretells the class from the other rows of that value."""
VALUE_ROWS = 5
ALONE = 0.999
"""AUC or R² of one column alone from which it counts as the target in other words."""
CLASS_ROWS = 10
EXACT = 1e-8
"""1 - R² of a sum that is exact but for rounding."""
MAX_SUM_COLUMNS = 200
ROUNDS = 5
UNIQUE_ROWS = 50
RANK = 0.3


@dataclass(frozen=True)
class Finding:
    """Something that the audit found.

    Attributes
    ----------
    grade : {"error", "warning", "note"}
    kind : str
        "copy", "re-coding", "sum", "identifier", "overlap", "key", "group" or "time"; of a step "labels", "features",
        "look-ahead", "position", "de-duplication", "columns", "random" or "refit".
    what : str
        A sentence.
    column : str
        The columns concerned, joined by " + "; "" if rows are.
    rows : int
        Rows concerned.
    example : str
    step : str
        The step before the split that it is about, if any.
    """

    grade: str
    kind: str
    what: str
    column: str = ""
    rows: int = 0
    example: str = ""
    step: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        step = {"step": self.step} if self.step else {}
        return step | {
            "grade": self.grade,
            "kind": self.kind,
            "what": self.what,
            "column": self.column,
            "rows": self.rows,
            "example": self.example,
        }


def betrayals(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> list[Finding]:
    """Columns that are the target in other words.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        What the model sees of the training rows.
    y : Series of shape (n_rows,)
    problem : Problem

    Returns
    -------
    list of Finding
        Errors only.
    """
    X, truth = _sample(X, problem.encode(y))
    found = [one for name in X.columns if (one := _column(X[name], truth, problem)) is not None]
    if problem.task == "regression":
        taken = {one.column for one in found}
        found += _sums(X[[name for name in X.columns if str(name) not in taken]], truth, problem.column)
    return found


def _sample(X: pd.DataFrame, truth: Any) -> tuple[pd.DataFrame, Any]:
    """At most `MAX_ROWS` rows, evenly spaced: the same ones each time."""
    import numpy as np

    if len(X) <= MAX_ROWS:
        return X, truth
    keep = np.linspace(0, len(X) - 1, MAX_ROWS).round().astype(int)
    return X.iloc[keep], truth[keep]


def _column(column: pd.Series[Any], y: Any, problem: Problem) -> Finding | None:
    present = column.notna().to_numpy()
    # A column that is mostly missing cannot speak for the table.
    if present.sum() < max(20, len(y) / 2):
        return None
    name, values, truth = str(column.name), column[present], y[present]
    if problem.task == "regression":
        return _number_column(name, values, truth, problem.column)
    pure = _purity(values, truth)
    if pure is not None:
        example = f"{name}={plain(values.iloc[0])!r} where {problem.column}={problem.classes[truth[0]]!r}"
        what = f"{name} re-codes {problem.column}: a value of it tells the class of {100 * pure:.4g} % of the rows"
        return Finding("error", "re-coding", what, name, len(values), example)
    alone = _auc_alone(values, truth) if problem.task == "binary" else math.nan
    if alone >= ALONE:
        what = f"{name} alone parts the classes of {problem.column}: AUC {alone:.4f}"
        return Finding("error", "re-coding", what, name, len(values))
    return None


def _purity(values: Any, y: Any) -> float | None:
    """Share of rows whose class the other rows of their value foretell, if that is (nearly) all of them.

    Values with fewer than `VALUE_ROWS` rows are left out, and must be the minority. Where one class is very common
    any column is nearly pure, so the errors must also be at most a tenth of those of the commonest class.
    """
    import numpy as np
    import pandas as pd

    codes, _ = pd.factorize(values)
    width = int(y.max()) + 1
    cells = np.bincount(codes * width + y, minlength=(codes.max() + 1) * width).reshape(-1, width)
    size = cells.sum(axis=1)
    kept = size >= VALUE_ROWS
    n = int(size[kept].sum())
    shares = cells[kept].sum(axis=0)
    if n < len(y) / 2 or np.count_nonzero(shares >= VALUE_ROWS) < 2:
        return None
    ordered = np.sort(cells[kept], axis=1)
    most, second = ordered[:, -1], ordered[:, -2]
    # Left out, a row of the commonest class still meets its own class if at least one more than the next remains.
    hits = int(np.where(most - 1 >= second, most, 0).sum())
    pure = hits / n
    commonest = shares.max() / n
    return pure if pure > PURE and 1 - pure <= 0.1 * (1 - commonest) else None


def _auc_alone(values: Any, y: Any) -> float:
    if compared_as(kind_of(values)) != "numeric" or min(int(y.sum()), int((1 - y).sum())) < CLASS_ROWS:
        return math.nan
    area = roc_auc(y, values_of(values, kind_of(values)))
    return max(area, 1 - area)


def _number_column(name: str, values: Any, y: Any, target: str) -> Finding | None:
    import numpy as np

    kind = kind_of(values)
    if compared_as(kind) == "numeric":
        x = np.asarray(values_of(values, kind), dtype=np.float64)
        if np.array_equal(x, y):
            return Finding("error", "copy", f"{name} is a copy of {target}", name, len(y), f"{name}={x[0]:g}")
        alone = _r2_of_neighbours(x, y)
    else:
        alone = _r2_of_groups(values, y)
    if alone < ALONE:
        return None
    what = f"{name} alone tells {target}: R² {alone:.5f} from the other rows"
    return Finding(
        "error", "re-coding", what, name, len(y), f"{name}={plain(values.iloc[0])!r} where {target}={y[0]:g}"
    )


def _r2_of_neighbours(x: Any, y: Any) -> float:
    """R² of y by straight lines between the neighbours in x, each row left out: near 1 for any smooth function."""
    import numpy as np

    points, inverse = np.unique(x, return_inverse=True)
    if len(points) < 3 or not np.isfinite(points).all():
        return 0.0
    size = np.bincount(inverse)
    mean = np.bincount(inverse, weights=y) / size
    share = (points[1:-1] - points[:-2]) / (points[2:] - points[:-2])
    between = np.empty(len(points))
    between[1:-1] = mean[:-2] + share * (mean[2:] - mean[:-2])
    between[0], between[-1] = mean[1], mean[-2]
    others = (mean[inverse] * size[inverse] - y) / np.maximum(size[inverse] - 1, 1)
    return _r2(y, np.where(size[inverse] > 1, others, between[inverse]))


def _r2_of_groups(values: Any, y: Any) -> float:
    """R² of y by the mean of the other rows with the same value, where most rows have such company."""
    import numpy as np
    import pandas as pd

    codes, _ = pd.factorize(values)
    size = np.bincount(codes)[codes]
    kept = size >= VALUE_ROWS
    if kept.sum() < len(y) / 2:
        return 0.0
    total = np.bincount(codes, weights=y)[codes]
    return _r2(y[kept], ((total - y) / np.maximum(size - 1, 1))[kept])


def _r2(y: Any, value: Any) -> float:
    spread = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - value) ** 2).sum()) / spread if spread > 0 else 0.0


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _sums(X: pd.DataFrame, y: Any, target: str) -> list[Finding]:
    """Sets of columns of which the target is a weighted sum, exactly; each found set is taken out, then again."""
    import numpy as np

    names = [str(n) for n in X.columns if kind_of(X[n]) in {"number", "integer", "boolean"}][:MAX_SUM_COLUMNS]
    matrix = X[names].to_numpy(dtype=np.float64) if names else np.empty((len(y), 0))
    found: list[Finding] = []
    for _ in range(ROUNDS):
        chosen = _smallest_sum(matrix, y)
        if not chosen:
            break
        columns = [names[at] for at in chosen]
        weights = _fit(matrix[:, chosen], y)[0]
        text = _sum_text(columns, weights)
        what = f"{target} = {text}, exactly"
        rows = int(np.isfinite(matrix[:, chosen]).all(axis=1).sum())
        found.append(Finding("error", "sum", what, " + ".join(columns), rows, what))
        rest = [at for at in range(len(names)) if at not in chosen]
        names, matrix = [names[at] for at in rest], matrix[:, rest]
    return found


def _smallest_sum(matrix: Any, y: Any) -> list[int]:
    """Positions of few columns whose weighted sum is the target; empty if there is none."""
    import numpy as np

    usable = [at for at in range(matrix.shape[1]) if np.isfinite(matrix[:, at]).mean() > 0.5]
    if not usable or not _is_exact(matrix[:, usable], y):
        return []
    weights = np.abs(_fit(matrix[:, usable], y)[0][:-1]) * np.nanstd(matrix[:, usable], axis=0)
    chosen = list(usable)
    for at in [usable[i] for i in np.argsort(weights, kind="stable")]:
        fewer = [one for one in chosen if one != at]
        if fewer and _is_exact(matrix[:, fewer], y):
            chosen = fewer
    return chosen


def _fit(matrix: Any, y: Any) -> tuple[Any, float]:
    """Weights (the constant last) by least squares on complete rows, and 1 - R²."""
    import numpy as np

    rows = np.isfinite(matrix).all(axis=1)
    x, truth = matrix[rows], y[rows]
    # Too few complete rows for so many columns: anything fits.
    if len(truth) < 3 * matrix.shape[1] + 20:
        return np.zeros(matrix.shape[1] + 1), 1.0
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    level = truth.mean()
    weights = np.linalg.lstsq((x - centre) / scale, truth - level, rcond=None)[0] / scale
    residual = truth - level - (x - centre) @ weights
    spread = float(((truth - level) ** 2).sum())
    lost = float((residual**2).sum()) / spread if spread > 0 else 1.0
    return np.append(weights, level - centre @ weights), lost


def _is_exact(matrix: Any, y: Any) -> bool:
    return _fit(matrix, y)[1] < EXACT


def _sum_text(columns: list[str], weights: Any) -> str:
    parts = []
    for name, weight in zip(columns, weights[:-1], strict=True):
        factor = "" if abs(abs(weight) - 1) < 1e-6 else f"{abs(weight):.6g} × "
        parts.append(("- " if weight < 0 else "+ ") + factor + name)
    largest = max(abs(float(weight)) for weight in weights[:-1])
    if abs(weights[-1]) > 1e-6 * max(largest, 1.0):
        parts.append(f"{'-' if weights[-1] < 0 else '+'} {abs(weights[-1]):.6g}")
    text = " ".join(parts)
    return text.removeprefix("+ ")


# ── identifiers ──────────────────────────────────────────────────────────────────────────────────────────────


def identifiers(X: pd.DataFrame, y: pd.Series[Any], problem: Problem) -> list[Finding]:
    """Features that may name rows rather than describe them: whole numbers or names that never repeat.

    A counter whose rank goes with the target is a warning, because it stands for time or for the order of the file;
    any other is a note.
    """
    import numpy as np

    found = []
    if len(X) < UNIQUE_ROWS:
        return []
    truth = problem.encode(y).astype(np.float64)
    for name in X.columns:
        column = X[name]
        kind = kind_of(column)
        if kind not in {"integer", "text"} or column.isna().any() or column.nunique() < len(column):
            continue
        if kind == "text" and is_prose(column):
            continue
        what = f"{name} is different in every row: if it names rows, declare it as key= or drop= it"
        grade = "note"
        if kind == "integer":
            x = column.to_numpy(dtype=np.float64)
            dense = float(x.max() - x.min()) < 3 * len(x)
            rank = abs(_rank_correlation(x, truth)) if problem.task != "multiclass" else 0.0
            if dense and rank > RANK:
                grade = "warning"
                what = f"{name} counts the rows and goes with {problem.column} (rank correlation {rank:.2f}): drop= it"
        found.append(Finding(grade, "identifier", what, str(name), len(column), f"{name}={plain(column.iloc[0])!r}"))
    return found


def _rank_correlation(x: Any, y: Any) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0
