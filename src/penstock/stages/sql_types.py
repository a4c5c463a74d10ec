"""Rows of a driver become Arrow columns: exactly, by what the values are, over the whole result."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

EXACT_DIGITS = 15
"""A decimal of no more digits comes back from float64 as it was (IEEE 754: 15 decimal digits survive)."""
INT64 = (-(2**63), 2**63 - 1)
SAFE_INTEGER = 2**53
_TEXTS = (uuid.UUID, ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)


@dataclass(slots=True)
class Kind:
    """What the values of a column are, so far.

    Attributes
    ----------
    seen : set of str
        "bool", "int", "wide" (past int64), "float", "long" (a decimal of more digits than float64 keeps), "date",
        "naive", "aware", "str".
    large : bool
        Whether an integer is past 2**53, so that float64 would not be exact.
    """

    seen: set[str]
    large: bool = False

    def merge(self, other: Kind) -> None:
        """Take in what another part of the column holds."""
        self.seen |= other.seen
        self.large |= other.large

    @property
    def word(self) -> str:
        """The one kind that holds them all exactly; text where there is no other."""
        seen = self.seen
        if seen <= {"date", "naive"} or len(seen) <= 1:
            return "naive" if len(seen) > 1 else next(iter(seen), "null")
        if seen <= {"int", "float", "bool"} and "float" in seen and "bool" not in seen:
            return "str" if self.large else "float"
        return "str"


def kind_of(values: Sequence[Any], where: str, name: str) -> Kind:
    """What the values of a part of a column are.

    Raises
    ------
    DataError
        Bytes, intervals, documents, times of day: a table has numbers, booleans, text and times.
    """
    found = Kind(set())
    for kind in set(map(type, values)):
        some: list[Any] = [value for value in values if type(value) is kind]
        if kind is type(None):
            continue
        if kind is int:
            low, high = min(some), max(some)
            found.seen.add("wide" if low < INT64[0] or high > INT64[1] else "int")
            found.large |= max(-low, high) > SAFE_INTEGER
        elif kind is decimal.Decimal:
            found.merge(_decimals(some))
        elif kind is dt.datetime:
            found.seen |= {"naive" if value.tzinfo is None else "aware" for value in some}
        elif kind in (bool, float, str):
            found.seen.add(kind.__name__)
        elif kind is dt.date:
            found.seen.add("date")
        elif issubclass(kind, (*_TEXTS, str)):
            found.seen.add("str")
        else:
            raise _refused(kind, where, name)
    return found


def _decimals(values: list[decimal.Decimal]) -> Kind:
    found = Kind(set())
    for value in values:
        if not value.is_finite():
            if not value.is_nan():
                found.seen.add("float")
            continue
        _, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        if exponent >= 0:
            whole = int(value)
            found.seen.add("int" if INT64[0] <= whole <= INT64[1] else "wide")
            found.large |= abs(whole) > SAFE_INTEGER
        else:
            found.seen.add("float" if len(digits) <= EXACT_DIGITS and -exponent < 300 else "long")
    return found


def _refused(kind: type, where: str, name: str) -> DataError:
    words = {
        "bytes": "bytes",
        "memoryview": "bytes",
        "bytearray": "bytes",
        "timedelta": "spans of time",
        "time": "times of day",
        "dict": "documents",
        "list": "lists",
        "tuple": "records",
    }
    cure = {
        "timedelta": f"extract(epoch from {name}) gives seconds",
        "bytes": "leave it out of the query, or encode it there",
    }.get(kind.__name__, f"cast({name} as text) in the query gives text")
    return DataError(
        f"column {name!r} holds {words.get(kind.__name__, kind.__name__)}: "
        "a table has numbers, booleans, text and times",
        where=where,
        hint=cure,
        column=name,
    )


def array_of(values: Sequence[Any], word: str) -> pa.Array:
    """A part of a column in the type of its kind; NaN counts as missing."""
    import pyarrow as pa

    if word == "null":
        return pa.nulls(len(values), pa.float64())
    if word == "str":
        return pa.array([None if v is None else _text(v) for v in values], pa.string())
    if word in ("wide", "long"):
        return pa.array([None if _missing(v) else _text(v) for v in values], pa.string())
    if word == "float":
        plain = [None if _missing(v) else float(v) for v in values]
        return pa.array(plain, pa.float64())
    if word == "int":
        return pa.array([None if _missing(v) else int(v) for v in values], pa.int64())
    if word == "bool":
        return pa.array(values, pa.bool_())
    if word == "aware":
        # Each moment in UTC first: pyarrow has been seen to leave an offset out of account.
        return pa.array([None if v is None else v.astimezone(dt.UTC) for v in values], pa.timestamp("us", tz="UTC"))
    return pa.array([_midnight(v) if type(v) is dt.date else v for v in values], pa.timestamp("us"))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | decimal.Decimal) and math.isnan(value))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day)  # noqa: DTZ001  a day has no zone


def _text(value: Any) -> str:
    """A value as text: one form for one value."""
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value)


def notes_of(kinds: dict[str, Kind]) -> list[str]:
    """What a person should know of columns that were not what they seem."""
    exact = [name for name, kind in kinds.items() if kind.word == "str" and not kind.seen <= {"str"}]
    exact += [name for name, kind in kinds.items() if kind.word in ("wide", "long")]
    numbers = [n for n in exact if kinds[n].seen <= {"int", "wide", "float", "long"}]
    mixed = [n for n in exact if n not in numbers]
    empty = [name for name, kind in kinds.items() if not kind.seen]
    found = []
    if numbers:
        found.append(f"kept as text, since float64 would not be exact: {', '.join(numbers[:20])}")
    if mixed:
        found.append(f"kept as text, since it holds values of several types: {', '.join(mixed[:20])}")
    if empty:
        found.append(f"no value at all in {', '.join(empty[:20])}")
    return found
