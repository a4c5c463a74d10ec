"""Other values for some cells of a table, each a value of its own column: what the proof runs steps on.

A cell is replaced by another cell of its column, so types, categories and formats stay what they were, and the same
places do for a pandas, polars or pyarrow table.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]
    Places = npt.NDArray[np.intp]

VARIANTS = ("low", "high", "rows")
"""From each column's lowest decile, from its highest, and whole rows from the most extreme ones."""
TAIL = 0.1
EXTREME = 0.05
GAPS = 0.5
"""Share of the cells that go missing where "high" moves the share of missing cells."""


def scrambled(
    table: pd.DataFrame, rows: Mask, columns: Sequence[str], variant: str, seed: int = 0
) -> dict[str, Places]:
    """Where each cell of some columns is taken from, so that some rows hold values of another distribution.

    A permutation would leave every statistic of one column as it was: a mean over all rows would not move.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    rows : numpy.ndarray of bool, shape (n_rows,)
        Rows that change.
    columns : sequence of str
    variant : {"low", "high", "rows"}
        "low": from the lowest tenth of the numbers, or the rarest categories; no cell is missing. "high": from the
        highest tenth, or the commonest categories; where cells are missing, half of the rows lose theirs. "rows": whole
        rows are copied from the most extreme twentieth of the others.
    seed : int

    Returns
    -------
    dict
        Column → for each row the place of the row that its cell is taken from, shape (n_rows,).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> table = pd.DataFrame({"age": range(20)})
    >>> places = scrambled(table, np.arange(20) < 3, ["age"], "high")
    >>> sorted(set(places["age"][:3].tolist()) - {18, 19}), places["age"][3:6].tolist()
    ([], [3, 4, 5])
    """
    import numpy as np

    n = int(rows.sum())
    same = np.arange(len(table))
    found: dict[str, Places] = {}
    if variant == "rows":
        extreme = extreme_rows(table, np.flatnonzero(~rows) if (~rows).any() else same, columns)
        donors = np.random.default_rng([seed, 2]).choice(extreme, n) if len(extreme) else same[rows]
        for name in columns:
            found[name] = same.copy()
            found[name][rows] = donors
        return found
    for name in columns:
        rng = np.random.default_rng([seed, VARIANTS.index(variant), zlib.crc32(str(name).encode())])
        pool, missing = tail(table[name], high=variant == "high"), np.flatnonzero(table[name].isna().to_numpy())
        if not len(pool):
            continue
        donors = rng.choice(pool, n)
        if variant == "high" and len(missing):
            donors = np.where(rng.random(n) < GAPS, rng.choice(missing, n), donors)
        found[name] = same.copy()
        found[name][rows] = donors
    return found


def tail(column: pd.Series[Any], *, high: bool) -> Places:
    """Places of a column's lowest or highest tenth; of text and categories, of its rarest or commonest tenth."""
    import numpy as np

    if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype):  # the ends alone, without an order of all
        there = np.flatnonzero(column.notna().to_numpy())
        few = max(1, round(len(there) * TAIL))
        if len(there) <= few:
            return there
        at = np.argpartition(column.to_numpy()[there], len(there) - few if high else few - 1)
        return there[np.sort(at[-few:] if high else at[:few])]
    places, codes = ordered(column)
    if not len(places):
        return places
    if not is_number(column):  # all cells of the rarest values, or of the commonest
        distinct = np.unique(codes)
        few = max(1, int(len(distinct) * TAIL))
        kept = distinct[-few:] if high else distinct[:few]
        return places[np.isin(codes, kept)]
    few = max(1, round(len(places) * TAIL))
    return places[-few:] if high else places[:few]


