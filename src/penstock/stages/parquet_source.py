"""Sources whose columns have types already, Parquet and Arrow: judged by their metadata, then made plain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

from penstock.core.source import Source
from penstock.errors import DataError, bounded
from penstock.stages.columns import chosen, write
from penstock.stages.limits import ENCODED
from penstock.stages.partitions import Partitions
from penstock.stages.spool import Spool
from penstock.stages.text_source import agreed

CELL_BYTES = 8
BATCH_ROWS = 1 << 16
"""Rows decoded at once."""
PIECE_BYTES = 256 << 20
"""Bytes of texts spelled out at once."""
DAMAGED = "the {} file is damaged: {}"


class TypedTable(Protocol):
    """One file whose columns have types.

    Attributes
    ----------
    where, format : str
    header : list of str
    schema : pyarrow.Schema
        As it is in the file.
    n_rows : int
    estimate : int
        Bytes that the table takes at least.
    packed : int
        Bytes of the file.
    """

    where: str
    format: str
    header: list[str]
    schema: Any
    n_rows: int
    estimate: int
    packed: int

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of some columns; texts may still be dictionaries."""
        ...


class ParquetTable:
    """A Parquet file in a spool, of which only the metadata has been read.

    Raises
    ------
    DataError
        Damaged, too large by its own metadata, no rows, names twice.
    """

    format = "parquet"

    def __init__(self, raw: Spool, where: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._raw, self.where, self.packed = raw, where, raw.size
        try:
            file = pq.ParquetFile(raw.reader())
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"not a whole Parquet file: {bounded(str(error), 300)}", where=where) from None
        self.n_rows, self.estimate = file.metadata.num_rows, _estimate(file.metadata)
        if self.n_rows == 0:
            raise DataError("the Parquet file has no rows", where=where)
        raw.limits.check_rows(self.n_rows)
        if self.n_rows < 0 or self.estimate > raw.limits.bytes:
            raise DataError(
                f"its metadata speaks of {self.n_rows:,} rows × {file.metadata.num_columns:,} columns, about "
                f"{self.estimate:,} bytes from a file of {raw.size:,}: past the limit of {raw.limits.bytes:,}",
                where=where,
                hint="nothing was read; ps.read(…, max_bytes=…) raises the limit",
            )
        raw.limits.check_growth(self.estimate, raw.size, ENCODED)
        self.schema = file.schema_arrow
        self.header = checked_names(self.schema, where)

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches; texts come as dictionaries, so that they can be measured before they are spelled out."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [name for name in columns if not pa.types.is_primitive(self.schema.field(name).type)]
        rows = 0
        try:
            file = pq.ParquetFile(self._raw.reader(), read_dictionary=texts)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                rows += batch.num_rows
                if rows > self.n_rows:
                    break  # the limits were held against fewer rows
                batch.validate(full=True)  # a damaged page may point outside its dictionary, or hold no UTF-8
                yield batch
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(DAMAGED.format("Parquet", bounded(str(error), 300)), where=self.where) from None
        if rows != self.n_rows:
            more = " or more" * (rows > self.n_rows)
            raise DataError(f"its metadata speaks of {self.n_rows:,} rows, {rows:,}{more} were found", where=self.where)


def read_typed(
    tables: Sequence[TypedTable], source: Source, parts: Partitions, spill: int
) -> tuple[Any, dict[str, Any]]:
    """Read typed files as one table.

    Parameters
    ----------
    tables : sequence of TypedTable
        In the order of their rows.
    source : Source
    parts : Partitions
        Columns that the folders' names give.
    spill : int
        Bytes above which the table is written to a Parquet file, batch by batch.

    Returns
    -------
    table : pyarrow.Table or Written
    sniffed : dict

    Raises
    ------
    DataError
        Columns that differ between the files or are nested, too many bytes once decoded, damaged.
    """
    import pyarrow as pa

    where = tables[0].where
    header = agreed(tables)
    columns = chosen(parts.beside(header, where), source, where)
    dropped = [name for name in columns if name.startswith("__index_level_")]
    columns = [name for name in columns if name not in dropped]
    stored = [name for name in columns if name not in parts.names] or header[:1]
    plain = _common([pa.schema([plain_field(t.schema.field(n), t.where) for n in stored]) for t in tables], tables)
    wanted = pa.schema([declared_field(field, source) for field in plain])
    limits = parts.limits
    n_rows, estimate = sum(t.n_rows for t in tables), sum(t.estimate for t in tables)
    packed = sum(t.packed for t in tables)
    limits.check_rows(n_rows)
    limits.check_bytes(estimate)

    def batches() -> Iterator[Any]:
        size = 0
        for at, table in enumerate(tables):
            for batch in table.batches(stored):
                now = sum(_spelled_out(column) for column in batch.columns)
                size += now
                limits.check_bytes(size, "bytes of texts once spelled out")
                limits.check_growth(size, packed, ENCODED)
                for piece in _pieces(batch, now):
                    yield parts.with_columns(forced(_cast(piece, plain), wanted, source, table.where), at, columns)

    made = write(batches()) if estimate > spill else _gathered(batches(), spill)
    types = [[name, str(parts.types.get(name) or wanted.field(name).type)] for name in columns]
    several = f" · {len(tables):,} files" if parts.many else ""
    return made, {
        "format": tables[0].format,
        "n_rows": n_rows,
        "n_columns": len(columns),
        "types": types,
        "missing": {},
        "kept": {},
        "notes": [f"left out: {', '.join(dropped)} (an unnamed row index)"] if dropped else [],
        "summary": f"{tables[0].format}{several}{parts.shown} · {n_rows:,} × {len(columns)}",
    }


