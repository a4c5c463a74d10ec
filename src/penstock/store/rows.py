"""Between the words of `core` and the rows of the ledger."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.run import Decided, Entry, Result, Run, StepRun
from penstock.errors import StoreError, UsageError

Row = tuple[Any, ...]


class NoDigest(str):
    """A text in a column of digests that is none: PostgreSQL has a type for each column, SQLite for each value."""

    __slots__ = ()


class RawText(bytes):
    """A text that is not valid Unicode, in a column of texts: as bytes, since SQLite can store those."""

    __slots__ = ()


# ASCII only: a lone surrogate (a file name that is not UTF-8) is kept as an escape, which SQLite can store.
encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_encode_strict = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
decode = json.loads


@functools.lru_cache(maxsize=8_192)  # a group names each digest four times
def to_key(digest: str) -> bytes | str:
    """A digest as 32 bytes; any other text as it is.

    Examples
    --------
    >>> len(to_key("ab" * 32)), to_key("")
    (32, '')
    """
    if len(digest) == 64:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return NoDigest(digest)
        if key.hex() == digest:
            return key
    return NoDigest(digest)


def from_key(key: bytes | str) -> str:
    """The inverse of `to_key`."""
    return key.hex() if isinstance(key, bytes) else str(key)


def optional_key(digest: str | None) -> bytes | str | None:
    """`to_key` for what may be absent."""
    return None if digest is None else to_key(digest)


def optional_digest(key: bytes | str | None) -> str | None:
    """`from_key` for what may be absent."""
    return None if key is None else from_key(key)


def to_text(text: str) -> str | bytes:
    """A text for a TEXT column; one that is not valid Unicode (a file name of raw bytes) as a blob."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return RawText(text.encode("utf-8", "surrogatepass"))
    return text


def from_text(value: str | bytes) -> str:
    """The inverse of `to_text`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def prefix_of(digest: str) -> int:
    """The first eight bytes of a digest as a signed integer: a short key, good enough to look in few places."""
    key = to_key(digest)
    return int.from_bytes((key if isinstance(key, bytes) else key.encode("utf-8", "replace"))[:8], "big", signed=True)


def digests_in(tree: Any) -> Iterator[str]:
    """Digests of the artifacts that an argument tree names, as `["artifact", format, digest]`.

    Walks without recursion: a tree may be nested deeply. A user's list of that very shape is taken along; lineage
    then shows one line too many, never one too few.

    Examples
    --------
    >>> list(digests_in({"x": [1, ["artifact", "json", "ab" * 32]]})) == ["ab" * 32]
    True
    """
    pending = [tree]
    while pending:
        node = pending.pop()
        kind = type(node)
        if kind is str or node is None:
            continue
        if kind is list or kind is tuple:
            if len(node) == 3 and node[0] == "artifact" and type(node[2]) is str:
                yield node[2]
            else:
                pending.extend(node)
        elif isinstance(node, Mapping):
            pending.extend(node.values())


def output_ids(ids: Sequence[int]) -> int | str:
    """Column `outputs`: the id itself when there is one, as there nearly always is; else a JSON list."""
    return ids[0] if len(ids) == 1 else encode(ids)


def ids_of(outputs: int | str | None) -> list[int]:
    """The inverse of `output_ids`."""
    found = decode(outputs) if isinstance(outputs, str) else outputs
    return [found] if isinstance(found, int) else list(found or ())


def artifact_row(artifact: Artifact) -> Row:
    """Row of table `artifact`."""
    refs = encode(artifact.refs) if artifact.refs else None
    return to_key(artifact.digest), artifact.format, artifact.size, artifact.text, refs


def artifact_of(row: Row) -> Artifact:
    """The inverse of `artifact_row`."""
    digest, kind, size, text, refs = row
    return Artifact(from_key(digest), kind, size, text, tuple(decode(refs)) if refs else ())


def result_row(result: Result, tree: str, outputs: Sequence[int]) -> Row:
    """Row of table `result` without its id, given its tree's text and the ids of its outputs."""
    return (
        to_key(result.recipe),
        to_key(result.code),
        tree,
        optional_key(result.source),
        output_ids(outputs),
        encode(dict(result.made)),
    )


