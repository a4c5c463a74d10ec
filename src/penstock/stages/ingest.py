"""A source becomes a table: the bytes that were planned with, every cell typed on the whole column of all files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.source import Found, Source
from penstock.stages import infer, spool
from penstock.stages.columns import COLUMNS_SHOWN, chosen
from penstock.stages.infer import Guess
from penstock.stages.limits import Limits
from penstock.stages.one_pass import Typing
from penstock.stages.opened import Opened
from penstock.stages.parquet_source import read_typed
from penstock.stages.partitions import Partitions
from penstock.stages.sniff import ROW_INDEX
from penstock.stages.text_source import TextTable, agreed


def read(
    source: Source,
    *,
    expect: str | None = None,
    found: Found | None = None,
    spill: int = spool.SPILL,
    limit: int | None = None,
) -> tuple[Any, dict[str, Any]]:
    r"""Read one file or several as one table: CSV in any dialect, JSON lines, Parquet, Arrow or Excel.

    Parameters
    ----------
    source : Source
        Where the table is and how to read it; what is not declared is sniffed.
    expect : str, optional
        SHA-256 of the file as planned; the bytes that are parsed must have it.
    found : Found, optional
        The files as planned, each with its SHA-256; by default the one file at `source.path`.
    spill : int
        Bytes of text above which the table is streamed to a Parquet file, block by block.
    limit : int, optional
        Most bytes, decompressed, where the source does not say; by default by the machine's memory.

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
        Everything that is wrong with the bytes, with the file and the line where there is one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = path.write_text("a;b\n1;?\n2;x\n")
    >>> table, sniffed = read(Source(str(path), ".csv"))
    >>> sniffed["summary"]
    '";" utf-8 · missing: "?" (1 cell in 1 column) · 2 × 2'
    """
    found = found or Found(((os.path.basename(source.path), source.path, expect),))
    infer.check_types(source.types, found.files[0][0])
    limits = Limits.of(source, limit, found.files[0][0])
    opened = Opened(source, spill, limits, many=len(found.files) > 1)
    try:
        for name, path, digest in found.files:
            opened.add(name, path, digest)
        parts = Partitions([name for name, _, _ in found.files], source, opened.limits, many=found.many)
        if opened.typed:
            return read_typed(opened.typed, source, parts, spill)
        return _read_text(opened.texts, source, parts, in_memory=opened.in_memory)
    finally:
        opened.close()


def _read_text(
    tables: Sequence[TextTable], source: Source, parts: Partitions, *, in_memory: bool
) -> tuple[Any, dict[str, Any]]:
    first = tables[0]
    columns = chosen(parts.beside(agreed(tables), first.where), source, first.where)
    unnamed = ROW_INDEX in columns and source.columns is None
    columns = [name for name in columns if name != ROW_INDEX or not unnamed]
    stored = [name for name in columns if name not in parts.names] or first.header[:1]

    typing = Typing(
        tables,
        stored,
        source,
        parts.limits,
        width=len(columns),
        dress=lambda batch, at: parts.with_columns(batch, at, columns),
    )
    table = typing.in_memory() if in_memory else typing.streamed()
    guesses, kinds, n_rows = typing.guesses, typing.kinds(), typing.n_rows
    sniffed = _sniffed(guesses, kinds, source, n_rows)
    types = {name: kinds.get(name) or str(parts.types[name]) for name in columns}
    sniffed |= {"types": [list(pair) for pair in types.items()], "n_columns": len(columns)}
    sniffed["notes"] += [*_doubts(columns, first.head, source), *_told_apart(tables)]
    if unnamed:
        told = f"(row labels); columns=[{ROW_INDEX!r}, …] reads it"
        sniffed["notes"].append(f"left out: the first column, which has no name {told}")
    several = f" · {len(tables):,} files{parts.shown}" if parts.many else ""
    sniffed["summary"] = " · ".join(
        [first.shown + several, *sniffed.pop("_parts"), f"{n_rows:,} × {len(columns)}"],
    )
    return table, first.head | sniffed


def _told_apart(tables: Sequence[TextTable]) -> list[str]:
    """What the files say of themselves, and where they are not written alike."""
    notes = list(dict.fromkeys(note for table in tables for note in table.notes))
    other = [table for table in tables if table.shown != tables[0].shown]
    if other:
        notes.append(f"not all files are written alike: {tables[0].shown}, but {other[0].shown} in {other[0].where}")
    return notes


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


def _doubts(columns: list[str], head: Mapping[str, Any], source: Source) -> list[str]:
    """What was read in good faith, but may be wrong."""
    doubts = []
    encoding = head.get("encoding")
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
