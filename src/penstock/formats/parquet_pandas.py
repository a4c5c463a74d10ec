"""What pandas has and Arrow has not: dtypes, missing markers of objects, categories, the index."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from penstock.errors import FormatError, bounded

if TYPE_CHECKING:
    import pyarrow as pa

_OBJECTS = {
    "string": "fast",
    "bytes": "fast",
    "decimal": "fast",
    "date": "fast",
    "empty": "list",
    "time": "list",
    "boolean": "list",
    "integer": "list",
    "floating": "list",
}
"""Kinds of values that a column of dtype object may hold (words of `pandas.api.types.infer_dtype`), and whether
Arrow's own conversion gives Python's objects back ("fast") or a list of them is needed."""

_MASKED = {"boolean", "Float32", "Float64", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
"""Names of pandas' nullable dtypes."""


MANY_CELLS = 1_000_000
"""From so many cells on, Arrow's threads earn what they cost."""


def from_pandas(frame: Any) -> tuple[pa.Table, dict[str, Any]]:
    """The Arrow form of a frame, and what has to be written down beside it.

    Returns
    -------
    table : pyarrow.Table
        Columns of the frame, then those of its index, if it has to be stored.
    mark : dict
        {"made": "pandas", "columns": [dtype…], "rows": int, "index": […], "labels": dtype of the column labels,
        "name": name of the column labels}. A dtype is a string, or a dict for what needs more than its name.

    Raises
    ------
    FormatError
    """
    import pandas as pd
    import pyarrow as pa

    names = _column_names(frame)
    arrays, fields = [], []
    for name, series in frame.items():
        array, field = _encode(series, f"column {name!r}")
        arrays.append(array)
        fields.append(field)
    mark: dict[str, Any] = {
        "made": "pandas",
        "columns": fields,
        "rows": len(frame),
        "index": [],
        "labels": "range" if type(frame.columns) is pd.RangeIndex else str(frame.columns.dtype),
        "name": _label(frame.columns.name, "the column labels"),
    }
    index = frame.index
    if type(index) is pd.RangeIndex:
        if (index.start, index.step, index.name) != (0, 1, None):
            label = _label(index.name, "the index")
            mark["index"] = [{"name": label, "range": [index.start, index.stop, index.step]}]
    else:
        for level in range(index.nlevels):
            entry, array = _encode_level(index, level, set(names))
            mark["index"].append(entry)
            arrays.append(array)
            names = [*names, entry["column"]]
    return pa.Table.from_arrays(arrays, names=names), mark


def to_pandas(table: pa.Table, mark: dict[str, Any]) -> Any:
    """The frame of which `from_pandas` made this table; with an empty mark, as pyarrow converts it.

    Raises
    ------
    FormatError
        The mark does not fit the table.
    """
    import pandas as pd

    threads = table.num_rows * table.num_columns > MANY_CELLS
    if not mark:
        return table.to_pandas(ignore_metadata=True, use_threads=threads)
    dtypes = mark["columns"]
    columns = table.select(range(len(dtypes)))
    plain = [place for place, dtype in enumerate(dtypes) if isinstance(dtype, str)]
    frame = columns.select(plain).to_pandas(ignore_metadata=True, use_threads=threads)
    if len(plain) != len(dtypes):
        made = dict(zip(plain, (series for _, series in frame.items()), strict=True))
        for place, dtype in enumerate(dtypes):
            if place not in made:
                made[place] = pd.Series(_decode(columns.column(place), dtype), copy=False)
        frame = pd.DataFrame({place: made[place] for place in range(len(dtypes))}, copy=False)
    for place, (dtype, found) in enumerate(zip(dtypes, list(frame.dtypes), strict=True)):
        if isinstance(dtype, str) and str(found) != dtype:
            frame.isetitem(place, frame.iloc[:, place].astype(dtype))
    if mark["labels"] == "range":  # a frame without columns
        frame.columns = pd.RangeIndex(0, name=mark["name"])
    elif len(plain) == len(dtypes) and str(frame.columns.dtype) == mark["labels"]:
        frame.columns.name = mark["name"]
    else:
        frame.columns = pd.Index(columns.column_names, dtype=mark["labels"], name=mark["name"])
    frame.index = _index(table, mark)
    return frame


# ── labels and index ─────────────────────────────────────────────────────────────────────────────────────────


