"""The tables of a PostgreSQL ledger, as a migration sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from penstock.errors import StoreError
from penstock.store.migrate import Migration
from penstock.store.postgres import SCHEMA_NAME

_LOCK = 0x50454E53  # "PENS": the key of the advisory lock that migrations hold
_MIGRATION_S = 3_600


class PostgresTables:
    """`penstock.store.migrate.Tables` of one connection.

    The number of the schema is a row of `meta`. Who reads it in a transaction holds a lock on the table that a
    migration waits for, so no transaction that began before a migration writes after it.

    Parameters
    ----------
    connection : psycopg.Connection
        Opened by `penstock.store.postgres.connect`.
    """

    dialect = "postgresql"
    way_back = f"the tables that it copied to the schema `{SCHEMA_NAME}_backup_N`"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        info = connection.info
        self.where = f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"

    def version(self) -> int:
        """Number of the present schema, 0 for none."""
        return int(self.meta().get("schema", 0)) if "meta" in self._names() else 0

    def meta(self) -> dict[str, str]:
        """Rows of table `meta`."""
        return dict(self._connection.execute(f"SELECT key, value FROM {SCHEMA_NAME}.meta").fetchall())  # noqa: S608

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction with the migrations' advisory lock, and, where there are tables, with all of them locked."""
        with self._connection.transaction():
            self._connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_MIGRATION_S}s",))
            self._connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{_MIGRATION_S}s",))
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if "meta" in self._names():
                self._connection.execute(f"LOCK TABLE {SCHEMA_NAME}.meta IN ACCESS EXCLUSIVE MODE")
            yield

    def refuse_foreign(self, present: int) -> None:
        """Raise StoreError when the schema has tables that are not a ledger's."""
        if not present and self._names():
            raise StoreError(
                f"the schema {SCHEMA_NAME} of this database belongs to another program",
                where=self.where,
                hint="Point `ledger` at another database.",
            )

    def _names(self) -> list[str]:
        # Asks the catalogue itself: `to_regclass` may answer from a cache that another migration has outdated.
        query = "SELECT tablename::text FROM pg_tables WHERE schemaname = %s ORDER BY 1"
        return [name for (name,) in self._connection.execute(query, (SCHEMA_NAME,))]

    def backup(self, present: int) -> None:
        """Copy every table to the schema `penstock_backup_N`, within the transaction of the migration."""
        backup = sql.Identifier(f"{SCHEMA_NAME}_backup_{present}")
        names = self._names()
        self._connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(backup))
        self._connection.execute(sql.SQL("CREATE SCHEMA {}").format(backup))
        for name in names:
            copy = sql.SQL("CREATE TABLE {}.{} AS TABLE {}.{}")
            table = sql.Identifier(name)
            self._connection.execute(copy.format(backup, table, sql.Identifier(SCHEMA_NAME), table))

    def apply(self, step: Migration) -> None:
        """Execute its statements and set `meta`."""
        connection = self._connection
        if step.number == 1:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA_NAME}")
        for statement in step.statements():
            connection.execute(statement)
        query = "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        for name, value in step.meta().items():
            connection.execute(query, (name, value))
