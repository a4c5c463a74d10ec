"""A real PostgreSQL server for tests: on a free loopback port, in a folder of its own, ended with its maker.

Needs Debian's package `postgresql` (any directory with `initdb` and `postgres` will do) and the extra `postgres`.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any

USER = "penstock"
"""The superuser of the server; it needs no password."""

SCRAM_GROUP = "with_password"
"""Members of this role must give a password (SCRAM)."""

_NUMBERS = itertools.count(1)
_PR_SET_PDEATHSIG = 1
_INITDB = ("-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
_SETTINGS = {
    "max_connections": "64",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "log_min_messages": "fatal",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def binaries() -> str | None:
    """The directory that holds `initdb` and `postgres`, newest version first; None where there is none."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    found.sort(key=lambda path: int("".join(filter(str.isdigit, path.split("/")[4])) or 0), reverse=True)
    if (on_path := shutil.which("initdb")) is not None:
        found.append(os.path.dirname(os.path.realpath(on_path)))
    for folder in found:
        if all(os.access(os.path.join(folder, name), os.X_OK) for name in ("initdb", "postgres")):
            return folder
    return None


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """A server that can be stopped, killed and started again on the same port with the same data.

    Parameters
    ----------
    folder : str, optional
        An empty directory for its data, left alone at the end; a temporary one, removed at the end, by default.
    bin_folder : str, optional
        Where `initdb` and `postgres` are; `binaries()` by default.
    settings : dict of str to str, optional
        Further settings of `postgresql.conf`.

    Raises
    ------
    FileNotFoundError
        There is no PostgreSQL here.
    RuntimeError
        It does not start; the text is its log.
    """

    def __init__(
        self, folder: str | None = None, *, bin_folder: str | None = None, settings: dict[str, str] | None = None
    ) -> None:
        found = bin_folder or binaries()
        if found is None:
            raise FileNotFoundError("no PostgreSQL server here: install Debian's package postgresql")
        self._bin = found
        self._own = folder is None
        memory = "/dev/shm"  # noqa: S108 - a disk of memory; mkdtemp below makes a name of our own
        place = memory if os.access(memory, os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="penstock-pg-", dir=place) if folder is None else folder
        self._settings = {**_SETTINGS, **(settings or {})}
        self._account = _unprivileged()
        self._maker = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        try:
            self._initialise()
            self.start()
            self.execute(f"CREATE ROLE {SCRAM_GROUP}")
        except BaseException:
            self.close()
            raise

    def _initialise(self) -> None:
        """Make the cluster: trust on loopback, but for members of `SCRAM_GROUP`."""
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        data = os.path.join(self.folder, "data")
        made = subprocess.run(
            [os.path.join(self._bin, "initdb"), "-D", data, *_INITDB],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, **self._as_user(),
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(made.stderr.decode(errors="replace"))
        rules = f"host all +{SCRAM_GROUP} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        with open(os.path.join(data, "pg_hba.conf"), "w", encoding="utf-8") as file:
            file.write(rules)

    def _as_user(self) -> dict[str, Any]:
        """Arguments for `subprocess` that give up root, which PostgreSQL refuses to run as."""
        given: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}}
        if self._account is not None:
            given |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return given

    def start(self) -> None:
        """Start the server, and wait until it answers; nothing when it runs."""
        for _ in range(5):  # another process may take the port between the look and the start
            if self._process is not None:
                return
            self._launch(self.port or free_port())
        if self._process is None:
            raise RuntimeError(self._log())

    def _launch(self, port: int) -> None:
        options = [f"--{name}={value}" for name, value in {**self._settings, "port": str(port)}.items()]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self._process = subprocess.Popen(
                [os.path.join(self._bin, "postgres"), "-D", os.path.join(self.folder, "data"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_maker,  # noqa: PLW1509 - nothing else can be asked of a child before it is one
                **self._as_user(),
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers(port):
                self.port = port
                return
            time.sleep(0.01)
        self.stop(signal.SIGQUIT)

    def _answers(self, port: int) -> bool:
        import psycopg

        url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
            return row == (os.path.join(self.folder, "data"),)  # not somebody else's server on that port
        return False

    def _log(self) -> str:
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "log"), encoding="utf-8") as file:
            return f"PostgreSQL does not start: {file.read()[-2_000:]}"
        return "PostgreSQL does not start"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; `SIGINT` in order, `SIGQUIT` at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._maker:  # a forked child has no say
            process.send_signal(how)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End the server for good, and remove its folder."""
        self.stop(signal.SIGQUIT)
        if self._own and os.getpid() == self._maker:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """The URL of a database, without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement in a connection of its own, outside a transaction; give its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self) -> str:
        """Make an empty database; give its name."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, with whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _unprivileged() -> pwd.struct_passwd | None:
    """An account that is not root, where we are root; None where we are not."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`")


def _end_with_maker() -> None:
    """Ask the system to end this process at once when its maker ends; where it cannot, `close` must do."""
    os.setpgid(0, 0)  # Ctrl-C in a terminal ends the tests; they end the server in their order
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
