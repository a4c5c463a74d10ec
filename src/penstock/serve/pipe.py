"""Messages between a server and its model process: JSON with bytes behind it, each with its length in front.

Nothing is pickled: what arrives is numbers, text, lists, and the bytes of a known format.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

MAX_HEAD = 1 << 28
MAX_BLOB = 1 << 34
"""Bytes of the two parts of a message, at most."""

_LENGTHS = struct.Struct(">QQ")


def send(connection: socket.socket, head: Any, blob: bytes = b"", until: float | None = None) -> None:
    """Send one message.

    Parameters
    ----------
    until : float or None
        `time.monotonic()` at which to give up.

    Raises
    ------
    OSError, TimeoutError
        The other side is gone, or does not read.
    """
    text = json.dumps(head, separators=(",", ":")).encode()
    connection.settimeout(_left(until))
    connection.sendall(_LENGTHS.pack(len(text), len(blob)) + text + blob)


def receive(connection: socket.socket, until: float | None = None) -> tuple[Any, bytes]:
    """Receive one message.

    Raises
    ------
    OSError, EOFError, TimeoutError, ValueError
        The other side is gone, does not answer in time, or says what is no message.
    """
    head, blob = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size, until))
    if head > MAX_HEAD or blob > MAX_BLOB:
        raise ValueError(f"a message of {head:,} + {blob:,} bytes")
    return json.loads(_exactly(connection, head, until)), _exactly(connection, blob, until)


def _exactly(connection: socket.socket, count: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        connection.settimeout(_left(until))
        part = connection.recv(min(count - len(data), 1 << 20))
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return bytes(data)


def _left(until: float | None) -> float | None:
    """Seconds until then, as a socket counts; never 0, which would mean "do not wait at all"."""
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
