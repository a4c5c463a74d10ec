"""Encoding and dialect of a text table: found once from its bytes, or held to what was declared."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.core.names import did_you_mean
from penstock.errors import DataError, DeclarationError
from penstock.stages.spool import Spool

SAMPLE = 1 << 18
"""Characters looked at to find the separator; the encoding is checked on every byte."""
HEADER_BYTES = 1 << 24
"""A header line is not longer than this."""
SEPARATORS = (",", ";", "\t", "|")
ROW_INDEX = "__index_level_0__"
"""What a first column without a name is called, as pandas calls it in Parquet: labels of rows that were saved along."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a text table are written.

    Attributes
    ----------
    sep, quote : str
        One character each.
    header : tuple of str
        Names of the columns.
    start : int
        Byte (of the UTF-8 text) at which the rows begin.
    lines : int
        Lines before the first row.
    quoted : bool
        Whether a quote character stands anywhere below the header.
    spaced : bool
        Whether a quote may follow a space after the separator, as in `1, "a, b"`.
    """

    sep: str
    quote: str
    header: tuple[str, ...]
    start: int
    lines: int
    quoted: bool
    spaced: bool


def to_utf8(spool: Spool, declared: str | None, where: str) -> tuple[Spool, int, str]:
    """Bring a source's bytes to UTF-8.

    Parameters
    ----------
    spool : Spool
        The bytes; closed if they had to be transcoded.
    declared : str or None
        Encoding that was declared; held to it.

    Returns
    -------
    spool : Spool
        UTF-8 bytes.
    start : int
        Bytes to skip (a byte-order mark).
    encoding : str
        As found or declared.

    Raises
    ------
    DeclarationError
        An encoding that Python does not know.
    DataError
        Bytes that are not in the encoding, with the line.
    """
    encoding = _normal(declared) if declared else _guess(spool)
    if declared:
        _hold(spool, encoding, where)
    if encoding in ("utf-8", "utf-8-sig"):
        start = 3 if spool.head(3) == codecs.BOM_UTF8 else 0
        if start:
            encoding = "utf-8-sig"
        if (declared or start) and not _is_utf8(spool):  # else the bytes were looked at to find the encoding
            _transcode(spool, "utf-8", None, where)
    else:
        text = Spool(spool.spill, spool.limits)
        try:
            _transcode(spool, encoding, text, where)
        except DataError:
            text.close()
            raise
        spool.close()
        spool = text
        start = 3 if spool.head(3) == codecs.BOM_UTF8 else 0  # utf-16-le and -be keep the mark
    return spool, start, encoding


def _normal(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except LookupError:
        known = ("utf-8", "utf-16", "latin-1", "cp1252", "iso8859-15", "utf-8-sig", "cp1250", "cp437")
        raise DeclarationError(
            f"read: encoding={name!r} is not known{did_you_mean(name, known)}", hint="leave it out to have it sniffed"
        ) from None
    return "latin-1" if found == "iso8859-1" else found


def _guess(spool: Spool) -> str:
    """Encoding by byte-order mark, by the place of NULs, by being valid UTF-8, else Western single bytes."""
    head = spool.head(4096)
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.4 * len(head) / 2 and even < 0.05 * len(head) / 2:
        return "utf-16-le"
    if even > 0.4 * len(head) / 2 and odd < 0.05 * len(head) / 2:
        return "utf-16-be"
    if _is_utf8(spool):
        return "utf-8"
    undefined = any(chunk.translate(None, _NOT_IN_CP1252) != chunk for chunk in spool.chunks())
    return "latin-1" if undefined else "cp1252"


def _is_utf8(spool: Spool) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    begun = False
    try:
        for chunk in spool.chunks():
            if begun or not chunk.isascii():
                decoder.decode(chunk)
                begun = bool(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _hold(spool: Spool, encoding: str, where: str) -> None:
    """Refuse a declared encoding that decodes, but only to nonsense."""
    head = spool.head(4096)
    if encoding.startswith("utf-16") and 0 not in head:
        raise DataError(
            f"declared encoding={encoding!r}, but these bytes are not UTF-16 (no byte is zero)",
            where=where,
            hint="leave encoding= out to have it sniffed",
        )
    single = len("é".encode(encoding, "ignore")) <= 1 and not encoding.startswith("utf")
    if single and not all(chunk.isascii() for chunk in spool.chunks()) and _is_utf8(spool):
        raise DataError(
            f"declared encoding={encoding!r}, but the bytes are UTF-8 with characters beyond ASCII: "
            "read as declared, each would turn into two or more wrong ones",
            where=where,
            hint='write encoding="utf-8", or leave it out',
        )


def _transcode(spool: Spool, encoding: str, to: Spool | None, where: str) -> None:
    """Decode every byte; write UTF-8 to `to` when given.

    Raises
    ------
    DataError
        With the line of the first byte that cannot be decoded.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line, at = 1, 0
    try:
        for chunk in spool.chunks():
            text = decoder.decode(chunk)
            line += text.count("\n")
            at += len(chunk)
            if to is not None:
                to.write(text.encode("utf-8"))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        shown = error.object[error.start : error.start + 4].hex(" ")
        raise DataError(
            f"line {line}: the bytes {shown} are not {encoding}: {error.reason}",
            where=where,
            hint="declare the right encoding=, or leave it out to have it sniffed",
            line=line,
        ) from None
    except UnicodeEncodeError as error:  # a lone surrogate inside UTF-16
        raise DataError(f"near line {line}: {error.reason}", where=where, line=line) from None


