"""`asof_join`: what was known of each row's entity at that row's time, as a step or at once."""

from __future__ import annotations

from numbers import Real
from typing import Any

from penstock.core.names import listed
from penstock.core.split import duration_s
from penstock.core.step import Call, Options, Ref, promises
from penstock.errors import DeclarationError

JOIN = "penstock.stages.asof:join"
"""Entry of the step that every promised `asof_join` becomes."""


def asof_join(
    left: Any,
    right: Any,
    *,
    by: str | list[str] | tuple[str, ...],
    on: str | tuple[str, str],
    tolerance: str | float | None = None,
    created: str | None = None,
    columns: str | list[str] | tuple[str, ...] | None = None,
    suffix: str | None = None,
    name: str | None = None,
) -> Any:
    """For each row of `left` the newest row of `right` with the same `by` that is not later than the row's own time.

    A later row is never joined, however near it is, so a model cannot learn from what was not known yet. The rows of
    `left` keep their number and their order; where nothing matches, the new cells are missing. The order of `right`
    plays no part.

    Parameters
    ----------
    left, right : Ref, or frames of one library (pandas, polars, pyarrow)
        With a Ref among them the join is a step and a Ref is returned; with frames it is done at once.
    by : str or list of str
        Columns that name the entity, in both tables. A missing value matches nothing.
    on : str or (str, str)
        The column with the time: one name, or that of `left` and that of `right`. Both with a time zone (they are
        compared as instants) or both without; numbers work too. A row of `left` without a time gets nothing; a row
        of `right` without one is never joined.
    tolerance : str or number, optional
        The oldest row that still counts, as "7d" or "12h" (a number where `on` holds numbers); a row of exactly this
        age counts. Without it any age does.
    created : str, optional
        Column of `right` that decides between rows of one entity and one time: the row created last wins, and one
        without this value comes first. Without it, rows that share entity and time and differ are refused.
    columns : str or list of str, optional
        Columns of `right` to add; all but `by`, its time and `created` by default.
    suffix : str, optional
        Appended to the name of each added column; needed when a name is in `left` already.
    name : str, optional
        Step id; "asof_join" by default.

    Returns
    -------
    Ref, or a frame of the library of `left`
        `left` and the added columns.

    Raises
    ------
    DeclarationError
        An argument has a value that it cannot have.
    DataError
        When it is done: a column is not there, one time has a zone and the other has none, two rows of `right`
        share entity and time and differ, or a name would stand twice.

    Examples
    --------
    >>> import pandas as pd
    >>> a = pd.DataFrame({"who": ["a", "a", "b"], "day": pd.to_datetime(["2026-01-05", "2026-01-09", "2026-01-09"])})
    >>> b = pd.DataFrame({"who": ["a", "a"], "day": pd.to_datetime(["2026-01-01", "2026-01-08"]), "plan": ["S", "L"]})
    >>> asof_join(a, b, by="who", on="day")["plan"].tolist()
    ['S', 'L', nan]
    """
    names = list(listed(by))
    times = (on, on) if isinstance(on, str) else listed(on)
    faults = _faults(names, times, tolerance)
    if faults:
        raise DeclarationError(faults)
    options: dict[str, Any] = {"by": tuple(names), "on": times}
    given = {"tolerance": tolerance, "created": created, "suffix": suffix}
    options |= {word: value for word, value in given.items() if value is not None}
    if columns is not None:
        options["columns"] = listed(columns)
    if promises([left, right]):
        return Ref(Call(JOIN, name or "asof_join", (left, right), options, Options(), part="asof_join"))
    import importlib

    module, _, function = JOIN.partition(":")  # by its entry, as a worker finds it: core knows no stage
    return getattr(importlib.import_module(module), function)(left, right, **options)


def _faults(names: list[str], times: tuple[Any, ...], tolerance: Any) -> list[str]:
    """What is wrong with the arguments themselves."""
    faults = []
    if not names or not all(isinstance(column, str) and column for column in names):
        faults.append(f"asof_join: by={names!r}: the column that names the entity, or several")
    if len(times) != 2 or not all(isinstance(column, str) and column for column in times):
        faults.append(f"asof_join: on={times!r}: the column with the time, or a pair: that of left, that of right")
    elif set(times) & set(names):
        faults.append(f"asof_join: {min(set(times) & set(names))!r} stands in by= and in on=")
    if isinstance(tolerance, str):
        try:
            duration_s(tolerance)
        except ValueError as error:
            faults.append(f"asof_join: tolerance={error}")
    elif isinstance(tolerance, bool) or not (
        tolerance is None or (isinstance(tolerance, Real) and float(tolerance) >= 0)
    ):
        faults.append(f"asof_join: tolerance={tolerance!r}: a duration such as '7d', or a number from 0")
    return faults
