"""Sides and folds that the user's own function or splitter chooses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.errors import StepOutputError
from penstock.stages.own import line_of
from penstock.stages.seeding import derive

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.intp]


def masked(table: Any, function: Callable[[Any], Any]) -> Mask:
    """Held-out rows, as a function of the whole table says.

    Parameters
    ----------
    table : DataFrame or LargeTable of shape (n_rows, n_columns)
        The function is given a copy of it, all of its columns.
    function : callable
        Gives a boolean for each row, True where it is held out: a Series by the table's labels, an array or a list by
        place.

    Raises
    ------
    StepOutputError
        What it returned is no such mask.

    Examples
    --------
    >>> import pandas as pd
    >>> masked(pd.DataFrame({"year": [2024, 2026]}), lambda table: table["year"] == 2026)
    array([False,  True])
    """
    import numpy as np
    import pandas as pd

    name = function.__name__
    try:
        answer = function(table[list(table.columns)].reset_index(drop=True))
    except Exception as error:
        error.add_note(f"the mask {name!r}{line_of(error)}")
        raise
    values = np.asarray(answer) if isinstance(answer, np.ndarray | list | tuple) else answer
    values = pd.Series(values) if isinstance(values, np.ndarray) and values.ndim == 1 else values
    if not isinstance(values, pd.Series) or len(values) != len(table) or values.dtype.name not in ("bool", "boolean"):
        kind = type(answer).__name__
        what = f"a {kind}" if not hasattr(answer, "dtype") else f"a {kind} of {answer.dtype}, {len(answer):,} rows long"
        raise StepOutputError(
            f"the mask {name!r} returned {what}",
            hint=f"a boolean for each of the {len(table):,} rows is meant, True where the row is held out",
        )
    if answer is values:  # a Series says by its labels which row it speaks of, in whatever order
        if not values.index.is_unique or not values.index.isin(range(len(table))).all():
            raise StepOutputError(
                f"the labels of what the mask {name!r} returned are not those of the rows",
                hint="keep the table's index, or return an array in the order of its rows",
            )
        values = values.reindex(range(len(table)))
    if values.isna().any():
        raise StepOutputError(
            f"the mask {name!r} does not say of {int(values.isna().sum()):,} rows on which side they are",
            hint="a missing value compared is missing: fill it",
        )
    return values.to_numpy(dtype=bool)


def last_pair(table: Any, splitter: Any, target: Target, roles: Roles, seed: int) -> tuple[Mask, Mask]:
    """Held-out and training rows by the last pair that a splitter gives.

    The last, because of splitters that go forward in time it is the one with the newest rows and the most to learn
    from; of all others one pair is as good as another.

    Parameters
    ----------
    table : DataFrame or LargeTable
    splitter : splitter of scikit-learn's form
        Not changed; where it shuffles without a seed, it gets one of the workflow's.

    Returns
    -------
    held, kept : numpy.ndarray of bool, shape (n_rows,)
        A row may be in neither.

    Raises
    ------
    StepOutputError
        A row is in both, or there is no pair.
    """
    import numpy as np

    pairs = all_pairs(table, splitter, target, roles, seed, "split")
    kept, held = np.zeros((2, len(table)), dtype=bool)
    kept[pairs[-1][0]] = True
    held[pairs[-1][1]] = True
    return held, kept


def all_pairs(
    table: Any, splitter: Any, target: Target, roles: Roles, seed: int, purpose: str
) -> list[tuple[Rows, Rows]]:
    """Every pair of row positions that a splitter gives, each in ascending order.

    Raises
    ------
    StepOutputError
        A row is on both sides of a pair, positions are none of the table's, or there is no pair.
    """
    import numpy as np

    name = type(splitter).__name__
    X, y, groups = _asked(table, target, roles)
    pairs = []
    try:
        given = list(_seeded(splitter, seed, purpose).split(X, y, groups))
    except Exception as error:
        error.add_note(f"the splitter {name}{line_of(error)}")
        raise
    for fit, judge in given:
        pair = tuple(np.unique(np.asarray(side)) for side in (fit, judge))
        if any(len(side) and (side.dtype.kind not in "iu" or side[0] < 0 or side[-1] >= len(X)) for side in pair):
            raise StepOutputError(f"the splitter {name} gave positions that are none of {len(X):,} rows")
        if np.isin(pair[0], pair[1]).any():
            n = int(np.isin(pair[0], pair[1]).sum())
            raise StepOutputError(f"the splitter {name} put {n:,} rows on both sides of a pair")
        pairs.append((pair[0].astype(np.intp), pair[1].astype(np.intp)))
    if not pairs:
        raise StepOutputError(f"the splitter {name} gave no pair of row positions")
    return pairs


def _asked(table: Any, target: Target, roles: Roles) -> tuple[pd.DataFrame, pd.Series[Any], Any]:
    """What a splitter is given: every column but the target, the target, and the groups as numbers."""
    names = [str(name) for name in table.columns]
    X = table[[name for name in names if name != target.column]]
    groups = None
    if roles.groups:
        groups = table[list(roles.groups)].groupby(list(roles.groups), sort=True, dropna=False).ngroup().to_numpy()
    return X, table[target.column], groups


def _seeded(splitter: Any, seed: int, purpose: str) -> Any:
    """A copy in which chance is the workflow's."""
    own = copy.deepcopy(splitter)
    if getattr(own, "random_state", 0) is None and getattr(own, "shuffle", True):
        own.random_state = derive(seed, f"{purpose}__random_state")
    return own
