"""The tags of canonical JSON: what each of Python's own types becomes, and what it is read back as."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
from collections.abc import Callable
from typing import Any

from penstock.errors import FormatError, bounded

_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def tag(value: Any, where: str) -> Any:
    """Replace by tags what JSON has no word for.

    Parameters
    ----------
    where : str
        Path of the value, for the error.

    Raises
    ------
    FormatError
        A type that has no tag.

    Examples
    --------
    >>> tag({1: {3, 2}}, "value")
    {'$dict': [[1, {'$set': [2, 3]}]]}
    """
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, where)
    if kind.__module__ == "numpy" and hasattr(value, "item") and not hasattr(value, "__len__"):
        item = value.item()  # numpy's scalars come back as Python's own
        if type(item) is not kind:
            return tag(item, where)
    if kind.__module__ == "numpy" and isinstance(value, (str, bytes)):
        return tag(value.item(), where)  # type: ignore[union-attr]  # numpy.str_ and numpy.bytes_
    raise _refusal(value, where)


def untag(tree: Any) -> Any:
    """The inverse of `tag`.

    Raises
    ------
    FormatError
        An unknown tag.
    """
    if type(tree) is list:
        return [untag(item) for item in tree]
    if type(tree) is not dict:
        return tree
    if len(tree) == 1:
        ((key, item),) = tree.items()
        if key.startswith("$"):
            reader = _READERS.get(key)
            if reader is None:
                raise FormatError(
                    f"The tag {bounded(key, 40)!r} is not known to this version.",
                    hint="It was written by a newer Penstock: upgrade this one.",
                )
            return reader(item)
    return {key: untag(item) for key, item in tree.items()}


def same(value: Any, back: Any) -> bool:
    """Whether a value came back equal: same types and order of items; NaN equals NaN; numpy's scalars by value."""
    if type(value) is not type(back):
        if type(value).__module__ != "numpy":
            return False
        return bool(value == back) or _both_nan(value, back)
    if type(value) is dict:
        if len(value) != len(back):
            return False
        # Python's == between keys would take 1 for True, hence the pairing by type as well.
        pairs = {(type(_own(key)), _own(key)): item for key, item in value.items()}
        return all((type(key), key) in pairs and same(pairs[type(key), key], item) for key, item in back.items())
    if type(value) in (list, tuple):
        return len(value) == len(back) and all(map(same, value, back))
    if isinstance(value, float):
        return (value == back and math.copysign(1, value) == math.copysign(1, back)) or _both_nan(value, back)
    if isinstance(value, complex):
        return same(value.real, back.real) and same(value.imag, back.imag)
    if isinstance(value, decimal.Decimal):
        return str(value) == str(back)
    if isinstance(value, dt.datetime):
        return bool(value == back and value.fold == back.fold and value.utcoffset() == back.utcoffset())
    return bool(value == back)


def _both_nan(value: Any, back: Any) -> bool:
    return bool(value != value and back != back)  # noqa: PLR0124  # only NaN differs from itself


def _own(key: Any) -> Any:
    return key.item() if type(key).__module__ == "numpy" else key


# ── writers: exact types only, since a subclass would come back as its base ───────────────────────────────────


def _as_is(value: Any, _where: str) -> Any:
    return value


def _write_str(value: str, _where: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8
        return {"$str": value.encode("utf-16-le", "surrogatepass").hex()}
    return value


def _write_float(value: float, _where: str) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _write_list(value: list[Any], where: str) -> list[Any]:
    return [tag(item, f"{where}[{place}]") for place, item in enumerate(value)]


def _write_dict(value: dict[Any, Any], where: str) -> dict[str, Any]:
    plain = all(type(key) is str and not key.startswith("$") for key in value)
    if plain:
        tree = {}
        for key, item in value.items():
            if type(_write_str(key, where)) is not str:
                plain = False
                break
            tree[key] = tag(item, f"{where}[{key!r}]")
    if plain:
        return tree
    pairs = [[tag(key, f"key of {where}"), tag(item, f"{where}[{key!r}]")] for key, item in value.items()]
    return {"$dict": sorted(pairs, key=lambda pair: _text(pair[0]))}


def _write_set(value: Any, where: str) -> list[Any]:
    return sorted((tag(item, f"item of {where}") for item in value), key=_text)


def _write_datetime(value: dt.datetime, where: str) -> Any:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone:
        if zone is not None and zone.tzname(None) != dt.timezone(zone.utcoffset(None)).tzname(None):
            raise _refusal(zone, where)
        return {"$datetime": [value.isoformat(), value.fold]}
    key = getattr(zone, "key", None)
    if type(zone).__module__ != "zoneinfo" or not key:
        raise _refusal(zone, where)
    return {"$datetime": [value.replace(tzinfo=None).isoformat(), value.fold, key]}


def _write_time(value: dt.time, where: str) -> Any:
    if value.tzinfo is not None:
        raise _refusal(value.tzinfo, where)
    return {"$time": [value.isoformat(), value.fold]}


_WRITERS: dict[type, Callable[[Any, str], Any]] = {
    str: _write_str,
    int: _as_is,
    bool: _as_is,
    type(None): _as_is,
    float: _write_float,
    list: _write_list,
    dict: _write_dict,
    tuple: lambda value, where: {"$tuple": _write_list(value, where)},
    set: lambda value, where: {"$set": _write_set(value, where)},
    frozenset: lambda value, where: {"$frozenset": _write_set(value, where)},
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode()},
    complex: lambda value, where: {"$complex": [tag(value.real, where), tag(value.imag, where)]},
    decimal.Decimal: lambda value, _: {"$decimal": str(value)},
    dt.datetime: _write_datetime,
    dt.date: lambda value, _: {"$date": value.isoformat()},
    dt.time: _write_time,
    dt.timedelta: lambda value, _: {"$timedelta": [value.days, value.seconds, value.microseconds]},
}


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _read_datetime(item: list[Any]) -> dt.datetime:
    value = dt.datetime.fromisoformat(item[0]).replace(fold=item[1])
    if len(item) == 2:
        return value
    from zoneinfo import ZoneInfo

    return value.replace(tzinfo=ZoneInfo(item[2]))


_READERS: dict[str, Callable[[Any], Any]] = {
    "$dict": lambda item: {untag(key): untag(value) for key, value in item},
    "$str": lambda item: bytes.fromhex(item).decode("utf-16-le", "surrogatepass"),
    "$float": float,
    "$tuple": lambda item: tuple(map(untag, item)),
    "$set": lambda item: set(map(untag, item)),
    "$frozenset": lambda item: frozenset(map(untag, item)),
    "$bytes": lambda item: base64.b64decode(item, validate=True),
    "$complex": lambda item: complex(untag(item[0]), untag(item[1])),
    "$decimal": decimal.Decimal,
    "$datetime": _read_datetime,
    "$date": dt.date.fromisoformat,
    "$time": lambda item: dt.time.fromisoformat(item[0]).replace(fold=item[1]),
    "$timedelta": lambda item: dt.timedelta(*item),
}


def _refusal(value: Any, where: str) -> FormatError:
    kind = type(value)
    return FormatError(
        f"A {bounded(f'{kind.__module__}.{kind.__qualname__}', 200)} inside a JSON value would not come back equal.",
        where=where,
        hint="Return tables, arrays, estimators and paths by themselves (one output each), and plain Python values "
        "otherwise: .tolist() for an array, .isoformat() for a Timestamp, dataclasses.asdict() for a dataclass.",
    )
