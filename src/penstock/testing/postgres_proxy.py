"""A line to a PostgreSQL server that loses answers, goes dead and comes back: what a network does to commits."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import NamedTuple

_CHUNK = 1 << 16
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""What the server says when a commit is durable."""


class Seen(NamedTuple):
    """What went over the line: connections, turns of the client (round trips), commits whose answer was lost."""

    connections: int
    turns: int
    lost: int


class PostgresProxy:
    """Forwards a loopback port to a server; each connection has a thread.

    Parameters
    ----------
    port : int
        The server's.

    Attributes
    ----------
    lose : int
        So many of the next commits have their answer lost, with the connection: the server did what was asked.
    cut_after : int or None
        Cut each connection when the client has sent so many bytes: the server was perhaps not asked.
    frozen : bool
        Nothing goes through, and nobody is told.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = 0
        self.lose = 0
        self.cut_after: int | None = None
        self.frozen = False
        self._connections = self._turns = self._lost = 0
        self.up()

    def url(self, database: str, user: str = "penstock") -> str:
        """The URL of a database, through the proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def seen(self) -> Seen:
        """What went over the line so far."""
        return Seen(self._connections, self._turns, self._lost)

    def up(self) -> None:
        """Take connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))  # 0 at first: one that is free
        listener.listen(64)
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        """Cut every connection and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for line in self._open:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    close = down

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._connections += 1
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._server)) as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            try:
                self._forward(client, server)
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        sent, turned = 0, False
        while True:
            if self.frozen:
                threading.Event().wait(0.02)
                continue
            ready, _, _ = select.select([client, server], [], [], 0.05)
            for line in ready:
                data = line.recv(_CHUNK)
                if not data:
                    return
                if line is client:
                    self._turns += not turned
                    turned = True
                    if self.cut_after is not None and sent + len(data) > self.cut_after:
                        server.sendall(data[: self.cut_after - sent])
                        return
                    sent += len(data)
                    server.sendall(data)
                else:
                    turned = False
                    if self._loses(data):
                        return
                    client.sendall(data)

    def _loses(self, data: bytes) -> bool:
        with self._lock:
            if self.lose and COMMITTED in data:
                self.lose -= 1
                self._lost += 1
                return True
        return False
