"""What a table is expected to be: types, nulls, ranges, categories, labels; inferred once, then held to.

A schema is plain data, so that it can be an artifact, a file and part of a bundle::

    {"version": 1, "task": "binary", "target": "Churn", "classes": ["No", "Yes"], "positive": "Yes",
     "columns": [{"name": "tenure", "role": "feature", "type": "integer", "null": false, "min": 0, "max": 150}, …]}

Columns are in the table's order. Roles: "feature", "target", "key", "time", "groups", "weight", and "hidden" for
what the model does not see. Types: "integer", "number", "boolean", "text", "datetime". `null` says whether a cell
may be missing: a missing *column* is another fault, and a text that is not among the `categories` a third.

An inferred range is wider than what was seen, by the span on either side (whole on the side of zero where all
values have one sign; 0/1 stays 0/1): it catches another unit or a swapped column, not next month's customer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.core.target import Roles, Target
from penstock.stages.facts import Facts, facts_of
from penstock.stages.schema_text import from_toml, to_toml

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "classes_of",
    "features_of",
    "from_toml",
    "frozen_columns",
    "infer",
    "roles_of",
    "task_of",
    "to_toml",
    "type_of",
]

VERSION = 1
CATEGORIES = 50
"""A text column with more distinct values than this is free text: its values are not listed."""
CLASSES = 10
"""A target of whole numbers with more distinct values than this is a quantity, not a class."""


def type_of(series: pd.Series[Any]) -> str:
    """The type of a column: "integer", "number", "boolean", "text" or "datetime".

    Examples
    --------
    >>> import pandas as pd
    >>> type_of(pd.Series([1, 2])), type_of(pd.Series([1, None])), type_of(pd.Series(["a"]))
    ('integer', 'number', 'text')
    """
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(series.dtype):
        return "boolean"
    if types.is_integer_dtype(series.dtype):
        return "integer"
    if types.is_float_dtype(series.dtype):
        return "number"
    if types.is_datetime64_any_dtype(series.dtype):
        return "datetime"
    if isinstance(series.dtype, pd.CategoricalDtype):
        return type_of(pd.Series(series.cat.categories))
    inferred = types.infer_dtype(series, skipna=True)
    return {"boolean": "boolean", "integer": "integer", "floating": "number", "datetime": "datetime"}.get(
        inferred, "text"
    )


def task_of(labels: pd.Series[Any], task: str | None = None) -> str:
    """What kind of problem a target is.

    Two distinct values are "binary". Text, booleans, and whole numbers with at most `CLASSES` distinct values are
    "multiclass"; other numbers are "regression".

    Parameters
    ----------
    labels : pandas.Series
        The target, none missing.
    task : {"classification", "regression", "binary", "multiclass"}, optional
        Known already, because the estimator says so.

    Examples
    --------
    >>> import pandas as pd
    >>> task_of(pd.Series([1.5, 2.0, 3.0])), task_of(pd.Series([1, 2, 3])), task_of(pd.Series([1, 2]))
    ('regression', 'multiclass', 'binary')
    """
    if task == "regression":
        return "regression"
    distinct = labels.nunique()
    if distinct <= 2:
        return "binary"
    if task is not None or type_of(labels) not in ("integer", "number"):
        return "multiclass"
    whole = type_of(labels) == "integer" or bool((labels % 1 == 0).all())
    return "multiclass" if whole and distinct <= CLASSES else "regression"


def classes_of(labels: pd.Series[Any]) -> list[Any]:
    """Distinct labels as plain values, in order; whole floats become integers only where JSON cannot tell."""
    found = [plain(label) for label in labels.dropna().unique()]
    return sorted(found, key=lambda label: (isinstance(label, str), label))


def infer(
    table: pd.DataFrame,
    *,
    target: Target,
    roles: Roles,
    task: str,
    positive: Any = None,
    facts: dict[str, Facts] | None = None,
) -> dict[str, Any]:
    """Describe a table.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_rows, n_columns)
    target, roles
        As declared.
    task : {"binary", "multiclass", "regression"}
    positive : scalar
        The positive class of a binary task.
    facts : dict, optional
        Of its columns, where they are known; with at least `CATEGORIES` texts.

    Returns
    -------
    dict
        See the module's text.
    """
    named = roles_of([str(name) for name in table.columns], target, roles)
    schema: dict[str, Any] = {"version": VERSION, "task": task, "target": target.column}
    if task != "regression":
        schema["classes"] = classes_of(table[target.column])
    if task == "binary":
        schema["positive"] = positive
    shown = set(roles.visible(list(named), target))
    if facts is None:
        facts = facts_of(table, [name for name in named if name != target.column], CATEGORIES)
    schema["columns"] = [
        _column_by_facts(facts[name], name, role) if name in facts else _column(table[name], name, role)
        for name, role in named.items()
    ]
    for column in schema["columns"]:
        if column["role"] == "key" and len(roles.key) == 1:
            column["unique"] = True
        if column["name"] in shown and column["role"] != "feature":
            column["feature"] = True
    return schema


def roles_of(columns: list[str], target: Target, roles: Roles) -> dict[str, str]:
    """Role of each column, in order.

    Examples
    --------
    >>> roles_of(["id", "age", "y"], Target("y"), Roles(key=("id",)))
    {'id': 'key', 'age': 'feature', 'y': 'target'}
    """
    seen = set(roles.visible(columns, target))
    found = {}
    for name in columns:
        if name == target.column:
            found[name] = "target"
        elif name in roles.key:
            found[name] = "key"
        elif name == roles.time:
            found[name] = "time"
        elif name in roles.groups:
            found[name] = "groups"
        elif name == roles.weight:
            found[name] = "weight"
        else:
            found[name] = "feature" if name in seen else "hidden"
    return found


def features_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns that the model sees, in the table's order.

    Examples
    --------
    >>> features_of({"columns": [{"name": "id", "role": "key"}, {"name": "age", "role": "feature"}]})
    [{'name': 'age', 'role': 'feature'}]
    """
    return [column for column in schema["columns"] if column["role"] == "feature" or column.get("feature")]


