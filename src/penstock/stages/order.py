"""The order of rows by time and key, from those columns alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles
from penstock.stages import keys

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


def order_of(table: Any, roles: Roles) -> npt.NDArray[np.int64] | None:
    """Places of the rows in the order of their key; by time, then key, where there is a time.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
        No key and no time is missing.

    Returns
    -------
    numpy.ndarray of int64, shape (n_rows,), or None
        Stable; None where the rows are in order already.

    Examples
    --------
    >>> import pandas as pd
    >>> order_of(pd.DataFrame({"id": ["b", "a", "c"]}), Roles(key=("id",))).tolist()
    [1, 0, 2]
    """
    import numpy as np

    by = [keys.times(table[roles.time])] if roles.time else []
    by += [_ranked(table[name]) for name in roles.key]
    if all(isinstance(column, np.ndarray) for column in by):
        if len(by) == 1 and bool((by[0][1:] >= by[0][:-1]).all()):
            return None
        order = np.argsort(by[0], kind="stable") if len(by) == 1 else np.lexsort(by[::-1])
    else:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = [str(i) for i in range(len(by))]
        columns = pa.table(
            [column if isinstance(column, pa.ChunkedArray) else pa.array(column) for column in by], names
        )
        order = pc.sort_indices(columns, [(name, "ascending") for name in names]).to_numpy().astype(np.int64)
    return None if bool((order == np.arange(len(order))).all()) else order


def _ranked(column: pd.Series[Any]) -> Any:
    """A column as numbers, or Arrow text, in the order that Python's own comparison gives its values."""
    import pandas as pd
    import pyarrow as pa
    from pandas.api import types

    if isinstance(column.dtype, pd.StringDtype):
        text = pa.array(column, from_pandas=True)
        return text if isinstance(text, pa.ChunkedArray) else pa.chunked_array([text])
    if column.dtype.kind in "iuf" and not types.is_extension_array_dtype(column.dtype):
        return column.to_numpy()
    return pd.factorize(column, sort=True)[0]


def all_different(table: pd.DataFrame) -> bool:
    """Whether no two rows are equal, where that is cheap to prove; False says nothing.

    Whole numbers are marked off where they lie close together, else sorted; a text of its own has a hash of its own,
    so that hashes without a double prove it.
    """
    import numpy as np
    import pandas as pd

    if table.shape[1] != 1 or table.empty:
        return False
    column = table.iloc[:, 0]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        values = column.to_numpy()
        low, span = int(values.min()), int(values.max()) - int(values.min()) + 1
        if span <= CLOSE * len(values):
            there = np.zeros(span, dtype=bool)
            there[values - low] = True
            return int(there.sum()) == len(values)
    elif isinstance(column.dtype, pd.StringDtype) and len(column) >= MANY:
        import polars as pl
        import pyarrow as pa

        values = pl.Series(pl.from_arrow(pa.array(column, from_pandas=True))).hash().to_numpy()
    else:
        return False
    if bool((values[1:] > values[:-1]).all()):
        return True
    ordered = np.sort(values)
    return bool((ordered[1:] != ordered[:-1]).all())


CLOSE = 8
"""Numbers lie close together when their range holds at most so many times as many: a byte for each is held."""
MANY = 1 << 20
"""Rows of text from which its hashes are worth the import of polars."""
