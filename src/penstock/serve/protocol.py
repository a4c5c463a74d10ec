"""The HTTP/1.1 connection: uvicorn's httptools protocol with the limits that it leaves open.

uvicorn bounds neither the size of a request's head nor the time until it is whole, and it counts a connection only
when its request has arrived. Here a head has a size and a deadline, and connections have a number.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 32 << 10
"""Bytes of request line and headers."""

HEAD_DEADLINE_S = 10.0
"""Seconds until a request's head is whole."""

MAX_CONNECTIONS = 2_000
"""Connections, idle ones included."""

_HEADERS = (
    b"content-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    b"connection: close\r\n"
)
_FULL = b'{"error":"too many connections"}'
_LARGE = b'{"error":"the head of the request is too large"}'


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    max_connections = MAX_CONNECTIONS
    max_head = MAX_HEAD
    head_deadline_s = HEAD_DEADLINE_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head = 0
        self._unparsed = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or say that there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._end(b"503 Service Unavailable", _FULL, b"retry-after: 1\r\n")
            return
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that goes on for too long ends the connection."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._unparsed += len(data)
            if self._unparsed > self.max_head and not self.transport.is_closing():
                self._end(b"431 Request Header Fields Too Large", _LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._start_head()

    def on_url(self, url: bytes) -> None:
        """Part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _start_head(self) -> None:
        self._in_head = True
        self._head = self._unparsed = 0
        self._stop_timer()
        self._head_timer = self.loop.call_later(self.head_deadline_s, self._head_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._drop()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for a while."""
        self._drop()

    def _drop(self) -> None:
        """Close; who does not even read the last answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self.max_head:
            raise ValueError("head too large")  # httptools wraps it, uvicorn answers 400

    def _end(self, status: bytes, body: bytes, extra: bytes = b"") -> None:
        """Answer outside of any request and close."""
        self._stop_timer()
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + _HEADERS + extra + length + body)
        self.transport.close()