def frozen_columns(schema: dict[str, Any]) -> tuple[str, ...]:
    """Columns whose content decides a row's side where there is no key: all that were accepted, but the target.

    Examples
    --------
    >>> frozen_columns({"columns": [{"name": "age", "role": "feature"}, {"name": "y", "role": "target"}]})
    ('age',)
    """
    return tuple(column["name"] for column in schema["columns"] if column["role"] != "target")


def _column_by_facts(seen: Facts, name: str, role: str) -> dict[str, Any]:
    """As `_column` says of the column itself."""
    found: dict[str, Any] = {"name": name, "role": role, "type": seen.kind, "null": seen.nulls > 0}
    if role in ("key", "time", "groups"):
        return found
    if seen.kind in ("integer", "number"):
        found |= _range_of(seen.low, seen.high, flags=seen.flags)
    elif seen.kind == "text" and seen.words is not None and len(seen.words) <= min(CATEGORIES, max(seen.rows // 2, 1)):
        found["categories"] = sorted(seen.words)
    return found


def _column(series: pd.Series[Any], name: str, role: str) -> dict[str, Any]:
    kind = type_of(series)
    found: dict[str, Any] = {"name": name, "role": role, "type": kind, "null": bool(series.isna().any())}
    if role in ("key", "time", "groups"):
        return found
    if kind in ("integer", "number"):
        if not (role == "target" and series.nunique() <= CLASSES):
            found |= _range(series)
    elif kind == "text" and role != "target":
        words = sorted(str(word) for word in series.dropna().unique()[: CATEGORIES + 1])
        if len(words) <= CATEGORIES and len(words) <= max(len(series) // 2, 1):
            found["categories"] = words
    return found


def _range(series: pd.Series[Any]) -> dict[str, Any]:
    import numpy as np

    values = series.to_numpy(dtype="float64", na_value=np.nan)
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    return _range_of(float(values.min()), float(values.max()), flags=bool(np.isin(values, (0.0, 1.0)).all()))


def _range_of(low: float | None, high: float | None, *, flags: bool) -> dict[str, Any]:
    """Wider than what was seen; `flags` says that every value is 0 or 1."""
    if low is None or high is None:
        return {}
    if flags and {low, high} <= {0.0, 1.0}:
        return {"min": 0, "max": 1}
    span = (high - low) or abs(high) or 1.0
    if not math.isfinite(span * 2):
        return {}
    lowest = 0.0 if low >= 0 else _outward(low - span, -1)
    highest = 0.0 if high <= 0 else _outward(high + span, 1)
    return {"min": _short(lowest), "max": _short(highest)}


def _outward(value: float, side: int) -> float:
    """Round away from the data to two significant digits, so that the file is easy to read."""
    if abs(value) < 1e-300 or not math.isfinite(value):  # two digits of the smallest numbers cannot be told apart
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    away = math.ceil if side > 0 else math.floor
    return float(f"{away(value / step) * step:.12g}")


def _short(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
