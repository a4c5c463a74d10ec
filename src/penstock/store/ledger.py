"""The facts on record, in one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_value
from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun
from penstock.errors import ConflictError
from penstock.store import rows
from penstock.store.migrate import SCHEMA, check, migrate
from penstock.store.rows import Row, from_key, to_key, to_text
from penstock.store.sqlite import Database, select_in

_END = "\U0010ffff"
_RESULT = "SELECT r.recipe, r.code, t.text, r.source, r.outputs, r.made FROM result r JOIN tree t ON t.digest = r.tree"
_ENTRY = "SELECT stream, number, body, at, who, why FROM entry"
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
        self.path = path
        self._clock = clock
        self._database = Database(path, lambda connection: migrate(connection, path))

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
            "SELECT d.step, d.recipe, d.code, t.text, d.source "
            "FROM decided d JOIN tree t ON t.digest = d.tree WHERE d.flow = ?"
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
            trees: dict[int, Row] = {}
            _insert_codes(db, group)
            _insert_results(db, group.results, trees)
            _insert_step_runs(db, group.step_runs)
            _upsert_decided(db, group.decided, trees)
            _upsert_runs_and_sources(db, group)

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
            names = [rows.decode(row[7]) if row[7] else [] for row in found]
            known = _artifacts(db, names)
            return [rows.step_run_of(row, _outputs(known, name) or ()) for row, name in zip(found, names, strict=True)]

    def makers(self, digest: str) -> list[Result]:
        """Results of which this digest is an output: backwards in lineage."""
        return self._lineage("result_output", digest)

    def users(self, digest: str) -> list[Result]:
        """Results whose argument tree holds this digest: forwards in lineage."""
        return self._lineage("result_input", digest)

    def _lineage(self, table: str, digest: str) -> list[Result]:
        query = f"{_RESULT} JOIN {table} l ON l.recipe = r.recipe WHERE l.digest = ? ORDER BY r.recipe"
        with self._database.reading() as db:
            return _with_outputs(db, list(db.execute(query, (to_key(digest),))))

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
        db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", rows.entry_row(entry, body, at))

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
        query = "SELECT digest, format, size, text, refs FROM artifact"
        with self._database.reading() as db:
            if digests is None:
                found = db.execute(query).fetchall()
            else:
                found = list(select_in(db, f"{query} WHERE digest IN (?)", map(to_key, digests)))
        return map(rows.artifact_of, found)

    def forget(self, recipes: Collection[str]) -> int:
        """Remove results from the hit table, with their lineage and trees; give their number.

        Runs, their decisions and the rows of artifacts stay: they are small, and tell what happened.
        """
        with self._writing() as db:
            before = db.total_changes
            db.executemany("DELETE FROM result WHERE recipe = ?", [(to_key(recipe),) for recipe in recipes])
            gone = db.total_changes - before
            db.execute("DELETE FROM result_output WHERE recipe NOT IN (SELECT recipe FROM result)")
            db.execute("DELETE FROM result_input WHERE recipe NOT IN (SELECT recipe FROM result)")
            db.execute("DELETE FROM tree WHERE digest NOT IN (SELECT tree FROM result UNION SELECT tree FROM decided)")
        return gone

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is whole."""
        with self._database.reading() as db:
            found = [str(text) for (text,) in db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found


def _insert_codes(db: sqlite3.Connection, group: Group) -> None:
    db.executemany(
        "INSERT INTO code VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(to_key(digest), rows.encode(dict(parts))) for digest, parts in group.codes.items()],
    )


def _insert_trees(db: sqlite3.Connection, found: Iterable[Any], trees: dict[int, Row]) -> None:
    """Insert trees that are not there; a tree that a result and a decision share is encoded once."""
    for tree in found:
        if id(tree) not in trees:
            trees[id(tree)] = rows.tree_row(tree)
    db.executemany("INSERT INTO tree VALUES (?, ?) ON CONFLICT DO NOTHING", list(trees.values()))


def _insert_artifacts(db: sqlite3.Connection, outputs: Iterable[tuple[Artifact, ...]]) -> None:
    """Insert artifacts; one that was known without its text gets it, for no object may exist then."""
    db.executemany(
        "INSERT INTO artifact VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET text = excluded.text WHERE text IS NULL AND excluded.text IS NOT NULL",
        [rows.artifact_row(artifact) for group in outputs for artifact in group],
    )


def _insert_results(db: sqlite3.Connection, results: list[Result], trees: dict[int, Row]) -> None:
    fresh = {to_key(result.recipe): result for result in reversed(results)}  # of two in one group the first stands
    for (known,) in select_in(db, "SELECT recipe FROM result WHERE recipe IN (?)", list(fresh)):
        del fresh[known]
    _insert_trees(db, (result.tree for result in fresh.values()), trees)
    _insert_artifacts(db, (result.outputs for result in fresh.values()))
    db.executemany(
        "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?)",
        [rows.result_row(result, trees[id(result.tree)][0]) for result in fresh.values()],
    )
    db.executemany(
        "INSERT INTO result_output VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(to_key(artifact.digest), recipe) for recipe, result in fresh.items() for artifact in result.outputs],
    )
    db.executemany(
        "INSERT INTO result_input VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(to_key(digest), recipe) for recipe, result in fresh.items() for digest in rows.digests_in(result.tree)],
    )


def _insert_step_runs(db: sqlite3.Connection, step_runs: list[StepRun]) -> None:
    _insert_artifacts(db, (step_run.outputs for step_run in step_runs if step_run.outputs))
    db.executemany(
        f"INSERT INTO step_run ({_STEP_RUN}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",  # noqa: S608
        map(rows.step_run_row, step_runs),
    )


def _upsert_decided(db: sqlite3.Connection, decided: list[tuple[str, Decided]], trees: dict[int, Row]) -> None:
    _insert_trees(db, (one.tree for _, one in decided), trees)
    db.executemany(
        "INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET recipe = excluded.recipe, code = excluded.code, tree = excluded.tree, source = excluded.source "
        "WHERE (recipe, code, tree, source) IS NOT (excluded.recipe, excluded.code, excluded.tree, excluded.source)",
        [rows.decided_row(flow, one, trees[id(one.tree)][0]) for flow, one in decided],
    )


def _upsert_runs_and_sources(db: sqlite3.Connection, group: Group) -> None:
    db.executemany("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(rows.run_row, group.runs))
    db.executemany(
        "INSERT OR REPLACE INTO source VALUES (?, ?, ?)",
        [(to_text(one.path), rows.encode(one.stat), to_key(one.digest)) for one in group.sources],
    )


_Known = dict[tuple[str, str], Artifact]


def _artifacts(db: sqlite3.Connection, names: Iterable[list[list[str]]]) -> _Known:
    wanted = {to_key(digest) for outputs in names for _, digest in outputs}
    found = select_in(db, "SELECT digest, format, size, text, refs FROM artifact WHERE digest IN (?)", wanted)
    return {(artifact.format, artifact.digest): artifact for artifact in map(rows.artifact_of, found)}


def _outputs(known: _Known, names: list[list[str]]) -> tuple[Artifact, ...] | None:
    outputs = tuple(known[kind, digest] for kind, digest in names if (kind, digest) in known)
    return outputs if len(outputs) == len(names) else None


def _with_outputs(db: sqlite3.Connection, found: list[Row]) -> list[Result]:
    """Results with their outputs; one whose outputs are not all on record is a miss."""
    names = [rows.decode(row[4]) for row in found]
    known = _artifacts(db, names)
    pairs = ((row, _outputs(known, name)) for row, name in zip(found, names, strict=True))
    return [rows.result_of(row, outputs) for row, outputs in pairs if outputs is not None]


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
