"""Weights of rows, as the column with that role gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles
from penstock.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def weights_of(table: pd.DataFrame, roles: Roles) -> Any:
    """The weight of each row; None where no column has that role.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    roles : Roles

    Returns
    -------
    ndarray of shape (n_rows,), float64, or None

    Raises
    ------
    DataError
        If the column is absent, no number, missing or infinite somewhere, negative, or zero everywhere.

    Examples
    --------
    >>> import pandas as pd
    >>> weights_of(pd.DataFrame({"w": [1, 2.5]}), Roles(weight="w")).tolist()
    [1.0, 2.5]
    """
    import numpy as np
    import pandas as pd

    if roles.weight is None:
        return None
    where = f"column {roles.weight}"
    if roles.weight not in table.columns:
        raise DataError(
            f"there is no column {roles.weight!r}, the weight", hint="name the column that has it in weight="
        )
    column = table[roles.weight]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise DataError(f"weights are numbers, and this column is {column.dtype}", where=where)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    for what, wrong in (("missing or infinite", ~np.isfinite(values)), ("negative", values < 0)):
        if wrong.any():
            rows = [int(row) for row in np.flatnonzero(wrong)[:5]]
            raise DataError(f"{int(wrong.sum()):,} weights are {what}: rows {rows}", where=where)
    if len(values) and not values.any():
        raise DataError("all weights are zero", where=where)
    return values
