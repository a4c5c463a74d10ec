"""JSON lines: one object a line, one column a key."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from penstock.core.source import Source
from penstock.errors import DataError, bounded
from penstock.stages import csv_stream
from penstock.stages.json_plain import PlainCells
from penstock.stages.sniff import Lines
from penstock.stages.spool import Spool
from penstock.stages.text_source import Cells, Number, joined

SUFFIXES = (".jsonl", ".ndjson", ".json")


class JsonTable:
    """A file of JSON lines. Numbers stay as they are written, texts are texts, and what is nested is kept as JSON.

    Parameters
    ----------
    text : Spool
        UTF-8.
    start : int
        Bytes to skip (a byte-order mark).
    into : Spool
        Where its cells are put.
    source : Source
    compression, where : str
    many : bool
        Whether the table has other files: their columns must agree as text.

    Raises
    ------
    DataError
        A line that is no object, a key twice in one, more columns than a table may have: with the line.
    """

    def __init__(
        self, text: Spool, start: int, into: Spool, source: Source, compression: str, where: str, *, many: bool
    ) -> None:
        self.where = where
        self._nested: dict[str, None] = {}
        plain = PlainCells(into, source, csv_stream.BLOCK)
        one_by_one = many or not plain.fill(text, start)
        self._cells = self._by_json(text, start, into, source) if one_by_one else plain
        self.header = list(self._cells.header)
        if not self.header:
            raise DataError("its objects are empty: there is no column", where=where)
        if not all(name.strip() for name in self.header):
            raise DataError("a key is empty", where=where, hint="give every value a name")
        self.texts, self.times = self._cells.texts, self._cells.times
        self.head = {"format": "jsonl", "encoding": "utf-8", "compression": compression}
        self.shown = "JSON lines" + (f" {compression}" if compression else "")
        self.notes = [f"nested values are kept as JSON text: {joined(self._nested)}"] if self._nested else []

    def _by_json(self, text: Spool, start: int, into: Spool, source: Source) -> Cells:
        """One line after another: for values that are no plain ones, and for faults with their lines."""
        cells = Cells(into, source.na, self.where)
        try:
            for line, record in _records(text, start, self.where):
                cells.add({name: self._cell(name, value, line) for name, value in record.items()})
            cells.flush()
        except UnicodeEncodeError as error:
            half = error.object[error.start].encode("ascii", "backslashreplace").decode()
            lines = (line for line, record in _records(text, start, self.where) if _is_halved(record))
            at = next(lines, 0)
            raise DataError(f"line {at}: a text holds half a character ({half})", where=self.where, line=at) from None
        return cells

    def _cell(self, name: str, value: Any, line: int) -> str | None:
        kind = type(value)
        if kind is str or kind is Number or value is None:
            return value  # type: ignore[no-any-return]  # one of the three
        if kind is bool:
            return _TRUE if value else _FALSE
        self._nested[name] = None
        try:
            return _written(value)
        except RecursionError:
            raise _too_deep(line, self.where) from None

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of text columns, or of values where all of a column are of one type."""
        return self._cells.blocks(columns)


_TRUE, _FALSE = Number("true"), Number("false")
_CONSTANTS = {"NaN": Number("nan"), "Infinity": Number("inf"), "-Infinity": Number("-inf")}


def _written(value: Any) -> str:
    """A value as JSON again, its numbers as they were written."""
    if type(value) is Number:
        return value
    if type(value) is dict:
        return "{" + ",".join(f"{_written(key)}:{_written(item)}" for key, item in value.items()) + "}"
    if type(value) is list:
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _too_deep(line: int, where: str) -> DataError:
    return DataError(f"line {line}: nested too deeply to be read", where=where, line=line)


def _is_halved(record: dict[str, Any]) -> bool:
    """Whether a key or a text holds one half of a pair of surrogates, which no encoding can write."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return found


def _records(text: Spool, start: int, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each line that is not blank."""
    decode = json.JSONDecoder(
        object_pairs_hook=_pairs, parse_int=Number, parse_float=Number, parse_constant=_CONSTANTS.__getitem__
    ).decode
    line, found = 0, 0
    lines = Lines(text, start, csv_stream.BLOCK)
    try:
        for line, written in enumerate(lines, 1):
            if written.isspace():
                continue
            record = decode(written)
            if type(record) is not dict:
                raise ValueError(_no_object(written))
            found += 1
            yield line, record
    except RecursionError:
        raise _too_deep(line, where) from None
    except csv.Error as error:
        raise DataError(f"line {line + 1}: {error}", where=where, line=line + 1) from None
    except ValueError as error:
        raise DataError(
            f"line {line} cannot be read: {bounded(str(error), 200)}",
            where=where,
            hint='JSON lines have one object a line, as {"age": 41, "city": "Oslo"}',
            line=line,
        ) from None
    if not found:
        raise DataError("the file has no text but blanks", where=where, hint="a table needs rows")


def _no_object(written: str) -> str:
    if written.lstrip().startswith("["):
        return "a JSON array, not an object; write each of its items on a line of its own"
    return f"{bounded(written.strip(), 60)!r} is no object"
