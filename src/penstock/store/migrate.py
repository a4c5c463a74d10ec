"""Bring a ledger to this version's tables: one transaction, one process at a time, a copy before.

`schema/` holds numbered SQL files, applied in order; the number of the last one is in the file's header
(`user_version`). `meta` says the oldest schema that a program must know to read or to write the ledger.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from penstock.errors import StoreError, StoreTooNewError
from penstock.store.files import fsync_path, remove
from penstock.store.mark import unique_name
from penstock.store.sqlite import APPLICATION_ID, retried

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema")


class Migration(NamedTuple):
    """One numbered file: the schema that it leads to, and its statements.

    `min_reader` and `min_writer` are the oldest schema numbers whose programs may read and write afterwards.
    """

    number: int
    sql: str
    min_reader: int
    min_writer: int


SCHEMA = 1
"""The schema that this program reads and writes: the number of the last file in `schema/`."""

# Number: (min_reader, min_writer). An added table leaves both alone; a changed one raises them.
_COMPATIBLE = {1: (1, 1)}


def migrations() -> list[Migration]:
    """All migrations, in order.

    Raises
    ------
    StoreError
        A file is missing from the installation.
    """
    found = []
    for name in sorted(os.listdir(_FOLDER)):
        if name.endswith(".sql"):
            with open(os.path.join(_FOLDER, name), encoding="utf-8") as file:
                number = int(name[:4])
                found.append(Migration(number, file.read(), *_COMPATIBLE[number]))
    if [migration.number for migration in found] != list(range(1, SCHEMA + 1)):
        raise StoreError("schema files are missing from this installation", where=_FOLDER, hint="Install it again.")
    return found


def migrate(connection: sqlite3.Connection, path: str, steps: list[Migration] | None = None) -> None:
    """Bring a ledger to the last schema; of several processes that start at once one does it, the others wait.

    Parameters
    ----------
    connection : sqlite3.Connection
        Opened by `penstock.store.sqlite.connect`, outside a transaction.
    path : str
        The ledger's file; the copy is `PATH.backup-N` with the number of its old schema.
    steps : list of Migration, optional
        Other steps than this version's, for tests.

    Raises
    ------
    StoreTooNewError
        The ledger may no longer be read by this program.
    StoreError
        The file belongs to another program.
    sqlite3.Error
        As SQLite says; the ledger is then as it was.
    """
    last = SCHEMA if steps is None else steps[-1].number
    present = _version(connection)
    if present > last:
        check(connection, path, last, writing=False)
    if present >= last:
        return
    retried(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        present = _version(connection)  # another process may have been first
        if present < last:
            _refuse_foreign(connection, path, present)
            if present:
                _backup(path, present)
            for step in migrations() if steps is None else steps:
                if step.number > present:
                    _apply(connection, step)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, path: str, known: int = SCHEMA, *, writing: bool) -> None:
    """Refuse a ledger that a newer program has changed beyond what this one may read or write.

    Raises
    ------
    StoreTooNewError
        Names both schema numbers.
    """
    present = _version(connection)
    if present <= known:
        return
    key = "min_writer" if writing else "min_reader"
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or int(row[0]) > known:
        verb = "write" if writing else "read"
        raise StoreTooNewError(
            f"the ledger has schema {present}; this Penstock knows schema {known} and may not {verb} it",
            where=path,
            hint="Use the newer Penstock that wrote it, or put back the copy `…backup-N` that it made beside it.",
            found=present,
            known=known,
        )


def _version(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def _refuse_foreign(connection: sqlite3.Connection, path: str, present: int) -> None:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (present or tables):
        raise StoreError(
            "this file is another program's SQLite database",
            where=path,
            hint="Point `ledger` at another file.",
        )


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    for statement in _statements(step.sql):
        connection.execute(statement)
    meta = {"schema": step.number, "min_reader": step.min_reader, "min_writer": step.min_writer}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(k, str(v)) for k, v in meta.items()])
    connection.execute(f"PRAGMA application_id={APPLICATION_ID:d}")
    connection.execute(f"PRAGMA user_version={step.number:d}")


def _statements(sql: str) -> Iterator[str]:
    """Single statements: `executescript` would commit the transaction that they belong to."""
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


def _backup(path: str, number: int) -> None:
    """Copy the ledger through a second connection; the lock of the first keeps writers out meanwhile."""
    temporary = f"{path}.{unique_name()}.tmp"
    source, target = sqlite3.connect(path, timeout=10), sqlite3.connect(temporary)
    try:
        source.backup(target)
        target.close()
        fsync_path(temporary)
        os.replace(temporary, f"{path}.backup-{number}")
        fsync_path(os.path.dirname(os.path.abspath(path)))
    finally:
        source.close()
        target.close()
        remove(temporary)
