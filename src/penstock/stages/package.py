"""What a bundle needs beside the estimator: its input's contract, golden rows, a profile of its data, digests of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from penstock.core.answer import answers, plain, with_decision
from penstock.core.target import Roles, Target
from penstock.stages.problem import problem_of
from penstock.stages.profiles import kind_of, table_profile
from penstock.stages.seen import digests
from penstock.stages.train import features_and_target

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1_000
GOLDEN_ROWS = 20
UNSEEN = "\u00abunseen\u00bb"
TRY_ROWS = 3
LARGEST = 2**63 - 1


def package(
    train: pd.DataFrame,
    *,
    fitted: Any,
    target: Target,
    roles: Roles,
    schema: dict[str, Any],
    seed: int = 0,
    decision: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Describe what the model reads and how it answers.

    Parameters
    ----------
    train : DataFrame of shape (n_rows, n_columns)
    fitted : estimator
    target : Target
    roles : Roles
    schema : dict
    seed : int
        Taken as every stage takes it; nothing here is random, the choice of rows is fixed by the data.
    decision : dict, optional
        From `decide`: the golden answers carry its threshold.

    Returns
    -------
    input : dict
        {"task", "classes", "positive", "columns": [{"name", "dtype", "kind", "categories", "unseen", "missing",
        "min", "max"}]}. "unseen" and "missing" are found by trying: whether the fitted model raises.
    golden : dict
        {"rows": records, "expected": answers}, at most `GOLDEN_ROWS` training rows.
    profile : dict
        {"n", "columns": {name: profile}} of the training inputs.
    """
    del seed
    problem = problem_of(schema, target)
    X, _ = features_and_target(train, target, roles)
    X = X[columns_read(fitted, X)]
    unseen, missing = _raises(fitted, X, _with_unseen), _raises(fitted, X, _with_missing)
    contract = {
        "task": problem.task,
        "classes": None if problem.task == "regression" else [plain(label) for label in fitted.classes_],
        "positive": problem.positive,
        "columns": [_column(X[name], name in unseen, name in missing) for name in X.columns],
        "key": [name for name in roles.key if name not in X.columns],
    }
    rows = X.iloc[golden_rows(X)]
    golden = {"rows": records(rows), "expected": answers(fitted, rows, with_decision(contract, decision))}
    return contract, golden, table_profile(X)


def contents(
    train: pd.DataFrame, *, roles: Roles, test: pd.DataFrame, refitted: bool = False, **known: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Any, dict[str, Any], Any]:
    """All that a bundle needs beside the estimator and what judged it.

    Parameters
    ----------
    train, test : DataFrame of shape (n_rows, n_columns)
        Of held-out rows only digests are taken: of those that were there a later verdict must know.
    roles : Roles
    refitted : bool, default=False
        Whether the estimator has learned from the held-out rows too.
    **known
        As for `package`.

    Returns
    -------
    input, golden, profile : dict
        See `package`.
    seen, learned
        See `seen.digests`: all rows that the estimator has learned from.
    held : ndarray of uint64
        Digests of the rows that were held out, by the same columns.
    """
    rows = [train, test] if refitted else [train]
    return *package(train, roles=roles, **known), *digests(rows, roles), digests([test], roles)[0]


def columns_read(fitted: Any, X: pd.DataFrame) -> list[Any]:
    """Columns that the model reads, found by trying: it answers without the others, and answers the same.

    A ColumnTransformer that drops its remainder reads fewer columns than it was given; nobody should have to send them.

    Parameters
    ----------
    fitted : estimator
    X : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    list of str
        In the order of `X`; all of them when the model reads none.
    """
    import numpy as np

    rows = X.iloc[golden_rows(X)]
    unread = [name for name in X.columns if _answers(fitted, rows.drop(columns=[name]))]
    kept = [name for name in X.columns if name not in unread]
    if not kept or not unread or not _answers(fitted, rows[kept]):
        return list(X.columns)
    same = np.array_equal(np.asarray(fitted.predict(rows)), np.asarray(fitted.predict(rows[kept])))
    return kept if same else list(X.columns)


