"""Rows of a text table as blocks of text columns, by pyarrow or, for rarer dialects and for faults, by `csv`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from penstock.errors import DataError, bounded
from penstock.stages.sniff import Dialect, Lines
from penstock.stages.spool import Spool

BLOCK = 4 << 20
"""Bytes of text in one block; also the longest row. pyarrow reads up to 32 blocks ahead, so this bounds memory."""
BLOCK_CELLS = 1 << 20
FAULTS_SHOWN = 5


def blocks(spool: Spool, dialect: Dialect, columns: list[str], where: str) -> Iterator[Any]:
    """The rows below the header.

    Parameters
    ----------
    spool : Spool
        UTF-8 text.
    dialect : Dialect
        From `sniff`.
    columns : list of str
        Columns wanted, in order.

    Yields
    ------
    pyarrow.RecordBatch
        One text column each; no cell is missing yet.

    Raises
    ------
    DataError
        Ragged rows, an unclosed quote, a row longer than a block: with line numbers.
    """
    if dialect.spaced:
        yield from _by_csv(spool, dialect, columns, where)
        return
    import pyarrow as pa

    try:
        last = None
        for block in _by_arrow(spool, dialect, columns):
            last = block
            yield block
        if last is not None and dialect.quoted and _may_be_unclosed(spool, dialect, last):
            _find_faults(spool, dialect, columns, where)
    except pa.ArrowInvalid as error:
        _find_faults(spool, dialect, columns, where)
        raise DataError(f"cannot be read: {bounded(str(error), 300)}", where=where) from None


def _by_arrow(spool: Spool, dialect: Dialect, columns: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    rest = spool.size - dialect.start
    if not any(chunk.strip() for chunk in spool.chunks(dialect.start)):
        return
    reader = arrow_csv.open_csv(
        spool.reader(dialect.start),
        read_options=arrow_csv.ReadOptions(
            column_names=list(dialect.header), use_threads=False, block_size=max(min(BLOCK, rest + 1), 1024)
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=dialect.sep,
            quote_char=dialect.quote if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(dialect.header, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,  # every byte was decoded once already
            include_columns=columns,
        ),
    )
    for block in reader:
        if block.num_rows:
            yield block


def _may_be_unclosed(spool: Spool, dialect: Dialect, last: Any) -> bool:
    """An odd number of quotes, or a line end in the very last cells: worth the slow, exact reader."""
    quote = dialect.quote.encode()
    odd = sum(chunk.count(quote) for chunk in spool.chunks(dialect.start)) % 2
    return bool(odd) or any("\n" in str(column[-1]) or "\r" in str(column[-1]) for column in last.columns)


def _find_faults(spool: Spool, dialect: Dialect, columns: list[str], where: str) -> None:
    """Read everything by the exact reader, only to find faults.

    Raises
    ------
    DataError
    """
    for _block in _by_csv(spool, dialect, columns, where):
        pass


def _by_csv(spool: Spool, dialect: Dialect, columns: list[str], where: str) -> Iterator[Any]:
    """The same by Python's `csv`: slower, takes spaces before quotes, and knows the line of each fault."""
    import pyarrow as pa

    places = [dialect.header.index(name) for name in columns]
    width = len(dialect.header)
    size = max(BLOCK_CELLS // width, 1)
    faults: list[str] = []
    rows: list[list[str]] = []

    def block() -> Any:
        arrays = [pa.array([row[at] for row in rows], pa.string()) for at in places]
        return pa.RecordBatch.from_arrays(arrays, names=columns)

    for line, row in _numbered(spool, dialect, where):
        if len(row) != width:
            faults.append(f"line {line} has {_cells(len(row))}: {_shown(row, dialect.sep)}")
            if len(faults) > FAULTS_SHOWN:
                break
            continue
        rows.append(row)
        if len(rows) >= size and not faults:
            yield block()
            rows = []
    if faults:
        more = "; and more" if len(faults) > FAULTS_SHOWN else ""
        raise DataError(
            f"rows do not have the {_cells(width)} of the header line: " + "; ".join(faults[:FAULTS_SHOWN]) + more,
            where=where,
            hint="a cell that holds the separator must be quoted; or declare another sep=",
            faults=faults,
        )
    if rows:
        yield block()


def _numbered(spool: Spool, dialect: Dialect, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which a record ends, its cells); blank lines are passed over.

    Raises
    ------
    DataError
        A quote that is never closed (with the line on which it opens), or a cell longer than a block.
    """
    reader = csv.reader(
        Lines(spool, dialect.start, BLOCK),
        delimiter=dialect.sep,
        quotechar=dialect.quote,
        skipinitialspace=dialect.spaced,
    )
    before = csv.field_size_limit(BLOCK)
    begins, last = dialect.lines + 1, 0
    try:
        for row in reader:
            ends = dialect.lines + reader.line_num
            if row:
                last = begins
                yield ends, row
            begins = ends + 1
    except csv.Error as error:
        raise DataError(
            f"the record that begins on line {begins} cannot be read: {error}",
            where=where,
            hint=f"a quote ({dialect.quote}) may not be closed, or a cell is longer than {BLOCK >> 20} MiB",
            line=begins,
        ) from None
    finally:
        csv.field_size_limit(before)
    if dialect.quoted and last and _open_at_end(spool, dialect, last):
        raise DataError(
            f"a quote ({dialect.quote}) is opened on line {last} and never closed",
            where=where,
            hint="close it, or double it if it belongs to the text",
            line=last,
        )


def _open_at_end(spool: Spool, dialect: Dialect, first: int) -> bool:
    """Whether the text ends inside a quoted cell of the record that begins on line `first`, by a strict reading."""
    lines = Lines(spool, dialect.start, BLOCK)
    for _ in range(first - dialect.lines - 1):
        next(lines)
    reader = csv.reader(
        lines,
        delimiter=dialect.sep,
        quotechar=dialect.quote,
        skipinitialspace=dialect.spaced,
        strict=True,
    )
    try:
        for _row in reader:
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _cells(count: int) -> str:
    return f"{count:,} cell{'s' * (count != 1)}"


def _shown(row: list[str], sep: str) -> str:
    return repr(bounded(sep.join(cell[:40] for cell in row[:8]), 120))
