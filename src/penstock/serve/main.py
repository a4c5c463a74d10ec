"""Starting and stopping one server process.

It binds to loopback unless a secret is given, tells the bound port on a pipe once it answers, ends within five
seconds of SIGTERM, and ends when the process that started it does (the lifeline).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import ipaddress
import json
import os
import re
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.errors import ConfigurationError, MissingExtraError, PenstockError, UsageError

if TYPE_CHECKING:
    from penstock.core.ports import Home
    from penstock.serve.follow import Holder
    from penstock.serve.http import Router

EXTRA = ("uvicorn", "httptools", "msgspec") + (() if sys.platform == "win32" else ("uvloop",))
"""What the extra `serve` brings."""

TOKEN_ENV = "PENSTOCK_TOKEN"  # noqa: S105 -- the name of a variable, not a secret
"""The environment variable that holds the secret, when no other is named."""

MIN_TOKEN = 16
"""Characters of a secret, at least."""

KEEP_ALIVE_S = 20
"""Seconds after which a connection on which nothing comes is closed."""

SPARE_FILES = 64
"""Open files that are kept for libraries, the store, the ledger and the log."""

STOP_S = 3
"""Seconds in which open requests may end after SIGTERM."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Options:
    """One server.

    Attributes
    ----------
    workflow : str
        Name of the workflow.
    project : str
        The project's root.
    host, port : str, int
        Where to listen; port 0 takes any free one.
    version : int or None
        Serve this version and follow nothing (a scratch server); None follows the ledger's deployment.
    log : bool
        Keep the prediction log.
    ready_fd, lifeline_fd : int or None
        A pipe for one JSON line once the server answers (or "error": why it does not start); a pipe whose
        end of file stops the server.
    token : str or None
        The secret.
    hosts : tuple of str
        Further host names to answer to.
    quiet : bool
        Say neither where it listens nor why it does not start: whoever started it tells.
    """

    workflow: str
    project: str
    host: str = "127.0.0.1"
    port: int = 8000
    version: int | None = None
    log: bool = True
    ready_fd: int | None = None
    lifeline_fd: int | None = None
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    quiet: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run one server from a command line; gives the exit code.

    Stopping it as asked (SIGTERM, Ctrl-C, the lifeline) is 0.
    """
    options = parse(argv)
    try:
        return serve(options)
    except PenstockError as error:
        if not options.quiet:
            print(f"penstock serve: {error}", file=sys.stderr)
        if options.ready_fd is not None:
            _write_line(options.ready_fd, error.to_json() | {"error": error.what, "kind": type(error).__name__})
        return error.exit_code


def parse(argv: Sequence[str] | None = None) -> Options:
    """Options from a command line; the secret comes from the environment only, never from an argument."""
    parser = argparse.ArgumentParser(
        prog="python -m penstock.serve", description="Serve one workflow's model.", allow_abbrev=False
    )
    parser.add_argument("--workflow", required=True, help="name of the workflow")
    parser.add_argument("--project", default=".", help="root of the project")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    parser.add_argument("--version", type=int, help="serve this version and follow nothing")
    parser.add_argument("--log", action=argparse.BooleanOptionalAction, default=True, help="keep the prediction log")
    parser.add_argument("--allow-host", action="append", default=[], help="a further host name to answer to")
    parser.add_argument("--quiet", action="store_true", help="say nothing: whoever starts it tells")
    parser.add_argument("--token-env", default=TOKEN_ENV, help="environment variable that holds the secret")
    parser.add_argument("--ready-fd", type=int, help="pipe for one JSON line once the server answers")
    parser.add_argument("--lifeline", type=int, help="pipe whose end of file stops the server")
    given = parser.parse_args(argv)
    # A scratch server belongs to the process that started it and to nobody else: it needs no secret.
    scratch = given.version is not None and given.lifeline is not None and is_loopback(given.host)
    return Options(
        workflow=given.workflow,
        project=os.path.abspath(given.project),
        host=given.host,
        port=given.port,
        version=given.version,
        log=given.log,
        ready_fd=given.ready_fd,
        lifeline_fd=given.lifeline,
        token=None if scratch else os.environ.get(given.token_env) or None,
        hosts=tuple(given.allow_host),
        quiet=given.quiet,
    )


def check(options: Options) -> None:
    """Refuse what must not start.

    Raises
    ------
    MissingExtraError
        The extra `serve` is not installed.
    UsageError
        A name or port that cannot be, or an address beyond loopback without a secret.
    """
    absent = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingExtraError(
            f"serving needs {', '.join(absent)}, not installed here", hint="pip install 'penstock[serve]'"
        )
    if not _NAME.match(options.workflow):
        raise UsageError(f"{options.workflow[:100]!r} is not the name of a workflow")
    if not 0 <= options.port <= 65_535:
        raise UsageError(f"port {options.port} is not between 0 and 65535")
    if options.token is not None and (len(options.token) < MIN_TOKEN or not options.token.isascii()):
        raise ConfigurationError(
            f"the secret has fewer than {MIN_TOKEN} characters, or others than ASCII",
            hint='make one with: python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    if not is_loopback(options.host) and options.token is None:
        raise UsageError(
            f"{options.host} can be reached from other machines, and there is no secret",
            hint=f"set {TOKEN_ENV} (clients send it as `Authorization: Bearer …`), or listen on 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(options: Options, open_home: Callable[[str], Home] | None = None) -> int:
    """Serve until told to stop.

    Parameters
    ----------
    options : Options
    open_home : callable, default=penstock.project.open_home
        From the project's root to its store, ledger and formats; called once more in the follower's thread, which
        needs a connection of its own.

    Returns
    -------
    int
        0: it was stopped as asked.

    Raises
    ------
    PenstockError
        It could not start: see `check`; for a scratch server also what `Model.load` raises.
    """
    check(options)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # before numpy is imported: one thread an answer, as in training
    warnings.simplefilter("default")  # a warning of the model's is shown once and never becomes an error
    if open_home is None:
        from penstock import project

        open_home = project.open_home
    return _Process(options, open_home).run()


class _Process:
    """The parts of one server, in the order in which they start and stop."""

    def __init__(self, options: Options, open_home: Callable[[str], Home]) -> None:
        from penstock.formats.registry import FormatRegistry
        from penstock.serve.follow import Follower, Holder, load_version
        from penstock.serve.log import NoLog, PredictionLog
        from penstock.serve.own import Host
        from penstock.serve.predict import Live, Predictor

        self.options = options
        home = open_home(options.project)
        formats = FormatRegistry(library_types(home.config.trust, home.config.root))
        host = Host.of(home.config, options.token or "")
        self.socket = bind(options.host, options.port)
        self.holder = Holder()
        self.follower: Follower | None = None
        if options.version is not None:
            with contextlib.closing(home.ledger):
                model = load_version(options.workflow, options.version, home.ledger, home.objects, formats, host)
            self.holder.swap(Live.of(model))
        else:
            home.ledger.close()
            self.follower = Follower(
                options.workflow,
                lambda: open_home(options.project).ledger,
                home.objects,
                formats,
                self.holder,
                host=host,
            )
        folder = os.path.join(home.config.root, ".penstock", "predictions", options.workflow)
        self.log = PredictionLog(folder) if options.log else NoLog()
        self.predictor = Predictor(self.log)

    def run(self) -> int:
        from penstock.serve.app import Service

        options = self.options
        service = Service(
            options.workflow,
            self.holder,
            self.predictor,
            token=options.token is not None,
            following=self.follower.state if self.follower else None,
        )
        hosts = [*options.hosts, *_own_name(options.host)]
        server = make_server(service.app(hosts=hosts, token=options.token), self._on_started)
        if options.lifeline_fd is not None:
            _watch(options.lifeline_fd, lambda: setattr(server, "should_exit", True))
        if self.follower is not None:
            self.follower.start()
        try:
            server.run(sockets=[self.socket])
        finally:
            ended = self._stop()
        if not ended:  # a model still computes for a client that has gone; nothing of it is kept
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        return 0

    def _stop(self) -> bool:
        if self.follower is not None:
            self.follower.stop(0.5)
        if self.holder.live is not None:
            self.holder.live.model.close()
        ended = self.predictor.close(0.5)
        self.log.close()
        return ended

    def _on_started(self) -> None:
        threading.Thread(target=self._tell, name="ready", daemon=True).start()

    def _tell(self) -> None:
        """Say where the server is, once it has looked at the ledger."""
        if self.follower is not None:
            self.follower.looked.wait()
        line = ready_line(self.socket, self.options, self.holder)
        if self.options.ready_fd is None and self.options.quiet:
            return
        if self.options.ready_fd is None:
            what = line["model"] or f"{self.options.workflow}, which has no version that answers yet,"
            print(f"serving {what} on {line['url']} · Ctrl-C stops it", flush=True)
            return
        _write_line(self.options.ready_fd, line)


def _write_line(pipe: int, line: dict[str, Any]) -> None:
    """One JSON line; nobody reading it any more is no reason to end."""
    with contextlib.suppress(OSError), os.fdopen(pipe, "w") as file:
        file.write(json.dumps(line) + "\n")


def library_types(trust: Iterable[str], root: str) -> list[str]:
    """Those of the trusted names that no module of the project defines: a server runs no code of the project.

    Parameters
    ----------
    trust : iterable of str
        Exact names, as the configuration lists them.
    root : str
        The project's root; what is installed below it (`site-packages`) is a library all the same.
    """
    home = os.path.realpath(root) + os.sep
    kept = []
    for name in trust:
        spec = importlib.util.find_spec(name.partition(".")[0])
        places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
        inside = [place for place in map(os.path.realpath, filter(None, places)) if place.startswith(home)]
        if spec is not None and all("site-packages" in place for place in inside):
            kept.append(name)
    return kept


def ready_line(bound: socket.socket, options: Options, holder: Holder) -> dict[str, Any]:
    """What is told on the ready pipe: url, host, port, pid, workflow, and the model or null."""
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return {
        "url": f"http://{shown}:{port}",
        "host": host,
        "port": port,
        "pid": os.getpid(),
        "workflow": options.workflow,
        "model": holder.live.model.name if holder.live else None,
    }


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address.

    Raises
    ------
    UsageError
        The address is taken, or is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror}", hint="choose another with --port"
        ) from error
    return bound


def make_server(app: Router, on_started: Callable[[], None]) -> Any:
    """A uvicorn server with our limits: one process, no access log, no proxy headers, no name of its own."""
    import logging

    import uvicorn

    from penstock.serve.protocol import GuardedProtocol

    class Server(uvicorn.Server):
        """uvicorn's server, with our signals."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Listen, then say so."""
            await super().startup(sockets)
            on_started()

        def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 -- uvicorn's names
            """Stop; a second signal does not wait for anybody."""
            # Not recorded, so not raised again: a server that stops when asked has done what it should.
            self.force_exit = self.should_exit
            self.should_exit = True

    class Protocol(GuardedProtocol):
        """With as many connections as this process may hold."""

        max_connections = min(GuardedProtocol.max_connections, open_files() - SPARE_FILES)

    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="auto" if sys.platform == "win32" else "uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("x-content-type-options", "nosniff")],
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        backlog=1_024,
    )
    return Server(config)


def open_files(wanted: int = 4_096) -> int:
    """How many files this process may have open, after asking for more where the system allows it."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _own_name(host: str) -> list[str]:
    """The bound address as a Host header names it; none for "all addresses"."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [host]
    if address.is_unspecified:
        return []
    return [f"[{address}]" if address.version == 6 else str(address)]


def _watch(pipe: int, stop: Callable[[], None]) -> None:
    """Stop when the other end of a pipe is closed: the process that started this one has ended."""

    def wait() -> None:
        try:
            while os.read(pipe, 64):
                pass
        except OSError:
            return
        finally:
            stop()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
