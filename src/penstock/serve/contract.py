"""The input contract of a bundle: which columns a model reads, and what each may hold.

A contract checks plain JSON values one by one and says every fault in a sentence; it builds the frame that the
model was trained on, by name and never by position. Three things are kept apart: a field that is not sent is
always a fault, `null` is decided by the column's "missing", and a level that training never saw by its "unseen".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from penstock.errors import FormatError, bounded

MAX_TEXT = 100_000
"""Characters of one text value."""

MAX_FAULTS = 20
"""Faults that one answer lists."""

_EXACT = 2**53
_FLOAT32 = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one value.

    Attributes
    ----------
    row : int
        Position of the record, from 0.
    field : str
        Column concerned; "" for the record as a whole.
    fault : str
        Half a sentence.
    """

    row: int
    field: str
    fault: str

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"row": self.row, "field": bounded(self.field, 200), "fault": self.fault}


@dataclass(frozen=True, slots=True)
class Column:
    """One column that the model reads.

    Attributes
    ----------
    name, dtype : str
        Name and pandas dtype of the training frame.
    kind : str
        "number", "integer", "boolean", "text" or "datetime".
    categories : tuple or None
        Levels seen in training, when there are few enough to keep.
    unseen : str
        "refuse" or "count": what to do with a level that is not among the categories.
    missing : str
        "refuse" or "allow": what to do with `null`.
    bounds : tuple of float or None
        Least and greatest value that the dtype can hold.
    """

    name: str
    dtype: str
    kind: str
    categories: tuple[Any, ...] | None
    unseen: str
    missing: str
    bounds: tuple[float, float] | None = None
    levels: frozenset[Any] = frozenset()

    @property
    def kinds(self) -> frozenset[type]:
        """Types of the levels; of a column of objects without known levels, every type of a JSON scalar."""
        if self.categories is None:
            return frozenset((str, bool, int, float)) if self.dtype == "object" else frozenset((str,))
        return frozenset(type(level) for level in self.categories)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        """Read one column of a bundle's "input".

        Raises
        ------
        FormatError
            A kind that this version of Penstock does not know.
        """
        kind, dtype = str(data["kind"]), str(data["dtype"])
        if kind not in _CHECKS:
            raise FormatError(
                f'column "{data["name"]}" has kind "{bounded(kind, 40)}"; this version of Penstock knows '
                f"{', '.join(_CHECKS)}",
                hint="serve it with the version of Penstock that made the bundle",
            )
        levels = data.get("categories")
        known = None if levels is None else tuple(levels)
        if dtype == "category" and known is None:
            raise FormatError(
                f'column "{data["name"]}" is categorical, and the bundle does not keep its levels',
                hint="train on text instead, or on fewer than 1,000 levels",
            )
        return cls(
            name=str(data["name"]),
            dtype=dtype,
            kind=kind,
            categories=known,
            unseen=str(data.get("unseen", "refuse")),
            missing=str(data.get("missing", "refuse")),
            bounds=_bounds(kind, dtype),
            levels=frozenset(known or ()),
        )

    def fault(self, value: Any) -> str | None:
        """What is wrong with a plain JSON value, or None.

        Examples
        --------
        >>> age = Column("age", "float64", "number", None, "refuse", "refuse")
        >>> age.fault(True)
        'must be a number, got true'
        >>> age.fault(41.5) is None
        True
        """
        if value is None:
            return None if self.missing == "allow" else "is null, and the model cannot answer without it"
        found = _CHECKS[self.kind](self, value)
        if found is None and self.unseen == "refuse" and self.is_unseen(value):
            return f"is {show(value)}, which training never saw ({len(self.levels)} levels known)"
        return found

    def is_unseen(self, value: Any) -> bool:
        """Whether a present value is a level that training never saw."""
        return self.categories is not None and value is not None and value not in self.levels

    def values(self, raw: Sequence[Any]) -> Any:
        """An array of the training dtype from checked JSON values; `None` becomes what was missing in training.

        Parameters
        ----------
        raw : sequence of length n_rows

        Returns
        -------
        numpy or pandas array of shape (n_rows,)
        """
        import numpy as np
        import pandas as pd

        if self.dtype == "category":
            return pd.Categorical(raw, categories=list(self.categories or ()))
        if self.kind == "datetime":
            moments = [None if value is None else moment(value) for value in raw]
            return pd.Series(moments, dtype=self.dtype).array
        if self.kind == "integer":
            raw = [None if value is None else int(value) for value in raw]
        if self.dtype.startswith(("float", "int", "uint")):
            gaps = any(value is None for value in raw)
            dtype = "float64" if gaps and not self.dtype.startswith("float") else self.dtype
            return np.array([math.nan if value is None else value for value in raw], dtype=dtype)
        if self.dtype == "bool":
            # With a gap the frame has what a reader makes of such a column: 0.0, 1.0 and NaN.
            gaps = any(value is None for value in raw)
            return np.array([math.nan if v is None else v for v in raw], dtype="float64" if gaps else bool)
        if self.dtype == "object":
            return _objects(raw, None)
        if self.dtype == "str" and int(pd.__version__.split(".")[0]) < 3:  # "str" is pandas 3's; before: objects
            return _objects(raw, math.nan)
        return pd.Series(list(raw), dtype=self.dtype).array