def _column_names(frame: Any) -> list[str]:
    import pandas as pd

    names = list(frame.columns)
    if frame.columns.nlevels > 1 or not all(type(name) is str for name in names):
        odd = next((name for name in names if type(name) is not str), None)
        raise FormatError(
            f"Column names must be text; {bounded(repr(odd), 100)} is {type(odd).__name__}.",
            hint="frame.columns = [str(name) for name in frame.columns]",
        )
    if type(frame.columns) is not pd.RangeIndex and str(frame.columns.dtype) not in ("object", "str", "string"):
        raise FormatError(
            f"Column labels of dtype {bounded(str(frame.columns.dtype), 100)} would not come back equal.",
            hint="frame.columns = list(frame.columns)",
        )
    return names


def _label(name: Any, what: str) -> str | None:
    if name is None or type(name) is str:
        return name
    raise FormatError(
        f"The name of {what} must be text or None, not {bounded(repr(name), 100)}.",
        hint="Give it another: frame.index.name = None, frame.columns.name = None.",
    )


def _encode_level(index: Any, level: int, taken: set[str]) -> tuple[dict[str, Any], pa.Array]:
    values = index.get_level_values(level)
    name = _label(index.names[level], "the index")
    column = name if name is not None and name not in taken else f"__index_level_{level}__"
    if column in taken:
        raise FormatError(f"The column name {column!r} is taken by the index.", hint="Rename the column.")
    array, dtype = _encode(values.to_series(), f"index {name or level!r}")
    entry: dict[str, Any] = {"name": name, "column": column, "dtype": dtype}
    frequency = getattr(index, "freqstr", None) if index.nlevels == 1 else None
    if frequency is not None:
        entry["freq"] = frequency
    return entry, array


def _index(table: pa.Table, mark: dict[str, Any]) -> Any:
    import pandas as pd

    entries = mark["index"]
    if not entries:
        return pd.RangeIndex(mark["rows"])
    if "range" in entries[0]:
        start, stop, step = entries[0]["range"]
        return pd.RangeIndex(start, stop, step, name=entries[0]["name"])
    levels = []
    for entry in entries:
        column, dtype = table.column(entry["column"]), entry["dtype"]
        if isinstance(dtype, str):
            series = column.to_pandas()
            values = series if str(series.dtype) == dtype else series.astype(dtype)
        else:
            values = _decode(column, dtype)
        level = pd.Index(values, dtype=values.dtype).rename(entry["name"])
        if "freq" in entry:
            level.freq = entry["freq"]
        levels.append(level)
    return levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)


# ── one column ───────────────────────────────────────────────────────────────────────────────────────────────


def _encode(series: Any, where: str) -> tuple[pa.Array, Any]:
    """The Arrow array of a column and the description of its dtype."""
    import pyarrow as pa

    dtype = series.dtype
    try:
        if dtype.kind == "O" and str(dtype) == "object":
            return _encode_objects(series, where)
        array = pa.array(series, from_pandas=True)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
            array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"Values of dtype {bounded(str(dtype), 100)} have no form in a table file: {bounded(str(error), 300)}.",
            where=bounded(where, 200),
            hint="Convert the column to one kind of value, for example with .astype(str).",
        ) from error
    return array, _describe(series, array, where)


def _describe(series: Any, array: pa.Array, where: str) -> Any:
    import numpy as np
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufbMm":
        return str(dtype)
    if isinstance(dtype, pd.DatetimeTZDtype):
        if array.slice(0, 0).to_pandas().dtype == dtype:
            return str(dtype)
        raise _lost(dtype, where, "Convert it: .dt.tz_convert('UTC').")
    if isinstance(dtype, pd.CategoricalDtype):
        categories, kind = _encode(pd.Series(dtype.categories), f"categories of {where}")
        frequency = getattr(dtype.categories, "freqstr", None)
        return {"categories": _pack(categories), "dtype": kind, "ordered": dtype.ordered, "freq": frequency}
    if isinstance(dtype, pd.StringDtype):
        return {"string": dtype.storage, "nan": dtype.na_value is not pd.NA}
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": str(dtype)}
    if str(dtype) in _MASKED:
        return {"masked": str(dtype)}
    raise _lost(dtype, where, "Convert it to numbers, times, text or categories.")


