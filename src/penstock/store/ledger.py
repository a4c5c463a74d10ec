"""The facts on record, in one SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_value
from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun
from penstock.errors import ConflictError
from penstock.store import rows
from penstock.store.group import GroupWriter
from penstock.store.migrate import SCHEMA, check, migrate
from penstock.store.rows import Row, from_key, to_key, to_text
from penstock.store.sqlite import Database, select_in

_END = "\U0010ffff"
_RESULT = "SELECT r.recipe, r.code, r.tree, r.source, r.outputs, r.made FROM result r"
_TOLD = (
    "SELECT d.flow, d.step, r.recipe, r.code, r.tree, r.source, r.outputs, r.made "
    "FROM decided d JOIN result r ON r.id = d.result"
)
_ARTIFACT = "SELECT digest, format, size, text, refs FROM artifact"
_ENTRY = "SELECT stream, number, body, at, who, why, seal FROM entry"
_STEP_RUN = (
    "run, step, attempt, recipe, action, state, reason, outputs, error, notes, started, wall_s, cpu_s, peak_bytes"
)


class SqliteLedger:
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
    >>> ledger = SqliteLedger(os.path.join(tempfile.mkdtemp(), "ledger.db"))
    >>> [entry] = ledger.append([Entry("churn/version", 1, {"artifacts": {}})])
    >>> ledger.streams()
    {'churn/version': 1}
    >>> ledger.close()
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        self.path = os.path.abspath(path)
        self._clock = clock
        self._database = Database(self.path, lambda connection: migrate(connection, self.path))

    def close(self) -> None:
        """Release the connection."""
        self._database.close()

    # ── recomputable facts ───────────────────────────────────────────────────────────────────────────────────

    def results(self, recipes: Collection[str]) -> dict[str, Result]:
        """What these recipes gave, for those that are known."""
        with self._database.reading() as db:
            found = list(select_in(db, f"{_RESULT} WHERE r.recipe IN (?)", map(to_key, recipes)))
            return {result.recipe: result for result in _with_outputs(db, found)}

    def decided(self, flow: str) -> dict[str, Decided]:
        """The last decision on each step of a flow, by step id."""
        query = (
            "SELECT d.step, d.rest, r.recipe, r.code, r.tree, r.source "
            "FROM decided d LEFT JOIN result r ON r.id = d.result WHERE d.flow = ?"
        )
        with self._database.reading() as db:
            return {one.step: one for one in map(rows.decided_of, db.execute(query, (to_text(flow),)))}

    def codes(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """The parts of code digests."""
        with self._database.reading() as db:
            found = select_in(db, "SELECT digest, parts FROM code WHERE digest IN (?)", map(to_key, digests))
            return {from_key(digest): rows.decode(parts) for digest, parts in found}

    def sources(self, paths: Collection[str]) -> dict[str, SourceStat]:
        """What is remembered of files, by path."""
        with self._database.reading() as db:
            found = select_in(db, "SELECT path, stat, digest FROM source WHERE path IN (?)", map(to_text, paths))
            stats = [
                SourceStat(rows.from_text(path), tuple(rows.decode(stat)), from_key(digest))
                for path, stat, digest in found
            ]
            return {stat.path: stat for stat in stats}

    def commit(self, group: Group) -> None:
        """Write a group in one durable transaction, all or nothing."""
        with self._writing() as db:
            GroupWriter(db, group).write()

    def runs(self, *, flow: str | None = None, prefix: str = "", limit: int = 100) -> list[Run]:
        """Runs, newest first; `prefix` is the beginning of an id."""
        query = "SELECT id, flow, kind, state, started, ended, counts, info FROM run WHERE id >= ? AND id < ?"
        values: list[Any] = [prefix, prefix + _END]
        if flow is not None:
            query += " AND flow = ?"
            values.append(to_text(flow))
        with self._database.reading() as db:
            found = db.execute(f"{query} ORDER BY started DESC, id LIMIT ?", [*values, limit])
            return [rows.run_of(row) for row in found]

    def step_runs(self, run: str) -> list[StepRun]:
        """The decisions of one run, in the order in which they were recorded."""
        with self._database.reading() as db:
            found = list(db.execute(f"SELECT {_STEP_RUN} FROM step_run WHERE run = ? ORDER BY position", (run,)))  # noqa: S608 - our own columns
            ids = [rows.ids_of(row[7]) for row in found]
            known = _artifacts(db, ids)
            return [rows.step_run_of(row, tuple(known[i] for i in i_s)) for row, i_s in zip(found, ids, strict=True)]

    def makers(self, digest: str) -> list[Result]:
        """Results of which this digest is an output: backwards in lineage."""
        query = (
            f"{_RESULT} JOIN result_output o ON o.result = r.id "  # noqa: S608 - our own columns
            "WHERE o.artifact IN (SELECT id FROM artifact WHERE digest = ?) ORDER BY r.recipe"
        )
        with self._database.reading() as db:
            return _with_outputs(db, list(db.execute(query, (to_key(digest),))))

    def users(self, digest: str) -> list[Result]:
        """Results whose argument tree holds this digest: forwards in lineage."""
        query = f"{_RESULT} JOIN result_input i ON i.result = r.id WHERE i.prefix = ? ORDER BY r.recipe"
        with self._database.reading() as db:
            found = _with_outputs(db, list(db.execute(query, (rows.prefix_of(digest),))))
        return [result for result in found if digest in rows.digests_in(result.tree)]

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entries: Sequence[Entry], *, key: str | None = None) -> list[Entry]:
        """Append decisions in one durable transaction, all or nothing."""
        if not entries:
            return []
        bodies = [rows.body_text(entry.body, entry.stream) for entry in entries]
        fingerprint = to_key(digest_value("append", [[e.stream, e.number, dict(e.body)] for e in entries]))
        with self._writing() as db:
            if key is not None and (row := _answered(db, key)) is not None:
                if row[0] != fingerprint:
                    raise _conflict(db, entries[0], f"the key {key!r} was used for another request")
                return _recorded(db, rows.decode(row[1]))
            now = self._clock()
            for entry, body in zip(entries, bodies, strict=True):
                self._append_one(db, entry, body, entry.at or now)
            names = [[entry.stream, entry.number] for entry in entries]
            if key is not None:
                db.execute("INSERT INTO idempotency VALUES (?, ?, ?)", (key, fingerprint, rows.encode(names)))
            return _recorded(db, names)

    def _append_one(self, db: sqlite3.Connection, entry: Entry, body: str, at: float) -> None:
        head = _head(db, entry.stream)
        if entry.number != head + 1:
            raise _conflict(db, entry, f"entry {entry.number} was asked for, the next one is {head + 1}")
        db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", rows.entry_row(entry, body, at))

    def stream(self, name: str, *, after: int = 0) -> list[Entry]:
        """Entries of one stream with a number above `after`, in order."""
        with self._database.reading() as db:
            found = db.execute(f"{_ENTRY} WHERE stream = ? AND number > ? ORDER BY number", (to_text(name), after))
            return [rows.entry_of(row) for row in found]

    def streams(self, prefix: str = "") -> dict[str, int]:
        """Names of the streams that begin with a prefix, and the number of each one's head."""
        # Leaps from stream to stream along the primary key: the entries between are never read.
        query = """
            WITH RECURSIVE s(name) AS (
                SELECT min(stream) FROM entry WHERE stream >= :first AND stream < :end
                UNION ALL
                SELECT (SELECT min(stream) FROM entry WHERE stream > s.name AND stream < :end)
                FROM s WHERE s.name IS NOT NULL
            )
            SELECT name, (SELECT max(number) FROM entry WHERE stream = s.name) FROM s WHERE name IS NOT NULL
        """
        with self._database.reading() as db:
            return dict(db.execute(query, {"first": prefix, "end": prefix + _END}))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that first looks whether a newer program has changed the ledger."""
        with self._database.writing() as db:
            check(db, self.path, SCHEMA, writing=True)
            yield db

    # ── upkeep (beyond the Protocol: `fsck`, `gc`, `rebuild`) ────────────────────────────────────────────────

    def recipes(self) -> list[str]:
        """Every recipe of the hit table."""
        with self._database.reading() as db:
            return [from_key(recipe) for (recipe,) in db.execute("SELECT recipe FROM result")]

    def artifacts(self, digests: Collection[str] | None = None) -> Iterator[Artifact]:
        """Artifacts on record, all or those of some digests."""
        with self._database.reading() as db:
            if digests is None:
                found = db.execute(_ARTIFACT).fetchall()
            else:
                found = list(select_in(db, f"{_ARTIFACT} WHERE digest IN (?)", map(to_key, digests)))
        return map(rows.artifact_of, found)

    def forget(self, recipes: Collection[str]) -> int:
        """Remove results from the hit table, with their lineage; give their number.

        Runs, decisions on steps and the rows of artifacts stay: they are small, and tell what happened.
        """
        keys = [to_key(recipe) for recipe in recipes]
        with self._writing() as db:
            told = list(select_in(db, f"{_TOLD} WHERE r.recipe IN (?)", keys))
            db.executemany(
                "UPDATE decided SET result = NULL, rest = ? WHERE flow = ? AND step = ?",
                [(rows.rest_of(rows.result_of(row, ())), flow, step) for flow, step, *row in told],
            )
            before = db.total_changes
            db.executemany("DELETE FROM result WHERE recipe = ?", [(key,) for key in keys])
            gone = db.total_changes - before
            db.execute("DELETE FROM result_output WHERE result NOT IN (SELECT id FROM result)")
            db.execute("DELETE FROM result_input WHERE result NOT IN (SELECT id FROM result)")
        return gone

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is whole."""
        with self._database.reading() as db:
            found = [str(text) for (text,) in db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found


_Known = dict[int, Artifact]


def _artifacts(db: sqlite3.Connection, groups: Iterable[list[int]]) -> _Known:
    wanted = {identity for ids in groups for identity in ids}
    found = select_in(db, "SELECT id, digest, format, size, text, refs FROM artifact WHERE id IN (?)", wanted)
    return {row[0]: rows.artifact_of(row[1:]) for row in found}


def _with_outputs(db: sqlite3.Connection, found: list[Row]) -> list[Result]:
    ids = [rows.ids_of(row[4]) for row in found]
    known = _artifacts(db, ids)
    return [rows.result_of(row, tuple(known[i] for i in i_s)) for row, i_s in zip(found, ids, strict=True)]


def _head(db: sqlite3.Connection, stream: str) -> int:
    (head,) = db.execute("SELECT max(number) FROM entry WHERE stream = ?", (to_text(stream),)).fetchone()
    return int(head or 0)


def _answered(db: sqlite3.Connection, key: str) -> Row | None:
    row: Row | None = db.execute("SELECT fingerprint, result FROM idempotency WHERE key = ?", (key,)).fetchone()
    return row


def _recorded(db: sqlite3.Connection, names: list[list[Any]]) -> list[Entry]:
    query = f"{_ENTRY} WHERE stream = ? AND number = ?"
    return [rows.entry_of(db.execute(query, (to_text(name), number)).fetchone()) for name, number in names]


def _conflict(db: sqlite3.Connection, entry: Entry, why: str) -> ConflictError:
    row = db.execute(f"{_ENTRY} WHERE stream = ? ORDER BY number DESC LIMIT 1", (to_text(entry.stream),)).fetchone()
    return ConflictError(
        f"somebody else was first: {why}",
        where=entry.stream,
        hint="Look at what is on record now (`penstock log`), and decide again.",
        head=None if row is None else rows.entry_of(row),
    )
