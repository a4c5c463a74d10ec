"""Point-in-time joins: positions by one sort of both tables, then one gather of the right one's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.names import did_you_mean
from penstock.core.notes import note
from penstock.core.split import duration_s
from penstock.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

LIBRARIES = ("pandas", "polars", "pyarrow")


def join(
    left: pa.Table,
    right: pa.Table,
    *,
    by: tuple[str, ...],
    on: tuple[str, str],
    tolerance: str | float | None = None,
    created: str | None = None,
    columns: tuple[str, ...] | None = None,
    suffix: str | None = None,
) -> Any:
    """What `core.join.asof_join` promises; as a step it receives Arrow tables, which keep types beside missing cells.

    Raises
    ------
    DataError
    UsageError
        The two frames are not of one library.

    Examples
    --------
    >>> import pyarrow as pa
    >>> left = pa.table({"who": ["a", "a"], "t": [1, 9]})
    >>> right = pa.table({"who": ["a", "a"], "t": [1, 10], "x": [True, False]})
    >>> join(left, right, by=("who",), on=("t", "t"))["x"].to_pylist()
    [True, True]
    >>> join(left, right, by=("who",), on=("t", "t"), tolerance=7)["x"].to_pylist()
    [True, None]
    """
    kind = _library(left, "left")
    if _library(right, "right") != kind:
        raise UsageError(
            f"left is of {kind} and right of {_library(right, 'right')}", where="asof_join", hint="convert one of them"
        )
    _check_columns(left, [*by, on[0]], "left")
    _check_columns(right, [*by, on[1], *([created] if created else []), *(columns or ())], "right")
    added = list(columns) if columns is not None else [c for c in _names(right) if c not in (*by, on[1], created)]
    renamed = _renamed(_names(left), added, suffix)
    keys_left, keys_right = _codes(left, right, by)
    times_left, times_right = _times(_column(left, on[0]), _column(right, on[1]), on)
    order = _order(right, keys_right, times_right, created)
    _refuse_ties(right, order, (keys_right, times_right), (by, on[1], created), added)
    places = _places((keys_left, times_left), (keys_right, times_right), order, _span(tolerance, times_left))
    note(rows=len(places), matched=int((places >= 0).sum()))
    return _beside(kind, left, right, places, dict(zip(added, renamed, strict=True)))


# ── columns of three libraries ───────────────────────────────────────────────────────────────────────────────


def _library(frame: Any, side: str) -> str:
    library = type(frame).__module__.partition(".")[0]
    if library not in LIBRARIES or not hasattr(frame, "columns"):
        what = f"{side} is a {type(frame).__module__}.{type(frame).__qualname__}"
        raise UsageError(what, where="asof_join", hint="a table of pandas, polars or pyarrow, or a Ref, is meant")
    return library


def _names(frame: Any) -> list[str]:
    return list(frame.column_names if hasattr(frame, "column_names") else frame.columns)


def _check_columns(frame: Any, wanted: list[str], side: str) -> None:
    names = _names(frame)
    absent = [f"{name!r}{did_you_mean(name, [str(n) for n in names])}" for name in wanted if name not in names]
    if absent:
        raise DataError(f"{side} has no column {', '.join(dict.fromkeys(absent))}", where="asof_join")


def _renamed(names: list[str], added: list[str], suffix: str | None) -> list[str]:
    """Names of the added columns in the result, each of which stands there once."""
    renamed = [f"{name}{suffix or ''}" for name in added]
    twice = sorted({str(name) for name in renamed if name in names or renamed.count(name) > 1})
    if twice:
        cure = 'suffix="_right" renames the added columns, columns=[…] chooses them'
        raise DataError(f"in left and among the added columns: {', '.join(twice[:10])}", where="asof_join", hint=cure)
    return renamed


def _column(frame: Any, name: str) -> Any:
    """A column as a pandas Series; days become timestamps, so that they compare with times."""
    if type(frame).__module__.startswith("pandas"):
        series = frame[name].reset_index(drop=True)
        return series.astype(series.cat.categories.dtype) if series.dtype.name == "category" else series
    import pyarrow as pa

    column = frame.column(name) if hasattr(frame, "column_names") else frame[name].to_arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    integers = pa.types.is_integer(column.type) and column.null_count
    return column.to_pandas(types_mapper=_nullable if integers else None)


def _nullable(kind: Any) -> Any:
    """The pandas dtype that keeps integers beside missing ones exact."""
    import pandas as pd

    return pd.UInt64Dtype() if str(kind).startswith("u") else pd.Int64Dtype()


def _beside(kind: str, left: Any, right: Any, places: Any, renamed: dict[str, str]) -> Any:
    """`left` with the columns of `right` at some of its rows; at -1 they are missing."""
    if kind == "pyarrow":
        import pyarrow as pa

        taken = right.select(list(renamed)).take(pa.array(places, mask=places < 0))
        for name, shown in renamed.items():
            left = left.append_column(shown, taken.column(name))
        return left.replace_schema_metadata(None).combine_chunks()
    if kind == "polars":
        import polars as pl

        rows = pl.Series(places).replace(-1, None)
        return left.with_columns(right.select(pl.col(n).gather(rows).alias(renamed[n]) for n in renamed))
    import pandas as pd

    taken = right[list(renamed)].reset_index(drop=True).reindex(places)
    for name, dtype in right[list(renamed)].dtypes.items():
        if dtype.name == "bool" and taken[name].dtype.name == "object":
            taken[name] = taken[name].astype("boolean")
    return pd.concat([left, taken.rename(columns=renamed).set_index(left.index)], axis=1)


# ── entities and times ───────────────────────────────────────────────────────────────────────────────────────


def _codes(left: Any, right: Any, by: tuple[str, ...]) -> tuple[Any, Any]:
    """One number for each entity, the same in both tables; -1 where a part of its name is missing."""
    import pandas as pd

    total, missing = np.zeros(len(left) + len(right), dtype=np.int64), np.zeros(len(left) + len(right), dtype=bool)
    for name in by:
        a, b = _column(left, name), _column(right, name)
        if len(a) and len(b) and _sort_of(a) != _sort_of(b) and a.notna().any() and b.notna().any():
            raise DataError(
                f"{name!r} holds {_sort_of(a)} in left and {_sort_of(b)} in right, so nothing would match",
                where="asof_join",
                hint='read both as one type: ps.read(…, types={"' + name + '": "str"})',
                column=name,
            )
        if _sort_of(a) == "times" and (a.dt.tz is None) != (b.dt.tz is None):
            raise _mixed_zones(name, name, "left" if a.dt.tz is not None else "right")
        if {a.dtype.kind, b.dtype.kind} == {"i", "u"}:  # what they have in common is float64, which is not exact
            a, b = a.astype(object), b.astype(object)
        codes, uniques = pd.factorize(pd.concat([a, b], ignore_index=True))
        missing |= codes < 0
        total = pd.factorize(total * (len(uniques) + 1) + codes)[0]
    total[missing] = -1
    return total[: len(left)], total[len(left) :]


def _sort_of(series: Any) -> str:
    """What a column holds, in words."""
    from pandas.api import types

    if types.is_bool_dtype(series.dtype):
        return "booleans"
    if types.is_numeric_dtype(series.dtype):
        return "numbers"
    if types.is_datetime64_any_dtype(series.dtype):
        return "times"
    found = types.infer_dtype(series, skipna=True)
    return {"string": "text", "empty": "text", "date": "days", "decimal": "decimals", "boolean": "booleans"}.get(
        found, found
    )


def _times(left: Any, right: Any, on: tuple[str, str]) -> tuple[Any, Any]:
    """Both times on one scale: int64 (nanoseconds of UTC, or microseconds for far dates), or float64 for numbers.

    A masked array each: what is missing is masked.
    """
    import pandas as pd

    left, right = _as_times(left, on[0], "left"), _as_times(right, on[1], "right")
    numbers = [_sort_of(series) == "numbers" for series in (left, right)]
    if numbers[0] != numbers[1]:
        which = ("left", "right") if numbers[0] else ("right", "left")
        what = f"on={on!r}: numbers in {which[0]} and times in {which[1]} cannot be compared"
        raise DataError(what, where="asof_join", column=on[0])
    if numbers[0]:
        exact = all(pd.api.types.is_integer_dtype(series.dtype) for series in (left, right))
        kind: Any = np.int64 if exact else np.float64
        a, b = (np.ma.array(s.to_numpy(kind, na_value=0), mask=s.isna().to_numpy(dtype=bool)) for s in (left, right))
        return a, b
    aware = [series.dt.tz is not None for series in (left, right)]
    if aware[0] != aware[1]:
        raise _mixed_zones(on[0], on[1], "left" if aware[0] else "right")
    stamps = [s.dt.tz_convert("UTC").dt.tz_localize(None) if aware[0] else s for s in (left, right)]
    for unit in ("ns", "us", "s"):
        try:
            scaled = [stamp.dt.as_unit(unit) for stamp in stamps]
        except (pd.errors.OutOfBoundsDatetime, OverflowError):
            continue
        a, b = (_masked_stamps(s.to_numpy().astype(f"datetime64[{unit}]"), unit) for s in scaled)
        return a, b
    raise DataError(f"on={on!r}: times too far apart to be compared", where="asof_join")


def _masked_stamps(stamps: Any, unit: str) -> Any:
    array: Any = np.ma.array(stamps.astype(np.int64), mask=np.isnat(stamps))
    array.fill_value = 0
    array.unit = {"ns": 1e9, "us": 1e6, "s": 1.0}[unit]
    return array


def _mixed_zones(left: str, right: str, aware: str) -> DataError:
    names = repr(left) if left == right else f"{left!r} and {right!r}"
    other = "right" if aware == "left" else "left"
    return DataError(
        f"{names}: times in {aware} have a zone and times in {other} have none, so no two can be compared",
        where="asof_join",
        hint="say in a step which zone is meant: times.dt.tz_localize('America/New_York', ambiguous='NaT', "
        "nonexistent='NaT'); an hour that a change of clocks repeats or leaves out then matches nothing",
        column=left,
    )


def _as_times(series: Any, name: str, side: str) -> Any:
    """A column that holds times or numbers."""
    import pandas as pd

    found = _sort_of(series)
    if found in ("days", "datetime", "datetime64") or not series.notna().any():
        series = pd.to_datetime(series) if found not in ("times", "numbers") else series
        found = _sort_of(series)
    if found not in ("times", "numbers"):
        raise DataError(
            f"{name!r} of {side} holds {found}, not times",
            where="asof_join",
            hint=f"ps.read(…, dates=[{name!r}]) reads it as times",
            column=name,
        )
    return series


def _span(tolerance: str | float | None, times: Any) -> Any:
    """The tolerance on the scale of the times."""
    if tolerance is None:
        return None
    unit = getattr(times, "unit", None)
    if isinstance(tolerance, str):
        if unit is None:
            what = f"tolerance={tolerance!r} is a duration and the times are numbers"
            raise DataError(what, where="asof_join", hint="give a number of the same unit")
        return int(duration_s(tolerance) * unit)
    if unit is not None:
        what = f"tolerance={tolerance!r} is a number and the times are times"
        raise DataError(what, where="asof_join", hint="give a duration such as '7d'")
    return tolerance


# ── positions ────────────────────────────────────────────────────────────────────────────────────────────────


def _order(right: Any, keys: Any, times: Any, created: str | None) -> Any:
    """Rows of `right` that can match, by entity, time and creation."""
    by = [times.data, keys]
    if created is not None:
        made = _times(_column(right, created), _column(right, created), (created, created))[0]
        by = [made.filled(0) if made.dtype.kind == "f" else made.data, ~np.ma.getmaskarray(made), *by]
    order = np.lexsort(by)
    usable = (keys >= 0) & ~np.ma.getmaskarray(times)
    return order[usable[order]]


def _refuse_ties(
    right: Any,
    order: Any,
    known: tuple[Any, Any],
    names: tuple[tuple[str, ...], str, str | None],
    added: list[str],
) -> None:
    """Two rows of one entity and one time that differ, and nothing that says which is meant."""
    import pandas as pd

    (keys, times), (by, on, created) = known, names
    same = (keys[order][1:] == keys[order][:-1]) & (times.data[order][1:] == times.data[order][:-1])
    if created is not None and same.any():
        made = _column(right, created)
        a, b = made.iloc[order[1:]].reset_index(drop=True), made.iloc[order[:-1]].reset_index(drop=True)
        same &= ((a == b) | (a.isna() & b.isna())).to_numpy(dtype=bool)
    if not same.any():
        return
    rows = order[np.concatenate([[False], same]) | np.concatenate([same, [False]])]
    named = [*by, on, *([created] if created else [])]
    told = pd.DataFrame({name: _column(right, name).iloc[rows].to_numpy() for name in dict.fromkeys((*named, *added))})
    told = told.drop_duplicates()
    twins = told.duplicated(named, keep=False)
    if not twins.any():
        return  # equal rows: whichever is joined, the result is the same
    first = told[twins].iloc[0]
    shown = ", ".join(f"{name} {first[name]}" for name in (*by, on))
    groups = len(told[twins].drop_duplicates([*by, on]))
    many = f"{groups:,} pair{'s' * (groups != 1)} of entity and time"
    raise DataError(
        f"right has rows that share entity and time and differ: {many}, the first {shown}"
        + (f", also in {created}" if created else ""),
        where="asof_join",
        hint="created= names the column that says which is newer" if not created else "leave one of them",
    )


def _places(left: tuple[Any, Any], right: tuple[Any, Any], order: Any, span: Any) -> Any:
    """For each row of `left` the row of `right` to join, or -1.

    Both tables are sorted together by entity and time, at one time `right` first; the last row of `right` seen before
    a row of `left` is its match if it is of the same entity.
    """
    keys, times = left
    n = len(order)
    both_keys = np.concatenate([right[0][order], keys])
    both_times = np.concatenate([right[1].data[order], times.data])
    merged = np.lexsort((both_times, both_keys))  # stable: rows of right come first among equals, in their order
    last = np.maximum.accumulate(np.where(merged < n, np.arange(len(merged)), -1))
    here = merged >= n
    rows, candidates = merged[here] - n, last[here]
    found = np.where(candidates >= 0, merged[np.maximum(candidates, 0)], -1)
    places = np.full(len(keys), -1, dtype=np.int64)
    if n:
        matched = order[np.maximum(found, 0)]
        good = (found >= 0) & (right[0][matched] == keys[rows]) & (keys[rows] >= 0)
        good &= ~np.ma.getmaskarray(times)[rows]
        if span is not None:
            good &= times.data[rows] - right[1].data[matched] <= span
        places[rows] = np.where(good, matched, -1)
    return places
