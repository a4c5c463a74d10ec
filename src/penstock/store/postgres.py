"""One PostgreSQL connection as Penstock uses it: its settings, its transactions, and what to do when it is lost.

Every transaction may be done again from its beginning: after a lost race (the database's constraints decide who was
first), and after a lost connection. When the answer to a commit was lost, doing it again finds what is on record:
groups are written by natural keys, and each request to append has a key of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors

from penstock.core.urls import masked
from penstock.errors import ConfigurationError, PenstockError, StoreError
from penstock.store.postgres_text import adapt, as_array, escaped

T = TypeVar("T")

SCHEMA_NAME = "penstock"
"""The schema that holds the tables: other programs may use the same database."""

CONNECT_S = 10
"""How long one attempt to connect may take, in seconds; `connect_timeout` in the URL overrides it."""

RECONNECT_S = 15.0
"""How long a lost connection is tried again before the ledger is called away, in seconds."""

LOCK_S, STATEMENT_S, IDLE_S = 15, 60, 10
"""Limits that the server holds: waiting for a lock, one statement, idle within a transaction. `IDLE_S` is less than
`LOCK_S`: whoever waits for a transaction whose client is gone outlives it."""

ANSWER_S = 75.0
"""After this time without an answer the connection is cut, in seconds: a frozen server holds to no limit."""

TRIES = 8
"""How often a transaction that lost a race is done again."""

_RACES = (
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
)
_SENTENCES = {
    "53100": ("the database server's disk is full", "Free some space there, then run again."),
    "53": ("the database server is out of resources", "Ask whoever runs it; then run again."),
    "53300": ("the database server takes no more connections", "End some, or raise `max_connections`."),
    "57014": (f"the database server gave up a statement after {STATEMENT_S} s", "Is it overloaded? Then run again."),
    "55P03": (f"another transaction held a lock for {LOCK_S} s", "Look at `pg_stat_activity`; then run again."),
    "42501": (
        "this database user may not do that",
        "Who may read, write and release is a matter of grants: see the page 'Share a ledger'.",
    ),
    "25006": ("the database takes no writes now", "Is it a stand-by? Point `ledger` at the primary server."),
    "42P01": ("a table of the ledger is gone", "Put back a copy of the database."),
    "3D": ("this database does not exist", "Make it (`createdb`), or correct `ledger`."),
    "28": ("the database server refused this user", "Give the password in ~/.pgpass or PGPASSWORD, never in a file."),
    "XX": ("the database is damaged", "Ask whoever runs it to look at the server's log and put back a copy."),
}
_ENDED = ("57P01", "57P02", "57P03", "57P05", "25P03")  # the server ended the session: it stops, or we were idle
_abandoned: list[Any] = []
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # it warns of every lost connection; we tell in errors


_UNKNOWN = "; whether the last write is on record is not known"


def explain_postgres(error: psycopg.Error, where: str, *, unknown: bool = False) -> StoreError:
    """Turn PostgreSQL's error into a sentence with what to do next; no password is in it.

    `unknown` says that the answer to an earlier commit of the same write was lost.
    """
    state = error.sqlstate or ""
    said = masked(error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__)
    if _is_away(error):
        why, hint = f"the ledger's database cannot be reached: {said}", _hint(said)
    else:
        why, hint = f"the ledger refused: {said}", "Run `penstock fsck`."
        for length in (2, 5):
            if state[:length] in _SENTENCES:
                why, hint = _SENTENCES[state[:length]]
                why = f"{why} ({said})"
    if unknown:
        why, hint = why + _UNKNOWN, f"{hint} A repeated request is answered with what is on record."
    return StoreError(why, where=where, hint=hint, sqlstate=state)


def _hint(said: str) -> str:
    if "authentication failed" in said or "no password supplied" in said:
        return "Give the password in ~/.pgpass or PGPASSWORD, never in a file of the project."
    if "does not exist" in said:
        return "Make the database and the user (`createdb`, `createuser`), or correct `ledger`."
    return "Is the server up, and reachable from here? Then run again."


def _is_away(error: psycopg.Error) -> bool:
    """Whether the connection, rather than a statement, failed."""
    state = error.sqlstate
    if state is not None:
        return state.startswith("08") or state in _ENDED
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and not isinstance(
        error, errors.PipelineAborted
    )


def _may_come_back(error: psycopg.Error) -> bool:
    """Whether waiting may help: not when the server answered that it knows no such user, password or database."""
    text = str(error)
    return not any(words in text for words in ("authentication failed", "no password supplied", "does not exist"))


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection with Penstock's settings; leaves the tables to `migrate`.

    Raises
    ------
    ConfigurationError
        The URL is none that libpq knows.
    psycopg.Error
        The server cannot be reached or refuses.
    """
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = None  # libpq's own message quotes parts of it
    if given is None:
        raise ConfigurationError(
            "this is no URL of a PostgreSQL database",
            where=masked(url),
            hint="postgresql://USER@HOST:PORT/DATABASE; a % in it is written %25",
        )
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_S,
        "application_name": "penstock",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    settings |= {**given, "client_encoding": "UTF8"}
    # No prepared statements: psycopg counts one as prepared although an error before it in the pipeline skipped it.
    connection = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
    try:
        adapt(connection)
        names = {
            "search_path": f"{SCHEMA_NAME}, pg_temp",
            "lock_timeout": f"{LOCK_S}s",
            "statement_timeout": f"{STATEMENT_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_S}s",
            "jit": "off",
            "synchronous_commit": "on",  # a server whose default is off acknowledges what it may lose
        }
        query = ", ".join("set_config(%s, %s, false)" for _ in names)
        connection.execute(f"SELECT {query}", [part for pair in names.items() for part in pair])
        _refuse_other_encodings(connection, masked(url))
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_other_encodings(connection: psycopg.Connection[Any], where: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"the database has the encoding {encoding}; names of files and columns need UTF8",
            where=where,
            hint="createdb -E UTF8 -T template0 NAME",
        )


