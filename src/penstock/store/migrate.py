"""Bring a ledger to this version's tables: one transaction, one process at a time, a copy before.

`schema/DIALECT/` holds numbered SQL files, applied in order; a number means the same tables in every dialect. `meta`
says the oldest schema that a program must know to read or to write the ledger.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from penstock.errors import StoreError, StoreTooNewError

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema")


class Migration(NamedTuple):
    """One numbered file: the schema that it leads to, and its statements.

    `min_reader` and `min_writer` are the oldest schema numbers whose programs may read and write afterwards.
    """

    number: int
    sql: str
    min_reader: int
    min_writer: int

    def statements(self) -> Iterator[str]:
        """Single statements, in order: a script run as one would commit the transaction that they belong to."""
        pending = ""
        for line in self.sql.splitlines(keepends=True):
            pending += line
            if sqlite3.complete_statement(pending):
                yield pending
                pending = ""
        if pending.strip():
            yield pending

    def meta(self) -> dict[str, str]:
        """What table `meta` says after it."""
        numbers = {"schema": self.number, "min_reader": self.min_reader, "min_writer": self.min_writer}
        return {name: str(number) for name, number in numbers.items()}


class Tables(Protocol):
    """The tables of one ledger, as a migration sees them."""

    dialect: str
    where: str
    way_back: str

    def version(self) -> int:
        """Number of the present schema, 0 for none."""
        ...

    def meta(self) -> Mapping[str, str]:
        """Rows of table `meta`; empty where there is none."""
        ...

    def changing(self) -> AbstractContextManager[None]:
        """One transaction that no other process changes or writes the ledger beside; rolled back on any error."""
        ...

    def refuse_foreign(self, present: int) -> None:
        """Raise StoreError when the place belongs to another program."""
        ...

    def backup(self, present: int) -> None:
        """Copy the whole ledger to where `way_back` says."""
        ...

    def apply(self, step: Migration) -> None:
        """Execute its statements and set `meta` and the version."""
        ...


SCHEMA = 1
"""The schema that this program reads and writes: the number of the last file of each dialect."""

# Number: (min_reader, min_writer). An added table leaves both alone; a changed one raises them.
_COMPATIBLE = {1: (1, 1)}


def migrations(dialect: str = "sqlite") -> list[Migration]:
    """All migrations of a dialect, in order.

    Raises
    ------
    StoreError
        A file is missing from the installation.
    """
    folder = os.path.join(_FOLDER, dialect)
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".sql"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                number = int(name[:4])
                found.append(Migration(number, file.read(), *_COMPATIBLE[number]))
    if [migration.number for migration in found] != list(range(1, SCHEMA + 1)):
        raise StoreError("schema files are missing from this installation", where=folder, hint="Install it again.")
    return found


def migrate(tables: Tables, steps: list[Migration] | None = None) -> None:
    """Bring a ledger to the last schema; of several processes that start at once one does it, the others wait.

    Parameters
    ----------
    tables : Tables
        Of a connection that is outside a transaction.
    steps : list of Migration, optional
        Other steps than this version's, for tests.

    Raises
    ------
    StoreTooNewError
        The ledger may no longer be read by this program.
    StoreError
        The place belongs to another program.
    Exception
        As the database says; the ledger is then as it was.
    """
    last = SCHEMA if steps is None else steps[-1].number
    present = tables.version()
    if present > last:
        check(tables, last, writing=False)
    if present >= last:
        return
    with tables.changing():
        present = tables.version()  # another process may have been first
        if present >= last:
            return
        tables.refuse_foreign(present)
        if present:
            tables.backup(present)
        for step in migrations(tables.dialect) if steps is None else steps:
            if step.number > present:
                tables.apply(step)


def check(tables: Tables, known: int = SCHEMA, *, writing: bool) -> None:
    """Refuse a ledger that a newer program has changed beyond what this one may read or write.

    Raises
    ------
    StoreTooNewError
        Names both schema numbers.
    """
    present = tables.version()
    if present <= known:
        return
    oldest = tables.meta().get("min_writer" if writing else "min_reader")
    if oldest is None or int(oldest) > known:
        verb = "write" if writing else "read"
        raise StoreTooNewError(
            f"the ledger has schema {present}; this Penstock knows schema {known} and may not {verb} it",
            where=tables.where,
            hint=f"Use the newer Penstock that wrote it, or put back {tables.way_back}.",
            found=present,
            known=known,
        )
