"""What a column holds, as far as the checks of a schema ask: merged from batches, so that no column is held whole.

Facts only ever acquit: where they show that a check passes, nothing else is looked at. Where they do not, the check
itself looks at the column and tells the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.stages.large import SLICE, LargeTable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class Facts:
    """Of one column of numbers, booleans or text.

    Attributes
    ----------
    kind : str
        As `schema.type_of` says.
    rows, nulls : int
    low, high : float or None
        Of the finite values; None without any.
    infinite : bool
    flags : bool
        Whether each finite value is 0 or 1.
    words : set of str or None
        Distinct texts; None where there are more than were asked for, or for numbers.
    """

    kind: str
    rows: int = 0
    nulls: int = 0
    low: float | None = None
    high: float | None = None
    infinite: bool = False
    flags: bool = True
    words: set[str] | None = None

    def merge(self, other: Facts, limit: int) -> None:
        """Take in another batch of the same column."""
        self.rows += other.rows
        self.nulls += other.nulls
        if other.low is not None and other.high is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
            self.high = other.high if self.high is None else max(self.high, other.high)
        self.infinite = self.infinite or other.infinite
        self.flags = self.flags and other.flags
        if self.words is not None:
            self.words = None if other.words is None else self.words | other.words
            if self.words is not None and len(self.words) > limit:
                self.words = None


def facts_of(table: Any, columns: Sequence[str], limit: int) -> dict[str, Facts]:
    """Facts of columns; those of other dtypes than plain numbers, booleans and text are left out.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
    columns : sequence of str
    limit : int
        Most distinct texts of a column that are worth keeping.

    Examples
    --------
    >>> import pandas as pd
    >>> found = facts_of(pd.DataFrame({"a": [2, 1], "b": [0.5, None]}), ["a", "b"], 50)
    >>> found["a"].low, found["b"].nulls
    (1.0, 1)
    """
    frames: Iterable[pd.DataFrame] = table.frames(columns) if isinstance(table, LargeTable) else [table]
    found: dict[str, Facts] = {}
    for frame in frames:
        for name in columns:
            known = found.get(name)
            seen = _facts(frame[name], limit, tired=known is not None and known.words is None)
            if seen is None:
                continue
            if known is None:
                found[name] = seen
            else:
                known.merge(seen, limit)
    return found


def _facts(column: pd.Series[Any], limit: int, *, tired: bool) -> Facts | None:
    import numpy as np
    import pandas as pd

    if isinstance(column.dtype, pd.StringDtype):
        return _of_text(column, limit, tired=tired)
    if not isinstance(column.dtype, np.dtype) or column.dtype.kind not in "iufb":
        return None
    values = column.to_numpy()
    kind = {"f": "number", "b": "boolean"}.get(column.dtype.kind, "integer")
    found = Facts(kind, rows=len(values))
    if column.dtype.kind == "f":
        finite = np.isfinite(values)
        n = int(finite.sum())
        if n < len(values):
            found.nulls = int(np.isnan(values).sum())
            found.infinite = len(values) - n > found.nulls
            values = values[finite]
    if len(values):
        found.low, found.high = float(values.min()), float(values.max())
        among = found.low >= 0 and found.high <= 1
        found.flags = among and (kind != "number" or bool(((values == 0) | (values == 1)).all()))
    return found


def _of_text(column: pd.Series[Any], limit: int, *, tired: bool) -> Facts:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pa.array(column, from_pandas=True)
    words: set[str] | None = None if tired else set()
    for at in range(0, len(cells), SLICE):
        if words is None:
            break
        some = pc.unique(cells.slice(at, SLICE))
        if len(some) > limit + 1:
            words = None
        else:
            words |= {word for word in some.to_pylist() if word is not None}
            words = words if len(words) <= limit else None
    return Facts("text", len(cells), cells.null_count, words=words)
