"""Tables too large to hold: read in batches, written in batches, with the bytes that a held table would have."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.artifact import Artifact, Batched
from penstock.errors import FormatError
from penstock.formats import parquet
from penstock.formats.parquet_pandas import from_pandas, to_pandas

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

LARGE = 128 << 20
"""Bytes of a table's cells, decoded, from which our own stages read it in batches; a stage that holds a table
takes about five times its size."""
BATCH_ROWS = 1 << 17
CELL_BYTES = 8
_KINDS = frozenset(("string", "categories", "masked"))


def load(artifact: Artifact, objects: Objects) -> Any:
    """A table for a stage that can do without holding it.

    Returns
    -------
    StoredTable or pandas.DataFrame
        The frame, when it is small, or has columns whose dtype hangs on all of their cells (objects, booleans with
        gaps, categories that no pandas table wrote).

    Raises
    ------
    FormatError, CorruptObjectError, MissingObjectError
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    if artifact.size * 64 < LARGE:  # no table of ours shrinks so far: not worth opening twice
        return parquet.load(artifact, objects, "pandas")
    path = objects.fetch(artifact.digest)
    try:
        metadata = pq.read_metadata(path)
        if _decoded(metadata) >= LARGE:
            stored = StoredTable(path)
            if stored.even:
                return stored
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"These bytes are not a Parquet table: {str(error)[:500]}.") from error
    return parquet.load(artifact, objects, "pandas")


def _decoded(metadata: Any) -> int:
    """Bytes of a table's cells at least, by its metadata."""
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(pages, metadata.num_rows * metadata.num_columns * CELL_BYTES))


class StoredTable:
    """A Parquet file of ours as `core.artifact.StoredTable`: batches that convert as the whole table would.

    Parameters
    ----------
    path : str
        File with verified bytes.

    Attributes
    ----------
    columns : list of str
    even : bool
        Whether each batch has the dtypes that the whole table has; otherwise it cannot be read in batches.
    """

    def __init__(self, path: str) -> None:
        from pyarrow import parquet as pq

        self._path = path
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            self._rows: int = file.metadata.num_rows
        mark = json.loads((schema.metadata or {}).get(parquet.KEY, b"{}"))
        self._mark = mark if mark.get("made") == "pandas" else {}
        self._schema = schema.remove_metadata()
        self.columns: list[str] = list(schema.names)
        self._floats: list[str] = []
        self.even = not mark.get("types") and (self._even_by_mark() if self._mark else self._even_by_types())
        self.even = self.even and all(dtype.kind != "O" or str(dtype) != "object" for dtype in self._dtypes())

    def __len__(self) -> int:
        return self._rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows in order, some of the columns, at most `BATCH_ROWS` at a time."""
        import pyarrow as pa
        from pyarrow import parquet as pq

        wanted = self.columns if columns is None else list(columns)
        with pq.ParquetFile(self._path, pre_buffer=False, memory_map=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                yield pa.Table.from_batches([batch]).select(wanted).replace_schema_metadata()

    def frame(self, table: pa.Table) -> Any:
        """Some rows and columns of this table as pandas holds them."""
        frame = to_pandas(table, self._part_of_mark(table))
        gaps = {name: "float64" for name in self._floats if name in table.column_names}
        return frame.astype(gaps) if gaps else frame

    def _part_of_mark(self, table: pa.Table) -> dict[str, Any]:
        if not self._mark:
            return {}
        dtypes = dict(zip(self.columns, self._mark["columns"], strict=True))
        return self._mark | {"columns": [dtypes[name] for name in table.column_names], "rows": table.num_rows}

    def _dtypes(self) -> list[Any]:
        return list(self.frame(self._schema.empty_table()).dtypes) if self.even else []

    def _even_by_mark(self) -> bool:
        plain = all(isinstance(dtype, str) or not _KINDS.isdisjoint(dtype) for dtype in self._mark["columns"])
        return plain and not self._mark["index"]

    def _even_by_types(self) -> bool:
        """Plain types; whole numbers with a gap anywhere are floats everywhere, booleans with one are objects."""
        import pyarrow.types as of

        fields = list(self._schema)
        plain = (of.is_integer, of.is_floating, of.is_boolean, of.is_string, of.is_large_string, of.is_timestamp)
        if not all(any(test(field.type) for test in plain) for field in fields):
            return False
        doubtful = [field.name for field in fields if of.is_integer(field.type) or of.is_boolean(field.type)]
        gaps = dict.fromkeys(doubtful, 0)
        for batch in self.batches(doubtful) if doubtful else ():
            for name in doubtful:
                gaps[name] += batch.column(name).null_count
        self._floats = [name for name, n in gaps.items() if n and of.is_integer(self._schema.field(name).type)]
        return not any(n for name, n in gaps.items() if name not in self._floats)


def dump(value: Batched, stage: Stage) -> Artifact:
    """Write frames that together are one table, a row group at a time; the same bytes as the table at once.

    Raises
    ------
    FormatError
        As for a table that is held; or the frames do not fit together.
    """
    handle, path = tempfile.mkstemp(prefix="penstock-", suffix=".parquet")
    os.close(handle)
    try:
        _write(value, path)
        digest, size = stage(path)
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
    return Artifact(digest, "parquet", size)


def _write(value: Batched, path: str) -> None:
    from pyarrow import parquet as pq

    held = _Columns()
    writer, rows = None, 0
    try:
        for frame in value.frames():
            rows += held.take(frame, value.rows)
            while held.rows >= parquet.ROW_GROUP or (held.rows and rows == value.rows):
                writer = writer or pq.ParquetWriter(path, held.schema, **parquet.settings(held.schema))
                writer.write_table(held.give(), row_group_size=parquet.ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()
    if rows != value.rows:
        raise FormatError(f"A table of {value.rows:,} rows was promised, and {rows:,} were written.")


class _Columns:
    """Rows on their way to a row group: chunks of each column, joined one column at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self.schema: Any = None
        self._chunks: list[list[Any]] = []
        self._mark: Any = None

    def take(self, frame: Any, rows: int) -> int:
        """Hold some more rows of a table of `rows`; give their number."""
        table, mark = from_pandas(frame)
        mark["rows"] = rows
        if self.schema is None:
            text = json.dumps(mark, sort_keys=True, separators=(",", ":")).encode()
            self.schema, self._mark = table.schema.with_metadata({parquet.KEY: text}), mark
            self._chunks = [[] for _ in table.column_names]
        elif mark != self._mark or not table.schema.equals(self.schema):
            raise FormatError("The parts of a table that is written in batches do not have the same types.")
        for chunks, column in zip(self._chunks, table.columns, strict=True):
            chunks.extend(column.chunks)
        self.rows += table.num_rows
        return int(table.num_rows)

    def give(self) -> Any:
        """The first rows as one row group."""
        import pyarrow as pa

        columns = []
        for chunks in self._chunks:
            whole = pa.concat_arrays(chunks)
            rest = whole.slice(parquet.ROW_GROUP)
            # What is left is copied, so that it does not hold the rows that are written.
            chunks[:] = [pa.concat_arrays([rest])] if len(rest) else []
            columns.append(whole.slice(0, parquet.ROW_GROUP))
        self.rows = max(self.rows - parquet.ROW_GROUP, 0)
        return pa.Table.from_arrays(columns, schema=self.schema)
