"""The facts on record, in a PostgreSQL database that a team shares."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.core.run import Group
from penstock.store.migrate import SCHEMA, check, migrate
from penstock.store.postgres import SCHEMA_NAME, Database
from penstock.store.postgres_group import GroupWriter
from penstock.store.postgres_tables import PostgresTables
from penstock.store.postgres_text import as_array
from penstock.store.sql_ledger import SqlLedger

if TYPE_CHECKING:
    import psycopg

RELEASE_ROLE = "penstock_release"
"""Members of this role of the database may move the champion, where the role exists."""

_DELETE = """
WITH gone AS (DELETE FROM result WHERE recipe = ANY(%s::bytea[]) RETURNING id),
     made AS (DELETE FROM result_output o USING gone WHERE o.result = gone.id),
     used AS (DELETE FROM result_input i USING gone WHERE i.result = gone.id)
SELECT count(*) FROM gone
"""
_DANGLING = {
    "result_output": "SELECT count(*) FROM result_output o LEFT JOIN result r ON r.id = o.result "
    "LEFT JOIN artifact a ON a.id = o.artifact WHERE r.id IS NULL OR a.id IS NULL",
    "result_input": "SELECT count(*) FROM result_input i LEFT JOIN result r ON r.id = i.result WHERE r.id IS NULL",
    "decided": "SELECT count(*) FROM decided d LEFT JOIN result r ON r.id = d.result "
    "WHERE d.result IS NOT NULL AND r.id IS NULL",
}


class PostgresLedger(SqlLedger):
    """`penstock.core.ports.Ledger` in the schema `penstock` of a PostgreSQL database.

    Parameters
    ----------
    url : str
        "postgresql://USER@HOST:PORT/DATABASE", with libpq's parameters (`sslmode`, `sslrootcert`, …). A password
        comes from `~/.pgpass`, `PGPASSWORD` or a `${NAME}` in the configuration.
    clock : callable, default=time.time
        Gives the Unix time in seconds for entries whose `at` is 0.0.

    Attributes
    ----------
    path : str
        The URL without its password.

    Raises
    ------
    StoreTooNewError
        A newer Penstock wrote it and this one may not read it.
    StoreError
        The server cannot be reached, or refuses.
    ConfigurationError
        The URL is none.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(url, opened=self._open, writing=self._check)
        self.path = self._database.where
        super().__init__(self._database, clock=clock)

    @staticmethod
    def _open(connection: psycopg.Connection[Any]) -> None:
        migrate(PostgresTables(connection))

    @staticmethod
    def _check(connection: psycopg.Connection[Any]) -> None:
        tables = PostgresTables(connection)
        if int(tables.meta().get("schema", 0)) > SCHEMA:
            check(tables, writing=True)

    def commit(self, group: Group) -> None:
        """Write a group in one durable transaction, all or nothing."""
        self._database.write(GroupWriter(group).write, isolation="READ COMMITTED")

    def may_release(self) -> bool | None:
        """Whether this database user is a member of the role `penstock_release`; None where there is no such role."""
        query = "SELECT pg_has_role(current_user, rolname, 'MEMBER') FROM pg_roles WHERE rolname = ?"
        found = self._database.read(lambda db: db.rows(query, (RELEASE_ROLE,)))
        return bool(found[0][0]) if found else None

    def server(self) -> dict[str, Any]:
        """What `penstock doctor` tells: the server's version, and whether this user may write and release."""
        query = "SELECT current_setting('server_version'), has_table_privilege('entry', 'INSERT')"
        [(version, writable)] = self._database.read(lambda db: db.rows(query))
        return {"server": f"PostgreSQL {version}", "writable": writable, "may_release": self.may_release()}

    def integrity(self) -> list[str]:
        """Rows that name rows that are not there; PostgreSQL itself watches over its pages."""
        counts = self._database.read(lambda db: {name: db.rows(query)[0][0] for name, query in _DANGLING.items()})
        return [f"{count} rows of {SCHEMA_NAME}.{name} name none" for name, count in counts.items() if count]

    def _request_key(self) -> str:
        """The answer to a commit may be lost: under a key of its own a request finds what became of it."""
        return f"request:{secrets.token_hex(16)}"

    def _delete_results(self, db: Any, keys: list[bytes | str]) -> int:
        _, values = as_array(keys)
        if not values:
            return 0
        ((gone,),) = db.connection.execute(_DELETE, (values,)).fetchall()
        return int(gone)
