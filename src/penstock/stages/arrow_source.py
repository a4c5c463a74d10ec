"""Arrow IPC, as files (also called Feather) and as streams: each batch is measured before it is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from penstock.errors import DataError, bounded
from penstock.stages.limits import ENCODED
from penstock.stages.parquet_source import CELL_BYTES, checked_names
from penstock.stages.spool import Spool

MAGIC = 8
"""Bytes before the messages of a file; a stream has none."""
_EXTENSION = b"ARROW:extension:name"


class ArrowTable:
    """An Arrow IPC file or stream in a spool, of which only the messages' metadata has been read.

    Parameters
    ----------
    raw : Spool
    where : str
    stream : bool
        Whether it is a stream rather than a file.

    Raises
    ------
    DataError
        Damaged, too large by its own metadata, extension types, no rows, names twice.
    """

    format = "arrow"

    def __init__(self, raw: Spool, where: str, *, stream: bool) -> None:
        import pyarrow as pa

        self._raw, self._stream, self.where, self.packed = raw, stream, where, raw.size
        try:
            with self._open() as reader:
                self.schema = reader.schema
            self.n_rows, unpacked = self._measure()
        except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
            raise self._damaged(error) from None
        self.header = checked_names(self.schema, where)
        for field in self.schema:
            if isinstance(field.type, pa.BaseExtensionType) or _EXTENSION in (field.metadata or {}):
                raise DataError(
                    f"column {field.name!r} has an extension type: a table has numbers, booleans, text and times",
                    where=where,
                    hint="write it in a plain type",
                    column=field.name,
                )
        if self.n_rows == 0:
            raise DataError("the Arrow file has no rows", where=where)
        self.estimate = max(unpacked, self.n_rows * len(self.schema) * CELL_BYTES)

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of some columns, each held against its own metadata first."""
        import pyarrow as pa

        rows = 0
        try:
            with self._open() as reader:
                for batch in self._each(reader):
                    rows += batch.num_rows
                    if rows > self.n_rows:
                        break
                    batch.validate(full=True)
                    yield batch.select(columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from None
        if rows != self.n_rows:  # the list of batches at a file's end may name one twice, or leave one out
            raise DataError(f"its batches hold {self.n_rows:,} rows, {rows:,} or more were found", where=self.where)

    def _open(self) -> Any:
        import pyarrow as pa

        return pa.ipc.open_stream(self._raw.reader()) if self._stream else pa.ipc.open_file(self._raw.reader())

    def _each(self, reader: Any) -> Iterator[Any]:
        if self._stream:
            yield from reader
            return
        for at in range(reader.num_record_batches):
            yield reader.get_batch(at)

    def _measure(self) -> tuple[int, int]:
        """Rows, and bytes once unpacked, by the metadata of each message; refused as soon as they are too many."""
        import pyarrow as pa

        rows, unpacked = 0, 0
        for message in pa.ipc.MessageReader.open_stream(self._raw.reader(0 if self._stream else MAGIC)):
            if message.type not in ("record batch", "dictionary"):
                continue
            found, size = measured(message.metadata.to_pybytes(), memoryview(message.body))
            rows += found if message.type == "record batch" else 0
            unpacked += size
            self._raw.limits.check_rows(rows)
            estimate = max(unpacked, rows * CELL_BYTES * max(len(self.schema), 1))
            self._raw.limits.check_growth(estimate, self._raw.size, ENCODED)
        return rows, unpacked

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"not a whole Arrow file: {bounded(str(error), 300)}", where=self.where)


def measured(metadata: bytes, body: memoryview) -> tuple[int, int]:
    """Rows of a batch, and bytes that its buffers take once unpacked.

    Parameters
    ----------
    metadata : bytes
        The flatbuffer `Message` before a body (Arrow's columnar format, "Encapsulated message format").
    body : memoryview
        The buffers. A compressed one begins with its size as a little-endian int64, -1 where it is kept as it was.

    Raises
    ------
    struct.error
        Not such a message.
    """
    message = _Flat(metadata, *struct.unpack_from("<I", metadata, 0))
    kind, header = message.number(1, "<B"), message.table(2)
    batch = header.table(1) if kind == _DICTIONARY else header
    size = 0
    for offset, length in batch.pairs(2):
        stated = struct.unpack_from("<q", body, offset)[0] if length >= 8 and batch.has(3) else -1
        size += length if stated < 0 else stated
    return max(batch.number(0, "<q"), 0), size


_DICTIONARY = 2
"""Number of a dictionary batch among the kinds of messages; it holds a record batch of its own."""


class _Flat:
    """A table of a flatbuffer: its fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]
        if self._fields < 0:
            raise struct.error("no such table")
        (self._length,) = struct.unpack_from("<H", data, self._fields)

    def _place(self, field: int) -> int:
        slot = 4 + 2 * field
        offset = struct.unpack_from("<H", self._data, self._fields + slot)[0] if slot < self._length else 0
        return self._at + int(offset) if offset else 0

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def number(self, field: int, code: str) -> int:
        place = self._place(field)
        return int(struct.unpack_from(code, self._data, place)[0]) if place else 0

    def table(self, field: int) -> _Flat:
        place = self._place(field)
        if not place:
            raise struct.error("a part is missing")
        return _Flat(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Two int64 each of a vector of structs."""
        place = self._place(field)
        if not place:
            return
        start = place + struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, start)
        for i in range(count):
            yield struct.unpack_from("<qq", self._data, start + 4 + 16 * i)
