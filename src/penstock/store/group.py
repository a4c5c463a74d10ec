"""Write a group of recomputable facts inside one transaction of the ledger."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from penstock.store import rows
from penstock.store.rows import Row, to_key, to_text
from penstock.store.sqlite import select_in

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from penstock.core.artifact import Artifact
    from penstock.core.run import Decided, Group, Result

_Key = bytes | str
_NO_ROW: Row = (None,) * 5


class GroupWriter:
    """Writes one group through a connection that is inside a transaction.

    Parameters
    ----------
    db : sqlite3.Connection
        Whoever opened the transaction commits it or rolls it back.
    group : Group
        What to write.
    """

    def __init__(self, db: sqlite3.Connection, group: Group) -> None:
        self._db = db
        self._group = group
        self._artifact_ids: dict[tuple[_Key, str], int] = {}
        self._trees: dict[int, str] = {}
        self._written: dict[_Key, Row] = {}

    def write(self) -> None:
        """Insert or update every row."""
        group = self._group
        self._db.executemany(
            "INSERT INTO code VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(to_key(digest), rows.encode(dict(parts))) for digest, parts in group.codes.items()],
        )
        self._results(group.results)
        self._step_runs()
        self._decided(group.decided)
        self._db.executemany(
            "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(rows.run_row, group.runs)
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO source VALUES (?, ?, ?)",
            [(to_text(one.path), rows.encode(one.stat), to_key(one.digest)) for one in group.sources],
        )

    def _tree(self, tree: object) -> str:
        """The text of a tree; one that a result and a decision share is encoded once."""
        text = self._trees.get(id(tree))
        if text is None:
            text = self._trees[id(tree)] = rows.encode(tree)
        return text

    def _artifacts(self, groups: Iterable[tuple[Artifact, ...]]) -> None:
        """Insert artifacts and learn their ids."""
        wanted: dict[tuple[_Key, str], Row] = {}
        for outputs in groups:
            for artifact in outputs:
                row = rows.artifact_row(artifact)
                if row[:2] not in wanted or wanted[row[:2]][3] is None:
                    wanted[row[:2]] = row
        new = {name: row for name, row in wanted.items() if name not in self._artifact_ids}
        if not new:
            return
        digests = {digest for digest, _ in new}
        found = select_in(self._db, "SELECT digest, format, id, text FROM artifact WHERE digest IN (?)", digests)
        for digest, kind, identity, text in list(found):
            self._artifact_ids[digest, kind] = identity
            row = new.pop((digest, kind), _NO_ROW)
            if text is None and row[3] is not None:
                # It was known as an object; now it is inline, and no object may exist.
                self._db.execute("UPDATE artifact SET text = ? WHERE id = ?", (row[3], identity))
        numbered = dict(zip(new, self._next("SELECT coalesce(max(id), 0) + 1 FROM artifact"), strict=False))
        self._artifact_ids.update(numbered)
        self._db.executemany(
            "INSERT INTO artifact VALUES (?, ?, ?, ?, ?, ?)", [(numbered[name], *row) for name, row in new.items()]
        )

    def _next(self, query: str) -> Iterator[int]:
        (first,) = self._db.execute(query).fetchone()
        return itertools.count(first)

    def _ids(self, outputs: tuple[Artifact, ...]) -> list[int]:
        return [self._artifact_ids[to_key(artifact.digest), artifact.format] for artifact in outputs]

    def _results(self, results: list[Result]) -> None:
        fresh: dict[_Key, Result] = {}
        for result in results:
            fresh.setdefault(to_key(result.recipe), result)
        for (known,) in select_in(self._db, "SELECT recipe FROM result WHERE recipe IN (?)", list(fresh)):
            del fresh[known]
        if not fresh:
            return
        self._artifacts(result.outputs for result in fresh.values())
        ids = zip(self._next("SELECT coalesce(max(id), 0) + 1 FROM result"), fresh.values(), strict=False)
        numbered = [(n, self._ids(one.outputs), one) for n, one in ids]
        written = [(n, *rows.result_row(one, self._tree(one.tree), outputs)) for n, outputs, one in numbered]
        self._written = {row[1]: row[:5] for row in written}
        self._db.executemany("INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?)", written)
        self._db.executemany(
            "INSERT INTO result_output VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(identity, n) for n, outputs, _ in numbered for identity in outputs],
        )
        self._db.executemany(
            "INSERT INTO result_input VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(rows.prefix_of(digest), n) for n, _, one in numbered for digest in rows.digests_in(one.tree)],
        )

    def _step_runs(self) -> None:
        step_runs = self._group.step_runs
        self._artifacts(one.outputs for one in step_runs if one.outputs)
        self._db.executemany(
            "INSERT INTO step_run (run, step, attempt, recipe, action, state, reason, outputs, error, notes, started, "
            "wall_s, cpu_s, peak_bytes) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            [rows.step_run_row(one, self._ids(one.outputs)) for one in step_runs],
        )

    def _decided(self, decided: list[tuple[str, Decided]]) -> None:
        known = dict(self._written)
        others = {key for _, one in decided if (key := to_key(one.recipe)) not in known}
        query = "SELECT id, recipe, code, tree, source FROM result WHERE recipe IN (?)"
        known.update({row[1]: row for row in select_in(self._db, query, others)})
        self._db.executemany(
            "INSERT INTO decided VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET result = excluded.result, rest = excluded.rest "
            "WHERE result IS NOT excluded.result OR rest IS NOT excluded.rest",
            [(to_text(flow), to_text(one.step), *self._rest(one, known)) for flow, one in decided],
        )

    def _rest(self, one: Decided, known: dict[_Key, Row]) -> tuple[int | None, str | None]:
        """The result that says the same, or all of it."""
        row = known.get(to_key(one.recipe))
        if row is not None and row[2:] == (to_key(one.code), self._tree(one.tree), rows.optional_key(one.source)):
            return row[0], None
        return None, rows.rest_of(one)
