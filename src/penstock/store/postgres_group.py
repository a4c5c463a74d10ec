"""Write a group of recomputable facts to PostgreSQL: one statement a table, all sent in one round trip.

What `penstock.store.group` asks the database and decides in Python is decided here by the statements themselves:
another program may write at the same moment, and a question more is a round trip more. Rows go in the order of their
keys, so that two groups at once wait for each other at most, and never in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.store import rows
from penstock.store.postgres_text import escaped, key_bytes
from penstock.store.rows import to_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.core.artifact import Artifact
    from penstock.core.run import Group, Result
    from penstock.store.postgres import Queries

_CODE = """
INSERT INTO code SELECT * FROM unnest(%b::bytea[], %b::text[]) AS t (digest, parts) ORDER BY digest
ON CONFLICT DO NOTHING
"""
# An artifact that was known as an object and is now inline: the text is what may be read, no object may exist.
_ARTIFACT = """
INSERT INTO artifact (digest, format, size, text, refs)
SELECT * FROM unnest(%b::bytea[], %b::text[], %b::bigint[], %b::text[], %b::text[])
     AS t (digest, format, size, text, refs)
ORDER BY digest, format
ON CONFLICT (digest, format) DO UPDATE SET text = excluded.text
WHERE artifact.text IS NULL AND excluded.text IS NOT NULL
"""
# `outputs`: the id of the artifact, or a JSON list of ids, in the order of the outputs.
_OUTPUTS = """
CASE WHEN count(*) = 1 THEN min(a.id)::text ELSE '[' || string_agg(a.id::text, ',' ORDER BY o.place) || ']' END
"""
_RESULT = f"""
WITH out AS MATERIALIZED (
    SELECT o.recipe, o.place, a.id FROM unnest(%b::bytea[], %b::bigint[], %b::bytea[], %b::text[])
    AS o (recipe, place, digest, format) JOIN artifact a ON a.digest = o.digest AND a.format = o.format
), listed AS (
    SELECT o.recipe, {_OUTPUTS.replace("a.id", "o.id")} AS outputs FROM out o GROUP BY o.recipe
), fresh AS (
    INSERT INTO result (recipe, code, tree, source, made, outputs)
    SELECT g.recipe, g.code, g.tree, g.source, g.made, coalesce(listed.outputs, '[]')
    FROM unnest(%b::bytea[], %b::bytea[], %b::text[], %b::bytea[], %b::text[]) AS g (recipe, code, tree, source, made)
    LEFT JOIN listed ON listed.recipe = g.recipe ORDER BY g.recipe
    ON CONFLICT DO NOTHING RETURNING id, recipe
), made AS (
    INSERT INTO result_output SELECT DISTINCT o.id, f.id FROM out o JOIN fresh f ON f.recipe = o.recipe
    ON CONFLICT DO NOTHING
)
INSERT INTO result_input SELECT DISTINCT i.prefix, f.id FROM unnest(%b::bytea[], %b::bigint[]) AS i (recipe, prefix)
JOIN fresh f ON f.recipe = i.recipe ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own text
_STEP_RUN = f"""
WITH listed AS (
    SELECT o.row, {_OUTPUTS} AS outputs FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[], %b::text[])
    AS o (row, place, digest, format) JOIN artifact a ON a.digest = o.digest AND a.format = o.format GROUP BY o.row
)
INSERT INTO step_run (run, step, attempt, recipe, action, state, reason, outputs, error, notes, started, wall_s, cpu_s,
                      peak_bytes)
SELECT s.run, s.step, s.attempt, s.recipe, s.action, s.state, s.reason, listed.outputs, s.error, s.notes, s.started,
       s.wall_s, s.cpu_s, s.peak_bytes
FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::text[], %b::text[], %b::text[], %b::text[],
            %b::text[], %b::float8[], %b::float8[], %b::float8[], %b::bigint[]) WITH ORDINALITY
     AS s (run, step, attempt, recipe, action, state, reason, error, notes, started, wall_s, cpu_s, peak_bytes, row)
LEFT JOIN listed ON listed.row = s.row ORDER BY s.row
ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own text
_DECIDED = """
INSERT INTO decided (flow, step, result, rest)
SELECT d.flow, d.step, r.id, CASE WHEN r.id IS NULL THEN d.rest END
FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::bytea[], %b::text[], %b::bytea[], %b::text[])
     AS d (flow, step, recipe, code, tree, source, rest)
LEFT JOIN result r
     ON r.recipe = d.recipe AND r.code = d.code AND r.tree = d.tree AND r.source IS NOT DISTINCT FROM d.source