def refuse_nul(spool: Spool, where: str) -> None:
    """Refuse text with a NUL character in it.

    Raises
    ------
    DataError
        With its line.
    """
    for number, chunk in enumerate(spool.chunks()):
        at = chunk.find(0)
        if at >= 0:
            before = sum(earlier.count(b"\n") for _, earlier in zip(range(number), spool.chunks(), strict=False))
            line = 1 + before + chunk[:at].count(b"\n")
            raise DataError(
                f"line {line} holds a NUL byte: this is not a text table, or the file is damaged",
                where=where,
                hint="check how the file was written; a UTF-16 file needs its byte-order mark or encoding=",
                line=line,
            )


class Lines:
    """Text lines of a spool, endings kept (LF, CRLF or CR), counting the bytes handed out.

    Parameters
    ----------
    spool : Spool
        UTF-8 text.
    start : int
        Where to begin, in bytes.
    longest : int
        Most characters of one line; a longer one raises `csv.Error` before it is read whole.
    size : int, optional
        Bytes to look at.
    """

    def __init__(self, spool: Spool, start: int, longest: int, size: int | None = None) -> None:
        self._longest = longest
        raw: io.RawIOBase | io.BytesIO
        raw = io.BytesIO(spool.head(size, start)) if size is not None else _SpoolIO(spool, start)
        buffered = io.BufferedReader(raw, CHARS) if isinstance(raw, io.RawIOBase) else raw
        self._text = io.TextIOWrapper(buffered, "utf-8", errors="replace", newline="")
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._longest)
        if not line:
            raise StopIteration
        if len(line) >= self._longest and line[-1] not in "\r\n":
            raise csv.Error(f"a line has more than {self._longest:,} characters")
        self.bytes += len(line.encode("utf-8"))
        return line


CHARS = 1 << 16


