"""Slices of a table: the rows that share a value of a column, or lie in one quarter of a number's range."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FEW_VALUES = 12
"""Numbers with at most this many distinct values are taken as they are; others are cut into quarters."""
MAX_SLICES = 20
"""Values of a column that get a slice of their own; the rest are taken together."""
SMALL = 30
"""A slice of fewer rows is too small to be judged."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a table.

    Attributes
    ----------
    column : str
    label : str
        Such as "city=Rome", "age in (30, 42]", "city missing".
    rows : ndarray of int
        Positions.
    """

    column: str
    label: str
    rows: Any


def slices_of(table: pd.DataFrame, column: str, reference: pd.DataFrame) -> list[Slice]:
    """The slices of a table by one column.

    Parameters
    ----------
    table : DataFrame
    column : str
    reference : DataFrame
        Training rows: they decide cuts and which values are frequent, so that slices do not depend on the rows
        that are judged.

    Returns
    -------
    list of Slice
        In the order of the values; together they hold every row once. Empty ones are left out.

    Raises
    ------
    DataError
        If the table has no such column.
    """
    if column not in table.columns:
        raise DataError(f"slices= names a column that the table lacks: {column!r}", hint=_columns(table.columns))
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

    values, known = table[column], reference[column].dropna()
    orderly = is_numeric_dtype(known.dtype) or is_datetime64_any_dtype(known.dtype)
    if orderly and not is_bool_dtype(known.dtype) and known.nunique() > FEW_VALUES:
        found = _by_quarters(values, known, column)
    else:
        found = _by_values(values, known, column)
    missing = values.isna().to_numpy()
    if missing.any():
        found.append(_slice(column, f"{column} missing", missing))
    return [one for one in found if len(one.rows)]


def _by_values(values: Any, known: Any, column: str) -> list[Slice]:
    import pandas as pd

    text = values.astype(object).where(values.notna(), None).map(lambda v: None if v is None else str(v))
    counts = pd.Series([str(value) for value in known.tolist()]).value_counts()
    frequent = sorted(counts.index, key=lambda label: (-counts[label], label))[:MAX_SLICES]
    found = [_slice(column, f"{column}={label}", (text == label).to_numpy()) for label in sorted(frequent)]
    rest = (values.notna() & ~text.isin(frequent)).to_numpy()
    return [*found, _slice(column, f"{column}: other values", rest)]


def _by_quarters(values: Any, known: Any, column: str) -> list[Slice]:
    cuts = sorted(set(known.quantile([0.25, 0.5, 0.75], interpolation="lower").tolist()))
    found = [_slice(column, f"{column} ≤ {_short(cuts[0])}", (values <= cuts[0]).to_numpy())]
    for low, high in itertools.pairwise(cuts):
        inside = ((values > low) & (values <= high)).to_numpy()
        found.append(_slice(column, f"{column} in ({_short(low)}, {_short(high)}]", inside))
    return [*found, _slice(column, f"{column} > {_short(cuts[-1])}", (values > cuts[-1]).to_numpy())]


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _slice(column: str, label: str, mask: Any) -> Slice:
    import numpy as np

    return Slice(column, label if len(label) <= 80 else f"{label[:79]}…", np.flatnonzero(mask))


def _columns(names: Iterable[Any]) -> str:
    return "columns: " + ", ".join(str(name) for name in list(names)[:20])
