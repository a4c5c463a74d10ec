"""JSON lines over a socket, and the messages that coordinator, server and workers exchange.

Coordinator → server: ``open`` (import this file), ``fork`` (with a socket for the new worker), ``split`` (with one
for another server that has imported the same), ``become`` (turn into a worker yourself). Server → coordinator:
``flow`` or ``error``, then ``exit`` for each child. Coordinator → worker: tasks. Worker → coordinator: ``hello``,
then an answer to each task, in their order, and before it what the step has finished so far (``kept``).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from penstock import errors
from penstock.errors import DeclarationError, InternalError, PenstockError, StepError

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


BLOCK = 1 << 16
"""Bytes that are asked for at once; memory for more is mapped and unmapped by the system on every call."""


class Lines:
    """One end of a conversation in JSON lines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self.closed = False

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    def send(self, *messages: Any) -> None:
        """Send messages; blocks until the other side took them.

        Raises
        ------
        OSError
            The other side is gone.
        """
        text = "".join(_encode(message) + "\n" for message in messages)
        self.sock.sendall(text.encode("utf-8", "surrogatepass"))

    def receive(self) -> list[Any]:
        """Messages that have arrived; waits for the first bytes. `closed` is set when the other side is gone."""
        try:
            data = self.sock.recv(BLOCK)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            self.closed = True
            return []
        self._buffer += data
        if b"\n" not in data:
            return []
        lines, _, rest = self._buffer.rpartition(b"\n")
        self._buffer = bytearray(rest)
        return [_decode(line.decode("utf-8", "surrogatepass")) for line in bytes(lines).split(b"\n")]

    def next(self) -> Any:
        """The next single message; None when the other side is gone."""
        while True:
            messages = self.receive()
            if messages:
                return messages[0]
            if self.closed:
                return None

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        self.sock.close()


def rebuilt(data: Mapping[str, Any]) -> PenstockError:
    """An error that came over the wire, as the exception that it was."""
    kind = getattr(errors, data.get("error", ""), InternalError)
    if not (isinstance(kind, type) and issubclass(kind, PenstockError)):
        kind = InternalError
    place: dict[str, Any] = {"where": data.get("where", ""), "hint": data.get("hint", "")}
    if issubclass(kind, StepError):
        return kind(data["what"], traceback=data.get("traceback", ""), **place)
    facts = dict(data.get("facts", {}))
    if data.get("traceback"):
        facts["traceback"] = data["traceback"]
    if not issubclass(kind, DeclarationError):
        return kind(data["what"], **place, **facts)
    error = kind(data["what"], **place)
    error.facts.update(facts)
    return error
