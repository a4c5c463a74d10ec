"""Excel workbooks and OpenDocument sheets: one sheet, its header found, its values as they were last computed."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from penstock.core.names import did_you_mean
from penstock.core.source import Source
from penstock.errors import DataError, MissingExtraError, bounded
from penstock.stages.limits import DEFLATED
from penstock.stages.spool import CHUNK, Spool
from penstock.stages.text_source import Cells, Number, Time

CELL_BYTES = 32
"""Memory that one cell of the rectangle around all cells takes while a workbook is read."""
_CELL = re.compile(rb'<(?:\w+:)?c [^<>]*?r="([A-Z]{1,3})([0-9]{1,7})"')
_TAG = re.compile(rb"<(?:\w+:)?(table|table-row|table-cell|covered-table-cell)(?=[\s/>])([^<>]*)>")
_REPEATED = re.compile(rb'number-(?:rows|columns)-repeated="([0-9]{1,9})"')
HEADER_ROWS = 50
"""Rows at the top among which the header line is looked for."""


class ExcelTable:
    """One sheet of a workbook.

    Parameters
    ----------
    raw : Spool
        The workbook.
    into : Spool
        Where its cells are put.
    source : Source
    where : str

    Raises
    ------
    MissingExtraError
    DataError
        Damaged, protected, too large, no such sheet, several with data and none chosen, no header line.
    """

    def __init__(self, raw: Spool, into: Spool, source: Source, where: str) -> None:
        self.where = where
        try:
            import python_calamine as calamine
        except ImportError:
            raise MissingExtraError(
                "reading Excel needs python-calamine, not installed here", hint="pip install 'penstock[excel]'"
            ) from None
        data = raw.head(raw.size)
        _judge(data, raw, where)
        try:
            book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
            sheet, self.notes = _sheet(book, source.sheet, where)
            grid = sheet.to_python(skip_empty_area=False)
            merged = len(sheet.merged_cell_ranges or ())
        except DataError:
            raise
        except calamine.PasswordError:
            raise DataError("the workbook is protected by a password", where=where) from None
        except (calamine.CalamineError, OSError, ValueError) as error:
            raise DataError(f"not a whole workbook: {bounded(str(error), 300)}", where=where) from None
        at, places, names = _header(grid, where, strip=source.strip)
        cells = Cells(into, source.na, where)
        for row in grid[at + 1 :]:
            found = {name: _cell(row[place]) for name, place in zip(names, places, strict=True)}
            if any(cell is not None for cell in found.values()):
                cells.add(found)
        cells.flush()
        if merged:
            self.notes.append(f"{merged:,} merged ranges: the value stands in the first cell, the others are missing")
        self.header, self._cells = names, cells
        self.texts, self.times = cells.texts, cells.times
        self.head = {"format": "excel", "sheet": sheet.name, "header_row": at + 1}
        self.shown = f"sheet {bounded(sheet.name, 40)!r}" + (f" from row {at + 1}" if at else "")

    def blocks(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of text columns."""
        return self._cells.blocks(columns)


def _sheet(book: Any, wanted: str | int | None, where: str) -> tuple[Any, list[str]]:
    """The sheet that was declared, else the only one with data."""
    names = list(book.sheet_names)
    if isinstance(wanted, int):
        if not 0 <= wanted < len(names):
            raise DataError(f"sheet={wanted}: there are {len(names)}, numbered from 0", where=where)
        return book.get_sheet_by_index(wanted), []
    if wanted is not None:
        if wanted not in names:
            hint = f"there are {', '.join(map(repr, names[:20]))}"
            raise DataError(f"sheet={wanted!r}: no such sheet{did_you_mean(wanted, names)}", where=where, hint=hint)
        return book.get_sheet_by_name(wanted), []
    kinds = [str(getattr(one, "typ", "")) for one in book.sheets_metadata]
    sheets = [
        book.get_sheet_by_index(i) for i, kind in enumerate(kinds or names) if "Work" in kind or not kind or not kinds
    ]
    full = [sheet for sheet in sheets if sheet.height and sheet.width]
    if not full:
        raise DataError("no sheet of the workbook holds data", where=where)
    if len(full) > 1:
        shown = ", ".join(f"{sheet.name!r} ({sheet.height:,} × {sheet.width:,})" for sheet in full[:10])
        hint = f"sheet={full[0].name!r}, or its number from 0"
        raise DataError(f"{len(full)} sheets hold data: {shown}", where=where, hint=hint)
    return full[0], []


