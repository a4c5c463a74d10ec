"""A query over files, by DuckDB: it sees the rows that the source reads, and nothing else of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import Written
from penstock.core.source import Source
from penstock.errors import DataError, DeclarationError, MissingExtraError, bounded
from penstock.stages import ingest
from penstock.stages.sql_order import has_order, in_order

TABLE = "data"
"""The name by which a query finds the rows of its source."""
SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "threads": "1",
    "preserve_insertion_order": "true",
}
"""In memory; no file, no network, no extension, no variable of Python's; then locked."""


def read(
    source: Source,
    *,
    query: str,
    params: Mapping[str, Any] | None = None,
    expect: str | None = None,
    **more: Any,
) -> tuple[Any, dict[str, Any]]:
    """Read the files as any source, then ask DuckDB.

    Parameters
    ----------
    source : Source
    query : str
        Its only table is `data`.
    params : mapping, optional
        Bound to `$name` in the query.
    expect, more
        As the engine tells every source.

    Returns
    -------
    table : pyarrow.Table
    sniffed : dict

    Raises
    ------
    DataError
        What DuckDB says of the query; no rows; columns that no table can hold.
    MissingExtraError
    """
    try:
        import duckdb  # noqa: F401  said before anything is read
    except ImportError:
        raise MissingExtraError("a query over files needs DuckDB", hint="pip install 'penstock[duckdb]'") from None
    table, sniffed = ingest.read(source, expect=expect, **more)
    try:
        found = _found(table, query, params)
    finally:
        if isinstance(table, Written):
            os.unlink(table.path)
    summary = f"{sniffed['summary']} → duckdb · {found.num_rows:,} × {found.num_columns}"
    types = [[field.name, str(field.type)] for field in found.schema]
    told = {"n_rows": found.num_rows, "n_columns": found.num_columns, "types": types, "summary": summary}
    return found, sniffed | told


def _found(table: Any, query: str, params: Mapping[str, Any] | None) -> Any:
    """The query's rows, in an order of their own where the query gives none."""
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.register(TABLE, _rows(table))
        for name, value in SETTINGS.items():
            connection.execute(f"SET {name} = {value}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        found = _asked(connection, query, params)
    finally:
        connection.close()
    return found if has_order(query) else in_order(found)


def _rows(table: Any) -> Any:
    """What DuckDB scans: a table in memory, or the file that a large one was written to."""
    if not isinstance(table, Written):
        return table
    import pyarrow.dataset as ds

    return ds.dataset(table.path, format="parquet")


def _asked(connection: Any, query: str, params: Mapping[str, Any] | None) -> Any:
    """The query's rows in the types of a table."""
    import duckdb

    where = "query"
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise DeclarationError("read: query=: one SELECT is meant", where=where)
        result = connection.sql(query, params=dict(params) if params else None)
        table = result.to_arrow_table() if hasattr(result, "to_arrow_table") else result.fetch_arrow_table()
    except duckdb.Error as error:
        said = bounded(" ".join(str(error).split()), 600)
        hint = f"the rows of the source are the table {TABLE}; no other table and no file can be read"
        raise DataError(f"DuckDB refused the query: {said}", where=where, hint=hint) from None
    if table.num_rows == 0:
        raise DataError("the query gives no rows", where=where, hint="the table has no data")
    return _plain(table, where)


def _plain(table: Any, where: str) -> Any:
    """Every column in a type that a table has."""
    import pyarrow as pa

    from penstock.stages.parquet_source import plain_field

    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        shown = ", ".join(map(repr, twice[:10]))
        raise DataError(f"column names occur more than once: {shown}", where=where, hint="name them in the query")
    fields = [_exact(field, table.column(field.name)) or plain_field(field, where) for field in table.schema]
    return table.cast(pa.schema(fields)).combine_chunks()


def _exact(field: Any, column: Any) -> Any:
    """Sums of whole numbers are HUGEINT, which Arrow has as a decimal: a whole number again where it fits."""
    import pyarrow as pa

    if not pa.types.is_decimal(field.type) or field.type.scale != 0:
        return None
    fits = all(-(2**63) <= int(value) < 2**63 for value in column.to_pylist() if value is not None)
    return pa.field(field.name, pa.int64() if fits else pa.string())