def ordered(column: pd.Series[Any]) -> tuple[Places, Any]:
    """Places of the cells that are there from the lowest to the highest, and a number for the value of each.

    Numbers and times have their order; text and categories go from the rarest to the commonest, then by their text.
    """
    import numpy as np
    import pandas as pd

    there = np.flatnonzero(column.notna().to_numpy())
    cells = column.iloc[there]
    if is_number(column):
        # Whole numbers beyond 2**53 and times are ordered as they are, not as floats.
        values = cells.to_numpy() if cells.dtype.kind in "iufMm" else np.asarray(cells.array, dtype=object)
        codes = pd.factorize(values, sort=True)[0]
    else:
        plain, found = pd.factorize(cells if isinstance(cells.dtype, pd.StringDtype) else cells.astype(str))
        names = np.asarray(found, dtype=str)
        count = np.bincount(plain, minlength=len(names))
        rank = np.empty(len(names), dtype=np.intp)
        rank[np.lexsort((np.argsort(np.argsort(names)), count))] = np.arange(len(names))
        codes = rank[plain]
    order = np.argsort(codes, kind="stable")
    return there[order], codes[order]


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column's values have an order that means something: numbers and times, not truth values."""
    from pandas.api import types

    kind = column.dtype
    if types.is_bool_dtype(kind):
        return False
    plain = types.is_numeric_dtype(kind) or types.is_datetime64_any_dtype(kind)
    return bool(plain or types.is_timedelta64_dtype(kind)) and not types.is_complex_dtype(kind)


def extreme_rows(table: pd.DataFrame, among: Places, columns: Sequence[str]) -> Places:
    """Places of the rows whose cells rank highest on average."""
    import numpy as np

    score = np.zeros(len(table))
    for name in columns:
        score += _ranks(table[name])
    few = max(1, round(len(among) * EXTREME))
    order = np.argsort(score[among], kind="stable")
    found: Places = among[order[-few:]]
    return found


def _ranks(column: pd.Series[Any]) -> Any:
    """Ranks of a column's cells from 0 to 1, the middle for those that are missing; equal numbers in their order."""
    import numpy as np

    rank = np.full(len(column), 0.5)
    if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype):
        there = np.flatnonzero(column.notna().to_numpy())
        order = there[np.argsort(column.to_numpy()[there], kind="stable")]
        rank[order] = np.arange(len(order)) / max(len(order) - 1, 1)
        return rank
    places, codes = ordered(column)
    if len(places) and codes[-1] > 0:
        rank[places] = codes / codes[-1]
    return rank


def opposite(column: pd.Series[Any], rows: Mask, seed: int = 0) -> Places:
    """Where each cell of a column is taken from, so that those of some rows lie at its other end.

    Returns
    -------
    numpy.ndarray of integers, shape (n_rows,)
    """
    import numpy as np

    same = np.arange(len(column))
    places, codes = ordered(column)
    if not len(places) or codes[-1] == codes[0]:
        return same
    low, high = tail(column, high=False), tail(column, high=True)
    upper = np.zeros(len(column), dtype=bool)
    upper[places[codes > (codes[0] + codes[-1]) / 2]] = True
    rng = np.random.default_rng([seed, 3])
    new = np.where(upper, rng.choice(low, len(column)), rng.choice(high, len(column)))
    if not is_number(column):  # the rarest value may be the commonest, and a tail may hold the cell's own
        rank = np.full(len(column), -1)
        rank[places] = codes
        new = np.where(rank[new] == rank, np.where(upper, places[0], places[-1]), new)
    return np.where(rows, new, same)


def taken(table: Any, places: Mapping[str, Places], keep: Places | None = None) -> Any:
    """A pandas, polars or pyarrow table with cells taken from other rows of it, and of the result only some rows.

    Parameters
    ----------
    places : dict
        Column → for each row the place of the row that its cell is taken from.
    keep : numpy.ndarray of integers, optional
        Places of the rows that stay.
    """
    kind = type(table).__module__.partition(".")[0]
    if kind == "pandas":
        return _taken_pandas(table, places, keep)
    if kind == "polars":
        frame = table.with_columns([table[name].gather(place) for name, place in places.items()])
        return frame if keep is None else frame[keep]
    for name, place in places.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), table.column(at).take(place))
    return table if keep is None else table.take(keep)


def _taken_pandas(table: pd.DataFrame, places: Mapping[str, Places], keep: Places | None) -> pd.DataFrame:
    import pandas as pd

    new = table.copy(deep=False)
    for name, place in places.items():
        new[name] = pd.Series(table[name].array.take(place), index=table.index, name=name)
    if keep is None:
        return new
    default = isinstance(table.index, pd.RangeIndex)  # a table of fewer rows would have been read with fewer numbers
    return new.iloc[keep].reset_index(drop=True) if default else new.iloc[keep]
