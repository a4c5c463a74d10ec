"""Which column made an estimator raise: a note for the user's own error, never another error."""

from __future__ import annotations

from typing import Any

MAX_NAMED = 8
SAMPLE_ROWS = 100_000
TEXT_WORDS = ("could not convert", "dtype", "string", "promote")
"""Words of estimators' messages about text; "the string 'passthrough'" is about a parameter, not about data."""


def add_blame(error: BaseException, X: Any, y: Any) -> None:
    """Add a note to an error of an estimator's, naming the columns that may have caused it.

    Parameters
    ----------
    error : exception
        As the estimator raised it.
    X : DataFrame
        What it was fitted on, or asked about.
    y : Series or None
    """
    try:
        notes = _notes(str(error), X, y)
    except Exception:
        return  # finding the cause must never hide the error itself
    for text in notes:
        error.add_note(text)


def _notes(message: str, X: Any, y: Any) -> list[str]:
    if not hasattr(X, "columns"):
        return []
    lower, notes = message.lower(), []
    if "nan" in lower or "missing" in lower:
        notes += _named("missing values in", [c for c in X.columns if X[c].isna().any()])
        if y is not None and y.isna().any():
            notes.append("penstock: the target has missing values")
    if "infinity" in lower or "too large" in lower:
        notes += _named("infinite values in", _infinite(X))
    about_text = any(word in lower.replace("the string '", "'") for word in TEXT_WORDS)
    if about_text:
        quoted = [c for c in _texts(X) if _holds_quoted(X[c], message)]
        notes += _named("text, which this estimator cannot read, in", quoted or _texts(X))
        notes += _named("dates, which this estimator cannot read, in", _dates(X))
    if "unknown categor" in lower:
        quoted = [c for c in X.columns if _holds_quoted(X[c], message)]
        notes += _named("a category that the rows it was fitted on lack, in", quoted)
    if "invalid classes inferred" in lower:  # XGBoost's
        notes.append("penstock: this estimator takes classes as 0, 1, 2 … only: code the target so in a step")
    if "window shape" in lower:
        notes += _named("nothing but missing values in", [c for c in X.columns if X[c].isna().all()])
    if not notes:
        notes += _named("the message names", [c for c in X.columns if len(str(c)) > 2 and f"'{c}'" in message])
    return notes


def _named(what: str, columns: list[Any]) -> list[str]:
    if not columns:
        return []
    more = f" and {len(columns) - MAX_NAMED} more" if len(columns) > MAX_NAMED else ""
    return [f"penstock: {what} column {', '.join(repr(str(c)) for c in columns[:MAX_NAMED])}{more}"]


def _texts(X: Any) -> list[Any]:
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

    readable = (is_bool_dtype, is_numeric_dtype, is_datetime64_any_dtype)
    return [c for c in X.columns if not any(test(X[c].dtype) for test in readable)]


def _dates(X: Any) -> list[Any]:
    from pandas.api.types import is_datetime64_any_dtype

    return [c for c in X.columns if is_datetime64_any_dtype(X[c].dtype)]


def _infinite(X: Any) -> list[Any]:
    import numpy as np

    return [c for c in X.select_dtypes("number").columns if np.isinf(X[c].to_numpy(dtype=float)).any()]


def _holds_quoted(column: Any, message: str) -> bool:
    """Whether a value that the message quotes stands in the column."""
    values = column.head(SAMPLE_ROWS).dropna().astype(str).unique()
    return any(f"'{value}'" in message for value in values)
