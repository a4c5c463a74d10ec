"""Tables of texts: what a CSV file, JSON lines and a sheet have in common before their cells get types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from penstock.errors import DataError
from penstock.stages.csv_stream import blocks
from penstock.stages.infer import MARKERS
from penstock.stages.sniff import Dialect
from penstock.stages.spool import Spool

BLOCK_CELLS = 1 << 20
"""Cells gathered before they are put away as one block."""
MOST_COLUMNS = 20_000


class TextTable(Protocol):
    """One file as blocks of text columns.

    Attributes
    ----------
    where : str
        The file's name.
    header : list of str
    head : dict
        What was found of the file, for `sniffed`.
    shown : str
        The same in a few words.
    texts, times : set of str
        Columns of which the file itself says that they hold texts, or times. Complete once its blocks were read.
    notes : list of str
    """

    where: str
    header: list[str]
    head: dict[str, Any]
    shown: str
    texts: set[str]
    times: set[str]
    notes: list[str]

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """Record batches, the same ones each time: text columns, no cell missing yet, or values of one type."""
        ...


class CsvTable:
    """A CSV file.

    Parameters
    ----------
    text : Spool
        UTF-8.
    dialect : Dialect
    encoding, compression : str
        As found.
    where : str
    """

    def __init__(self, text: Spool, dialect: Dialect, encoding: str, compression: str, where: str) -> None:
        self._text, self._dialect, self.where = text, dialect, where
        self.header = list(dialect.header)
        self.head = {"format": "csv", "sep": dialect.sep, "quote": dialect.quote, "encoding": encoding}
        self.head["compression"] = compression
        shown = {"\t": "tab"}.get(dialect.sep, f'"{dialect.sep}"')
        self.shown = f"{shown} {encoding.removesuffix('-sig')}" + (f" {compression}" if compression else "")
        self.texts: set[str] = set()
        self.times: set[str] = set()
        self.notes: list[str] = []

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of text columns."""
        return iter(blocks(self._text, self._dialect, columns, self.where))


class Cells:
    """Rows of cells that already have a kind, put away as blocks of text.

    Numbers are kept as they are written, so that whole columns are typed by the same rules as those of a CSV file.

    Parameters
    ----------
    spool : Spool
        Where blocks are put.
    na : tuple of str
        Texts that mean "missing".
    where : str
    """

    def __init__(self, spool: Spool, na: tuple[str, ...], where: str) -> None:
        self._spool, self._where = spool, where
        self._no_text = frozenset(("", *MARKERS, *na))
        self._rows: list[Mapping[str, Any]] = []
        self._places: list[tuple[int, int]] = []
        self.header: dict[str, None] = {}
        self.n_rows = 0
        self.texts: set[str] = set()
        self.times: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in one row: column → text of a cell, a `Number` for what is no text, None for what is missing.

        Raises
        ------
        DataError
            More columns than a table may have, or more bytes.
        """
        self._rows.append(row)
        self.n_rows += 1
        if not self.header.keys() >= row.keys():
            self.header.update(dict.fromkeys(row))
            if len(self.header) > MOST_COLUMNS:
                raise DataError(f"more than {MOST_COLUMNS:,} columns", where=self._where)
        if len(self._rows) * len(self.header) >= BLOCK_CELLS:
            self.flush()

    def flush(self) -> None:
        """Put the rows gathered so far away as one block."""
        import pyarrow as pa

        if not self._rows:
            return
        self._spool.limits.check_rows(self.n_rows)
        self._spool.limits.check_bytes(self.n_rows * len(self.header) * 8)
        columns = {name: [row.get(name) for row in self._rows] for name in self.header}
        for name, cells in columns.items():
            self._look(name, cells)
        arrays = [pa.array(["" if c is None else str(c) for c in cells], pa.string()) for cells in columns.values()]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        start = self._spool.size
        self._spool.write(sink.getvalue())
        self._places.append((start, self._spool.size - start))
        self._rows = []

    def _look(self, name: str, cells: Sequence[Any]) -> None:
        if name not in self.texts and any(type(c) is str and c.strip() not in self._no_text for c in cells):
            self.texts.add(name)
        if name not in self.times and any(type(c) is Time for c in cells):
            self.times.add(name)

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """The blocks again; a column that a block does not know is empty there."""
        import pyarrow as pa

        for start, size in self._places:
            with pa.ipc.open_stream(self._spool.head(size, start)) as reader:
                for batch in reader:
                    known = dict(zip(batch.schema.names, batch.columns, strict=True))
                    blank = pa.array([""] * batch.num_rows, pa.string())
                    yield pa.RecordBatch.from_arrays([known.get(name, blank) for name in columns], names=columns)


class Number(str):
    """A cell that is no text: a number or a boolean, as it is written."""

    __slots__ = ()


class Time(str):
    """A cell that is a date or a time, in ISO 8601."""

    __slots__ = ()


def agreed(tables: Sequence[Any]) -> list[str]:
    """The columns of several files, in the order of the first.

    Parameters
    ----------
    tables : sequence
        Each with `header` and `where`.

    Raises
    ------
    DataError
        A file that lacks a column, or has one more, by name.
    """
    header = list(tables[0].header)
    faults = []
    for table in tables[1:]:
        lacks = [repr(name) for name in header if name not in set(table.header)]
        more = [repr(name) for name in table.header if name not in set(header)]
        faults += [f"{table.where} lacks {joined(lacks)}"] if lacks else []
        faults += [f"{table.where} also has {joined(more)}"] if more else []
    if faults:
        raise DataError(
            f"files of one table differ in their columns: against {tables[0].where}, " + "; ".join(faults[:5]),
            where=tables[0].where,
            hint="name the columns that all of them have by columns=[…], or read the files apart",
            faults=faults,
        )
    return header


def joined(names: Iterable[str], most: int = 5) -> str:
    """A few names, and how many more there are.

    Examples
    --------
    >>> joined(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