ORDER BY d.flow COLLATE "C", d.step COLLATE "C"
ON CONFLICT (flow, step) DO UPDATE SET result = excluded.result, rest = excluded.rest
WHERE (decided.result, decided.rest) IS DISTINCT FROM (excluded.result, excluded.rest)
"""
_RUN = """
INSERT INTO run SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::float8[],
%b::text[], %b::text[]) AS t (id, flow, kind, state, started, ended, counts, info) ORDER BY id
ON CONFLICT (id) DO UPDATE SET (flow, kind, state, started, ended, counts, info) =
(excluded.flow, excluded.kind, excluded.state, excluded.started, excluded.ended, excluded.counts, excluded.info)
"""
_SOURCE = """
INSERT INTO source SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS t (path, stat, digest) ORDER BY path
ON CONFLICT (path) DO UPDATE SET (stat, digest) = (excluded.stat, excluded.digest)
"""


class GroupWriter:
    """Writes one group inside a transaction. It is prepared before: a transaction that is done again costs no work.

    Parameters
    ----------
    group : Group
        What to write.
    """

    def __init__(self, group: Group) -> None:
        self._trees: dict[int, str] = {}
        codes = [(_key(digest), rows.encode(dict(parts))) for digest, parts in group.codes.items()]
        results = {result.recipe: result for result in reversed(group.results)}
        outputs = [*(one.outputs for one in results.values()), *(one.outputs for one in group.step_runs)]
        sources = {one.path: (one.path, rows.encode(one.stat), _key(one.digest)) for one in group.sources}
        runs = {run.id: _run(rows.run_row(run)) for run in group.runs}
        self._statements = [
            (_CODE, _columns(codes, 2), bool(codes)),
            (_ARTIFACT, _columns(_artifacts(outputs), 5), any(outputs)),
            (_RESULT, self._results(list(results.values())), bool(results)),
            (_STEP_RUN, self._step_runs(group), bool(group.step_runs)),
            (_DECIDED, self._decided(group), bool(group.decided)),
            (_RUN, _columns(runs.values(), 8), bool(runs)),
            (_SOURCE, _columns(sources.values(), 3), bool(sources)),
        ]

    def write(self, db: Queries) -> None:
        """Send every statement that has rows; none is waited for before the commit."""
        for statement, values, wanted in self._statements:
            if wanted:
                db.run(statement, values)

    def _tree(self, tree: object) -> str:
        """The text of a tree; one that a result and a decision share is encoded once."""
        text = self._trees.get(id(tree))
        if text is None:
            text = self._trees[id(tree)] = rows.encode(tree)
        return text

    def _results(self, results: list[Result]) -> list[list[Any] | str]:
        outputs = [
            (_key(one.recipe), place, _key(artifact.digest), artifact.format)
            for one in results
            for place, artifact in enumerate(one.outputs)
        ]
        written = [
            (_key(one.recipe), _key(one.code), self._tree(one.tree), _optional(one.source), rows.encode(dict(one.made)))
            for one in results
        ]
        inputs = [(_key(one.recipe), rows.prefix_of(digest)) for one in results for digest in rows.digests_in(one.tree)]
        return [*_columns(outputs, 4), *_columns(written, 5), *_columns(inputs, 2)]

    def _step_runs(self, group: Group) -> list[list[Any] | str]:
        outputs, written = [], []
        for number, one in enumerate(group.step_runs, 1):
            outputs += [(number, place, _key(a.digest), a.format) for place, a in enumerate(one.outputs)]
            run, step, attempt, _, action, state, reason, _, *rest = rows.step_run_row(one, ())
            written.append((run, rows.from_text(step), attempt, _optional(one.recipe), action, state, reason, *rest))
        return [*_columns(outputs, 4), *_columns(written, 13)]

    def _decided(self, group: Group) -> list[list[Any] | str]:
        last = {
            (flow, one.step): (
                *(flow, one.step, _key(one.recipe), _key(one.code)),
                *(self._tree(one.tree), _optional(one.source), rows.rest_of(one)),
            )
            for flow, one in group.decided
        }
        return _columns(last.values(), 7)


def _key(digest: str) -> bytes:
    return key_bytes(to_key(digest))


def _optional(digest: str | None) -> bytes | None:
    return None if digest is None else _key(digest)


def _run(row: rows.Row) -> rows.Row:
    return row[0], rows.from_text(row[1]), *row[2:]


def _artifacts(groups: Iterable[tuple[Artifact, ...]]) -> Iterable[rows.Row]:
    """A row for each artifact, with its text where one of its mentions has it."""
    wanted: dict[tuple[str, str], rows.Row] = {}
    for outputs in groups:
        for artifact in outputs:
            name = (artifact.digest, artifact.format)
            if name not in wanted or wanted[name][3] is None:
                _, *rest = rows.artifact_row(artifact)
                wanted[name] = (_key(artifact.digest), *rest)
    return wanted.values()


def _columns(table: Iterable[Sequence[Any]], number: int) -> list[list[Any] | str]:
    """Rows as columns: the arrays that one statement takes.

    They go in binary, a third of the work for texts full of quotes; an array without a value has no type there.
    """
    columns = [escaped(column) for column in zip(*table, strict=True)] or [[] for _ in range(number)]
    return [column if any(one is not None for one in column) else _nothing(len(column)) for column in columns]


def _nothing(number: int) -> str:
    """An array of so many nulls, as text."""
    return f"{{{','.join(['NULL'] * number)}}}"
