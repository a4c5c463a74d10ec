"""A private copy of a source's bytes, hashed while it is made: what is hashed is what is used."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from penstock.errors import DataError, SourceChangedError, SourceNotFoundError
from penstock.stages.limits import DEFLATED, Limits

CHUNK = 1 << 20
SAMPLE = 16 << 20
"""Bytes decompressed before the size of the whole is judged, and judged again."""
PIECE = 1 << 10
"""Bytes given at once to decompressors that do not tell how many of them they have used."""
SPILL = 96 << 20
"""Bytes of text held in memory; more goes to an unnamed file, and the table comes out as a Parquet file."""


class Spool:
    """Bytes in memory up to a limit, beyond it in a file without a name, which dies with the process.

    Parameters
    ----------
    spill : int
        Bytes held in memory.
    limits : Limits, optional
        Most bytes in all.
    """

    def __init__(self, spill: int = SPILL, limits: Limits | None = None) -> None:
        self.spill, self.limits = spill, limits or Limits.of()
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    @property
    def in_memory(self) -> bool:
        """Whether all bytes are in memory."""
        return self._file is None

    def expect(self, size: int) -> None:
        """Go to a file at once where so many bytes will not be held in memory."""
        if self._file is None and size > self.spill:
            self._file = tempfile.TemporaryFile(prefix="penstock-")  # noqa: SIM115  closed by `close`
            self._file.write(self._memory)
            self._memory = bytearray()

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises
        ------
        DataError
            More bytes than the limit.
        """
        self.size += len(chunk)
        self.limits.check_bytes(self.size)
        self.expect(self.size)
        if self._file is None:
            self._memory += chunk
        else:
            self._file.write(chunk)

    def cut(self, size: int) -> None:
        """Forget all bytes behind the first `size`."""
        self.size = size
        if self._file is None:
            del self._memory[size:]
        else:
            self._file.seek(size)
            self._file.truncate()

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

    def append(self, other: Spool) -> View:
        """Take in all bytes of another spool, which is closed; they are read through a view."""
        start = self.size
        for chunk in other.chunks():
            self.write(chunk)
        other.close()
        return View(self, start, self.size - start)

    def close(self) -> None:
        """Give memory and file back."""
        if self._file is not None:
            self._file.close()
        self._file, self._memory, self.size = None, bytearray(), 0


class View(Spool):
    """A part of another spool, read as if it were one of its own.

    Parameters
    ----------
    whole : Spool
    start, size : int
        In bytes.
    """

    def __init__(self, whole: Spool, start: int, size: int) -> None:
        super().__init__(whole.spill, whole.limits)
        self._whole, self._start, self.size = whole, start, size

    @property
    def in_memory(self) -> bool:
        """Whether the whole is in memory."""
        return self._whole.in_memory

    def head(self, size: int, start: int = 0) -> bytes:
        """The first `size` bytes from `start`."""
        return self._whole.head(max(min(size, self.size - start), 0), self._start + start)

    def reader(self, start: int = 0) -> Any:
        """A pyarrow file over the bytes from `start`."""
        import pyarrow as pa

        if self.in_memory:
            return pa.BufferReader(self.head(self.size, start))
        return pa.PythonFile(_Positioned(self, start), mode="r")

    def close(self) -> None:
        """Nothing: the whole gives memory and file back."""


class _Positioned(io.RawIOBase):
    """The bytes of a spool from a place on, with a position of its own."""

    def __init__(self, spool: Spool, start: int) -> None:
        super().__init__()
        self._spool, self._start, self._at = spool, start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._spool.size - self._start}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._spool.size - self._start - self._at, 0)
        data = self._spool.head(left if size is None or size < 0 else min(size, left), self._start + self._at)
        self._at += len(data)
        return data


def take(path: str, expect: str | None, *, spill: int = SPILL, limits: Limits | None = None, name: str = "") -> Spool:
    """Copy a file and hash the very bytes that are copied.

    Parameters
    ----------
    path : str
        The file.
    expect : str or None
        SHA-256 that the bytes must have, as 64 hexadecimal digits.
    name : str
        As it is told to people; the path's last part by default.

    Raises
    ------
    SourceNotFoundError
        No such file, a directory, or no permission.
    SourceChangedError
        The bytes are not those that were planned with.
    DataError
        Too large.
    """
    spool = Spool(spill, limits)
    try:
        _copy(path, expect, spool, name or os.path.basename(path))
    except BaseException:
        spool.close()
        raise
    return spool


def _copy(path: str, expect: str | None, spool: Spool, name: str) -> None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            spool.limits.check_bytes(size)
            spool.expect(size)
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


_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PAR1", "parquet"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow-stream"),
)
COMPRESSIONS = ("gzip", "bz2", "xz", "zstd")


def kind_of(spool: Spool, where: str) -> str:
    """What the first bytes say: a compression, "parquet", "arrow", "arrow-stream", "zip", "ole" or "" for plain text.

    Raises
    ------
    DataError
        No bytes at all.
    """
    if spool.size == 0:
        raise DataError("the file is empty", where=where, hint="a table needs a header line and rows")
    head = spool.head(8)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return ""


def unpack(spool: Spool, kind: str, where: str) -> Spool:
    """Decompress into another spool, within its limit; the first spool is closed.

    Raises
    ------
    DataError
        Corrupt or cut short, too large once decompressed, or empty.
    """
    plain = Spool(spool.spill, spool.limits)
    try:
        _decompress(spool, kind, plain)
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


def _decompress(spool: Spool, kind: str, plain: Spool) -> None:
    """Decompress piece by piece; now and then the size of the whole is judged by the part that has been seen."""
    import bz2
    import lzma

    judged = 0

    def write(data: bytes, taken: int) -> None:
        nonlocal judged
        plain.write(data)
        if plain.size - judged > SAMPLE:
            judged = plain.size
            plain.limits.check_growth(int(plain.size * (spool.size / max(taken, 1))), spool.size, DEFLATED)

    if kind == "gzip":
        _gunzip(spool, write)
        return
    if kind == "zstd":
        import pyarrow as pa

        packed = _Positioned(spool, 0)
        with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd") as stream:
            while data := stream.read(CHUNK):
                write(data, packed.tell())
        return
    new: Callable[[], Any] = bz2.BZ2Decompressor if kind == "bz2" else lzma.LZMADecompressor
    machine, taken = new(), 0
    for chunk in spool.chunks(size=PIECE):
        rest, taken = chunk, taken + len(chunk)
        while rest or not (machine.needs_input or machine.eof):
            if machine.eof:
                machine = new()
            write(machine.decompress(rest, CHUNK), taken)
            rest = machine.unused_data if machine.eof else b""
    if not machine.eof:
        raise EOFError("the end is missing")


def _gunzip(spool: Spool, write: Callable[[bytes, int], None]) -> None:
    """Gzip members one after another; what follows the last, if only zeros, is padding."""
    import zlib

    machine, taken = zlib.decompressobj(wbits=31), 0
    for chunk in spool.chunks():
        rest, taken = chunk, taken + len(chunk)
        while rest:
            if machine.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                machine = zlib.decompressobj(wbits=31)
            data = machine.decompress(rest, CHUNK)
            rest = machine.unused_data if machine.eof else machine.unconsumed_tail
            write(data, taken - len(rest))
    write(machine.flush(), spool.size)
    if not machine.eof:
        raise EOFError("the end is missing")
