"""JSON lines whose every line is one flat object of plain values, parsed by pyarrow; all others are left to `json`.

pyarrow tells the types of numbers itself, so it is asked only where they are those that the rules of `infer` would
find in the text, and where each line is one object for certain. At the first doubt the whole file goes the slower way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import text_source
from penstock.stages.infer import MARKERS
from penstock.stages.spool import Spool

PIECE = 16 << 20
"""Bytes of lines parsed at once where their keys and types are known."""
FREE = 1 << 16
"""The same where any key may come: each new one is a column of the rows before, so these are few."""
_MOST_FLOAT = 1e18
"""As in `look`: beyond it a number may be text, since it has too many digits."""
_EXACT = 1 << 53
_MINUS_ZERO = re.compile(rb"-0[\s,}]")
_TRIED = 1000
_MOST_BRACKETS = 64
"""Brackets in one line: pyarrow's parser calls itself for each that is open, without an end."""


class PlainCells:
    """Blocks of typed values, as `Cells` are blocks of texts.

    Parameters
    ----------
    spool : Spool
        Where blocks are put.
    source : Source
    longest : int
        Most bytes of one line.

    Attributes
    ----------
    header : dict
        Column → "int", "float", "bool", "str" or "" (no value yet); in the order in which they came.
    n_rows : int
    texts, times : set of str
        As of every `TextTable`.
    """

    def __init__(self, spool: Spool, source: Source, longest: int) -> None:
        self._spool, self._source, self._longest = spool, source, longest
        self._no_text = frozenset(("", *MARKERS, *source.na))
        self._places: list[tuple[int, int]] = []
        self._inexact: set[str] = set()
        self._gaps: dict[str, int] = {}
        self.header: dict[str, str] = {}
        self.n_rows = 0
        self.texts: set[str] = set()
        self.times: set[str] = set()

    def fill(self, text: Spool, start: int) -> bool:
        """Take in a whole file, or nothing of it.

        Parameters
        ----------
        text : Spool
            UTF-8.
        start : int
            Bytes to skip.

        Returns
        -------
        plain : bool
            False when a line is not plain; whatever is wrong with it is for others to say.
        """
        import pyarrow as pa

        before = self._spool.size
        try:
            plain = all(self._add(piece) for piece in _pieces(text, start, FREE)) and self._is_exact()
        except (DataError, pa.ArrowException):
            plain = False
        if not plain:
            self._spool.cut(before)
        return plain

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """Record batches: texts without nulls, other values with them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for start, size in self._places:
            with pa.ipc.open_stream(self._spool.head(size, start)) as reader:
                for batch in reader:
                    known = dict(zip(batch.schema.names, batch.columns, strict=True))
                    arrays = [known.get(name, pa.nulls(batch.num_rows)) for name in columns]
                    full = [
                        pc.fill_null(pc.cast(a, pa.string()), "") if self._is_text(name) else a
                        for name, a in zip(columns, arrays, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(full, names=columns)

    def _is_text(self, name: str) -> bool:
        """Whether a column is given as texts; one of a declared type that has no value at all is, too."""
        kind = self.header[name]
        return kind == "str" or (not kind and (name in self._source.types or name in self._source.dates))

    def _add(self, piece: bytes) -> bool:
        import pyarrow as pa

        if not _one_object_a_line(piece, self._longest) or _may_be_deep(piece):
            return False
        if len(piece) <= FREE:
            return self._put(piece, self._free(piece))
        try:
            table = self._strict(piece)
        except pa.ArrowInvalid:  # a new key, or a value of another type
            lines = Spool(len(piece))
            lines.write(piece)
            return all(self._put(few, self._free(few)) for few in _pieces(lines, 0, FREE, FREE))
        return self._put(piece, table)

    def _put(self, piece: bytes, table: Any) -> bool:
        """Put the rows of a piece away, when there is no doubt of them."""
        import pyarrow as pa

        if table is None or table.num_rows != piece.count(b"\n") + 1:
            return False
        kinds = {pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool", pa.string(): "str", pa.null(): ""}
        if any(kind not in kinds for kind in table.schema.types):
            return False
        for name, column in zip(table.column_names, table.columns, strict=True):
            kind = kinds[column.type] if column.null_count < len(column) else ""
            if not self._fits(name, column, kind, piece):
                return False
        self.n_rows += table.num_rows
        self._spool.limits.check_rows(self.n_rows)
        self._spool.limits.check_bytes(self.n_rows * len(self.header) * 8)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        start = self._spool.size
        self._spool.write(sink.getvalue())
        self._places.append((start, self._spool.size - start))
        return True

    def _strict(self, piece: bytes) -> Any:
        """A table of the columns that are known, with their types.

        Raises
        ------
        pyarrow.ArrowInvalid
            Another key, or another type.
        """
        import pyarrow as pa

        types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string(), "": pa.null()}
        return _parsed(piece, {name: types[kind] for name, kind in self.header.items()}, "error")

    def _free(self, piece: bytes) -> Any:
        """A table in the order in which its keys came, or None; texts stay texts, also those that are times."""
        import pyarrow as pa

        texts = {name: pa.string() for name, kind in self.header.items() if kind == "str"}
        while True:
            table = _parsed(piece, texts, "infer")
            self.header |= {name: "" for name in table.column_names if name not in self.header}
            if len(self.header) > text_source.MOST_COLUMNS:
                return None
            times = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
            if not times:
                return table
            texts |= times

    def _fits(self, name: str, column: Any, kind: str, piece: bytes) -> bool:
        """Whether a column's values are what the rules would make of their text, so far."""
        import pyarrow.compute as pc

        known = self.header[name]
        if kind and known and {kind, known} not in ({kind}, {"int", "float"}):
            return False
        self.header[name] = "float" if {kind, known} == {"int", "float"} else kind or known
        self._gaps[name] = self._gaps.get(name, 0) + len(column) - column.null_count
        if kind == "str" and name not in self.texts and self._any_text(column):
            self.texts.add(name)
        if kind in ("", "str"):
            return True
        if name in self._source.types or name in self._source.dates or any(map(_is_value, self._source.na)):
            return False
        if kind == "bool":
            return True
        low, high = pc.min_max(column).as_py().values()
        if kind == "float":
            return low > -_MOST_FLOAT and high < _MOST_FLOAT and not pc.any(pc.is_nan(column)).as_py()
        if high > _EXACT or low < -_EXACT:
            self._inexact.add(name)
        return not (low <= 0 <= high and _MINUS_ZERO.search(piece))

    def _any_text(self, column: Any) -> bool:
        """Whether a cell is neither empty nor a word for what is missing; the first cells mostly tell."""
        first, others = column.slice(0, _TRIED), column.slice(_TRIED)
        return any(
            cell is not None and cell.strip() not in self._no_text
            for cells in (first, others)
            for cell in cells.unique().to_pylist()
        )

    def _is_exact(self) -> bool:
        """Whether there is a table at all, and no whole number becomes a float64 that would change it."""
        return bool(self.header) and all(
            self.header[name] == "int" and self._gaps[name] == self.n_rows for name in self._inexact
        )


