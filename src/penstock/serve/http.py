"""The central route table and what holds for every route: hosts, methods, secrets, sizes, types, deadlines.

Deny by default. A route cannot be declared without saying all of it, matching is by exact path after one decoding,
and exemptions hang on the route object, never on how a path looks.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import secrets
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.errors import DataError, PenstockError
from penstock.serve.contract import Fault
from penstock.serve.door import refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names that a browser or a client on this machine uses; always allowed."""

MAX_BUFFERED = 64 << 20
"""Bytes of request bodies that are held at once, over all requests."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is given: the body, whole and within its limit."""

    body: bytearray


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler gives back; the body is strict JSON."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. Nothing has a default: a route without a declaration cannot be made.

    Attributes
    ----------
    method, path : str
    handler : coroutine function of a `Request`
    auth : "open" or "token"
        "token" asks for the secret where the server has one; a server without one is bound to loopback.
    max_body : int
        Bytes; 0 for a route that reads none.
    content_type : str
        The one that is read; "" for a route that reads no body.
    deadline_s : float
        From the first byte of the head to the answer.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    auth: Literal["open", "token"]
    max_body: int
    content_type: str
    deadline_s: float


class _GoneError(Exception):
    """The client went away before its request was whole."""


@dataclass(slots=True, eq=False)
class Router:
    """The ASGI application: every request passes the same checks in the same order.

    Parameters
    ----------
    routes : iterable of Route
    hosts : iterable of str
        Host names to answer to, besides loopback's.
    token : str or None
        The secret; None on loopback.

    Raises
    ------
    ValueError
        Two routes with one method and path, or a route that reads a body without a type or a limit.
    """

    routes: Iterable[Route]
    hosts: Iterable[str] = ()
    token: str | None = field(default=None, repr=False)
    max_buffered: int = MAX_BUFFERED
    table: dict[str, dict[str, Route]] = field(init=False, default_factory=dict)
    _hosts: frozenset[str] = field(init=False, default=frozenset())
    buffered: int = field(init=False, default=0)
    _prefix: str = field(init=False, default="")
    _counter: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        for route in self.routes:
            methods = self.table.setdefault(route.path, {})
            if route.method in methods or bool(route.max_body) != bool(route.content_type):
                raise ValueError(f"{route.method} {route.path}: declared twice, or a body without type or limit")
            methods[route.method] = route
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK, *self.hosts))
        self._prefix = secrets.token_hex(4)
        self._counter = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Other kinds of connection than HTTP are not spoken here."""
        if scope["type"] != "http":
            return
        body = _Body(self, receive)
        try:
            response = await self._respond(scope, body)
        except _GoneError:
            return
        finally:
            body.release()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(response.body)),
            *_HEADERS,
            *response.headers,
        ]
        if not body.is_whole and _announces_body(scope):
            headers.append((b"connection", b"close"))  # what is still to come is never read
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": False})

    async def _respond(self, scope: Scope, body: _Body) -> Response:
        try:
            route = self._admit(scope)
            if isinstance(route, Response):
                return route
            async with asyncio.timeout(route.deadline_s):
                data = await body.read(scope, route) if route.max_body else bytearray()
                return await route.handler(Request(data))
        except TimeoutError:
            return self._too_late(body)
        except DataError as error:
            faults: list[Fault] = error.facts.get("faults", [])
            status: int = error.facts.get("status", 422)
            return self.problem(status, error.what, faults=faults, retry_s=1 if status == 503 else 0)
        except _GoneError:
            raise
        except Exception as error:
            return self.fault(error)

    def _too_late(self, body: _Body) -> Response:
        if body.is_whole:
            return self.problem(503, "no answer within the deadline", retry_s=1)
        return self.problem(408, "the request was not whole within the deadline")

    def _admit(self, scope: Scope) -> Route | Response:
        """The route, once host, path, method and secret are right; the order never depends on the path's look."""
        headers = _collect(scope)
        if not self._host_allowed(headers.get(b"host", [])):
            return self.problem(421, "this server does not answer to that host name")
        methods = self.table.get(scope["path"])
        if methods is None:
            return self.problem(404, f"there is nothing here; there are {', '.join(sorted(self.table))}")
        route = methods.get(scope["method"])
        if route is None:
            allow = ", ".join(sorted(methods)).encode()
            return self.problem(405, "not with this method", headers=((b"allow", allow),))
        if route.auth == "token" and not self._has_secret(headers.get(b"authorization", [])):
            return self.problem(401, "the secret is missing or wrong", headers=((b"www-authenticate", b"Bearer"),))
        return route

    def _host_allowed(self, values: list[bytes]) -> bool:
        if len(values) != 1:
            return False
        name, port = _split_host(values[0].decode("latin-1").lower())
        return name in self._hosts and (port == "" or (port.isascii() and port.isdigit()))

    def _has_secret(self, values: list[bytes]) -> bool:
        if self.token is None:
            return True
        given = values[0] if len(values) == 1 else b""
        return hmac.compare_digest(given, b"Bearer " + self.token.encode())

    def new_id(self) -> str:
        """An id for an answer or an error: random a process, then counted."""
        return f"{self._prefix}-{next(self._counter):x}"

    def problem(
        self,
        status: int,
        what: str,
        *,
        faults: Iterable[Fault] = (),
        headers: tuple[tuple[bytes, bytes], ...] = (),
        retry_s: int = 0,
        name: str = "",
    ) -> Response:
        """An answer that says no: one sentence and an id, and the faults where there are any."""
        data: dict[str, Any] = {"error": what, "id": name or self.new_id()}
        if listed := [fault.to_json() for fault in faults]:
            data["faults"] = listed
        if retry_s:
            headers = (*headers, (b"retry-after", b"%d" % retry_s))
        return Response(status, json.dumps(data, allow_nan=False).encode(), headers)

    def fault(self, error: Exception) -> Response:
        """A fault of ours: the client gets an id, the log gets the rest under it."""
        name = self.new_id()
        kind = error.what if isinstance(error, PenstockError) else type(error).__name__
        print(f"penstock serve: error {name}: {kind}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        return self.problem(500, "a fault of the server's own; its log has more under this id", name=name)


class _Body:
    """Reads one request's body within its limits, and gives back what it held of the common budget."""

    __slots__ = ("_held", "_receive", "_router", "is_whole")

    def __init__(self, router: Router, receive: Receive) -> None:
        self._router = router
        self._receive = receive
        self._held = 0
        self.is_whole = False

    async def read(self, scope: Scope, route: Route) -> bytearray:
        """The whole body; refused before it is buffered where its head already says too much."""
        headers = _collect(scope)
        self._check_head(headers, route)
        data = bytearray()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise _GoneError
            chunk = message.get("body", b"")
            self._take(len(chunk), len(data), route)
            data += chunk
            if not message.get("more_body", False):
                break
        self.is_whole = True
        return data

    def _check_head(self, headers: dict[bytes, list[bytes]], route: Route) -> None:
        if any(value.lower() != b"identity" for value in headers.get(b"content-encoding", [])):
            raise refusal(415, "a compressed body is not read")
        types = headers.get(b"content-type", [])
        if len(types) != 1 or not _is_type(types[0], route.content_type):
            raise refusal(415, f"the body must be {route.content_type}")
        for value in headers.get(b"content-length", []):
            if not value.isdigit() or len(value) > 15 or int(value) > route.max_body:
                raise refusal(413, f"the body is larger than {route.max_body:,} bytes")

    def _take(self, size: int, before: int, route: Route) -> None:
        if before + size > route.max_body:
            raise refusal(413, f"the body is larger than {route.max_body:,} bytes")
        if self._router.buffered + size > self._router.max_buffered:
            raise refusal(503, "too many requests at once")
        self._router.buffered += size
        self._held += size

    def release(self) -> None:
        """Give the budget back."""
        self._router.buffered -= self._held
        self._held = 0


def _collect(scope: Scope) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def _split_host(text: str) -> tuple[str, str]:
    """Name and port of a Host header; an IPv6 address keeps its brackets.

    Examples
    --------
    >>> _split_host("[::1]:8000"), _split_host("localhost")
    (('[::1]', '8000'), ('localhost', ''))
    """
    if text.startswith("["):
        name, bracket, rest = text.partition("]")
        name += bracket
    else:
        name, colon, rest = text.partition(":")
        rest = colon + rest
    return name, rest[1:] if len(rest) > 1 and rest[0] == ":" else rest


def _is_type(value: bytes, wanted: str) -> bool:
    kind, _, rest = value.decode("latin-1").lower().partition(";")
    return kind.strip() == wanted and rest.strip() in ("", "charset=utf-8", 'charset="utf-8"')


def _announces_body(scope: Scope) -> bool:
    headers = _collect(scope)
    return b"transfer-encoding" in headers or any(value != b"0" for value in headers.get(b"content-length", []))
