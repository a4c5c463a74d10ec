"""One SQLite connection as Penstock uses it: its settings, its transactions and the sentences for its errors."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from penstock.errors import PenstockError, StoreError
from penstock.store.files import explain, make_directories

T = TypeVar("T")

BUSY_S = 15.0
"""How long one lock is waited for, in seconds."""

TRIES = 4
"""How often a transaction is begun before the ledger is called busy."""

APPLICATION_ID = 0x50454E53
"""Written into the file's header, so that another program's database is never taken for a ledger ("PENS")."""

_CHUNK = 1_000
_abandoned: list[sqlite3.Connection] = []


def journal_mode(version: tuple[int, int, int]) -> str:
    """The journal that this version of SQLite keeps safely: "truncate" (rollback) or "wal".

    Versions 3.7.0 to 3.51.2, except the backports 3.44.6+ and 3.50.7+ within their lines, can lose a commit when
    a checkpoint meets another that resets the log (SQLite's change log for 3.51.3). 3.52.0 was withdrawn.
    A rollback journal is safe on all. It is emptied, not removed, at each commit: the fsync of the emptied journal
    makes the commit durable, where a removed one would need another fsync of its directory.

    Parameters
    ----------
    version : tuple of int
        `sqlite3.sqlite_version_info`.

    Examples
    --------
    >>> journal_mode((3, 40, 1)), journal_mode((3, 50, 7)), journal_mode((3, 51, 3))
    ('truncate', 'wal', 'wal')
    """
    line = version[:2]
    if line == (3, 44):
        return "wal" if version[2] >= 6 else "truncate"
    if line == (3, 50):
        return "wal" if version[2] >= 7 else "truncate"
    return "wal" if version >= (3, 51, 3) and version != (3, 52, 0) else "truncate"


_PUT_BACK = (
    "Put back a copy (`…backup-N`) without the `…-journal` beside it, or move both away: "
    "`penstock fsck --rebuild` makes the versions anew."
)


def _damaged(error: Exception, path: str) -> StoreError:
    return StoreError(f"the ledger is damaged ({type(error).__name__}: {error})", where=path, hint=_PUT_BACK)


def explain_sqlite(error: sqlite3.Error, path: str) -> StoreError:
    """Turn SQLite's error into a sentence with what to do next."""
    name = str(getattr(error, "sqlite_errorname", ""))
    sentences = {
        "SQLITE_FULL": ("the disk is full", "Free some space (`penstock gc` helps), then run again."),
        "SQLITE_READONLY": (
            "the ledger is read-only for this user",
            "Give this user the right to write the file and its directory.",
        ),
        "SQLITE_BUSY": (
            f"another process kept the ledger locked for {TRIES * BUSY_S:.0f} s",
            "Look for a hanging `penstock` process; run again when it has ended.",
        ),
        "SQLITE_LOCKED": ("the ledger is locked", "Run again when the other process has ended."),
        "SQLITE_CORRUPT": ("the ledger is damaged", _PUT_BACK),
        "SQLITE_NOTADB": (
            "this file is not a ledger",
            "Point `ledger` at another file, or put back a copy of the right one.",
        ),
        "SQLITE_CANTOPEN": ("the ledger cannot be opened", "Check that its directory exists and may be written."),
        "SQLITE_IOERR": (
            "the disk reported an error while the ledger was read or written",
            "Nothing was acknowledged. Is the disk full or failing (`df`, `dmesg`)? Then run again.",
        ),
    }
    for known, (why, hint) in sentences.items():
        if name.startswith(known):
            return StoreError(f"{why} ({error})", where=path, hint=hint, sqlite=name)
    return StoreError(f"the ledger refused: {error}", where=path, hint="Run `penstock fsck`.", sqlite=name)


def connect(path: str) -> sqlite3.Connection:
    """A connection with Penstock's settings; makes the file's directory, leaves the tables to `migrate`."""
    try:
        make_directories(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise explain(error, "make the ledger's directory", path) from error
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # EXTRA is FULL and, where a journal is removed, an fsync of its directory.
        connection.execute("PRAGMA synchronous=EXTRA")
        connection.execute("PRAGMA mmap_size=0")
        connection.execute("PRAGMA cache_size=-32768")  # KiB at most: a group's pages fit, none is written twice
        _set_journal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_journal(connection: sqlite3.Connection) -> None:
    """A file keeps a write-ahead log that was begun on a safe version; on an unsafe one it is turned back."""
    wanted = journal_mode(sqlite3.sqlite_version_info)
    (present,) = connection.execute("PRAGMA journal_mode").fetchone()
    new = connection.execute("PRAGMA page_count").fetchone()[0] == 0
    if wanted == "wal" and (new or present == "wal"):
        if present != "wal":
            retried(lambda: connection.execute("PRAGMA journal_mode=wal").fetchone())
        return
    retried(lambda: connection.execute("PRAGMA journal_mode=truncate").fetchone())


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the lock."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def retried(do: Callable[[], T], pause_s: float = 0.05) -> T:
    """Do it again, after a random pause, while another process holds the lock; at most `TRIES` times."""
    for attempt in range(1, TRIES):
        try:
            return do()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            time.sleep(pause_s * attempt * (0.5 + random.random()))
    return do()


class Queries:
    """`penstock.store.sql_ledger.Queries` of a connection that is inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(query, values).fetchall()

    def rows_in(self, query: str, keys: Iterable[Any]) -> list[tuple[Any, ...]]:
        """Rows of a query with `IN (?)`, for any number of keys."""
        return list(select_in(self.connection, query, keys))

    def run_many(self, query: str, values: Sequence[Sequence[Any]]) -> None:
        """One statement for each of many rows of values."""
        self.connection.executemany(query, values)


class Database:
    """A connection that survives a fork, is used by one thread at a time, and rolls back on any error.

    Parameters
    ----------
    path : str
        The file.
    opened : callable
        Called with each new connection, before it is used: the migration.
    writing : callable
        Called at the start of each transaction that `write` makes: whether this program may.
    """

    def __init__(
        self,
        path: str,
        *,
        opened: Callable[[sqlite3.Connection], None],
        writing: Callable[[sqlite3.Connection], None],
    ) -> None:
        self.path = self.where = os.path.abspath(path)
        self._opened = opened
        self._check = writing
        self._open()

    def _open(self) -> None:
        with self._explained():
            connection = connect(self.path)
            try:
                self._opened(connection)
            except BaseException:
                connection.close()
                raise
        self._connection: sqlite3.Connection | None = connection
        self._pid = os.getpid()
        self._lock = threading.RLock()

    def _here(self) -> sqlite3.Connection:
        """The connection of this process; a child of a fork opens its own and never touches its parent's."""
        if self._pid != os.getpid():
            if self._connection is not None:
                _abandoned.append(self._connection)  # closing it here would undo what the parent is doing
            self._open()
        if self._connection is None:
            raise StoreError("the ledger was closed", where=self.path, hint="Open it again.")
        return self._connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain_sqlite(error, self.path) from error
        except UnicodeDecodeError as error:  # SQLite's own message quotes damaged bytes
            raise _damaged(error, self.path) from error
        except PenstockError:
            raise
        except OSError as error:
            raise explain(error, "open the ledger", self.path) from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One view of the facts: every query within sees the same state."""
        connection = self._here()
        with self._lock, self._explained():
            retried(lambda: connection.execute("BEGIN"))
            try:
                yield connection
            except PenstockError:
                raise
            except (ValueError, TypeError, LookupError) as error:  # rows that do not decode
                raise _damaged(error, self.path) from error
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction: committed when the block ends, rolled back on any error in it."""
        connection = self._here()
        with self._lock, self._explained():
            retried(lambda: connection.execute("BEGIN IMMEDIATE"))
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def read(self, do: Callable[[Queries], T]) -> T:
        """Do something in one view of the facts."""
        with self.reading() as connection:
            return do(Queries(connection))

    def write(self, do: Callable[[Queries], T]) -> T:
        """Do something in one durable transaction, unless a newer program has changed the ledger."""
        with self.writing() as connection:
            self._check(connection)
            return do(Queries(connection))

    def close(self) -> None:
        """Release the connection; a second time does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()
        elif connection is not None:
            _abandoned.append(connection)


def select_in(connection: sqlite3.Connection, query: str, keys: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of a query with `IN (?)`, asked for in chunks of a thousand keys."""
    wanted = list(keys)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        yield from connection.execute(query.replace("(?)", f"({','.join('?' * len(chunk))})"), chunk)
