"""Rows that equal others, by a 64-bit number of their cells: compared within one table only, never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages import keys
from penstock.stages.large import slices

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]
    Numbers = npt.NDArray[np.uint64]

DISTINCT = 0.5
"""Below this share of distinct rows, a handful of contents would decide: copies are told apart."""


def looks(table: Any, target: Target, roles: Roles) -> tuple[Numbers, Numbers]:
    """A number for each row's features, and one for features and target.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
        With a feature at least.
    """
    import numpy as np

    features = sorted(roles.visible([str(name) for name in table.columns], target))
    alike = np.zeros(len(table), dtype=np.uint64)
    whole = np.empty(len(table), dtype=np.uint64)
    start = 0
    for part in slices(table, [*features, target.column]):
        rows = slice(start, start + len(part))
        start = rows.stop
        for name in features:
            alike[rows] = _folded(alike[rows], _numbers(part[name]))
        whole[rows] = _folded(alike[rows], _numbers(part[target.column]))
    return alike, whole


def copies(table: Any, held: Mask, target: Target, roles: Roles) -> tuple[Numbers, Mask]:
    """A number for each row's features, and the training rows that equal a held-out row in features and target.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
    held : numpy.ndarray of bool, shape (n_rows,)
        Held-out rows.
    """
    import numpy as np

    if not roles.visible([str(name) for name in table.columns], target):
        return np.zeros(len(table), dtype=np.uint64), np.zeros(len(table), dtype=bool)
    alike, whole = looks(table, target, roles)
    there = np.sort(whole[held])
    straddling = ~held
    if len(there):
        for at in range(0, len(whole), 1 << 20):
            some = whole[at : at + (1 << 20)]
            place = np.searchsorted(there, some).clip(max=len(there) - 1)
            straddling[at : at + (1 << 20)] &= there[place] == some
    return alike, straddling & bool(len(there))


def why_different(alike: Numbers, straddling: Mask, n_train: int, table: Any, target: Target) -> str:
    """Why training rows that look like a held-out one are different rows rather than copies of it; "" for copies.

    Few columns make different rows look alike. Copies agree on the target, different rows agree as often as chance has
    it, or somewhat more often: who is alike behaves alike. So rows that look alike are copies where they agree half-way
    better than chance: of hotel bookings 98 % do (chance 53 %), of people described by five columns 76 % (63 %).
    Whatever they agree on, training keeps at least half of its rows: where most of them look like a held-out one, so
    will most of those to come.

    Parameters
    ----------
    alike : numpy.ndarray of uint64, shape (n_rows,)
        A number for each row's features.
    straddling : numpy.ndarray of bool
        Training rows that equal a held-out one.
    n_train : int
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
        Or its target column alone.
    target : Target
    """
    import numpy as np
    import pandas as pd

    labels = pd.factorize(table[target.column])[0]
    chance = float(((np.bincount(labels[labels >= 0]) / len(labels)) ** 2).sum())
    agree = agreement(alike, labels)
    if not agree >= (1 + chance) / 2:
        told = f"{100 * agree:.0f} % of the rows that look alike agree in {target.column}"
        return f"{told}, and {100 * chance:.0f} % would by chance"
    if int(straddling.sum()) > n_train / 2:
        return "most of the training rows do"
    return ""


def stay(n: int, like: str, why: str) -> str:
    """The note on rows that look alike and are taken for different ones.

    Examples
    --------
    >>> stay(7, "a held-out row", "most of the training rows do")
    '7 training rows look like a held-out row but stay, taken for different rows: most of the training rows do'
    """
    return f"{n:,} training rows look like {like} but stay, taken for different rows: {why}"


def told_apart(number: Numbers, secret: bytes) -> tuple[Numbers, str]:
    """Numbers in which each copy of a row has its own, where most rows are copies: else a handful of contents decide.

    The first of them keeps its number, so that it stays where it is when the table comes to be such a one.

    Parameters
    ----------
    number : numpy.ndarray of uint64, shape (n_rows,)
        Of each row's content.
    secret : bytes
        From `keys.secret`.

    Returns
    -------
    number
        As it came where at least half of the rows are distinct.
    note : str
        What to say of it, or "".
    """
    import numpy as np
    import pandas as pd

    ordered = np.sort(number)  # by sorting: a table of 64-bit numbers would need four times their size
    distinct = (int((ordered[1:] != ordered[:-1]).sum()) + bool(len(ordered))) / max(len(number), 1)
    if distinct >= DISTINCT:
        return number, ""
    order = np.argsort(number, kind="stable")
    new = np.append(True, np.diff(number[order].view(np.int64)) != 0)
    copy = np.empty(len(number), dtype=np.int64)
    copy[order] = np.arange(len(number)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    both = pd.DataFrame({"content": number.view("int64"), "copy": copy})
    apart = keys.rows(both, ["content", "copy"], secret)
    return np.where(copy == 0, number, apart), (
        f"only {100 * distinct:.0f} % of the rows are distinct: copies are told apart by their order and may stand on "
        "both sides; declare key= if rows have one"
    )


def agreement(alike: Numbers, labels: npt.NDArray[np.intp]) -> float:
    """How often another row that looks like a row has its label, over all rows that look like another; NaN without any.

    Of rows whose labels are drawn by themselves that is the sum of the squared shares of the labels, however many look
    alike.

    Examples
    --------
    >>> import numpy as np
    >>> agreement(np.array([5, 5, 5, 7, 7, 9], dtype=np.uint64), np.array([1, 1, 0, 1, 1, 0]))
    0.6
    """
    import numpy as np

    order = np.argsort(alike, kind="stable")
    again = alike[order[1:]] == alike[order[:-1]]
    several = np.append(again, False) | np.append(False, again)
    if not len(order) or not several.any():
        return float("nan")
    rows = order[several]  # few, as a rule: what follows holds several numbers for each
    rows = rows[np.lexsort((labels[rows], alike[rows]))]
    first = np.append(True, alike[rows[1:]] != alike[rows[:-1]])
    starts = np.flatnonzero(first | np.append(True, labels[rows[1:]] != labels[rows[:-1]]))
    same = np.diff(np.append(starts, len(rows)))  # rows that look alike with one label
    group = np.cumsum(first[starts]) - 1
    size = np.bincount(group, weights=same)[group]
    return float((same * (same - 1) / (size - 1)).sum() / len(rows))


def _numbers(column: pd.Series[Any]) -> Numbers:
    """A number for each cell, the same for cells that are the same."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb":
        values = column.to_numpy()
        return values.view(f"u{values.dtype.itemsize}").astype(np.uint64)
    if isinstance(column.dtype, pd.StringDtype):
        cells = pa.array(column, from_pandas=True)
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        found = pc.dictionary_encode(cells)
        words = found.dictionary.to_numpy(zero_copy_only=False)
        hashes = np.append(pd.util.hash_array(words, categorize=False), np.uint64(0))  # a missing cell is the last
        out: Numbers = hashes[pc.fill_null(found.indices, len(words)).to_numpy()]
        return out
    # Booleans beside missing cells are objects, of which pandas has no array that it hashes.
    values = column.to_numpy() if column.dtype == object else column.array
    return pd.util.hash_array(values, categorize=False)


def _folded(seed: Numbers, values: Numbers) -> Numbers:
    """One number of two; the finalizer of SplitMix64 (Steele, Lea and Flood, 2014) on either side."""
    return _mixed(_mixed(seed + 0x9E3779B97F4A7C15) ^ values)


def _mixed(values: Numbers) -> Numbers:
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
