"""Tables as Parquet: pandas, polars and pyarrow in and out, the same bytes from every process.

Columns are read back with the dtypes that the writer had. What Parquet or Arrow would change is written down in the
file's schema metadata under `penstock` and put back; what cannot be put back is refused. Index policy: a default
index (0, 1, 2, …) is not stored, any other range is stored as three numbers, every other index as columns that
become the index again when pandas reads them. `attrs` and flags of a frame are not kept.

lz4, no statistics, dictionary encoding for categories only: a step writes and reads its table once or twice, so CPU
counts for more than size (measured: dictionaries for all text cost 30 % more time and saved 1 % of the bytes).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Artifact
from penstock.errors import FormatError, bounded

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

KEY = b"penstock"
"""Key of our part of the schema's metadata; its value is JSON."""

ROW_GROUP = 1 << 20
"""Rows in one row group: part of the bytes, so it never changes with the library's default."""

_MAP_FROM = 32 << 20
"""Files from this many bytes are mapped instead of read into memory."""


def dump(value: Any, stage: Stage, made: str) -> Artifact:
    """Write a table.

    Parameters
    ----------
    made : str
        "pandas", "polars" or "arrow": whose table it is.

    Raises
    ------
    FormatError
        Names the column and the dtype that would not come back equal.
    """
    digest, size = stage(dumps(value, made))
    return Artifact(digest, "parquet", size)


def load(artifact: Artifact, objects: Objects, want: str = "") -> Any:
    """Read a table back.

    Parameters
    ----------
    want : str, default=""
        "pandas", "polars" or "arrow"; "" as it was made.

    Raises
    ------
    FormatError, CorruptObjectError, MissingObjectError
    """
    if artifact.size >= _MAP_FROM:
        return loads(objects.fetch(artifact.digest), want)
    return loads(objects.read(artifact.digest), want)


def dumps(value: Any, made: str) -> bytes:
    """The table's bytes; see `dump`."""
    import pyarrow as pa

    table, mark = _to_arrow(value, made)
    names = table.column_names
    if len(set(names)) != len(names):
        raise FormatError(
            "Two columns have the same name.",
            where=bounded(f"column {next(name for name in names if names.count(name) > 1)!r}", 200),
            hint="Rename one of them.",
        )
    _check_types(table.schema)
    metadata = {KEY: json.dumps(mark, sort_keys=True, separators=(",", ":")).encode()}
    kept = {key: text for key, text in (table.schema.metadata or {}).items() if key not in (KEY, b"pandas")}
    table = table.replace_schema_metadata({**kept, **metadata})
    try:
        return _write(table)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"This table cannot be written as Parquet: {bounded(str(error), 500)}.") from error


def loads(source: bytes | str, want: str = "") -> Any:
    """A table from bytes, or from the path of a file.

    Raises
    ------
    FormatError
        Not Parquet, or made of types that this version cannot put back.
    """
    import pyarrow as pa

    table, mark = _read(source)
    want = want or mark.get("made", "pandas")
    try:
        if want == "arrow":
            return _without_index(table, mark)
        if want == "polars":
            import polars as pl

            return pl.from_arrow(_without_index(table, mark))
        from penstock.formats.parquet_pandas import to_pandas

        return to_pandas(table, mark if mark.get("made") == "pandas" else {})
    except (pa.ArrowException, ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"This table cannot be read as {want}: {bounded(str(error), 500)}.") from error


def _to_arrow(value: Any, made: str) -> tuple[pa.Table, dict[str, Any]]:
    """The Arrow form of a table, and what has to be written down beside it."""
    if made == "pandas":
        from penstock.formats.parquet_pandas import from_pandas

        return from_pandas(value)
    if made == "polars":
        return _from_polars(value)
    table = value.combine_chunks()
    mark: dict[str, Any] = {"made": "arrow"}
    lost = _lost_types(table)
    if lost:
        mark["types"] = lost
    return table, mark


