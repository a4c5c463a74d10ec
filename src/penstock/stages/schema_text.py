"""A schema as TOML, one line a column, to be read, changed and compared by people."""

from __future__ import annotations

import re
from typing import Any

from penstock.core.names import did_you_mean
from penstock.errors import DeclarationError

ROLES = ("feature", "target", "key", "time", "groups", "weight", "hidden")
TYPES = ("integer", "number", "boolean", "text", "datetime")
TASKS = ("binary", "multiclass", "regression")
_FIELDS = ("role", "type", "null", "unique", "min", "max", "categories", "feature")
_TOP = ("version", "task", "target", "classes", "positive", "holdout", "columns")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEAD = """\
# What the data of this workflow must look like. Written by `penstock schema accept`: read it, change it, commit it.
"""
_COLUMNS = """
# One line a column, in the table's order.
#   role: feature, target, key, time, groups, weight, hidden; feature = true: the model sees it despite its role
#   type: integer, number, boolean, text, datetime; null: whether a cell may be missing; unique: no value twice
#   min, max, categories: what a value may be; leave them out and any value may stand there
[columns]
"""


def to_toml(schema: dict[str, Any]) -> str:
    """Write a schema; the same schema always gives the same text.

    Parameters
    ----------
    schema : dict
        As `schema.infer` makes it.

    Examples
    --------
    >>> column = {"name": "y", "role": "target", "type": "integer", "null": False}
    >>> text = to_toml({"version": 1, "task": "binary", "target": "y", "classes": [0, 1], "positive": 1,
    ...                 "columns": [column]})
    >>> print(text.splitlines()[-1])
    y = { role = "target", type = "integer", null = false }
    """
    lines = [f"{name} = {_value(schema[name])}" for name in _TOP[:-1] if schema.get(name) is not None]
    rows = []
    for column in schema["columns"]:
        cells = ", ".join(f"{name} = {_value(column[name])}" for name in _FIELDS if name in column)
        rows.append(f"{_key(column['name'])} = {{ {cells} }}")
    return _HEAD + "\n".join(lines) + "\n" + _COLUMNS + "\n".join(rows) + "\n"


def from_toml(text: str, *, where: str = "") -> dict[str, Any]:
    """Read a schema; the inverse of `to_toml`.

    Parameters
    ----------
    text : str
    where : str, optional
        Name of the file, for messages.

    Raises
    ------
    DeclarationError
        All faults, each with its line.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"not valid TOML: {error}", where=where) from None
    faults = _top_faults(data, text)
    columns = data.get("columns")
    if isinstance(columns, dict):
        for name, column in columns.items():
            faults += [f"line {_line(text, _key(name))}: {name}: {fault}" for fault in _column_faults(column)]
    if faults:
        raise DeclarationError(faults, where=where)
    schema = {name: data[name] for name in _TOP[:-1] if name in data}
    if schema["task"] == "binary":
        schema.setdefault("positive", None)
    schema["columns"] = [{"name": name, **column} for name, column in data["columns"].items()]
    return schema


def _top_faults(data: dict[str, Any], text: str) -> list[str]:
    faults = [
        f"line {_line(text, name)}: {name!r} is not a field{did_you_mean(name, _TOP)}"
        for name in data
        if name not in _TOP
    ]
    if data.get("version") != 1:
        faults.append(f"line {_line(text, 'version')}: version must be 1, not {data.get('version')!r}")
    number = data.get("holdout", 1)
    if type(number) is not int or number < 1:
        faults.append(f"line {_line(text, 'holdout')}: holdout counts hold-outs from 1, not {number!r}")
    if data.get("task") not in TASKS:
        faults.append(f"line {_line(text, 'task')}: task must be one of {', '.join(TASKS)}, not {data.get('task')!r}")
    columns = data.get("columns")
    if not isinstance(columns, dict) or not columns:
        return [*faults, f"line {_line(text, '[columns]')}: [columns] must have a line for each column"]
    if data.get("target") not in columns:
        faults.append(f"line {_line(text, 'target')}: target must be one of the columns, not {data.get('target')!r}")
    classes = data.get("classes")
    if data.get("task") in TASKS[:2] and not (isinstance(classes, list) and len(classes) >= 2):
        faults.append(f"line {_line(text, 'classes')}: classes must list at least two labels")
    elif data.get("task") == "binary" and "positive" in data and data["positive"] not in (classes or []):
        faults.append(f"line {_line(text, 'positive')}: positive = {data['positive']!r} is not one of the classes")
    return faults


def _column_faults(column: Any) -> list[str]:
    if not isinstance(column, dict):
        return ['must be { role = "…", type = "…", null = … }']
    faults = [f"{name!r} is not a field{did_you_mean(name, _FIELDS)}" for name in column if name not in _FIELDS]
    for name, allowed in (("role", ROLES), ("type", TYPES)):
        if column.get(name) not in allowed:
            faults.append(f"{name} must be one of {', '.join(allowed)}, not {column.get(name)!r}")
    if not isinstance(column.get("null"), bool):
        faults.append("null must be true or false")
    if not isinstance(column.get("unique", False), bool):
        faults.append("unique must be true or false")
    ends = [column[name] for name in ("min", "max") if name in column]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        faults.append("min and max must be numbers")
    elif len(ends) == 2 and not ends[0] <= ends[1]:
        faults.append(f"min = {ends[0]} lies above max = {ends[1]}")
    words = column.get("categories", [])
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        faults.append("categories must be a list of texts")
    return faults


def _line(text: str, key: str) -> int:
    """The first line that begins with a key; 1 when there is none."""
    for number, line in enumerate(text.splitlines(), 1):
        rest = line.strip().removeprefix(key)
        if len(rest) < len(line.strip()) and (not rest or rest.lstrip()[:1] in ("=", "")):
            return number
    return 1


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    escaped = (named.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text)
    return '"' + "".join(escaped) + '"'
