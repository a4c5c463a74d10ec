"""The facts on record, in one SQLite file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from penstock.core.run import Group
from penstock.store.group import GroupWriter
from penstock.store.migrate import check, migrate
from penstock.store.sql_ledger import SqlLedger
from penstock.store.sqlite import Database
from penstock.store.sqlite_tables import SqliteTables


class SqliteLedger(SqlLedger):
    """`penstock.core.ports.Ledger` in one SQLite file of this machine (never on a network file system).

    Parameters
    ----------
    path : str
        The file; made, with its directory, when it is not there.
    clock : callable, default=time.time
        Gives the Unix time in seconds for entries whose `at` is 0.0.

    Raises
    ------
    StoreTooNewError
        A newer Penstock wrote it and this one may not read it.
    StoreError
        It cannot be opened.

    Examples
    --------
    >>> import os, tempfile
    >>> from penstock.core.run import Entry
    >>> ledger = SqliteLedger(os.path.join(tempfile.mkdtemp(), "ledger.db"))
    >>> [entry] = ledger.append([Entry("churn/version", 1, {"artifacts": {}})])
    >>> ledger.streams()
    {'churn/version': 1}
    >>> ledger.close()
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        self.path = os.path.abspath(path)
        self._database = Database(
            self.path,
            opened=lambda connection: migrate(SqliteTables(connection, self.path)),
            writing=lambda connection: check(SqliteTables(connection, self.path), writing=True),
        )
        super().__init__(self._database, clock=clock)

    def commit(self, group: Group) -> None:
        """Write a group in one durable transaction, all or nothing."""
        self._database.write(lambda db: GroupWriter(db.connection, group).write())

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is whole."""
        found = self._database.read(lambda db: [str(text) for (text,) in db.rows("PRAGMA integrity_check(20)")])
        return [] if found == ["ok"] else found

    def _delete_results(self, db: Any, keys: list[bytes | str]) -> int:
        before = db.connection.total_changes
        db.run_many("DELETE FROM result WHERE recipe = ?", [(key,) for key in keys])
        gone: int = db.connection.total_changes - before
        db.rows("DELETE FROM result_output WHERE result NOT IN (SELECT id FROM result)")
        db.rows("DELETE FROM result_input WHERE result NOT IN (SELECT id FROM result)")
        return gone
