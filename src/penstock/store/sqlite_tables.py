"""The tables of a SQLite ledger, as a migration sees them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from penstock.errors import StoreError
from penstock.store.files import fsync_path, remove
from penstock.store.mark import unique_name
from penstock.store.migrate import Migration
from penstock.store.sqlite import APPLICATION_ID, retried


class SqliteTables:
    """`penstock.store.migrate.Tables` of one connection.

    The number of the schema is in the file's header (`user_version`).

    Parameters
    ----------
    connection : sqlite3.Connection
        Opened by `penstock.store.sqlite.connect`.
    path : str
        The ledger's file; the copy is `PATH.backup-N` with the number of its old schema.
    """

    dialect = "sqlite"
    way_back = "the copy `…backup-N` that it made beside it"

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self.where = path

    def version(self) -> int:
        """Number of the present schema, 0 for none."""
        (number,) = self._connection.execute("PRAGMA user_version").fetchone()
        return int(number)

    def meta(self) -> dict[str, str]:
        """Rows of table `meta`."""
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """The transaction of the only writer."""
        connection = self._connection
        retried(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def refuse_foreign(self, present: int) -> None:
        """Raise StoreError for another program's database."""
        (owner,) = self._connection.execute("PRAGMA application_id").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != APPLICATION_ID and (present or tables):
            raise StoreError(
                "this file is another program's SQLite database",
                where=self.where,
                hint="Point `ledger` at another file.",
            )

    def backup(self, present: int) -> None:
        """Copy the ledger through a second connection; the lock of the first keeps writers out meanwhile."""
        path = self.where
        temporary = f"{path}.{unique_name()}.tmp"
        source, target = sqlite3.connect(path, timeout=10), sqlite3.connect(temporary)
        try:
            source.backup(target)
            target.close()
            fsync_path(temporary)
            os.replace(temporary, f"{path}.backup-{present}")
            fsync_path(os.path.dirname(os.path.abspath(path)))
        finally:
            source.close()
            target.close()
            remove(temporary)

    def apply(self, step: Migration) -> None:
        """Execute its statements and set `meta` and the version."""
        connection = self._connection
        for statement in step.statements():
            connection.execute(statement)
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", step.meta().items())
        connection.execute(f"PRAGMA application_id={APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version={step.number:d}")