def result_of(row: Sequence[Any], outputs: tuple[Artifact, ...]) -> Result:
    """A result from (recipe, code, tree, source, outputs, made) and its outputs."""
    recipe, code, tree, source, _, made = row
    return Result(from_key(recipe), from_key(code), decode(tree), optional_digest(source), outputs, decode(made))


def rest_of(one: Decided | Result) -> str:
    """Column `rest` of table `decided`: what a decision says that has no result."""
    return encode([one.recipe, one.code, one.tree, one.source])


def decided_of(row: Row) -> Decided:
    """A decision from (step, rest, recipe, code, tree, source): from `rest`, or from its result's row."""
    step, rest, recipe, code, tree, source = row
    if rest is not None:
        return Decided(from_text(step), *decode(rest))
    return Decided(from_text(step), from_key(recipe), from_key(code), decode(tree), optional_digest(source))


def step_run_row(step_run: StepRun, outputs: Sequence[int]) -> Row:
    """Row of table `step_run` without its position, given the ids of its outputs."""
    return (
        step_run.run,
        to_text(step_run.step),
        step_run.attempt,
        optional_key(step_run.recipe),
        step_run.action,
        step_run.state,
        encode(dict(step_run.reason)),
        output_ids(outputs) if outputs else None,
        None if step_run.error is None else encode(dict(step_run.error)),
        encode(dict(step_run.notes)) if step_run.notes else None,
        step_run.started,
        step_run.wall_s,
        step_run.cpu_s,
        step_run.peak_bytes,
    )


def step_run_of(row: Row, outputs: tuple[Artifact, ...]) -> StepRun:
    """The inverse of `step_run_row`."""
    run, step, attempt, recipe, action, state, reason, _, error, notes, *times = row
    return StepRun(
        run,
        from_text(step),
        attempt,
        optional_digest(recipe),
        action,
        state,
        decode(reason),
        outputs,
        decode(error) if error else None,
        decode(notes) if notes else {},
        *times,
    )


def run_row(run: Run) -> Row:
    """Row of table `run`."""
    return (
        run.id,
        to_text(run.flow),
        run.kind,
        run.state,
        run.started,
        run.ended,
        encode(dict(run.counts)),
        encode(dict(run.info)),
    )


def run_of(row: Row) -> Run:
    """The inverse of `run_row`."""
    identity, flow, kind, state, started, ended, counts, info = row
    return Run(identity, from_text(flow), kind, state, started, ended, decode(counts), decode(info))


def body_text(body: Mapping[str, Any], stream: str) -> str:
    """The body of a decision as JSON.

    Raises
    ------
    UsageError
        It is not plain JSON (NaN and infinities are not).
    """
    try:
        return _encode_strict(dict(body))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"a decision on record must be plain JSON: {error}", where=stream, hint="Write such a number as text."
        ) from error


def entry_row(entry: Entry, body: str, at: float) -> Row:
    """Row of table `entry`, given the text of its body."""
    columns = (to_text(entry.stream), entry.number, body, at, to_text(entry.who), to_text(entry.why))
    return *columns, _seal(columns)


def entry_of(row: Row) -> Entry:
    """The inverse of `entry_row`.

    Raises
    ------
    StoreError
        The row is not what was written.
    """
    columns, seal = row[:-1], row[-1]
    stream, number, body, at, who, why = columns
    if _seal(columns) != seal:
        raise StoreError(
            f"entry {number} was changed after it was written",
            where=from_text(stream),
            hint="Put back a copy of the ledger. Is the disk failing (`dmesg`)?",
        )
    return Entry(from_text(stream), number, decode(body), at, from_text(who), from_text(why))


def _seal(columns: Row) -> bytes:
    return hashlib.sha256(repr(columns).encode()).digest()