class _SpoolIO(io.RawIOBase):
    def __init__(self, spool: Spool, start: int) -> None:
        super().__init__()
        self._spool, self._at = spool, start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        data = self._spool.head(len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def sniff(spool: Spool, start: int, declared: str | None, where: str, *, strip: bool = True) -> Dialect:
    """Separator, quote character and header of a text table.

    A separator is taken when it splits the header into more than one cell and the first rows most evenly.

    Raises
    ------
    DeclarationError
        A separator of more than one character.
    DataError
        No text, a wrong declared separator, duplicate or empty column names.
    """
    if declared is not None and len(declared) != 1:
        raise DeclarationError(f"read: sep={declared!r}: one character, such as ',', ';', '|' or a tab")
    sample = spool.head(SAMPLE, start).decode("utf-8", "ignore")
    if not sample.strip():
        raise DataError("the file has no text but blanks", where=where, hint="a table needs a header line and rows")
    quote = _quote(sample)
    best = _separator(sample, quote)
    sep = declared or best or ","
    if declared and best and declared != best and _width(sample, declared, quote) == 1:
        raise DataError(
            f"declared sep={declared!r} does not occur in the header line, but {best!r} splits it into "
            f"{_width(sample, best, quote)} columns",
            where=where,
            hint=f"write sep={best!r}, or leave it out to have it sniffed",
        )
    lines = Lines(spool, start, HEADER_BYTES, HEADER_BYTES)
    reader = csv.reader(lines, delimiter=sep, quotechar=quote, skipinitialspace=strip)
    try:
        header = next((row for row in reader if len(row) > 1 or "".join(row).strip()), [])
    except csv.Error as error:
        raise DataError(f"the header line cannot be read: {error}", where=where) from None
    names = tuple(cell.strip() if strip else cell for cell in header)
    if not names:
        raise DataError("the file has no text but blanks", where=where, hint="a table needs a header line and rows")
    if len(names) > 1 and not names[0].strip() and all(name.strip() for name in names[1:]):
        names = (ROW_INDEX, *names[1:])
    _check_names(names, sep, where)
    raw_sep, raw_quote = sep.encode(), quote.encode()
    rows = start + lines.bytes
    quoted = any(raw_quote in chunk for chunk in spool.chunks(rows))
    spaced = strip and quoted and _any_with_overlap(spool, rows, raw_sep + b" " + raw_quote)
    return Dialect(sep, quote, names, rows, reader.line_num, quoted, spaced)


def _any_with_overlap(spool: Spool, start: int, needle: bytes) -> bool:
    """Whether a few bytes occur, also across the border of two chunks."""
    tail = b""
    for chunk in spool.chunks(start):
        if needle in chunk or needle in tail + chunk[: len(needle)]:
            return True
        tail = chunk[-len(needle) :]
    return False


def _rows(sample: str, sep: str, quote: str, limit: int = 100) -> list[list[str]]:
    """Up to `limit` first records; the last, which may be cut, is left out when the sample is long."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=sep, quotechar=quote, skipinitialspace=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > limit:
                break
    except csv.Error:
        pass
    return rows[:-1] if len(rows) > limit or len(sample) >= SAMPLE - 4 else rows


def _width(sample: str, sep: str, quote: str) -> int:
    rows = _rows(sample, sep, quote, 1)
    return len(rows[0]) if rows else 0


def _separator(sample: str, quote: str) -> str:
    scored = []
    for order, sep in enumerate(SEPARATORS):
        rows = _rows(sample, sep, quote)
        width = len(rows[0]) if rows else 0
        if width > 1:
            even = sum(len(row) == width for row in rows) / len(rows)
            scored.append((even, width, -order, sep))
    return max(scored)[3] if scored else ""


def _quote(sample: str) -> str:
    """`'` when cells of the header are wrapped in it and `"` is not used; else `"`."""
    first = sample.lstrip().split("\n", 1)[0].strip()
    return "'" if '"' not in sample and len(first) > 2 and first[0] == first[-1] == "'" else '"'


def _check_names(names: tuple[str, ...], sep: str, where: str) -> None:
    empty = [str(i) for i, name in enumerate(names, 1) if not name.strip()]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} columns have no name: number {', '.join(empty[:10])}",
            where=where,
            hint=f"name them in the header line; a last column without a name is often a line that ends in {sep!r}",
        )
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    twice = [f"{name[:80]!r} ({n} times)" for name, n in seen.items() if n > 1]
    if twice:
        raise DataError(
            f"column names occur more than once: {', '.join(twice[:10])}",
            where=where,
            hint="rename them in the file; a table without a header line needs one",
        )