def _header(grid: Sequence[Sequence[Any]], where: str, *, strip: bool) -> tuple[int, list[int], list[str]]:
    """Where the header line stands, and its columns: the first row as full as the rows below it, all texts or numbers.

    Titles above a table fill fewer cells than its header line does; a column without a name and without a value is
    passed over.
    """
    filled = [[place for place, cell in enumerate(row) if _cell(cell) is not None] for row in grid[:HEADER_ROWS]]
    widest = max((len(places) for places in filled), default=0)
    if widest == 0:
        raise DataError("the sheet has no cells", where=where)
    at = next(i for i, places in enumerate(filled) if len(places) == widest or 2 * len(places) > widest > 2)
    used = {place for row in grid[at:] for place, cell in enumerate(row) if _cell(cell) is not None}
    nameless = sorted(used - set(filled[at]))
    if nameless:
        letters = ", ".join(_letters(place) for place in nameless[:10])
        raise DataError(
            f"row {at + 1} was taken for the header line, but has no name for the column {letters}",
            where=where,
            hint="name every column in the row above the data",
        )
    places = filled[at]
    names = [str(_cell(grid[at][place])) for place in places]
    names = [name.strip() for name in names] if strip else names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"column names occur more than once: {', '.join(map(repr, twice[:10]))}", where=where)
    if len(grid) == at + 1:
        raise DataError(f"a header line with {len(names)} columns and no rows below it", where=where)
    return at, places, names


def _letters(place: int) -> str:
    """A column's letters: 0 is A, 26 is AA."""
    text = ""
    place += 1
    while place:
        place, digit = divmod(place - 1, 26)
        text = chr(65 + digit) + text
    return text


def _cell(value: Any) -> str | None:
    """A cell's value as text of its kind."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return Number("true" if value else "false")
    if isinstance(value, int | float):
        whole = isinstance(value, int) or (value.is_integer() and abs(value) < 2**53)
        return Number(int(value) if whole else repr(value))
    if isinstance(value, dt.datetime | dt.date):
        return Time(value.isoformat())
    if isinstance(value, dt.timedelta):
        return Number(repr(value.total_seconds()))
    return str(value)


def _judge(data: bytes, raw: Spool, where: str) -> None:
    """Refuse what would not fit before it is read: the size of each part unpacked, the rectangle of all cells."""
    if not data.startswith(b"PK"):
        return  # the old binary format: at most 65,536 × 256 cells a sheet, and nothing is packed
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            parts = book.infolist()
            names = {part.filename for part in parts}
            if not {"xl/workbook.xml", "xl/workbook.bin", "content.xml"} & names:
                raise DataError(
                    "a zip archive that is no workbook", where=where, hint="unpack it; a table compressed by gzip reads"
                )
            raw.limits.check_growth(sum(part.file_size for part in parts), len(data), DEFLATED)
            total = 0
            for part in parts:
                total = _judge_part(book, part, total, raw)
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:
        raise DataError(f"not a whole workbook: {bounded(str(error), 300)}", where=where) from None


def _judge_part(book: zipfile.ZipFile, part: zipfile.ZipInfo, total: int, raw: Spool) -> int:
    """Unpack one part, keeping nothing, and measure it: what the archive says of itself may be a lie."""
    extent: _Extent | _OpenExtent | None = None
    if part.filename.startswith("xl/worksheets/"):
        extent = _Extent()
    elif part.filename == "content.xml":
        extent = _OpenExtent()
    with book.open(part) as stream:
        while chunk := stream.read(CHUNK):
            total += len(chunk)
            raw.limits.check_growth(total, raw.size, DEFLATED)
            if extent is not None:
                extent.feed(chunk)
                raw.limits.check_bytes(extent.cells * CELL_BYTES, "bytes for the rectangle around all cells of a sheet")
    return total


class _Extent:
    """The rectangle around all cells of an Excel sheet, by the places that its cells name."""

    def __init__(self) -> None:
        self._tail, self._rows, self._columns = b"", 0, b""

    @property
    def cells(self) -> int:
        width = 0
        for letter in self._columns:
            width = width * 26 + letter - 64
        return self._rows * width

    def feed(self, chunk: bytes) -> None:
        window = self._tail + chunk
        for letters, row in _CELL.findall(window):
            self._rows = max(self._rows, int(row))
            self._columns = max(self._columns, letters, key=lambda name: (len(name), name))
        self._tail = window[-256:]


class _OpenExtent:
    """The same of an OpenDocument sheet, where cells and rows stand one after another and may be repeated."""

    def __init__(self) -> None:
        self._tail, self._row, self._times, self._column = b"", 0, 0, 0
        self._height, self._width = 0, 0

    @property
    def cells(self) -> int:
        return self._height * self._width

    def feed(self, chunk: bytes) -> None:
        window = self._tail + chunk
        whole = window.rfind(b"<")
        for name, attributes in _TAG.findall(window[:whole]):
            found = _REPEATED.search(attributes)
            times = int(found[1]) if found else 1
            if name == b"table":
                self._row, self._times = 0, 0
            elif name == b"table-row":
                self._row, self._times, self._column = self._row + self._times, times, 0
            else:
                self._column += times
                if b"value" in attributes:
                    self._width = max(self._width, self._column)
                    self._height = max(self._height, self._row + self._times)
        self._tail = window[whole:] if whole >= 0 else b""
