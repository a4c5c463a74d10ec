"""An official test file: held out as it is; training rows that are among its rows leave training, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.split import Split
from penstock.core.target import Roles, Target
from penstock.errors import DataError
from penstock.stages import keys
from penstock.stages.copies import stay, why_different
from penstock.stages.rules import known_before, when

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

SECRET = keys.secret("official", 0, 0)
"""Of hashes that are compared within one run only."""


def kept_beside(
    table: Any, test: Any, target: Target, roles: Roles, split: Split, notes: list[str]
) -> tuple[Mask, dict[str, int], dict[str, Any]]:
    """Rows of a table that may be learned from when all rows of another one are held out.

    Parameters
    ----------
    table, test : DataFrame or LargeTable
        With the same columns as far as the model sees them.
    target, roles, split
        As declared. By time, rows whose label was not known at the first held-out moment leave; by groups, rows of a
        group that is held out.
    notes : list of str
        Gets what is to be known.

    Returns
    -------
    kept : numpy.ndarray of bool, shape (n_rows,)
    dropped : dict
        Why → rows that left for it, each row counted once, in the order "key", "groups", "copies", "time".
    facts : dict
        By time: "from", the first held-out moment.

    Raises
    ------
    DataError
        By time, if no row is held out.
    """
    import numpy as np

    kept = np.ones(len(table), dtype=bool)
    dropped: dict[str, int] = {}
    facts: dict[str, Any] = {}

    def leave(rows: Mask, why: str) -> None:
        dropped[why] = int((kept & rows).sum())
        kept[rows] = False

    rule = split.rule(time=roles.time, groups=roles.groups, key=roles.key)
    if roles.key:
        leave(_among(table, test, list(roles.key)), "key")
    if roles.groups and rule != "time":  # in time a group may honestly return later
        leave(_among(table, test, list(roles.groups)), "groups")
    copies = _copies(table, test, target, roles, notes)
    leave(copies, "copies")
    if rule == "time":
        assert roles.time is not None
        moments = when(table, roles.time)
        later = when(test, roles.time)
        if not len(later):
            raise DataError("the official test file has no row", hint="look at what the file holds")
        cut = later.min()
        leave(~known_before(table, moments, cut, target, split), "time")
        facts["from"] = keys.moment(cut)
    return kept, dropped, facts


def _among(table: Any, test: Any, columns: list[str]) -> Mask:
    """Rows whose cells stand in the other table too, whatever their types: compared in one canonical text form."""
    import numpy as np

    found: Mask = np.isin(keys.rows(table, columns, SECRET), keys.rows(test, columns, SECRET))
    return found


def _copies(table: Any, test: Any, target: Target, roles: Roles, notes: list[str]) -> Mask:
    """Rows that equal a held-out one in features and target, where such copies are no coincidence."""
    import numpy as np
    import pandas as pd

    features = sorted(roles.visible([str(name) for name in table.columns], target))
    whole = _among(table, test, [*features, target.column])
    if not whole.any():
        return whole
    alike = np.concatenate([keys.rows(one, features, SECRET) for one in (table, test)])
    labels = pd.DataFrame({target.column: pd.concat([table[target.column], test[target.column]], ignore_index=True)})
    if not (why := why_different(alike, whole, len(table), labels, target)):
        return whole
    notes.append(stay(int(whole.sum()), "a row of the official test file", why))
    return np.zeros(len(whole), dtype=bool)