def _decode(column: pa.ChunkedArray, dtype: Any) -> Any:
    """The pandas array or Series of a column whose dtype needs more than its name."""
    import numpy as np
    import pandas as pd

    if "object" in dtype:
        return _decode_objects(column, dtype)
    if "categories" in dtype:
        return _decode_categories(column, dtype)
    if "string" in dtype:
        return _from_arrow(pd.StringDtype(dtype["string"], na_value=np.nan if dtype["nan"] else pd.NA), column)
    if "arrow" in dtype:
        return _from_arrow(pd.ArrowDtype(column.type), column)
    if "masked" in dtype:
        return _from_arrow(pd.api.types.pandas_dtype(dtype["masked"]), column)
    raise FormatError("A column of this table has a dtype that this version does not know.")


def _from_arrow(dtype: Any, column: pa.ChunkedArray) -> Any:
    return dtype.__from_arrow__(column)


def _encode_objects(series: Any, where: str) -> tuple[pa.Array, Any]:
    import pandas as pd
    import pyarrow as pa

    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in _OBJECTS:
        raise FormatError(
            f"A column of dtype object holds values of the kind {kind!r}, which would not come back equal.",
            where=bounded(where, 200),
            hint="Give the column one kind of value: .astype(str), pd.to_numeric(…) or pd.to_datetime(…).",
        )
    missing = _missing_marker(series[series.isna()], where)
    # An object column of floats: NaN is a value there, told from None by the marker alone.
    array = pa.nulls(len(series)) if kind == "empty" else pa.array(series, from_pandas=True)
    return array, {"object": kind, "missing": missing}


def _missing_marker(missing: Any, where: str) -> str | None:
    """How the missing values of an object column look: "None", "nan", "NA", "NaT"; None when there are none."""
    import pandas as pd

    found = set()
    for value in missing:
        if value is None:
            found.add("None")
        elif value is pd.NA or value is pd.NaT:
            found.add("NA" if value is pd.NA else "NaT")
        else:
            found.add("nan" if isinstance(value, float) else type(value).__name__)
    if not found:
        return None
    if len(found) > 1 or not found <= {"None", "nan", "NA", "NaT"}:
        raise FormatError(
            f"A column of dtype object marks what is missing in several ways: {', '.join(sorted(found))}.",
            where=bounded(where, 200),
            hint="Use one: frame[column] = frame[column].where(frame[column].notna(), None).",
        )
    return found.pop()


def _decode_objects(column: pa.ChunkedArray, dtype: dict[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    if _OBJECTS[dtype["object"]] == "fast":
        values = column.to_pandas(date_as_object=True).to_numpy(dtype=object, copy=True)
    else:
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
    if dtype["missing"] is not None:
        marker = {"None": None, "nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}[dtype["missing"]]
        values[pd.isna(values)] = marker
    return pd.Series(values, dtype=object, copy=False)


def _decode_categories(column: pa.ChunkedArray, dtype: dict[str, Any]) -> Any:
    """Codes against the categories that the writer had, in its order, with those that no row uses."""
    import pandas as pd
    import pyarrow as pa

    packed, kind = _unpack(dtype["categories"]), dtype["dtype"]
    categories = packed.to_pandas().astype(kind) if isinstance(kind, str) else _decode(packed, kind)
    labels = pd.Index(categories, dtype=categories.dtype).rename(None)
    if dtype["freq"] is not None:
        labels.freq = dtype["freq"]
    wanted = pd.CategoricalDtype(labels, ordered=dtype["ordered"])
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    codes = pa.concat_arrays(
        [pa.compute.fill_null(chunk.indices.cast(pa.int64()), -1) for chunk in column.chunks]
        or [pa.array([], pa.int64())]
    ).to_numpy()
    values = column.chunk(0).dictionary if column.num_chunks else pa.array([], column.type.value_type)
    # Places of the file's dictionary among the categories; the last entry is where a null's -1 points.
    places = pa.compute.index_in(values.cast(packed.type), value_set=packed.combine_chunks()).to_numpy(
        zero_copy_only=False
    )
    import numpy as np

    lookup = np.append(places, -1).astype(np.int64)
    return pd.Categorical.from_codes(lookup[codes], dtype=wanted)


def _pack(array: pa.Array) -> str:
    """An Arrow array as text, for the metadata."""
    import pyarrow as pa

    batch = pa.record_batch([array], names=[""])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def _unpack(text: str) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.ipc.open_stream(base64.b64decode(text)).read_all().column(0)


def _lost(dtype: Any, where: str, hint: str) -> FormatError:
    what = f"The dtype {bounded(str(dtype), 100)} would not come back equal."
    return FormatError(what, where=bounded(where, 200), hint=hint)
