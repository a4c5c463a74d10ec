"""A source becomes a table: the bytes that were planned with, every cell typed on the whole column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from penstock.core.source import Source
from penstock.errors import DataError
from penstock.stages import infer, spool
from penstock.stages.columns import COLUMNS_SHOWN, chosen, write
from penstock.stages.csv_stream import blocks
from penstock.stages.infer import Guess
from penstock.stages.sniff import Dialect, refuse_nul, sniff, to_utf8


def read(
    source: Source, *, expect: str | None = None, spill: int = spool.SPILL, limit: int = spool.LIMIT
) -> tuple[Any, dict[str, Any]]:
    r"""Read one file: CSV in any dialect, also compressed, or Parquet.

    Parameters
    ----------
    source : Source
        Path and how to read it; what is not declared is sniffed.
    expect : str, optional
        SHA-256 of the file as planned; the bytes that are parsed must have it.
    spill : int
        Bytes of text above which the table is streamed to a Parquet file, block by block.
    limit : int
        Most bytes, decompressed.

    Returns
    -------
    table : pyarrow.Table or Written
        Text, int64, float64 (missing cells null), bool and timestamp columns.
    sniffed : dict
        What was found; `summary` is one line.

    Raises
    ------
    SourceNotFoundError, SourceChangedError
    DeclarationError
        An unknown encoding, type or separator.
    DataError
        Everything that is wrong with the bytes, with the line where there is one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = path.write_text("a;b\n1;?\n2;x\n")
    >>> table, sniffed = read(Source(str(path), ".csv"))
    >>> sniffed["summary"]
    '";" utf-8 · missing: "?" (1 cell in 1 column) · 2 × 2'
    """
    where = os.path.basename(source.path)
    infer.check_types(source.types, where)
    raw = spool.take(source.path, expect, spill=spill, limit=limit)
    try:
        kind = spool.kind_of(raw, where)
        if kind == "parquet":
            from penstock.stages.parquet_source import read_parquet

            return read_parquet(raw, source, where)
        if source.suffix == ".parquet":
            raise DataError("the file is named .parquet but does not begin as one", where=where)
        if kind:
            raw = spool.unpack(raw, kind, where)
        raw, start, encoding = to_utf8(raw, source.encoding, where)
        refuse_nul(raw, where)
        dialect = sniff(raw, start, source.sep, where, strip=source.strip)
        return _read_text(raw, source, dialect, encoding, kind, where)
    finally:
        raw.close()


def _read_text(
    text: spool.Spool, source: Source, dialect: Dialect, encoding: str, kind: str, where: str
) -> tuple[Any, dict[str, Any]]:
    columns = chosen(list(dialect.header), source, where)

    def rows() -> Iterable[Any]:
        found = blocks(text, dialect, columns, where)
        return infer.stripped(found) if source.strip else found

    stream = list(rows()) if text.in_memory else rows()
    guesses = _guesses(stream, columns, source, where)
    n_rows = next(iter(guesses.values())).cells
    if n_rows == 0:
        raise DataError(
            f"a header line with {len(columns)} columns and no rows below it", where=where, hint="the table has no data"
        )
    kinds = {name: infer.decide(guesses[name], _forced(name, source)) for name in columns}
    again = stream if text.in_memory else rows()
    typed = _typed(again, guesses, kinds, source, where)
    table: Any = write(typed) if not text.in_memory else _table(typed)
    sniffed = _sniffed(guesses, kinds, source, n_rows)
    sniffed["notes"] += _doubts(columns, encoding, source)
    head = {"format": "csv", "sep": dialect.sep, "quote": dialect.quote, "encoding": encoding, "compression": kind}
    shown = {"\t": "tab"}.get(dialect.sep, f'"{dialect.sep}"')
    first = f"{shown} {encoding.removesuffix('-sig')}" + (f" {kind}" if kind else "")
    sniffed["summary"] = " · ".join([first, *sniffed.pop("_parts"), f"{n_rows:,} × {len(columns)}"])
    return table, head | sniffed


def _forced(name: str, source: Source) -> str:
    return "datetime" if name in source.dates else source.types.get(name, "")


def _guesses(stream: Iterable[Any], columns: list[str], source: Source, where: str) -> dict[str, Guess]:
    guesses = {name: Guess() for name in columns}
    for name in columns:
        if _forced(name, source) == "category":
            guesses[name].words = set()
    for block in stream:
        for name, cells in zip(columns, block.columns, strict=True):
            found, forced = infer.guess(cells, source.na, guesses[name].kind), _forced(name, source)
            if forced in ("str", "category"):
                found.kind = "str"
            if forced == "category":
                gone = {"", *infer.NEVER_WORDS, *source.na}
                found.words = {word for word in cells.unique().to_pylist() if word not in gone}
            if forced == "datetime":
                _merge_zone(guesses[name], infer.zone(cells, where, name), where, name)
            guesses[name].merge(found)
    return guesses


def _merge_zone(known: Guess, new: bool | None, where: str, name: str) -> None:
    if new is not None and known.zoned is not None and new != known.zoned:
        raise DataError(f"column {name!r}: some dates carry an offset and some do not", where=where, column=name)
    known.zoned = known.zoned if new is None else new


def _typed(
    stream: Iterable[Any], guesses: dict[str, Guess], kinds: dict[str, str], source: Source, where: str
) -> Iterator[Any]:
    import pyarrow as pa

    for block in stream:
        arrays = [
            infer.convert(column, guesses[name], kinds[name], source.na, where, name)
            for name, column in zip(kinds, block.columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, names=list(kinds))


def _table(batches: Iterable[Any]) -> Any:
    """One table in one chunk a column, so that its bytes do not depend on how it was read."""
    import pyarrow as pa

    return pa.Table.from_batches(list(batches)).combine_chunks()


def _sniffed(guesses: dict[str, Guess], kinds: dict[str, str], source: Source, n_rows: int) -> dict[str, Any]:
    """What a person wants to know of the cells: markers taken as missing, markers left as text."""
    missing: dict[str, dict[str, int]] = {}
    kept: dict[str, dict[str, int]] = {}
    for name, found in guesses.items():
        as_text = kinds[name] in ("str", "category")
        gone = found.missing(source.na) if as_text else tuple(found.markers)
        for marker, count in found.markers.items():
            (missing if marker in gone else kept).setdefault(marker, {})[name] = count
        if found.blank:
            missing.setdefault("", {})[name] = found.blank
    parts = []
    if missing:
        parts.append("missing: " + ", ".join(_counted(m, missing[m]) for m in sorted(missing)))
    if kept:
        parts.append("left as text: " + ", ".join(_counted(m, kept[m]) for m in sorted(kept)))
    return {
        "n_rows": n_rows,
        "n_columns": len(kinds),
        "types": [[name, kind] for name, kind in kinds.items()],
        "missing": missing,
        "kept": kept,
        "notes": _notes(guesses, kinds, kept),
        "_parts": parts,
    }


def _counted(marker: str, columns: dict[str, int]) -> str:
    cells, n = sum(columns.values()), len(columns)
    return f'"{marker}" ({cells:,} cell{"s" * (cells != 1)} in {n:,} column{"s" * (n != 1)})'


def _doubts(columns: list[str], encoding: str, source: Source) -> list[str]:
    """What was read in good faith, but may be wrong."""
    doubts = []
    if source.encoding is None and encoding in ("cp1252", "latin-1"):
        doubts.append(f"not UTF-8: read as {encoding}, which is a guess; encoding= says it for certain")
    if all(name.lstrip("+-").replace(".", "", 1).isdigit() for name in columns):
        doubts.append("the header line holds only numbers: if it is a row of data, the file lacks its header line")
    return doubts


def _notes(guesses: dict[str, Guess], kinds: dict[str, str], kept: dict[str, dict[str, int]]) -> list[str]:
    notes = []
    for marker, columns in sorted(kept.items()):
        names = ", ".join(list(columns)[:5])
        notes.append(f'"{marker}" stays text in {names}: na=["{marker}"] makes it missing')
    empty = [name for name, kind in kinds.items() if kind == "empty"]
    if empty:
        notes.append(f"no value at all in {', '.join(empty[:COLUMNS_SHOWN])}")
    wide = [name for name, kind in kinds.items() if kind == "str" and guesses[name].kind == "int"]
    if wide:
        notes.append(f"kept as text, since float64 would not be exact: {', '.join(wide[:COLUMNS_SHOWN])}")
    return notes
