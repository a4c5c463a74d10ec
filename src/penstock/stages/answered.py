"""The champion's answers to the rows of a table, as a monitor reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.answer import answers, with_decision
from penstock.core.notes import note

if TYPE_CHECKING:
    import pandas as pd


def answered(
    current: pd.DataFrame,
    *,
    fitted: Any,
    input: dict[str, Any],  # noqa: A002 – the bundle's own word
    decision: dict[str, Any] | None = None,
) -> pd.DataFrame | None:
    """Answers for a table, with the key columns that it has.

    Parameters
    ----------
    current : DataFrame of shape (n_rows, n_columns)
    fitted : estimator
    input : dict
        The bundle's contract: which columns the model reads, and their types in training.
    decision : dict, optional
        The bundle's decision, with its threshold.

    Returns
    -------
    DataFrame of shape (n_rows, n_fields) or None
        None when a column is absent that the model reads; the monitor says which.
    """
    import pandas as pd

    columns = {column["name"]: column["dtype"] for column in input["columns"]}
    if not set(columns) <= set(current.columns) or not len(current):
        return None
    X = current[list(columns)]
    for name, dtype in columns.items():
        if str(X[name].dtype) != dtype and not (dtype.startswith("int") and X[name].isna().any()):
            X = X.astype({name: dtype})
    given = answers(fitted, X, with_decision(input, decision))
    told = [{k: v for k, v in answer.items() if k != "scores"} for answer in given]
    keys = current[[name for name in input.get("key", ()) if name in current.columns]].reset_index(drop=True)
    note(rows=len(current))
    return pd.concat([keys, pd.DataFrame(told)], axis=1)
