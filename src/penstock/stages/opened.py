"""The files of one source, opened: each copied while it is hashed, unpacked, and known by what its bytes say."""

from __future__ import annotations

import os
from dataclasses import replace

from penstock.core.source import COMPRESSED, Source
from penstock.errors import DataError
from penstock.stages import spool
from penstock.stages.json_source import SUFFIXES, JsonTable
from penstock.stages.limits import Limits
from penstock.stages.parquet_source import ParquetTable, TypedTable
from penstock.stages.sniff import refuse_nul, sniff, to_utf8
from penstock.stages.text_source import CsvTable, TextTable


class Opened:
    """Files of one source.

    Parameters
    ----------
    source : Source
    spill : int
        Bytes of all files that are held in memory; more goes to a file without a name.
    limits : Limits
    many : bool
        Whether more than one file may come; a single one is not copied a second time.

    Attributes
    ----------
    texts : list of TextTable
        CSV, JSON lines and sheets, whose cells get their types from whole columns.
    typed : list of TypedTable
        Parquet and Arrow. Only one of the two lists has items.
    """

    def __init__(self, source: Source, spill: int, limits: Limits, *, many: bool) -> None:
        self._source, self._spill, self.limits, self._many = source, spill, limits, many
        self._kept = spool.Spool(spill, limits)
        self.texts: list[TextTable] = []
        self.typed: list[TypedTable] = []
        self._formats: dict[str, str] = {}

    @property
    def in_memory(self) -> bool:
        """Whether the bytes of all files are in memory."""
        return self._kept.in_memory

    def close(self) -> None:
        """Give memory and files back."""
        self._kept.close()

    def add(self, name: str, path: str, digest: str | None) -> None:
        """Open one more file.

        Parameters
        ----------
        name : str
            As it is told to people.
        path : str
        digest : str or None
            SHA-256 that its bytes must have.

        Raises
        ------
        SourceNotFoundError, SourceChangedError, MissingExtraError
        DataError
            Of another format than the files before, or anything that is wrong with its bytes.
        """
        where, limits = name, replace(self.limits, where=name)
        raw = spool.take(path, digest, spill=self._spill, limits=limits, name=name)
        try:
            kind = spool.kind_of(raw, where)
            compression = kind if kind in spool.COMPRESSIONS else ""
            if compression:
                raw = spool.unpack(raw, kind, where)
                kind = spool.kind_of(raw, where)
            if kind in spool.COMPRESSIONS:
                raise DataError("compressed twice", where=where, hint="unpack it once")
            suffix = _suffix(name) or self._source.suffix
            self._agree(kind, suffix, where)
            if kind:
                self._add_binary(raw, kind, where)
            else:
                raw = self._add_text(raw, compression, suffix, where)
        finally:
            if raw is not self._kept:
                raw.close()

    def _keep(self, raw: spool.Spool) -> spool.Spool:
        """Keep a file's bytes for as long as the table is read."""
        if self._many:
            return self._kept.append(raw)
        self._kept.close()
        self._kept = raw
        return raw

    def _agree(self, kind: str, suffix: str, where: str) -> None:
        """Hold a file against its own name, and against the format of the others."""
        for ending, formats, what in _NAMED:
            if suffix == ending and kind not in formats:
                raise DataError(f"the file is named {ending} but does not begin as {what}", where=where)
        found = "JSON lines" if not kind and _is_json(suffix) else _FORMATS.get(kind, "CSV")
        self._formats.setdefault(found, where)
        if len(self._formats) > 1:
            (one, first), (other, second) = self._formats.items()
            raise DataError(
                f"files of different formats are no one table: {one} ({first}), {other} ({second})",
                where=where,
                hint="read them apart; a pattern such as data/*.csv takes one kind",
            )

    def _add_binary(self, raw: spool.Spool, kind: str, where: str) -> None:
        if kind in ("zip", "ole"):
            from penstock.stages.excel_source import ExcelTable

            self.texts.append(ExcelTable(raw, self._kept, self._source, where))
            return
        if self._source.sheet is not None:
            raise DataError("sheet= names a sheet, but this is no workbook", where=where)
        kept = self._keep(raw)
        if kind == "parquet":
            self.typed.append(ParquetTable(kept, where))
            return
        from penstock.stages.arrow_source import ArrowTable

        self.typed.append(ArrowTable(kept, where, stream=kind == "arrow-stream"))

    def _add_text(self, raw: spool.Spool, compression: str, suffix: str, where: str) -> spool.Spool:
        raw, start, encoding = to_utf8(raw, self._source.encoding, where)
        try:
            refuse_nul(raw, where)
            if self._source.sheet is not None:
                raise DataError("sheet= names a sheet, but this is no workbook", where=where)
            if _is_json(suffix):
                table = JsonTable(raw, start, self._kept, self._source, compression, where, many=self._many)
                self.texts.append(table)
            else:
                dialect = sniff(raw, start, self._source.sep, where, strip=self._source.strip)
                kept = self._keep(raw)
                self.texts.append(CsvTable(kept, dialect, encoding, compression, where))
        except BaseException:
            raw.close()
            raise
        return raw


_FORMATS = {
    "parquet": "Parquet",
    "arrow": "Arrow",
    "arrow-stream": "Arrow",
    "zip": "Excel",
    "ole": "Excel",
}
_NAMED = (
    (".parquet", ("parquet",), "one"),
    (".pq", ("parquet",), "Parquet"),
    (".arrow", ("arrow", "arrow-stream"), "one"),
    (".feather", ("arrow",), "one (version 2)"),
    (".xlsx", ("zip", "ole"), "a workbook"),
    (".xls", ("zip", "ole"), "a workbook"),
    (".ods", ("zip",), "a workbook"),
)


def _suffix(name: str) -> str:
    """A name's suffix in small letters, without that of a compression."""
    stem, suffix = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] if suffix in COMPRESSED else suffix


def _is_json(suffix: str) -> bool:
    return any(suffix == one or suffix.startswith(one + ".") for one in SUFFIXES)