@dataclass(frozen=True, slots=True)
class Contract:
    """A bundle's "input": task, classes and columns.

    Attributes
    ----------
    raw : dict
        The JSON as the bundle holds it; `core.answer.answers` reads task, classes and positive there.
    columns : tuple of Column
        In the order of the training frame.
    key : tuple of str
        Columns that identify a row: not read by the model, logged when they are sent, so that labels that come
        late find their prediction.
    """

    raw: Mapping[str, Any]
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    names: frozenset[str] = field(default=frozenset())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read a bundle's "input".

        Raises
        ------
        FormatError
            It has no columns, two of one name, or a kind that is not known.
        """
        columns = tuple(Column.from_json(column) for column in data["columns"])
        names = frozenset(column.name for column in columns)
        if not columns or len(names) != len(columns):
            raise FormatError("the bundle's input must list at least one column, each once")
        return cls(dict(data), columns, tuple(data.get("key") or ()), names)

    def faults(self, records: Sequence[Any], limit: int = MAX_FAULTS) -> list[Fault]:
        """Faults of plain JSON records, in order, at most `limit`."""
        found: list[Fault] = []
        for fault in self._each_fault(records):
            found.append(fault)
            if len(found) >= limit:
                break
        return found

    def _each_fault(self, records: Sequence[Any]) -> Iterator[Fault]:
        for row, record in enumerate(records):
            if not isinstance(record, dict):
                yield Fault(row, "", f"must be an object, got {kind_of(record)}")
                continue
            for column in self.columns:
                if column.name not in record:
                    yield Fault(row, column.name, "is missing; send null if its value is not known")
                elif (sentence := column.fault(record[column.name])) is not None:
                    yield Fault(row, column.name, sentence)
            if len(record) > len(self.columns):
                yield from self._extra_faults(row, record)

    def _extra_faults(self, row: int, record: Mapping[str, Any]) -> Iterator[Fault]:
        """Fields that the model does not read are passed over, as long as they are single clean values."""
        for name, value in record.items():
            if name in self.names:
                continue
            if isinstance(value, (list, dict)):
                yield Fault(row, name, f"must be a single value, got {kind_of(value)}")
            elif isinstance(value, str) and (sentence := text_fault(value)) is not None:
                yield Fault(row, name, sentence)

    def frame(self, records: Sequence[Mapping[str, Any]]) -> Any:
        """The training frame's columns, order and dtypes, filled by name.

        Parameters
        ----------
        records : sequence of dict, length n_rows
            Checked records; fields that the model does not read are left out.

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_columns)
        """
        import pandas as pd

        return pd.DataFrame(
            {c.name: c.values([record[c.name] for record in records]) for c in self.columns}, copy=False
        )

    def unseen(self, records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """For each record, the columns that hold a level which training never saw."""
        watched = [column for column in self.columns if column.categories is not None]
        return [[c.name for c in watched if c.is_unseen(record[c.name])] for record in records]


def kind_of(value: Any) -> str:
    """The JSON word for a value's type, `true` and `false` by themselves.

    Examples
    --------
    >>> kind_of([]), kind_of(True), kind_of(1.5)
    ('a list', 'true', 'a number')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def show(value: Any) -> str:
    """A value as short JSON, safe to repeat in an answer."""
    try:
        return bounded(json.dumps(value), 60)
    except ValueError:  # an integer of more digits than Python prints
        return "a number with very many digits"


