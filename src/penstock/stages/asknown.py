"""A table as it was known at a moment, and the moments of a back-test.

What is cut: rows of an event after the moment, and labels that were not known by then. What cannot be cut is said by
the calendar: a table without a time, and cells that were written over since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import StoredTable
from penstock.core.split import Split, duration_s
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import keys
from penstock.stages.rules import first_of, known_before, rule_of, when
from penstock.stages.sides import is_date
from penstock.stages.split import split as divide

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_ORIGINS = 200
"""Each is trained and compared; more are asked for by a slip."""
FEW_TRAIN, FEW_TEST = 50, 30
"""An origin with fewer training or held-out rows is skipped, and said."""


def before(table: pd.DataFrame, *, column: str, at: str, target: Target | None = None) -> pd.DataFrame:
    """The rows of a source that were there at a moment.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    column : str
        With the time of a row's event; a row without one is left out, since nobody can tell when it came.
    at : str
        The moment: events at it, or later, are left out.
    target : Target, optional
        Its column, `after` and `time` are blank in rows whose label was not known yet, by `delay` and `time`.

    Returns
    -------
    DataFrame
        In the table's order, with a fresh index.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"day": ["2026-01-01", "2026-01-09", "2026-02-01"], "left": [0, 1, 1]})
    >>> before(table, column="day", at="2026-01-15", target=Target("left", delay="10d"))["left"].tolist()
    [0.0, nan]
    """
    moments, cut = _dates(keys.times(table[column]), column), moment_of(at)
    there = moments < cut
    kept: pd.DataFrame = table[there].reset_index(drop=True)
    if target is None or target.column not in kept.columns:
        return kept
    known = known_before(kept, moments[there], cut, target, Split())
    if not known.all():
        for name in (target.column, *target.after, *([target.time] if target.time else [])):
            if name in kept.columns and name != column:
                kept[name] = kept[name].where(known)
    return kept


def known(table: pd.DataFrame, *, at: str, target: Target, roles: Roles, labels: bool = True) -> pd.DataFrame:
    """The rows of a workflow's table before a moment, and of these only those whose label was known at it.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    at : str
    target, roles
        As declared; `roles.time` is the time of a row's event.
    labels : bool, default=True
        False: rows whose label came later stay, since it is to be looked at in hindsight.

    Returns
    -------
    DataFrame
        In the table's order, with a fresh index.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"day": ["2026-01-01", "2026-01-09", "2026-02-01"], "left": [0, 1, 1]})
    >>> len(known(table, at="2026-01-15", target=Target("left", delay="10d"), roles=Roles(time="day")))
    1
    """
    assert roles.time is not None
    moments, cut = _dates(when(table, roles.time), roles.time), moment_of(at)
    keep = known_before(table, moments, cut, target, Split()) if labels else moments < cut
    kept: pd.DataFrame = table[keep].reset_index(drop=True)
    if target.column in kept.columns and kept[target.column].dtype == object:
        kept[target.column] = kept[target.column].infer_objects()  # truths that stood beside blank cells
    return kept


def calendar(
    table: pd.DataFrame,
    *,
    sources: Mapping[str, StoredTable],
    schema: Mapping[str, Any],
    target: Target,
    roles: Roles,
    split: Split,
    seed: int,
    asked: Mapping[str, Any],
    cuts: Mapping[str, str],
) -> dict[str, Any]:
    """The origins of a back-test, and by which column each source is cut.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
        Validated, as it stands today.
    sources : dict
        Step id → the source's table.
    schema : dict
        From `validate`.
    target, roles, split, seed
        As declared.
    asked : dict
        "from", "until" (moments, or None), "every", "window" (durations, or None).
    cuts : dict
        Step id → column with the time of its rows, where somebody said so; else `roles.time` where it has one.

    Returns
    -------
    dict
        "origins": [{"at", "stop" (end of the window that follows), "n_known", "skipped": why, or ""}]; "cuts": {step
        id: column, or "" where it cannot be cut}; "zones": what is to be said of times that
        are compared as if in one zone; "labelled": whether a source holds the target, rather than a step
        making it of later events; "first", "last", "every_s", "window_s", "delay_s", "n_rows".

    Raises
    ------
    DeclarationError
        Times that are plain numbers, no origin within the data, too many, a column that is not there.
    """
    import numpy as np

    assert roles.time is not None
    moments = _not_final(_dates(when(table, roles.time), roles.time), roles, split)
    every = duration_s(asked["every"])
    window = duration_s(asked["window"]) if asked.get("window") else every
    delay = duration_s(target.delay) if target.delay else 0.0
    ordered = np.sort(moments)
    last = ordered[-1] - _span(delay)  # younger labels are not final
    start = moment_of(asked["from"]) if asked.get("from") else _middle(ordered)
    until = moment_of(asked["until"]) if asked.get("until") else None
    end = last if until is None else min(until, last)
    found = _origins(start, end, every, ordered, until)
    known_: dict[str, Any] = {"target": target, "roles": roles}
    told = []
    for at in found:
        rows = known(table, at=text_of(at), **known_)
        why = _not_yet(at, split) or _too_few(rows, target, roles, split, seed, str(schema["task"]))
        stop = min(at + _span(window), last + np.timedelta64(1, "us"))
        told.append({"at": text_of(at), "stop": text_of(stop), "n_known": len(rows), "skipped": why})
    by = {name: _cut_by(name, one.columns, cuts, roles.time) for name, one in sources.items()}
    return {
        "origins": told,
        "cuts": by,
        "zones": _zones(table[roles.time], roles.time, sources, by),
        "labelled": any(target.column in one.columns for one in sources.values()),
        "first": text_of(ordered[0]),
        "last": text_of(ordered[-1]),
        "every_s": every,
        "window_s": window,
        "delay_s": delay,
        "n_rows": len(table),
    }


def _not_final(moments: Any, roles: Roles, split: Split) -> Any:
    """Moments before those of the final hold-out, where it takes the newest rows: it is opened by one flag of `run`.

    Raises
    ------
    DataError
        It takes every row.
    """
    if split.final is None or rule_of(roles, split) != "time":
        return moments
    before = moments[moments < first_of(moments, split.final, name="final")]
    if not len(before):
        raise DataError("the final hold-out takes every row", hint="declare a smaller final=")
    return before


def _middle(ordered: Any) -> Any:
    """The moment of the middle row, at the beginning of its day where rows came before that."""
    found = ordered[len(ordered) // 2]
    day = found.astype("datetime64[D]").astype(found.dtype)
    return day if day > ordered[0] else found


def _origins(start: Any, end: Any, every: float, ordered: Any, until: Any = None) -> list[Any]:
    """The moments from start on that lie before the end.

    Raises
    ------
    DeclarationError
    """
    within = f"the rows that may be looked at go from {text_of(ordered[0])} to {text_of(ordered[-1])}"
    if until is not None and not start < until:
        raise DeclarationError(
            f"--until {text_of(until)} is not after --from {text_of(start)}; {within}", where="backtest"
        )
    if not start < end:
        raise DeclarationError(
            f"no row with a final label comes after --from {text_of(start)}; {within}", where="backtest"
        )
    if not start > ordered[0]:
        raise DeclarationError(f"--from {text_of(start)}: nothing was known then; {within}", where="backtest")
    count = math.ceil((end - start) / _span(every))
    if count > MOST_ORIGINS:
        raise DeclarationError(
            f"{count:,} origins, at most {MOST_ORIGINS}", where="backtest", hint="declare a longer --every"
        )
    return [start.astype("datetime64[us]") + k * _span(every) for k in range(count)]


def _not_yet(at: Any, split: Split) -> str:
    """Why nothing is held out at an origin before the date that `test` names, or ""."""
    if not is_date(split.test) or at > moment_of(split.test):
        return ""
    return f"rows from {split.test} on are held out, and none was there"


def _too_few(rows: Any, target: Target, roles: Roles, split: Split, seed: int, task: str) -> str:
    """Why nothing can be learned or judged at an origin, or ""."""
    if not len(rows):
        return "no row was known"
    try:
        report = divide(rows, target=target, roles=roles, split=split, seed=seed, task=task)[2]
    except DataError as error:
        return error.what
    for side, n, least in (("training", report["n_train"], FEW_TRAIN), ("held-out", report["n_test"], FEW_TEST)):
        if n < least:
            return f"only {n} {side} rows of {len(rows):,}; {least} are needed"
    return ""


def _cut_by(name: str, columns: list[str], cuts: Mapping[str, str], time: str) -> str:
    """The column by which a source is cut, "" where it has none.

    Raises
    ------
    DeclarationError
    """
    from penstock.core.names import did_you_mean

    column = cuts.get(name)
    if column is None:
        return time if time in columns else ""
    if column not in columns:
        near = did_you_mean(column, columns)
        raise DeclarationError(f"{name} is to be cut by {column!r}, and has no such column{near}", where="backtest")
    return column


def _zones(times: Any, time: str, sources: Mapping[str, StoredTable], by: Mapping[str, str]) -> list[str]:
    """What to say of sources whose times have a zone where the workflow's have none, or the other way about."""
    from penstock.stages.probes import zoned

    aware, found = zoned(times), []
    for name, column in by.items():
        if column and (some := _some(sources[name], column)) is not None and zoned(some) != aware:
            here, there = (time, f"{name}'s {column}") if aware else (f"{name}'s {column}", time)
            found.append(
                f"{here} has a zone and {there} has none: they are compared as if both were in UTC, so that {name} is "
                "cut some hours early or late"
            )
    return found


