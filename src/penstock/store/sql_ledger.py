"""The facts on record in a SQL database: what all dialects share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_value
from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun
from penstock.errors import ConflictError
from penstock.store import rows
from penstock.store.rows import Row, from_key, to_key, to_text

T = TypeVar("T")

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


class Queries(Protocol):
    """One transaction. Queries have "?" for values; values and rows are those of `penstock.store.rows`."""

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        ...

    def rows_in(self, query: str, keys: Iterable[Any]) -> list[Row]:
        """Rows of a query with `IN (?)`, for any number of keys of one kind."""
        ...

    def run_many(self, query: str, values: Sequence[Sequence[Any]]) -> None:
        """One statement for each of many rows of values."""
        ...


class Database(Protocol):
    """A connection that survives a fork and is used by one thread at a time."""

    where: str

    def read(self, do: Callable[[Any], T]) -> T:
        """Do something in one view of the facts: every query within sees the same state."""
        ...

    def write(self, do: Callable[[Any], T]) -> T:
        """Do something in one durable transaction, all or nothing; it may be done again after a lost race."""
        ...

    def close(self) -> None:
        """Release the connection; a second time does nothing."""
        ...


class SqlLedger(ABC):
    """`penstock.core.ports.Ledger` in a SQL database.

    A dialect gives a database, the way to write a group, to forget results and to look for damage.

    Parameters
    ----------
    database : Database
        Its tables are there.
    clock : callable, default=time.time
        Gives the Unix time in seconds for entries whose `at` is 0.0.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._base = database
        self._clock = clock

    def close(self) -> None:
        """Release the connection."""
        self._base.close()

    @abstractmethod
    def commit(self, group: Group) -> None:
        """Write a group in one durable transaction, all or nothing."""

    @abstractmethod
    def integrity(self) -> list[str]:
        """What is wrong with the database; empty when it is whole."""

    @abstractmethod
    def _delete_results(self, db: Any, keys: list[bytes | str]) -> int:
        """Remove rows of `result`, with their lineage; give their number."""

    def _request_key(self) -> str | None:
        """A key for a request that has none: where a commit's answer can be lost, it tells what became of it."""
        return None

    # ── recomputable facts ───────────────────────────────────────────────────────────────────────────────────

    def results(self, recipes: Collection[str]) -> dict[str, Result]:
        """What these recipes gave, for those that are known."""

        def read(db: Queries) -> list[Result]:
            return _with_outputs(db, db.rows_in(f"{_RESULT} WHERE r.recipe IN (?)", map(to_key, recipes)))

        return {result.recipe: result for result in self._base.read(read)}

    def decided(self, flow: str) -> dict[str, Decided]:
        """The last decision on each step of a flow, by step id."""
        query = (
            "SELECT d.step, d.rest, r.recipe, r.code, r.tree, r.source "
            "FROM decided d LEFT JOIN result r ON r.id = d.result WHERE d.flow = ?"
        )
        found = self._base.read(lambda db: [rows.decided_of(row) for row in db.rows(query, (to_text(flow),))])
        return {one.step: one for one in found}

    def codes(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """The parts of code digests."""
        query = "SELECT digest, parts FROM code WHERE digest IN (?)"

        def read(db: Queries) -> dict[str, dict[str, str]]:
            return {from_key(key): rows.decode(parts) for key, parts in db.rows_in(query, map(to_key, digests))}

        return self._base.read(read)

    def sources(self, paths: Collection[str]) -> dict[str, SourceStat]:
        """What is remembered of files, by path."""
        query = "SELECT path, stat, digest FROM source WHERE path IN (?)"

        def read(db: Queries) -> list[SourceStat]:
            found = db.rows_in(query, map(to_text, paths))
            return [SourceStat(rows.from_text(p), tuple(rows.decode(s)), from_key(d)) for p, s, d in found]

        return {stat.path: stat for stat in self._base.read(read)}

    def runs(self, *, flow: str | None = None, prefix: str = "", limit: int = 100) -> list[Run]:
        """Runs, newest first; `prefix` is the beginning of an id."""
        query = "SELECT id, flow, kind, state, started, ended, counts, info FROM run WHERE id >= ? AND id < ?"
        values: list[Any] = [prefix, prefix + _END]
        if flow is not None:
            query += " AND flow = ?"
            values.append(to_text(flow))
        query += " ORDER BY started DESC, id LIMIT ?"
        return self._base.read(lambda db: [rows.run_of(row) for row in db.rows(query, [*values, limit])])

    def step_runs(self, run: str) -> list[StepRun]:
        """The decisions of one run, in the order in which they were recorded."""
        query = f"SELECT {_STEP_RUN} FROM step_run WHERE run = ? ORDER BY position"  # noqa: S608 - our own columns

        def read(db: Queries) -> list[StepRun]:
            found = db.rows(query, (run,))
            ids = [rows.ids_of(row[7]) for row in found]
            known = _artifacts(db, ids)
            return [rows.step_run_of(row, tuple(known[i] for i in i_s)) for row, i_s in zip(found, ids, strict=True)]

        return self._base.read(read)

    def makers(self, digest: str) -> list[Result]:
        """Results of which this digest is an output: backwards in lineage."""
        query = (
            f"{_RESULT} JOIN result_output o ON o.result = r.id "  # noqa: S608 - our own columns
            "WHERE o.artifact IN (SELECT id FROM artifact WHERE digest = ?) ORDER BY r.recipe"
        )
        return self._base.read(lambda db: _with_outputs(db, db.rows(query, (to_key(digest),))))

    def users(self, digest: str) -> list[Result]:
        """Results whose argument tree holds this digest: forwards in lineage."""
        query = f"{_RESULT} JOIN result_input i ON i.result = r.id WHERE i.prefix = ? ORDER BY r.recipe"
        found = self._base.read(lambda db: _with_outputs(db, db.rows(query, (rows.prefix_of(digest),))))
        return [result for result in found if digest in rows.digests_in(result.tree)]

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entries: Sequence[Entry], *, key: str | None = None) -> list[Entry]:
        """Append decisions in one durable transaction, all or nothing."""
        if not entries:
            return []
        bodies = [rows.body_text(entry.body, entry.stream) for entry in entries]
        fingerprint = to_key(digest_value("append", [[e.stream, e.number, dict(e.body)] for e in entries]))
        asked = self._request_key() if key is None else key
        now = self._clock()
        written = [rows.entry_row(entry, body, entry.at or now) for entry, body in zip(entries, bodies, strict=True)]

        def write(db: Queries) -> list[Entry]:
            if asked is not None and (row := _answered(db, asked)) is not None:
                if row[0] != fingerprint:
                    raise _conflict(db, entries[0], f"the key {asked!r} was used for another request")
                return _recorded(db, rows.decode(row[1]))
            for entry, row in zip(entries, written, strict=True):
                _append_one(db, entry, row)
            names = [[entry.stream, entry.number] for entry in entries]
            if asked is not None:
                db.rows("INSERT INTO idempotency VALUES (?, ?, ?)", (to_text(asked), fingerprint, rows.encode(names)))
            return _recorded(db, names)

        return self._base.write(write)

    def stream(self, name: str, *, after: int = 0) -> list[Entry]:
        """Entries of one stream with a number above `after`, in order."""
        query = f"{_ENTRY} WHERE stream = ? AND number > ? ORDER BY number"
        return self._base.read(lambda db: [rows.entry_of(row) for row in db.rows(query, (to_text(name), after))])

    def streams(self, prefix: str = "") -> dict[str, int]:
        """Names of the streams that begin with a prefix, and the number of each one's head."""
        # Leaps from stream to stream along the primary key: the entries between are never read.
        query = """
            WITH RECURSIVE s(name) AS (
                SELECT min(stream) FROM entry WHERE stream >= ? AND stream < ?
                UNION ALL
                SELECT (SELECT min(stream) FROM entry WHERE stream > s.name AND stream < ?)
                FROM s WHERE s.name IS NOT NULL
            )
            SELECT name, (SELECT max(number) FROM entry WHERE stream = s.name) FROM s WHERE name IS NOT NULL
        """
        last = prefix + _END
        return self._base.read(lambda db: {rows.from_text(s): n for s, n in db.rows(query, (prefix, last, last))})

    # ── upkeep (beyond the Protocol: `fsck`, `gc`, `rebuild`) ────────────────────────────────────────────────

    def recipes(self) -> list[str]:
        """Every recipe of the hit table."""
        return self._base.read(lambda db: [from_key(recipe) for (recipe,) in db.rows("SELECT recipe FROM result")])

    def artifacts(self, digests: Collection[str] | None = None) -> Iterator[Artifact]:
        """Artifacts on record, all or those of some digests."""

        def read(db: Queries) -> list[Row]:
            if digests is None:
                return db.rows(_ARTIFACT)
            return db.rows_in(f"{_ARTIFACT} WHERE digest IN (?)", map(to_key, digests))

        return map(rows.artifact_of, self._base.read(read))

    def forget(self, recipes: Collection[str]) -> int:
        """Remove results from the hit table, with their lineage; give their number.

        Runs, decisions on steps and the rows of artifacts stay: they are small, and tell what happened.
        """
        keys = [to_key(recipe) for recipe in recipes]

        def write(db: Queries) -> int:
            told = db.rows_in(f"{_TOLD} WHERE r.recipe IN (?)", keys)
            db.run_many(
                "UPDATE decided SET result = NULL, rest = ? WHERE flow = ? AND step = ?",
                [(rows.rest_of(rows.result_of(row, ())), flow, step) for flow, step, *row in told],
            )
            return self._delete_results(db, keys)

        return self._base.write(write)