def text_fault(value: str) -> str | None:
    """What no stored text may hold: too many characters, NUL, half a surrogate pair."""
    if len(value) > MAX_TEXT:
        return f"has {len(value):,} characters; at most {MAX_TEXT:,} are read"
    if "\0" in value:
        return "holds a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half a surrogate pair, which is not valid Unicode"
    return None


def moment(text: str) -> datetime:
    """A date or a date and time in ISO 8601.

    Examples
    --------
    >>> moment("2026-01-31").day
    31
    """
    return datetime.fromisoformat(text)


def _check_number(column: Column, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"must be a number, got {kind_of(value)}"
    low, high = column.bounds or (-math.inf, math.inf)
    if isinstance(value, int) and abs(value) > _FLOAT32 and _overflows(value):
        return "is outside the range of a float64"
    if not math.isfinite(value) or not low <= value <= high:
        return f"is {show(value)}, outside the range of {column.dtype}"
    return None


def _check_integer(column: Column, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"must be a whole number, got {kind_of(value)}"
    if isinstance(value, float) and (not value.is_integer() or abs(value) > _EXACT):
        return f"must be a whole number, got {show(value)}"
    low, high = column.bounds or (-(2**63), 2**63 - 1)
    return None if low <= value <= high else f"is {show(value)}, outside the range of {column.dtype}"


def _check_boolean(_column: Column, value: Any) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, got {kind_of(value)}"


def _check_text(column: Column, value: Any) -> str | None:
    """Text, or what else such a column held in training: a column of objects may hold booleans and gaps."""
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, (list, dict)) or type(value) not in column.kinds:
        return f"must be text, got {kind_of(value)}"
    return _check_number(column, value) if isinstance(value, float) else None


def _check_datetime(column: Column, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a date as ISO 8601 text, got {kind_of(value)}"
    try:
        when = moment(value)
    except ValueError:
        return f"must be a date as ISO 8601 text, got {show(value)}"
    aware = "," in column.dtype
    if aware != (when.tzinfo is not None):
        return "must carry an offset such as +00:00" if aware else "must not carry an offset"
    # Nanoseconds in 64 bits end in 2262; a margin of a year on both sides keeps every offset inside.
    if "[ns" in column.dtype and not 1678 < when.year < 2262:
        return f"is {show(value)}, outside the years 1679 to 2261"
    return None if 1 < when.year < 9999 else f"is {show(value)}, outside the years 2 to 9998"


_CHECKS = {
    "number": _check_number,
    "integer": _check_integer,
    "boolean": _check_boolean,
    "text": _check_text,
    "datetime": _check_datetime,
}


def _bounds(kind: str, dtype: str) -> tuple[float, float] | None:
    if kind == "number":
        return (-_FLOAT32, _FLOAT32) if dtype.lower() == "float32" else None
    if kind != "integer":
        return None
    low = dtype.lower()
    bits = next((n for n in (8, 16, 32) if low.endswith(str(n))), 64)
    return (0, 2**bits - 1) if low.startswith("uint") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _overflows(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return True
    return False


def _objects(raw: Sequence[Any], gap: Any) -> Any:
    import numpy as np
    import pandas as pd

    array = np.empty(len(raw), dtype=object)
    array[:] = [gap if value is None else value for value in raw]
    return pd.Series(array, dtype=object)  # a bare array of text would become pandas 3's "str" in a frame