def _pieces(text: Spool, start: int, first: int, size: int = 0) -> Iterator[bytes]:
    """Whole lines, without the line end of the last: a first piece, and those behind it."""
    at, size, most = start, first, size or PIECE
    while at < text.size:
        piece = text.head(size, at)
        if at + len(piece) < text.size:
            end = piece.rfind(b"\n") + 1
            if not end and size < most:  # the first line is longer than the first piece
                size = most
                continue
            piece = piece[: end or len(piece)]
        at, size = at + len(piece), most
        piece = piece.rstrip(b"\r\n")
        if piece:
            yield piece


def _parsed(piece: bytes, types: dict[str, Any], others: str) -> Any:
    import pyarrow as pa
    from pyarrow import json

    return json.read_json(
        pa.BufferReader(piece),
        read_options=json.ReadOptions(use_threads=False, block_size=len(piece) + 1),
        parse_options=json.ParseOptions(
            explicit_schema=pa.schema(list(types.items())) if types else None, unexpected_field_behavior=others
        ),
    )


def _one_object_a_line(piece: bytes, longest: int) -> bool:
    """Whether each line begins as an object and ends as one, so that as many objects as lines are one a line.

    A line end within an object stands beside a comma, a colon or an opening bracket, never between `}` and `{`.
    """
    ends = piece.count(b"\n")
    if b"\r" in piece and not piece.count(b"\r") == piece.count(b"}\r\n{") == ends:
        return False
    if b"\r" not in piece and piece.count(b"}\n{") != ends:
        return False
    if not (piece.startswith(b"{") and piece.endswith(b"}")):
        return False
    window = longest // 2
    return all(piece.find(b"\n", at, at + window) >= 0 for at in range(0, len(piece) - window, window))


def _may_be_deep(piece: bytes) -> bool:
    """Whether a line has so many brackets that it may be nested deeply."""
    opened = piece.count(b"{") + piece.count(b"[")
    if opened - piece.count(b"\n") <= _MOST_BRACKETS:
        return False
    return any(line.count(b"{") + line.count(b"[") > _MOST_BRACKETS for line in piece.split(b"\n"))


def _is_value(text: str) -> bool:
    """Whether a text that means "missing" may be a number or a boolean."""
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false")
    return True