_Known = dict[int, Artifact]


def _artifacts(db: Queries, groups: Iterable[list[int]]) -> _Known:
    wanted = {identity for ids in groups for identity in ids}
    found = db.rows_in("SELECT id, digest, format, size, text, refs FROM artifact WHERE id IN (?)", wanted)
    return {row[0]: rows.artifact_of(row[1:]) for row in found}


def _with_outputs(db: Queries, found: list[Row]) -> list[Result]:
    ids = [rows.ids_of(row[4]) for row in found]
    known = _artifacts(db, ids)
    return [rows.result_of(row, tuple(known[i] for i in i_s)) for row, i_s in zip(found, ids, strict=True)]


def _head(db: Queries, stream: str) -> int:
    [(head,)] = db.rows("SELECT max(number) FROM entry WHERE stream = ?", (to_text(stream),))
    return int(head or 0)


def _append_one(db: Queries, entry: Entry, row: Row) -> None:
    head = _head(db, entry.stream)
    if entry.number != head + 1:
        raise _conflict(db, entry, f"entry {entry.number} was asked for, the next one is {head + 1}")
    db.rows("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _answered(db: Queries, key: str) -> Row | None:
    found = db.rows("SELECT fingerprint, result FROM idempotency WHERE key = ?", (to_text(key),))
    return found[0] if found else None


def _recorded(db: Queries, names: list[list[Any]]) -> list[Entry]:
    query = f"{_ENTRY} WHERE stream = ? AND number = ?"
    return [rows.entry_of(db.rows(query, (to_text(name), number))[0]) for name, number in names]


def _conflict(db: Queries, entry: Entry, why: str) -> ConflictError:
    found = db.rows(f"{_ENTRY} WHERE stream = ? ORDER BY number DESC LIMIT 1", (to_text(entry.stream),))
    return ConflictError(
        f"somebody else was first: {why}",
        where=entry.stream,
        hint="Look at what is on record now (`penstock log`), and decide again.",
        head=rows.entry_of(found[0]) if found else None,
    )