def _gathered(batches: Iterator[Any], spill: int) -> Any:
    """A table in memory; in a file once it is larger than its metadata said."""
    import pyarrow as pa

    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += sum(_spelled_out(column) for column in batch.columns)
        if size > spill:
            return write(chain(held, batches))
    return pa.Table.from_batches(held).unify_dictionaries().combine_chunks()


def _pieces(batch: Any, size: int) -> Iterator[Any]:
    """A batch in parts that can be held once their texts are spelled out."""
    rows = max(batch.num_rows * PIECE_BYTES // max(size, 1), 1)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _common(schemas: Sequence[Any], tables: Sequence[TypedTable]) -> Any:
    """One type for each column that holds those of all files.

    Raises
    ------
    DataError
        A number in one file and a text in another, by file.
    """
    import pyarrow as pa

    fields = []
    for at, field in enumerate(schemas[0]):
        kinds = list(dict.fromkeys(schema.field(at).type for schema in schemas))
        if len(kinds) > 1 and any(map(pa.types.is_dictionary, kinds)):
            kinds = list(dict.fromkeys(pa.string() if pa.types.is_dictionary(kind) else kind for kind in kinds))
        some = [kind for kind in kinds if not pa.types.is_null(kind)] or [pa.float64()]
        try:
            kind = pa.unify_schemas([pa.schema([("c", kind)]) for kind in some], promote_options="permissive").field(0)
        except (pa.ArrowException, TypeError):
            told = [f"{t.where}: {s.field(at).type}" for t, s in zip(tables, schemas, strict=True)]
            first = next(i for i, s in enumerate(schemas) if s.field(at).type != schemas[0].field(at).type)
            raise DataError(
                f"column {field.name!r} differs between the files: {told[0]}, {told[first]}",
                where=tables[first].where,
                hint="write it alike in all of them, or leave it out by columns=[…]",
                column=field.name,
            ) from None
        fields.append(plain_field(pa.field(field.name, kind.type), tables[0].where))
    return pa.schema(fields)


def _estimate(metadata: Any) -> int:
    """Bytes that the table takes at least: eight a cell, or what the pages say of themselves."""
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(pages, metadata.num_rows * metadata.num_columns * CELL_BYTES))


def checked_names(schema: Any, where: str) -> list[str]:
    """Names of the columns, none empty, none twice.

    Raises
    ------
    DataError
    """
    try:
        names = list(schema.names)
    except UnicodeDecodeError:
        raise DataError("a column's name is not UTF-8", where=where, hint="the file is damaged") from None
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not all(name.strip() for name in names):
        what = f"occur more than once: {', '.join(map(repr, twice[:10]))}" if twice else "are empty"
        raise DataError(f"column names {what}", where=where, hint="rename them where the file is written")
    return names


def plain_field(field: Any, where: str) -> Any:
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


def declared_field(field: Any, source: Source) -> Any:
    """A column with the type that `types=` and `dates=` give it."""
    import pyarrow as pa

    kind = "datetime" if field.name in source.dates else source.types.get(field.name, "")
    if kind == "datetime":
        return pa.field(field.name, field.type if pa.types.is_timestamp(field.type) else pa.timestamp("us"))
    plain = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    plain["category"] = pa.dictionary(pa.int32(), pa.string())
    return pa.field(field.name, plain.get(kind, field.type))


def forced(batch: Any, wanted: Any, source: Source, where: str) -> Any:
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
