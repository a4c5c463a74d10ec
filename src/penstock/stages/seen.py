"""Which rows a version has learned from, as keyed digests that travel with its bundle.

So a later comparison can leave those rows out though the training table itself is long gone. A digest is a
pseudonym, no secret: keys cannot be read off it, but whoever can guess a key can test whether it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.target import Roles, Target
from penstock.stages import keys

if TYPE_CHECKING:
    import pandas as pd

KEY = keys.secret("seen", 0, 0)
"""Of the hash. It is the same everywhere, so that equal rows give equal bytes."""


def digests(tables: list[pd.DataFrame], roles: Roles) -> tuple[Any, dict[str, Any]]:
    """Digests of all rows of some tables.

    Parameters
    ----------
    tables : list of DataFrame
        With the same columns.
    roles : Roles
        With a key a row is named by it; else by its content, the target included.

    Returns
    -------
    seen : ndarray of uint64, shape (n_distinct,)
        64-bit SipHash of each row's key, sorted; that a row of another table is among them by chance has probability
        n_distinct / 2**64.
    learned : dict
        {"n_rows", "by": "key" or "content", "columns"}; with a time column "until": the time of the newest row.

    Examples
    --------
    >>> import pandas as pd
    >>> seen, learned = digests([pd.DataFrame({"id": [2, 1, 2]})], Roles(key=("id",)))
    >>> len(seen), learned
    (2, {'n_rows': 3, 'by': 'key', 'columns': ['id']})
    """
    import numpy as np

    columns = list(roles.key) or sorted(str(name) for name in tables[0].columns)
    seen = np.unique(np.concatenate([keys.rows(table, columns, KEY) for table in tables]))
    by = "key" if roles.key else "content"
    learned = {"n_rows": sum(len(table) for table in tables), "by": by, "columns": columns}
    if roles.time is not None:
        learned["until"] = max(
            (str(canonical) for table in tables if (canonical := _newest(table, roles.time))), default=""
        )
    return seen, learned


def _newest(table: pd.DataFrame, time: str) -> str:
    """The newest time of a table in UTC, as ISO 8601; "" where the column holds none."""
    moments = _moments(table, time)
    return "" if moments is None or moments.isna().all() else moments.max().isoformat()


def _moments(table: pd.DataFrame, time: str) -> Any:
    """A column of times in UTC; None where it is absent or holds other values."""
    import pandas as pd

    if time not in table.columns or not pd.api.types.is_datetime64_any_dtype(table[time].dtype):
        return None
    return pd.to_datetime(table[time], utc=True)


def later(test: pd.DataFrame, fresh: Any, held: Any, learned: Mapping[str, Any], roles: Roles) -> Any:
    """Of the rows that a version has not learned from, those that are newer than what it has learned from.

    With a time column: later than its newest training row. Else: in no table that it knew, neither learned from nor
    held out.

    Parameters
    ----------
    test : DataFrame of shape (n_rows, n_columns)
    fresh : ndarray of int
        Positions, from `unseen`.
    held : ndarray of uint64 or None
        Digests of the rows that were held out when it was made.
    learned : dict
        From `digests`.
    roles : Roles

    Returns
    -------
    ndarray of int, or None
        None where nothing tells.

    Examples
    --------
    >>> import pandas as pd
    >>> old, now = pd.DataFrame({"id": [1, 2]}), pd.DataFrame({"id": [1, 2, 3]})
    >>> held, learned = digests([old], Roles(key=("id",)))
    >>> later(now, [0, 1, 2], held, learned, Roles(key=("id",))).tolist()
    [2]
    """
    import numpy as np
    import pandas as pd

    positions = np.asarray(fresh)
    if roles.time is not None and learned.get("until"):
        moments = _moments(test, roles.time)
        if moments is not None:
            return positions[(moments > pd.Timestamp(learned["until"])).to_numpy()[positions]]
    columns = list(learned["columns"])
    if held is None or not set(columns) <= {str(name) for name in test.columns}:
        return None
    return positions[~np.isin(keys.rows(test, columns, KEY)[positions], held)]


def unseen(test: pd.DataFrame, seen: Any, learned: Mapping[str, Any]) -> Any:
    """Positions of the rows that are not among the digests; None where a column is absent that names them.

    Parameters
    ----------
    test : DataFrame of shape (n_rows, n_columns)
    seen, learned
        From `digests`.

    Returns
    -------
    ndarray of int or None
    """
    import numpy as np

    columns = list(learned["columns"])
    if not set(columns) <= {str(name) for name in test.columns}:
        return None
    return np.flatnonzero(~np.isin(keys.rows(test, columns, KEY), seen))


def unseen_of_table(test: pd.DataFrame, seen: pd.DataFrame, target: Target, roles: Roles) -> Any:
    """The same by the rows themselves, for versions that carry no digests; None where no column names a row in both.

    Parameters
    ----------
    test, seen : DataFrame
    target, roles
        As declared.
    """
    import numpy as np

    shared = sorted({str(name) for name in test.columns} & {str(name) for name in seen.columns})
    columns = list(roles.key) if roles.key and set(roles.key) <= set(shared) else shared
    if not columns or (not roles.key and target.column not in shared):
        return None
    return np.flatnonzero(~np.isin(keys.rows(test, columns, KEY), keys.rows(seen, columns, KEY)))
