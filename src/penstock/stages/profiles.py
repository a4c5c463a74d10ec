"""Profiles of a table's columns and of a model's answers: what monitoring compares new rows with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from penstock.stages.predicted import Predicted
from penstock.stats.profile import categorical_profile, numeric_profile

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "integer", "boolean", "text", "datetime"]


def kind_of(column: Any) -> Kind:
    """What a column holds, by its dtype; a boolean column with missing values is an object one, and text.

    Examples
    --------
    >>> import pandas as pd
    >>> kind_of(pd.Series([1, 2])), kind_of(pd.Series(["a"])), kind_of(pd.Series([0.5]))
    ('integer', 'text', 'number')
    """
    from pandas.api import types

    dtype = column.dtype
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_integer_dtype(dtype):
        return "integer"
    if types.is_numeric_dtype(dtype):
        return "number"
    return "datetime" if types.is_datetime64_any_dtype(dtype) else "text"


def compared_as(kind: str) -> Literal["numeric", "categorical"]:
    """How a kind of column is compared: numbers and times by their distribution, the rest by categories."""
    return "numeric" if kind in {"number", "integer", "datetime"} else "categorical"


def values_of(column: Any, kind: str) -> Any:
    """A column as the array that `stats.profile` and `stats.drift` take.

    Raises
    ------
    ValueError
        If the values cannot be read as that kind.
    """
    import pandas as pd

    if kind == "datetime":
        times = pd.to_datetime(column, utc=True)
        return times.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    if compared_as(kind) == "numeric":
        return column.to_numpy(dtype="float64", na_value=float("nan"))
    return column.astype(object).where(column.notna(), None).to_numpy()


def column_profile(column: Any) -> dict[str, Any]:
    """The profile of one column, as plain JSON."""
    kind = kind_of(column)
    build = numeric_profile if compared_as(kind) == "numeric" else categorical_profile
    return build(values_of(column, kind)).to_json()


def table_profile(table: pd.DataFrame) -> dict[str, Any]:
    """{"n": rows, "columns": {name: profile}}."""
    return {"n": len(table), "columns": {str(name): column_profile(table[name]) for name in table.columns}}


def prediction_profile(predicted: Predicted) -> dict[str, Any]:
    """Profile of a model's answers, under the names that answers have: "score", "label" or "value".

    Parameters
    ----------
    predicted : Predicted

    Returns
    -------
    dict
        {"n", "columns": {"score": …}} for two classes, "label" for several, "value" for a number.
    """
    task = predicted.problem.task
    if task == "regression":
        columns = {"value": numeric_profile(predicted.column("value")).to_json()}
    elif task == "binary":
        score = predicted.column("proba")[:, -1] if predicted.has_proba else predicted.column("score")
        columns = {"score": numeric_profile(score).to_json()}
    else:
        labels = predicted.to_frame()["label"].to_numpy(dtype=object)
        columns = {"label": categorical_profile(labels).to_json()}
    return {"n": len(predicted), "columns": columns}
