"""A Parquet source: its size is judged from the metadata before anything is read, its types are made plain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.core.source import Source
from penstock.errors import DataError, bounded
from penstock.stages.columns import chosen, write
from penstock.stages.spool import Spool

CELL_BYTES = 8
BATCH_ROWS = 1 << 16
"""Rows decoded at once; fewer where a page may hold long texts."""


def read_parquet(raw: Spool, source: Source, where: str) -> tuple[Any, dict[str, Any]]:
    """Read a Parquet file that is already in a spool.

    Returns
    -------
    table : pyarrow.Table or Written
        Written when the decoded table is larger than the spool's memory.
    sniffed : dict

    Raises
    ------
    DataError
        Damaged, too large by its own metadata or once decoded, nested columns, no rows, names twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(raw.reader())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {bounded(str(error), 300)}", where=where) from None
    _judge(file.metadata, raw, where)
    columns = chosen(_names(file.schema_arrow, where), source, where)
    dropped = [name for name in columns if name.startswith("__index_level_")]
    columns = [name for name in columns if name not in dropped]
    schema = pa.schema([_plain(file.schema_arrow.field(name), where) for name in columns])
    wanted = pa.schema([pa.field(field.name, _declared(field, source)) for field in schema])
    batches = (_forced(batch, wanted, source, where) for batch in _batches(raw, schema, where))
    n_rows = file.metadata.num_rows
    if _estimate(file.metadata) > raw.spill:
        table: Any = write(batches)
    else:
        table = pa.Table.from_batches(list(batches), wanted).unify_dictionaries().combine_chunks()
    notes = [f"left out: {', '.join(dropped)} (an unnamed row index)"] if dropped else []
    return table, {
        "format": "parquet",
        "n_rows": n_rows,
        "n_columns": len(columns),
        "types": [[field.name, str(field.type)] for field in wanted],
        "missing": {},
        "kept": {},
        "notes": notes,
        "summary": f"parquet · {n_rows:,} × {len(columns)}",
    }


def _estimate(metadata: Any) -> int:
    """Bytes that the table takes at least: eight a cell, or what the pages say of themselves."""
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(pages, metadata.num_rows * metadata.num_columns * CELL_BYTES))


def _judge(metadata: Any, raw: Spool, where: str) -> None:
    """Refuse by the metadata alone what could not be held, or what has no rows."""
    if metadata.num_rows == 0:
        raise DataError("the Parquet file has no rows", where=where)
    if metadata.num_rows < 0 or _estimate(metadata) > raw.limit:
        raise DataError(
            f"its metadata speaks of {metadata.num_rows:,} rows × {metadata.num_columns:,} columns, about "
            f"{_estimate(metadata):,} bytes from a file of {raw.size:,}: past the limit of {raw.limit:,}",
            where=where,
            hint="nothing was read; split the file, or read it in a step of your own",
        )


def _names(schema: Any, where: str) -> list[str]:
    names = list(schema.names)
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not all(name.strip() for name in names):
        what = f"occur more than once: {', '.join(map(repr, twice[:10]))}" if twice else "are empty"
        raise DataError(f"column names {what}", where=where, hint="rename them where the file is written")
    return names


def _plain(field: Any, where: str) -> Any:
    """The type that a column gets: int, float, bool, text or time.

    Raises
    ------
    DataError
        Nested or binary columns.
    """
    import pyarrow as pa

    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):  # what pandas calls a category
            return pa.field(field.name, pa.dictionary(pa.int32(), pa.string()))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return pa.field(field.name, kind)
    if pa.types.is_floating(kind):
        return pa.field(field.name, pa.float32() if pa.types.is_float16(kind) else kind)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pa.field(field.name, pa.float64())
    if pa.types.is_date(kind):
        return pa.field(field.name, pa.timestamp("us"))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.field(field.name, pa.string())
    raise DataError(
        f"column {field.name!r} has the type {bounded(str(kind), 80)}: a table has numbers, booleans, text and times",
        where=where,
        hint="leave it out by columns=[…], or flatten it in a step that reads the file itself",
        column=field.name,
    )


def _batches(raw: Spool, schema: Any, where: str) -> Iterator[Any]:
    """Batches in plain types; texts are measured while still dictionaries, before they are spelled out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
    file = pq.ParquetFile(raw.reader(), read_dictionary=texts)
    rows, size = 0, 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(schema.names), use_threads=False):
            rows += batch.num_rows
            size += sum(_spelled_out(column) for column in batch.columns)
            if size > raw.limit:
                raise DataError(
                    f"its texts take more than {raw.limit:,} bytes once spelled out, from a file of {raw.size:,}",
                    where=where,
                    hint="split the file, or read it in a step of your own",
                )
            yield _cast(batch, schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the Parquet file is damaged: {bounded(str(error), 300)}", where=where) from None
    if rows != file.metadata.num_rows:
        raise DataError(f"its metadata speaks of {file.metadata.num_rows:,} rows, {rows:,} were found", where=where)


def _declared(field: Any, source: Source) -> Any:
    """The type of a column after `types=` and `dates=`."""
    import pyarrow as pa

    kind = "datetime" if field.name in source.dates else source.types.get(field.name, "")
    if kind == "datetime":
        return field.type if pa.types.is_timestamp(field.type) else pa.timestamp("us")
    if kind == "category":
        return pa.dictionary(pa.int32(), pa.string())
    plain = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    return plain.get(kind, field.type)


def _forced(batch: Any, wanted: Any, source: Source, where: str) -> Any:
    """A batch with `na=` applied to its texts and every column in the type that was declared."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = []
    for field, found in zip(wanted, batch.columns, strict=True):
        column = found
        if source.na and pa.types.is_string(column.type):
            gone = pc.is_in(column, pa.array(source.na, pa.string()))
            column = pc.if_else(gone, pa.scalar(None, pa.string()), column)
        if column.type != field.type:
            try:
                column = pc.cast(column, field.type)
            except pa.ArrowException as error:  # a cast that arrow refuses, or does not know
                raise DataError(
                    f"column {field.name!r} cannot be read as {field.type}: {bounded(str(error), 200)}",
                    where=where,
                    hint="correct types= or dates=",
                    column=field.name,
                ) from None
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _spelled_out(column: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    if len(column.dictionary) == 0:
        return 0
    return int(pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0)


def _cast(batch: Any, schema: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = []
    for field in schema:
        column = batch.column(field.name)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        column = column if column.type == field.type else pc.cast(column, field.type)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
