"""What differs between two tables, row by row: by the names of the rows, up to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.answer import plain
from penstock.errors import bounded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]
    Places = npt.NDArray[np.intp]

ROUNDING = 1e-9
"""Share of a column's largest absolute value up to which two numbers are the same: sums in another order differ so."""


@dataclass(frozen=True)
class Moved:
    """How the watched rows of a table differ from what they were.

    Attributes
    ----------
    columns : dict
        Column → number of rows whose cell is another.
    gone, come : tuple of str
        Columns that are not there any more, and those that are new.
    vanished, appeared : numpy.ndarray of integers
        Places of rows in the table as it was, and as it is.
    changed : numpy.ndarray of integers
        Places, in the table as it was, of rows with another cell.
    examples : dict
        Column → one row with both values; "" → a row that vanished or appeared.
    """

    columns: dict[str, int]
    gone: tuple[str, ...]
    vanished: Places
    appeared: Places
    changed: Places = field(repr=False)
    examples: dict[str, str] = field(default_factory=dict, repr=False)
    come: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that differs."""
        return (*self.columns, *self.gone, *self.come)

    @property
    def example(self) -> str:
        """One row."""
        return next((self.examples[name] for name in (*self.columns, "") if name in self.examples), "")

    @property
    def rows(self) -> int:
        """Rows that are not what they were."""
        return len(self.vanished) + len(self.appeared) + len(self.changed)

    @property
    def anything(self) -> bool:
        """Whether there is a difference."""
        return bool(self.rows or self.gone or self.come)

    def same_as(self, other: Moved) -> bool:
        """Whether another difference is in the same cells, as far as counts tell."""
        mine, theirs = ((m.columns, m.gone, m.come, len(m.vanished), len(m.appeared)) for m in (self, other))
        return mine == theirs


def compared(
    before: tuple[pd.DataFrame, Any, Mask],
    after: tuple[pd.DataFrame, Any, Callable[[pd.DataFrame], Mask]],
    columns: Sequence[str],
    names: Sequence[str],
    now_columns: Sequence[str] = (),
) -> Moved:
    """Hold watched rows against what they were.

    Parameters
    ----------
    before : (DataFrame, numbers, mask)
        The table, a number that names each row, and which rows are watched.
    after : (DataFrame, numbers, callable)
        The same of the other table; asked of rows whose number was not there before: which of them count as new.
    columns : sequence of str
        Columns that are compared; those of the first table.
    names : sequence of str
        Columns that name a row, for the example.
    now_columns : sequence of str
        Columns of the other table that would be compared: those that the first has not are new.
    """
    import numpy as np

    (base, known, watched), (now, numbers, fresh) = before, after
    order = np.argsort(numbers, kind="stable")
    at = np.flatnonzero(watched)
    place = np.searchsorted(numbers[order], known[at]).clip(max=max(len(order) - 1, 0))
    there = numbers[order][place] == known[at] if len(order) else np.zeros(len(at), dtype=bool)
    mine, theirs = at[there], order[place[there]] if len(order) else order
    counts: dict[str, int] = {}
    any_changed = np.zeros(len(mine), dtype=bool)
    examples: dict[str, str] = {}
    gone = tuple(name for name in columns if name not in now.columns)
    for name in columns:
        if name in gone:
            continue
        other = differs(base[name].iloc[mine], now[name].iloc[theirs])
        if n := int(other.sum()):
            counts[name] = n
            any_changed |= other
            examples[name] = _example(base, now, name, names, mine, theirs, int(np.flatnonzero(other)[0]))
    appeared = np.flatnonzero(~np.isin(numbers, known))
    if len(appeared):
        appeared = appeared[fresh(now.iloc[appeared])]
    vanished = at[~there]
    if len(vanished):
        examples[""] = f"{_named(base, names, int(vanished[0]))} is gone"
    elif len(appeared):
        examples[""] = f"{_named(now, names, int(appeared[0]))} is new"
    come = tuple(name for name in now_columns if name not in base.columns)
    return Moved(counts, gone, vanished, appeared, mine[any_changed], examples, come)


def lost(base: pd.DataFrame, watched: Mask, names: Sequence[str]) -> Moved:
    """The difference to something in which no row can be told by its name: every watched row vanished."""
    import numpy as np

    none: Places = np.empty(0, dtype=np.intp)
    at = np.flatnonzero(watched)
    example = {"": f"{_named(base, names, int(at[0]))} is gone"} if len(at) else {}
    return Moved({}, tuple(names), at, none, none, example)


def differs(a: pd.Series[Any], b: pd.Series[Any]) -> Mask:
    """Where two columns hold different values; missing equals missing, and rounding is no difference."""
    import numpy as np
    import pandas as pd
    from pandas.api import types

    missing, other = a.isna().to_numpy(), b.isna().to_numpy()
    out: Mask = missing != other
    both = ~missing & ~other
    if not both.any():
        return out
    x, y = a[both], b[both]
    numeric = [types.is_numeric_dtype(part.dtype) and not types.is_complex_dtype(part.dtype) for part in (x, y)]
    if all(numeric):
        u, v = (part.to_numpy(dtype="float64", na_value=float("nan")) for part in (x, y))
        size = np.abs(u[np.isfinite(u)]).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            out[both] = ~((u == v) | (np.abs(u - v) <= ROUNDING * size))
        return out
    if all(isinstance(part.dtype, pd.StringDtype) for part in (x, y)):
        out[both] = np.asarray(x.array != y.array, dtype=bool)
        return out
    if all(types.is_datetime64_any_dtype(part.dtype) for part in (x, y)) and x.dtype == y.dtype:
        out[both] = x.to_numpy() != y.to_numpy()
        return out
    u, v = (np.asarray(part.astype(object), dtype=object) for part in (x, y))
    out[both] = [not _equal(one, two) for one, two in zip(u, v, strict=True)]
    return out


def _equal(one: Any, two: Any) -> bool:
    """Whether two cells hold the same; of arrays, lists and structs all that is in them."""
    import numpy as np

    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_equal(value, two[name]) for name, value in one.items())
    many = [isinstance(cell, np.ndarray | list | tuple) for cell in (one, two)]
    if not any(many):
        return bool(one == two) or (_missing(one) and _missing(two))
    if not all(many) or len(one) != len(two):
        return False
    a, b = (np.asarray(cell) if isinstance(cell, np.ndarray) else None for cell in (one, two))
    if a is not None and b is not None and a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        size = np.abs(a[np.isfinite(a)]).max(initial=0.0)
        return bool(np.allclose(a, b, rtol=0.0, atol=ROUNDING * size, equal_nan=True))
    return all(_equal(x, y) for x, y in zip(one, two, strict=True))


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _example(
    base: pd.DataFrame, now: pd.DataFrame, name: str, names: Sequence[str], mine: Places, theirs: Places, first: int
) -> str:
    was, is_now = (_cell(frame, name, int(at[first])) for frame, at in ((base, mine), (now, theirs)))
    return f"{_named(base, names, int(mine[first]))}: {name} {was} → {is_now}"


def _named(table: pd.DataFrame, names: Sequence[str], row: int) -> str:
    return ", ".join(f"{name}={_cell(table, name, row)}" for name in names)


def _cell(table: pd.DataFrame, name: str, row: int) -> str:
    value = plain(table[name].iloc[row])
    return bounded(f"{value:.6g}" if isinstance(value, float) else str(value), 60)