class Queries:
    """`penstock.store.sql_ledger.Queries` of a connection that is inside a transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection: Final = connection

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        cursor = self.connection.execute(query.replace("?", "%s"), escaped(values) or None)
        return cursor.fetchall() if query.lstrip().startswith(("SELECT", "WITH")) else []

    def rows_in(self, query: str, keys: Iterable[Any]) -> list[tuple[Any, ...]]:
        """Rows of a query with `IN (?)`, for any number of keys, in one round trip."""
        kind, values = as_array(keys)
        if not values:
            return []
        return self.connection.execute(query.replace("IN (?)", f"= ANY(%s::{kind})"), (values,)).fetchall()

    def run(self, query: str, values: Sequence[Any] = ()) -> None:
        """A statement without rows and with escaped texts; sent with the next that has rows, or with the commit."""
        self.connection.execute(query, values or None)

    def run_many(self, query: str, values: Sequence[Sequence[Any]]) -> None:
        """One statement for each of many rows of values."""
        if values:
            self.connection.cursor().executemany(query.replace("?", "%s"), map(escaped, values))


class Database:
    """A connection that survives a fork and a restart of the server, and is used by one thread at a time.

    Parameters
    ----------
    url : str
        A libpq URL; what it leaves out comes from libpq's own places (`PGHOST`, `PGPASSWORD`, `~/.pgpass`, …).
    opened : callable
        Called with each new connection, before it is used: the migration.
    writing : callable
        Called at the start of each writing transaction: whether this program may.
    """

    def __init__(
        self,
        url: str,
        *,
        opened: Callable[[psycopg.Connection[Any]], None],
        writing: Callable[[psycopg.Connection[Any]], None],
    ) -> None:
        self.where = masked(url)
        self._url = url
        self._opened = opened
        self._check = writing
        self._closed = False
        self._connection: psycopg.Connection[Any] | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()
        try:
            self._here()
        except psycopg.Error as error:
            refused = not _is_away(error) or str(error).startswith("connection failed")
            if refused and not any(words in str(error) for words in ("starting up", "shutting down", "recovery mode")):
                raise explain_postgres(error, self.where) from error
            self.read(lambda _: None)

    def _here(self) -> psycopg.Connection[Any]:
        """The connection, made anew when it was lost."""
        if self._closed:
            raise StoreError("the ledger was closed", where=self.where, hint="Open it again.")
        if self._connection is None or self._connection.closed:
            connection = connect(self._url)
            try:
                self._opened(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def read(self, do: Callable[[Queries], T]) -> T:
        """Do something in one view of the facts; again on a new connection when this one is lost."""
        return self._again(lambda connection, _: _reading(connection, do))

    def write(self, do: Callable[[Queries], T], *, isolation: str = "REPEATABLE READ") -> T:
        """Do something in one durable transaction, unless a newer program has changed the ledger.

        By default all of it sees one state: what others commit meanwhile makes it lose a race and begin again, so a
        request never finds its own entry, from a commit whose answer was lost, without finding its key too.
        "READ COMMITTED" is for statements that each settle for themselves what others have written.
        """

        def work(connection: psycopg.Connection[Any], committing: Callable[[], None]) -> T:
            with _ended(connection), connection.pipeline():
                connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
                self._check(connection)
                done = do(Queries(connection))
                committing()
                connection.execute("COMMIT")
            return done

        return self._again(work)

    def _again(self, work: Callable[[psycopg.Connection[Any], Callable[[], None]], T]) -> T:
        unknown, until, lost, races = False, 0.0, 0, 0

        def committing() -> None:
            nonlocal unknown
            unknown = True

        with self._mine():
            while True:
                before = unknown
                try:
                    connection = self._here()
                    with _answering(connection):
                        return work(connection, committing)
                except psycopg.Error as error:
                    if not _is_away(error):
                        unknown = before  # this attempt was answered: with a refusal
                        races += 1
                        if races < TRIES and isinstance(error, _RACES):
                            time.sleep(0.002 * races * random.random())
                            continue
                        raise explain_postgres(error, self.where, unknown=unknown) from error
                    self._drop()
                    lost += 1
                    until = until or time.monotonic() + RECONNECT_S
                    left = until - time.monotonic()
                    if left <= 0 or not _may_come_back(error):
                        raise explain_postgres(error, self.where, unknown=unknown) from error
                    time.sleep(min(0.05 * 1.6 ** min(lost, 20), 1.0, left) * (0.5 + random.random() / 2))

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        """Let this thread alone in; a child of a fork makes a connection of its own and never touches its parent's."""
        if self._pid != os.getpid():
            if self._connection is not None:
                _abandoned.append(self._connection)  # closing it here would end the parent's session
            # Whoever held the lock in the parent is not here to give it back.
            self._connection, self._pid, self._lock = None, os.getpid(), threading.RLock()
        with self._lock:
            try:
                yield
            except PenstockError:
                raise
            except (ValueError, TypeError, LookupError) as error:  # rows that do not decode
                raise StoreError(
                    f"the ledger is damaged ({type(error).__name__}: {error})",
                    where=self.where,
                    hint="Put back a copy of the database.",
                ) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def close(self) -> None:
        """Release the connection; a second time does nothing."""
        connection, self._connection = self._connection, None
        self._closed = True
        if connection is not None and self._pid == os.getpid():
            connection.close()
        elif connection is not None:
            _abandoned.append(connection)


def _reading(connection: psycopg.Connection[Any], do: Callable[[Queries], T]) -> T:
    with _ended(connection), connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        done = do(Queries(connection))
        connection.execute("COMMIT")
    return done


@contextlib.contextmanager
def _ended(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Leave no transaction open, whatever happens."""
    try:
        yield
    except BaseException:
        if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _answering(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Cut the connection when a server says nothing for too long, so that nobody waits for ever."""

    def cut() -> None:
        import socket

        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(ANSWER_S, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
