"""The rule that divides rows, shared by the split and by the folds inside the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.split import Split, duration_s
from penstock.core.target import Roles, Target
from penstock.errors import DataError, DeclarationError
from penstock.stages import keys

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Mask = npt.NDArray[np.bool_]


def rule_of(roles: Roles, split: Split) -> str:
    """The rule that divides the rows: "time", "groups", "key", "content" or "random".

    Raises
    ------
    DeclarationError
        A rule whose column is not declared, or a test of dates without time.

    Examples
    --------
    >>> rule_of(Roles(key=("id",)), Split())
    'key'
    """
    by = split.rule(time=roles.time, groups=roles.groups, key=roles.key)
    if by == "time" and not roles.time:
        raise DeclarationError('split: by="time" needs time=, the column with the time of the event')
    if by == "groups" and not roles.groups:
        raise DeclarationError('split: by="groups" needs groups=, the column that names the entity')
    if isinstance(split.test, str) and by != "time":
        raise DeclarationError(f'split: test={split.test!r} is a span of time: it needs time= and by="time"')
    return by


def unit_columns(table: pd.DataFrame, rule: str, target: Target, roles: Roles, frozen: tuple[str, ...]) -> list[str]:
    """Columns whose text decides the side, or the fold, of a row.

    Raises
    ------
    DataError
        A row without a key or group, or a frozen column that is gone.
    """
    if rule in ("key", "groups"):
        columns = list(roles.groups if rule == "groups" else roles.key)
        empty = table[columns].isna().any(axis=1)
        if empty.any():
            first = [int(row) for row in empty.to_numpy().nonzero()[0][:5]]
            raise DataError(
                f"{int(empty.sum()):,} rows have no {rule.removesuffix('s')} ({', '.join(columns)}): rows {first}",
                where=", ".join(columns),
                hint="fill it or drop these rows in a step before",
            )
        return columns
    gone = [name for name in frozen if name not in table.columns]
    if gone:
        raise DataError(
            f"columns that the first split was made by are gone: {', '.join(gone[:10])}",
            hint="a row's side hangs on them; bring them back, or accept a new schema (the split starts anew)",
        )
    return sorted(frozen or (str(name) for name in table.columns if name != target.column))


def classes_of(table: pd.DataFrame, target: Target, task: str) -> npt.NDArray[np.intp] | None:
    """Class of each row as a number, or None for regression."""
    import pandas as pd

    return None if task == "regression" else pd.factorize(table[target.column], sort=True)[0]


def when(table: pd.DataFrame, column: str) -> npt.NDArray[Any]:
    """Times of a column, none missing.

    Raises
    ------
    DataError
    """
    import numpy as np

    found = keys.times(table[column])
    gaps = np.isnan(found) if found.dtype.kind == "f" else np.isnat(found)
    if gaps.any():
        raise DataError(
            f"{int(gaps.sum()):,} rows have no time: rows {[int(row) for row in np.flatnonzero(gaps)[:5]]}",
            where=column,
            hint="fill it or drop these rows in a step before",
        )
    return found


def gap_of(target: Target, split: Split, moments: npt.NDArray[Any]) -> Any:
    """Time that must lie between a training row and the first held-out one.

    Raises
    ------
    DeclarationError
        A duration beside a time column of plain numbers.
    """
    return _span(split.gap or target.delay, "gap", moments)


def _span(text: str | None, what: str, moments: npt.NDArray[Any]) -> Any:
    """A duration as the times of a column are counted; nothing where there is none."""
    import numpy as np

    if not text:
        return 0.0 if moments.dtype.kind == "f" else np.timedelta64(0, "us")
    if moments.dtype.kind == "f":
        raise DeclarationError(f"split: a {what} of {text!r} needs dates, but the time column holds plain numbers")
    return np.timedelta64(round(duration_s(text) * 1e6), "us")


def known_before(table: pd.DataFrame, moments: npt.NDArray[Any], cut: Any, target: Target, split: Split) -> Mask:
    """Rows before a cut whose label was known at the cut: by `Target.time`, by the gap, and by the horizon.

    A label that looks a horizon into the future is made of what happens after the row's own time. Rows whose horizon
    reaches past the cut are purged: their labels are made of the held-out time (Lopez de Prado, 2018, Advances in
    Financial Machine Learning, section 7.4.1).
    """
    before: Mask = moments < cut
    gap = gap_of(target, split, moments)
    if gap:
        before &= moments <= cut - gap
    return before & ~unlabelled(table, moments, cut, target) & ~reaching(moments, cut, split)


def unlabelled(table: pd.DataFrame, moments: npt.NDArray[Any], cut: Any, target: Target) -> Mask:
    """Rows before a cut whose label was not known at it, by `Target.time`: none where that is not declared.

    Raises
    ------
    DeclarationError
        Dates beside plain numbers: they cannot be compared.
    """
    import numpy as np

    if not target.time or target.time not in table.columns:
        return np.zeros(len(moments), dtype=bool)
    known = keys.times(table[target.time])
    if known.dtype != moments.dtype:
        kinds = ["plain numbers" if one.dtype.kind == "f" else "dates" for one in (known, moments)]
        raise DeclarationError(
            f"target: time={target.time!r} holds {kinds[0]}, and the time of the event holds {kinds[1]}: which labels "
            "were known when cannot be told",
            hint="bring both into one form in a step before",
        )
    found: Mask = (moments < cut) & ~np.less_equal(known, cut)  # a missing time is not known: it compares as false
    return found


def reaching(moments: npt.NDArray[Any], cut: Any, split: Split) -> Mask:
    """Rows before a cut whose horizon reaches past it."""
    reach = _span(split.horizon, "horizon", moments)
    found: Mask = (moments < cut) & (moments > cut - reach)
    return found


def first_held_out(moments: npt.NDArray[Any], split: Split) -> Any:
    """The first held-out moment; rows of one moment are never divided."""
    return first_of(moments, split.test)


def first_of(moments: npt.NDArray[Any], newest: float | str, *, name: str = "test") -> Any:
    """The first of the newest moments: a share of the rows, a span before the last one, or a date on."""
    import numpy as np

    ordered = np.sort(moments)
    if not isinstance(newest, str):
        at = min(max(len(ordered) - round(newest * len(ordered)), 0), len(ordered) - 1)
        cut = ordered[at]
        later = ordered[ordered > cut]
        return later[0] if cut == ordered[0] and len(later) else cut
    if moments.dtype.kind == "f":
        raise DeclarationError(f"split: {name}={newest!r} needs dates, but the time column holds plain numbers")
    try:
        span = np.timedelta64(round(duration_s(newest) * 1e6), "us")
    except ValueError:
        return _date(newest)
    return ordered[-1] - span


def _date(text: str) -> Any:
    import pandas as pd

    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise DeclarationError(
            f"split: test={text!r} is neither a share (0.2), a duration ('90d') nor a date ('2026-01-01')"
        ) from None
    moment = moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    return moment.to_datetime64().astype("datetime64[us]")