def _column(column: Any, unseen: bool, missing: bool) -> dict[str, Any]:
    kind = kind_of(column)
    present = column.dropna()
    ordered = kind in {"number", "integer", "datetime"} and len(present) > 0
    return {
        "name": str(column.name),
        "dtype": str(column.dtype),
        "kind": kind,
        "categories": _categories(present) if kind in {"text", "boolean"} or unseen else None,
        "unseen": "refuse" if unseen else "count",
        "missing": "refuse" if missing else "allow",
        "min": json_cell(present.min()) if ordered else None,
        "max": json_cell(present.max()) if ordered else None,
    }


def _raises(fitted: Any, X: pd.DataFrame, change: Callable[[pd.DataFrame, Any, Any], pd.DataFrame]) -> set[Any]:
    """Columns with which the model cannot answer once a cell is changed; all are tried together first."""
    rows = X.head(TRY_ROWS).copy()
    changed = rows
    for name in X.columns:
        changed = change(changed, X[name], name)
    if _answers(fitted, changed):
        return set()
    return {name for name in X.columns if not _answers(fitted, change(rows, X[name], name))}


def _categories(present: Any) -> list[Any] | None:
    values = [json_cell(value) for value in present.unique()]
    return sorted(values, key=lambda value: (str(type(value)), value)) if len(values) <= MAX_CATEGORIES else None


def _with_unseen(rows: pd.DataFrame, column: Any, name: Any) -> pd.DataFrame:
    """Some rows whose cell in one column no training row has."""
    import pandas as pd

    kind, n = kind_of(column), len(rows)
    if kind == "text":
        changed = pd.Series([UNSEEN] * n, index=rows.index)
        return rows.assign(**{name: changed.astype("category" if str(column.dtype) == "category" else column.dtype)})
    if kind == "number" and column.notna().any():
        return rows.assign(**{name: pd.Series([float(column.max()) + 1.0] * n, index=rows.index)})
    if kind == "integer" and column.notna().any() and int(column.max()) < LARGEST:
        return rows.assign(**{name: pd.Series([int(column.max()) + 1] * n, index=rows.index, dtype="int64")})
    return rows


def _with_missing(rows: pd.DataFrame, column: Any, name: Any) -> pd.DataFrame:
    """Some rows without a value in one column, in the type that a reader gives such a column."""
    import pandas as pd

    whole = kind_of(column) in {"integer", "boolean"}
    empty = pd.Series([math.nan if whole else None] * len(rows), index=rows.index)
    return rows.assign(**{name: empty.astype("float64" if whole else column.dtype)})


def _answers(fitted: Any, rows: Any) -> bool:
    """Whether the model answers these rows, with something that is a number or a label."""
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown category that is ignored is said by a warning
            given = np.asarray(fitted.predict(rows))
    except Exception:
        return False
    return bool(given.dtype.kind != "f" or np.isfinite(given).all())


def golden_rows(X: pd.DataFrame) -> list[int]:
    """Positions of the golden rows: first each column's extremes and a missing cell, then evenly spaced rows.

    Examples
    --------
    >>> import pandas as pd
    >>> golden_rows(pd.DataFrame({"a": [3, 1, 2]}))
    [0, 1, 2]
    """
    import numpy as np

    chosen: dict[int, None] = {}
    for name in X.columns:
        for position in _telling(X[name]):
            if len(chosen) < GOLDEN_ROWS // 2:
                chosen[position] = None
    for position in np.linspace(0, len(X) - 1, GOLDEN_ROWS).round().astype(int):
        if len(chosen) < GOLDEN_ROWS:
            chosen[int(position)] = None
    return sorted(chosen)


def _telling(column: Any) -> Iterable[int]:
    import numpy as np

    missing = column.isna().to_numpy()
    if missing.any():
        yield int(np.flatnonzero(missing)[0])
    if not missing.all() and kind_of(column) in {"number", "integer", "datetime"}:
        present = np.flatnonzero(~missing)
        values = column.iloc[present].to_numpy()
        yield int(present[values.argmin()])
        yield int(present[values.argmax()])


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON objects; a missing cell is null, a time ISO 8601 text."""
    names = [str(name) for name in rows.columns]
    columns = [[json_cell(value) for value in rows[name].tolist()] for name in rows.columns]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def json_cell(value: Any) -> Any:
    """One cell as JSON has it.

    Examples
    --------
    >>> json_cell(float("nan")), json_cell(2.5)
    (None, 2.5)
    """
    import pandas as pd

    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    value = plain(value)
    return None if isinstance(value, float) and math.isnan(value) else value
