"""A private copy of a source's bytes, hashed while it is made: what is hashed is what is used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from penstock.errors import DataError, SourceChangedError, SourceNotFoundError

CHUNK = 1 << 20
SPILL = 64 << 20
"""Bytes of text held in memory; more goes to an unnamed file, and the table comes out as a Parquet file."""
LIMIT = 32 << 30
"""Most bytes of text, after decompression, that one source may have."""


class Spool:
    """Bytes in memory up to a limit, beyond it in a file without a name, which dies with the process.

    Parameters
    ----------
    spill : int
        Bytes held in memory.
    limit : int
        Most bytes in all.
    """

    def __init__(self, spill: int = SPILL, limit: int = LIMIT) -> None:
        self.spill, self.limit = spill, limit
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    @property
    def in_memory(self) -> bool:
        """Whether all bytes are in memory."""
        return self._file is None

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises
        ------
        DataError
            More than `limit` bytes.
        """
        self.size += len(chunk)
        if self.size > self.limit:
            raise DataError(
                f"more than {self.limit:,} bytes of data: past what one source may hold",
                hint="split the file, or read it in a step of your own",
            )
        if self._file is None and self.size > self.spill:
            self._file = tempfile.TemporaryFile(prefix="penstock-")  # noqa: SIM115  closed by `close`
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += chunk
        else:
            self._file.write(chunk)

    def head(self, size: int, start: int = 0) -> bytes:
        """The first `size` bytes from `start`."""
        if self._file is None:
            return bytes(memoryview(self._memory)[start : start + size])
        self._file.seek(start)
        return self._file.read(size)

    def chunks(self, start: int = 0, size: int = CHUNK) -> Iterator[bytes]:
        """All bytes from `start`, a chunk at a time."""
        for at in range(start, self.size, size):
            yield self.head(size, at)

    def reader(self, start: int = 0) -> Any:
        """A pyarrow file over the bytes from `start`."""
        import pyarrow as pa

        if self._file is None:
            return pa.BufferReader(memoryview(self._memory)[start:])
        self._file.seek(start)
        return pa.PythonFile(self._file, mode="r")

    def close(self) -> None:
        """Give memory and file back."""
        if self._file is not None:
            self._file.close()
        self._file, self._memory, self.size = None, bytearray(), 0


def take(path: str, expect: str | None, *, spill: int = SPILL, limit: int = LIMIT) -> Spool:
    """Copy a file and hash the very bytes that are copied.

    Parameters
    ----------
    path : str
        The file.
    expect : str or None
        SHA-256 that the bytes must have, as 64 hexadecimal digits.

    Raises
    ------
    SourceNotFoundError
        No such file, a directory, or no permission.
    SourceChangedError
        The bytes are not those that were planned with.
    DataError
        Too large.
    """
    digest = hashlib.sha256()
    spool = Spool(spill, limit)
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                spool.write(chunk)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFoundError("there is no such file", where=path, hint="check data=ps.read(…)") from None
    except IsADirectoryError:
        raise SourceNotFoundError("this is a folder; one file can be read", where=path) from None
    except PermissionError:
        raise SourceNotFoundError("the file may not be read by this user", where=path) from None
    if expect is not None and digest.hexdigest() != expect:
        raise SourceChangedError(
            "the file is not the one that was planned with: it changed in between",
            where=name,
            hint="run again; if it is being written, wait until the writer has finished",
            expected=expect,
            found=digest.hexdigest(),
        )
    return spool


_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PAR1", "parquet"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"ARROW1", "arrow"),
)
_UNREADABLE = {
    "zstd": "zstd-compressed: compress it with gzip",
    "zip": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    "arrow": "an Arrow IPC file: save it as Parquet",
}


def kind_of(spool: Spool, where: str) -> str:
    """What the first bytes say: "gzip", "bz2", "xz", "parquet" or "" for plain text.

    Raises
    ------
    DataError
        A kind that cannot be read yet, or no bytes at all.
    """
    if spool.size == 0:
        raise DataError("the file is empty", where=where, hint="a table needs a header line and rows")
    head = spool.head(8)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            if kind in _UNREADABLE:
                raise DataError(f"the file is {_UNREADABLE[kind]}", where=where, kind=kind)
            return kind
    return ""


def unpack(spool: Spool, kind: str, where: str) -> Spool:
    """Decompress into another spool, within its limit; the first spool is closed.

    Raises
    ------
    DataError
        Corrupt or cut short, too large once decompressed, or empty.
    """
    plain = Spool(spool.spill, spool.limit)
    try:
        _decompress(spool, kind, plain.write)
    except DataError:
        plain.close()
        raise
    except Exception as error:  # zlib.error, EOFError, LZMAError, OSError: all mean the same
        plain.close()
        raise DataError(f"the {kind} data is corrupt or cut short: {error}", where=where) from None
    finally:
        spool.close()
    if plain.size == 0:
        raise DataError("the file is empty", where=where, hint="a table needs a header line and rows")
    return plain


def _decompress(spool: Spool, kind: str, write: Callable[[bytes], None]) -> None:
    import bz2
    import lzma
    import zlib

    if kind == "gzip":
        _gunzip(spool, write, lambda: zlib.decompressobj(wbits=31))
        return
    new: Callable[[], Any] = bz2.BZ2Decompressor if kind == "bz2" else lzma.LZMADecompressor
    machine = new()
    for chunk in spool.chunks():
        rest = chunk
        while rest or not (machine.needs_input or machine.eof):
            if machine.eof:
                machine = new()
            write(machine.decompress(rest, CHUNK))
            rest = machine.unused_data if machine.eof else b""
    if not machine.eof:
        raise EOFError("the end is missing")


def _gunzip(spool: Spool, write: Callable[[bytes], None], new: Callable[[], Any]) -> None:
    """Gzip members one after another; what follows the last, if only zeros, is padding."""
    machine = new()
    for chunk in spool.chunks():
        rest = chunk
        while rest:
            if machine.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                machine = new()
            write(machine.decompress(rest, CHUNK))
            rest = machine.unused_data if machine.eof else machine.unconsumed_tail
    write(machine.flush())
    if not machine.eof:
        raise EOFError("the end is missing")