def _some(source: Any, column: str) -> Any:
    """The first cells of a source's column, of a table in memory or of a stored one; None where it has no row."""
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source[column] if len(source) else None
    first = next(iter(source.batches([column])), None)
    return source.frame(first)[column] if first is not None and len(first) else None


def moment_of(text: str) -> np.datetime64:
    """A date or time in ISO form as a moment, in UTC where it says its zone.

    Raises
    ------
    DeclarationError

    Examples
    --------
    >>> str(moment_of("2026-01-31"))
    '2026-01-31T00:00:00.000000'
    """
    import pandas as pd

    try:
        found = pd.Timestamp(text)
    except ValueError:
        raise DeclarationError(f"{text!r} is no date such as 2026-01-31", where="backtest") from None
    found = found.tz_convert("UTC").tz_localize(None) if found.tzinfo else found
    moment: np.datetime64 = found.to_datetime64().astype("datetime64[us]")
    return moment


def text_of(moment: Any) -> str:
    """A moment as people write it, and as `moment_of` reads it.

    Examples
    --------
    >>> text_of(moment_of("2026-01-31")), text_of(moment_of("2026-01-31 06:30"))
    ('2026-01-31', '2026-01-31 06:30:00')
    """
    return keys._iso(str(moment.astype("datetime64[us]")))  # noqa: SLF001  the one way dates are written


def _span(seconds: float) -> Any:
    import numpy as np

    return np.timedelta64(round(seconds * 1e6), "us")


def _dates(moments: Any, column: str) -> Any:
    """Moments that are dates.

    Raises
    ------
    DeclarationError
    """
    if moments.dtype.kind == "f":
        raise DeclarationError(
            f"{column} holds plain numbers, and a back-test goes by dates", hint="make dates of it in a step before"
        )
    return moments
