"""Columns that are the target in other words: copies, re-codings, exact sums, cells missing for one class only.

Training rows only. What no statistic can tell from an honest predictor, such as a duration known only after the call,
is asked about in `stages.questions`, or is not found: declare it with `Target.after` or `drop`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.stages.problem import Problem
from penstock.stages.profiles import compared_as, kind_of, values_of
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
FEW_ROWS, FEW_SHARE = 50, 0.05
"""Present cells from which a column is looked at."""
ONE_ANSWER = 0.99
"""Share of groups with one value of the target from which a group counts as one row."""


@dataclass(frozen=True)
class Finding:
    """Something that the audit found.

    Attributes
    ----------
    grade : {"error", "warning", "note"}
    kind : str
        "copy", "re-coding", "sum", "absence", "identifier", "skill", "name", "timing", "overlap", "key", "group" or
        "time"; of a step "labels", "features", "look-ahead", "position", "de-duplication", "columns", "random" or
        "refit".
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


def betrayals(X: pd.DataFrame, truth: Any, problem: Problem, groups: Any = None) -> list[Finding]:
    """Columns that are the target in other words.

    Parameters
    ----------
    X : DataFrame of shape (n_rows, n_features)
        What the model sees of the training rows; as `judged` gives them.
    truth : ndarray of shape (n_rows,)
        Class codes or numbers.
    problem : Problem
    groups : ndarray of int, shape (n_rows,), optional
        The entity of each row. Rows of one entity are no evidence for one another: a patient's weight tells the
        patient, not the disease.

    Returns
    -------
    list of Finding
        Errors only.
    """
    found = [one for name in X.columns if (one := _column(X[name], truth, problem, groups)) is not None]
    taken = {one.column for one in found}
    if problem.task == "regression":
        found += _sums(X[[name for name in X.columns if str(name) not in taken]], truth, problem.column)
    return found


def judged(X: pd.DataFrame, truth: Any, groups: Any) -> tuple[pd.DataFrame, Any, Any]:
    """Rows that are evidence of their own: copies once, an entity with one truth once, at most `MAX_ROWS`, evenly.

    Where fewer than half of the rows are distinct, there are few columns or few values, and likeness is no copying:
    then all stay.

    Returns
    -------
    X : DataFrame
    truth : ndarray
    groups : ndarray of int or None
    """
    import numpy as np
    import pandas as pd

    keep = np.arange(len(X))
    if groups is not None and len(X):
        _, first = np.unique(groups, return_index=True)
        answers = np.unique(np.column_stack([groups, pd.factorize(truth)[0]]), axis=0)
        several = np.unique(answers[:, 0], return_counts=True)[1] > 1
        if several.mean() <= 1 - ONE_ANSWER and len(first) >= FEW_ROWS:
            keep, groups = np.sort(first), None
    if len(keep) > MAX_ROWS:
        keep = keep[np.linspace(0, len(keep) - 1, MAX_ROWS).round().astype(int)]
    X, truth, groups = X.iloc[keep], truth[keep], None if groups is None else groups[keep]
    alike = pd.util.hash_pandas_object(X, index=False).to_numpy()
    whole = np.unique(np.column_stack([alike, pd.factorize(truth)[0].astype(np.uint64)]), axis=0, return_index=True)[1]
    if len(X) / 2 <= len(whole) < len(X):
        keep = np.sort(whole)
        return X.iloc[keep], truth[keep], None if groups is None else groups[keep]
    return X, truth, groups


def apart(groups: Any, codes: Any, truth: Any) -> Any:
    """Positions of rows that say something new: the first of each group with some value and some truth; all without.

    Parameters
    ----------
    groups : ndarray of int, or None
    codes : ndarray of int
        The column's values.
    truth : ndarray
    """
    import numpy as np
    import pandas as pd

    if groups is None:
        return np.arange(len(truth))
    seen = np.column_stack([groups, codes, pd.factorize(truth)[0]])
    return np.sort(np.unique(seen, axis=0, return_index=True)[1])


def _column(column: pd.Series[Any], y: Any, problem: Problem, groups: Any = None) -> Finding | None:
    import pandas as pd

    present = column.notna().to_numpy()
    # A column that is mostly missing cannot speak for the table, unless there is much of it.
    if present.sum() < max(20, min(len(y) / 2, max(FEW_ROWS, FEW_SHARE * len(y)))):
        return None
    name, values, truth = str(column.name), column[present], y[present]
    if groups is not None:
        new = apart(groups[present], pd.factorize(values)[0], truth)
        values, truth = values.iloc[new], truth[new]
    if problem.task == "regression":
        return _number_column(name, values, truth, problem.column)
    pure = _purity(values, truth)
    if pure is not None:
        example = f"{name}={plain(values.iloc[0])!r} where {problem.column}={problem.classes[truth[0]]!r}"
        what = f"{name} re-codes {problem.column}: a value of it tells the class of {100 * pure:.4g} % of the rows"
        return Finding("error", "re-coding", what, name, len(values), example)
    return _parted(name, values, truth, problem)


def _parted(name: str, values: Any, y: Any, problem: Problem) -> Finding | None:
    """A number whose size alone parts the classes: by one threshold, or by what is nearest."""
    import numpy as np

    kind, counts = kind_of(values), np.bincount(y)
    if compared_as(kind) != "numeric" or np.count_nonzero(counts >= CLASS_ROWS) < 2:
        return None
    x = values_of(values, kind)
    if problem.task == "binary":
        area = roc_auc(y, x)
        area = max(area, 1 - area)
        if area >= ALONE:
            what = f"{name} alone parts the classes of {problem.column}: AUC {area:.4f}"
            return Finding("error", "re-coding", what, name, len(values))
    told = float(_told_by_neighbours(x, y).mean())
    if told > PURE and 1 - told <= 0.1 * (1 - counts.max() / len(y)):
        what = (
            f"{name} alone parts the classes of {problem.column}: the nearest rows tell {100 * told:.4g} % of the rows"
        )
        return Finding("error", "re-coding", what, name, len(values))
    return None


def _told_by_neighbours(x: Any, y: Any) -> Any:
    """Whether the rows beside a row in x foretell its class: those of its own value, else the nearest other value.

    Cover and Hart (1967), IEEE Transactions on Information Theory 13:21, with one neighbour. Where two are as near,
    both must agree.
    """
    import numpy as np

    points, inverse = np.unique(x, return_inverse=True)
    width = int(y.max()) + 1
    cells = np.bincount(inverse * width + y, minlength=len(points) * width).reshape(-1, width)
    if len(points) < 2:
        return np.zeros(len(y), dtype=bool)
    top, step = cells.argmax(axis=1), np.diff(points.astype(np.float64))
    below, above = np.append(np.inf, step), np.append(step, np.inf)
    before = np.where(below <= above, np.append(top[:1], top[:-1]), np.append(top[1:], top[-1:]))[inverse]
    after = np.where(above <= below, np.append(top[1:], top[-1:]), np.append(top[:1], top[:-1]))[inverse]
    mine, rivals = cells[inverse, y], cells[inverse]
    rivals[np.arange(len(y)), y] = 0
    company = cells.sum(axis=1)[inverse] > 1
    return np.where(company, mine - 1 >= np.maximum(rivals.max(axis=1), 1), (before == y) & (after == y))


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
