"""Between the values of `penstock.store.rows` and PostgreSQL's types, which are one for each column.

Digests are `bytea` of 32 bytes; a text in their place carries a byte that UTF-8 never has. Texts are `text`, with NUL
and lone surrogates, which PostgreSQL cannot hold, and the escape character itself as the escape and four digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from psycopg.adapt import Buffer, Dumper, Loader

from penstock.store.rows import NoDigest, RawText, from_text, to_text

if TYPE_CHECKING:
    from psycopg import Connection

_ESCAPE = "\x10"
_UNSAFE = re.compile("[\x00\x10\ud800-\udfff]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")
_MARK = b"\xff"


def escape(text: str) -> str:
    r"""A text that PostgreSQL can hold; the beginning of a text stays the beginning of the escaped one.

    Examples
    --------
    >>> escape("a\x00b"), escape("plain")
    ('a\x100000b', 'plain')
    """
    return _UNSAFE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text) if _UNSAFE.search(text) else text


def escaped(values: Iterable[Any]) -> list[Any]:
    """Values with each text escaped. Not a matter for a dumper: one in Python makes a group three times as slow."""
    return [escape(value) if type(value) is str else value for value in values]


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if _ESCAPE in text else text


def key_bytes(key: bytes | str) -> bytes:
    r"""A key of `rows.to_key` as bytes: 32 for a digest, never 32 for any other text.

    Examples
    --------
    >>> from penstock.store.rows import to_key
    >>> len(key_bytes(to_key("ab" * 32))), key_bytes(to_key("ab"))
    (32, b'ab\xff')
    """
    if isinstance(key, bytes):
        return key
    data = key.encode("utf-8", "surrogatepass") + _MARK
    return data + _MARK if len(data) == 32 else data


def key_of(data: bytes) -> bytes | str:
    """The inverse of `key_bytes`."""
    return data if len(data) == 32 else NoDigest(data.rstrip(_MARK).decode("utf-8", "surrogatepass"))


def as_array(keys: Iterable[Any]) -> tuple[str, list[Any]]:
    """Keys of one kind as the type of an array and its items."""
    found = list(keys)
    if all(isinstance(key, int) for key in found):
        return "bigint[]", found
    if any(isinstance(key, RawText) or type(key) is str for key in found):
        return "text[]", [escape(from_text(key)) for key in found]
    return "bytea[]", [key_bytes(key) for key in found]


class _RawTextDumper(Dumper):
    oid = 25  # text

    def dump(self, obj: RawText) -> bytes:
        return escape(from_text(obj)).encode()


class _KeyDumper(Dumper):
    oid = 17  # bytea

    def dump(self, obj: NoDigest) -> bytes:
        return b"\\x" + key_bytes(obj).hex().encode()


class _TextLoader(Loader):
    def load(self, data: Buffer) -> str | bytes:
        text = bytes(data).decode()
        return to_text(unescape(text)) if _ESCAPE in text else text


class _KeyLoader(Loader):
    def load(self, data: Buffer) -> bytes | str:
        return key_of(bytes.fromhex(bytes(data)[2:].decode()))


def adapt(connection: Connection[Any]) -> None:
    """Let a connection take and give the values of `penstock.store.rows`."""
    adapters = connection.adapters
    adapters.register_dumper(RawText, _RawTextDumper)
    adapters.register_dumper(NoDigest, _KeyDumper)
    adapters.register_loader("text", _TextLoader)
    adapters.register_loader("bytea", _KeyLoader)
