"""A proxy between a client and an HTTP server that delays, cuts and lies, as networks and busy services do.

Each fault is given to one request, in the order in which requests come; all others pass unharmed.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOPS = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_NAMES = {503: "SlowDown", 412: "PreconditionFailed", 409: "ConditionalRequestConflict", 403: "AccessDenied"}
HANG_S = 60.0
"""A request that hangs is let go after this time, in seconds, or when the proxy stops."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    Attributes
    ----------
    kind : str
        "delay": answered after `value` seconds. "hang": never answered. "cut": the connection is reset after `value`
        bytes of the answer's body, for 0 before any answer. "slice": the body comes in pieces of `value` bytes.
        "status": answered with status `value`, the server is not asked. "lost": the server does it, and the answer is
        status `value`. "wrong": one byte of the body is another. "short": the body ends after `value` bytes and the
        length says so.
    value : float
    match : str
        Only for a request whose "METHOD path" has this in it.
    """

    kind: str
    value: float = 0
    match: str = ""


class FaultProxy:
    """Listens on a free port of the loopback interface and passes requests on.

    Parameters
    ----------
    host, port
        The server behind it.

    Attributes
    ----------
    faults : list of Fault
        Those that have not happened yet.
    seen : list of str
        "METHOD path" of each request.
    """

    def __init__(self, host: str, port: int) -> None:
        self.behind = (host, port)
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def plan(self, *faults: Fault) -> None:
        """Let these happen to the next requests that they match, one each."""
        with self._lock:
            self.faults.extend(faults)

    def take(self, line: str) -> Fault | None:
        """The fault for a request, and note the request."""
        with self._lock:
            self.seen.append(line)
            found = next((fault for fault in self.faults if fault.match in line), None)
            if found is not None:
                self.faults.remove(found)
            return found

    def stop(self) -> None:
        """End, letting go what hangs."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def _relay(self) -> None:
        self.close_connection = True
        fault = self.proxy.take(f"{self.command} {self.path}") or Fault("pass")
        body = self._body()
        if body is None:  # the client went in the middle of its request: no service takes a part for the whole
            return
        if fault.kind == "hang":
            self.proxy.stopping.wait(HANG_S)
            return
        if fault.kind == "status":
            self._answer(int(fault.value), [], _error(int(fault.value)))
            return
        status, headers, data = self._ask(body)
        if fault.kind == "lost":
            status, headers, data = int(fault.value), [], _error(int(fault.value))
        if fault.kind == "delay":
            self.proxy.stopping.wait(fault.value)
        if fault.kind == "wrong" and data:
            data = data[:-1] + bytes([data[-1] ^ 0x55])
        if fault.kind in ("wrong", "short"):  # a liar does not send a checksum that gives it away
            headers = [(name, value) for name, value in headers if "checksum" not in name and name != "etag"]
        if fault.kind == "short":
            data = data[: int(fault.value)]
        if fault.kind == "cut" and not fault.value:
            self._reset()
        else:
            self._answer(status, headers, data, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _relay  # noqa: N815  names that the base class looks for

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        return body if len(body) == size else None

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.proxy.behind, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in (*_HOPS, "expect")}
            connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
            answer = connection.getresponse()
            kept = [(name.lower(), value) for name, value in answer.getheaders()]
            if self.command == "HEAD":
                return answer.status, kept, b""
            return answer.status, [one for one in kept if one[0] not in _HOPS], answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in headers:
                if name not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self._send(data if self.command != "HEAD" else b"", fault)
        except OSError:  # the client gave up
            return

    def _send(self, data: bytes, fault: Fault | None) -> None:
        kind, value = (fault.kind, int(fault.value)) if fault is not None else ("pass", 0)
        if kind == "slice":
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(data), value):
                self.connection.sendall(data[start : start + value])
        elif kind == "cut":
            self.connection.sendall(data[:value])
            time.sleep(0.02)  # so that these bytes arrive before the reset
            self._reset()
        else:
            self.connection.sendall(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _error(status: int) -> bytes:
    name = _NAMES.get(status, "InternalError")
    return f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>{name}</Message></Error>".encode()