def _from_polars(frame: Any) -> tuple[pa.Table, dict[str, Any]]:
    import polars as pl
    import pyarrow as pa

    try:
        table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        back = pl.from_arrow(_read(_write(table.slice(0, 0)))[0])
    except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, TypeError, OSError) as error:
        raise FormatError(f"This polars table has no form in Arrow: {bounded(str(error), 500)}.") from error
    assert isinstance(back, pl.DataFrame)
    for name, dtype in frame.schema.items():
        if back.schema.get(name) != dtype:
            raise FormatError(
                f"The polars dtype {bounded(str(dtype), 200)} would not come back equal.",
                where=bounded(f"column {name!r}", 200),
                hint=f"Cast it, for example to {back.schema.get(name)}.",
            )
    return table, {"made": "polars"}


def _write(table: pa.Table) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        **settings(table.schema),
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def settings(schema: pa.Schema) -> dict[str, Any]:
    """How every table of ours is written: part of its bytes."""
    import pyarrow as pa

    return {
        "version": "2.6",
        "compression": "lz4",
        "use_dictionary": [field.name for field in schema if pa.types.is_dictionary(field.type)],
        "write_statistics": False,
        "use_compliant_nested_type": False,  # the items of a list keep the name that Arrow gave them
    }


def _read(source: bytes | str) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        place = pa.py_buffer(source) if isinstance(source, bytes) else pa.memory_map(source)
        with parquet.ParquetFile(place, pre_buffer=False) as file:
            table = file.read(use_threads=file.metadata.num_rows * file.metadata.num_columns > 1_000_000)
        mark = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
        if mark.get("types"):
            table = _recast(table, mark["types"])
    except (pa.ArrowException, ValueError, OSError, AttributeError, KeyError) as error:
        raise FormatError(f"These bytes are not a Parquet table: {bounded(str(error), 500)}.") from error
    return table.replace_schema_metadata(
        {key: text for key, text in (table.schema.metadata or {}).items() if key != KEY} or None
    ), mark


def _without_index(table: pa.Table, mark: dict[str, Any]) -> pa.Table:
    """Without the columns of a pandas index that has no name: they are row labels, not data."""
    unnamed = [entry["column"] for entry in mark.get("index", []) if "column" in entry and entry["name"] is None]
    return table.drop_columns(unnamed) if unnamed else table


# ── types that Parquet changes ───────────────────────────────────────────────────────────────────────────────


def _check_types(schema: pa.Schema) -> None:
    """Refuse extension types: reading them back would hand the file's own words to registered code."""
    import pyarrow as pa

    for field in schema:
        if isinstance(field.type, pa.BaseExtensionType):
            raise FormatError(
                f"The Arrow extension type {bounded(str(field.type), 200)} is not kept.",
                where=bounded(f"column {field.name!r}", 200),
                hint="Store its values as a plain type (column.combine_chunks().storage).",
            )


def _lost_types(table: pa.Table) -> dict[str, str]:
    """Units of the timestamps that Parquet keeps in a finer one, by column.

    Raises
    ------
    FormatError
        Another type that would read back as a different one (a dictionary of numbers, for instance).
    """
    import pyarrow as pa

    lost: dict[str, str] = {}
    try:
        back = _read(_write(table.slice(0, 0)))[0].schema
    except (pa.ArrowException, FormatError) as error:
        raise FormatError(f"This table cannot be written as Parquet: {bounded(str(error), 500)}.") from error
    for field in table.schema:
        found = back.field(field.name).type
        if found.equals(field.type):
            continue
        if not pa.types.is_timestamp(field.type):
            raise FormatError(
                f"The Arrow type {bounded(str(field.type), 200)} would come back as {bounded(str(found), 200)}.",
                where=bounded(f"column {field.name!r}", 200),
                hint="Cast the column to that type first.",
            )
        lost[field.name] = field.type.unit
    return lost


def _recast(table: pa.Table, units: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    for name, unit in units.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        field = field.with_type(pa.timestamp(unit, field.type.tz))
        table = table.set_column(place, field, table.column(place).cast(field.type))
    return table
