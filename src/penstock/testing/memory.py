"""Objects and ledger in memory: fakes that pass the same conformance suites as the real ones."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes, digest_value
from penstock.core.ports import ObjectStat
from penstock.core.run import Decided, Entry, Group, Result, Run, SourceStat, StepRun
from penstock.errors import ConflictError, CorruptObjectError, MissingObjectError, StoreError, UsageError

T = TypeVar("T")


class MemoryObjects:
    """`penstock.core.ports.Objects` in a dictionary; `fetch` writes into a temporary directory.

    Examples
    --------
    >>> objects = MemoryObjects()
    >>> digest, size = objects.stage(b"hello")
    >>> objects.read(digest)
    b'hello'
    """

    def __init__(self) -> None:
        self.published: dict[str, bytes] = {}
        self.staged: dict[str, bytes] = {}
        self.quarantined: list[tuple[str, bytes]] = []
        self.touched: dict[str, float] = {}
        self._folder = ""

    def direct(self) -> MemoryObjects:
        """The same store: it has no copies."""
        return self

    def stage(self, data: bytes | str) -> tuple[str, int]:
        """Keep bytes, or take the file at a path; give (digest, size)."""
        if isinstance(data, str):
            data = _take(data)
        digest = digest_bytes(data)
        if digest not in self.published:
            self.staged[digest] = bytes(data)
        self.touched[digest] = time.time()
        return digest, len(data)

    def publish(self, digests: Iterable[str]) -> None:
        """Make staged objects durable, as far as memory is."""
        wanted = list(digests)
        for digest in wanted:
            self._look(digest)
        for digest in wanted:
            self.published[digest] = self._look(digest)
            self.staged.pop(digest, None)
            self.touched[digest] = time.time()

    def read(self, digest: str) -> bytes:
        """The bytes, verified against their name."""
        data = self._look(digest)
        found = digest_bytes(data)
        if found != digest:
            raise CorruptObjectError(f"the bytes of object {digest[:12]}… were changed", digest=digest, found=found)
        return data

    def _look(self, digest: str) -> bytes:
        for place in (self.published, self.staged, self.published):  # a publish may move it between two looks
            if (data := place.get(digest)) is not None:
                return data
        raise MissingObjectError(f"object {digest[:80]} is not in the store", digest=digest)

    def fetch(self, digest: str) -> str:
        """Path of a read-only file with verified bytes."""
        data = self.read(digest)
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="penstock-objects-")
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = os.path.join(self._folder, digest)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o444)
        return path

    def missing(self, digests: Collection[str]) -> set[str]:
        """Those of the digests that are neither staged nor published."""
        places = (self.published, self.staged, self.published)
        return {digest for digest in digests if not any(digest in place for place in places)}

    def quarantine(self, digest: str) -> None:
        """Move the corrupt copies of an object aside; a good copy stays."""
        for place in (self.published, self.staged):
            if digest in place and digest_bytes(place[digest]) != digest:
                self.quarantined.append((digest, place.pop(digest)))

    def walk(self) -> Iterator[ObjectStat]:
        """Every object, staged and published."""
        for staged, place in ((False, self.published), (True, self.staged)):
            for digest, data in list(place.items()):
                yield ObjectStat(digest, len(data), self.touched.get(digest, 0.0), staged)

    def delete(self, digest: str) -> None:
        """Remove an object; no error if it is gone."""
        self.published.pop(digest, None)
        self.staged.pop(digest, None)

    def delete_unless_touched(self, digest: str, before: float) -> bool:
        """Remove an object unless it was written or touched at or after a Unix time."""
        if self.touched.get(digest, 0.0) >= before:
            return False
        self.delete(digest)
        return True

    def leftovers(self) -> Iterator[Any]:
        """Memory has none."""
        return iter(())

    def sweep(self, grace_s: float) -> int:
        """Memory has nothing to sweep, whatever the grace in seconds."""
        return 0 if grace_s >= 0 else -1


def _take(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
    except OSError as error:
        raise StoreError(f"cannot take a file into the store: {error.strerror}", where=path) from error
    return data


class MemoryLedger:
    """`penstock.core.ports.Ledger` in dictionaries; values come back as JSON gives them back.

    Parameters
    ----------
    clock : callable, default=time.time
        Gives the Unix time in seconds for entries whose `at` is 0.0.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._results: dict[str, Result] = {}
        self._decided: dict[tuple[str, str], Decided] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._sources: dict[str, SourceStat] = {}
        self._runs: dict[str, Run] = {}
        self._step_runs: dict[tuple[str, str, int], StepRun] = {}
        self._artifacts: dict[tuple[str, str], Artifact] = {}
        self._streams: dict[str, list[Entry]] = {}
        self._keys: dict[str, tuple[str, list[Entry]]] = {}

    def results(self, recipes: Collection[str]) -> dict[str, Result]:
        """What these recipes gave, for those that are known."""
        return {recipe: self._result(self._results[recipe]) for recipe in recipes if recipe in self._results}

    def _result(self, result: Result) -> Result:
        return replace(result, outputs=self._outputs(result.outputs))

    def _outputs(self, outputs: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
        return tuple(self._artifacts[one.digest, one.format] for one in outputs)

    def decided(self, flow: str) -> dict[str, Decided]:
        """The last decision on each step of a flow, by step id."""
        return {step: one for (name, step), one in self._decided.items() if name == flow}

    def codes(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """The parts of code digests."""
        return {digest: dict(self._codes[digest]) for digest in digests if digest in self._codes}

    def sources(self, paths: Collection[str]) -> dict[str, SourceStat]:
        """What is remembered of files, by path."""
        return {path: self._sources[path] for path in paths if path in self._sources}

    def commit(self, group: Group) -> None:
        """Write a group, all or nothing."""
        results = [replace(one, tree=_plain(one.tree), made=_plain(one.made)) for one in group.results]
        decided = [(flow, replace(one, tree=_plain(one.tree))) for flow, one in group.decided]
        runs = [replace(one, counts=_plain(one.counts), info=_plain(one.info)) for one in group.runs]
        step_runs = [
            replace(one, reason=_plain(one.reason), error=_plain(one.error), notes=_plain(one.notes))
            for one in group.step_runs
        ]
        for result in results:
            if result.recipe not in self._results:
                self._keep(result.outputs)
                self._results[result.recipe] = result
        for step_run in step_runs:
            self._keep(step_run.outputs)
            self._step_runs.setdefault((step_run.run, step_run.step, step_run.attempt), step_run)
        for digest, parts in group.codes.items():
            self._codes.setdefault(digest, dict(parts))
        self._decided.update({(flow, one.step): one for flow, one in decided})
        self._runs.update({one.id: one for one in runs})
        self._sources.update({one.path: one for one in group.sources})

    def _keep(self, outputs: tuple[Artifact, ...]) -> None:
        for one in outputs:
            known = self._artifacts.setdefault((one.digest, one.format), one)
            if known.text is None and one.text is not None:
                self._artifacts[one.digest, one.format] = replace(known, text=one.text)

    def append(self, entries: Sequence[Entry], *, key: str | None = None) -> list[Entry]:
        """Append decisions, all or nothing."""
        if not entries:
            return []
        bodies = [_strict(one.body, one.stream) for one in entries]
        fingerprint = digest_value("append", [[one.stream, one.number, dict(one.body)] for one in entries])
        if key is not None and key in self._keys:
            known, result = self._keys[key]
            if known != fingerprint:
                raise self._conflict(entries[0], f"the key {key!r} was used for another request")
            return list(result)
        now = self._clock()
        recorded: list[Entry] = []
        heads = self.streams()
        for entry, body in zip(entries, bodies, strict=True):
            if entry.number != heads.get(entry.stream, 0) + 1:
                raise self._conflict(entry, f"entry {entry.number} is not the next one")
            heads[entry.stream] = entry.number
            recorded.append(replace(entry, body=body, at=entry.at or now))
        for entry in recorded:
            self._streams.setdefault(entry.stream, []).append(entry)
        if key is not None:
            self._keys[key] = (fingerprint, recorded)
        return list(recorded)

    def _conflict(self, entry: Entry, why: str) -> ConflictError:
        stream = self._streams.get(entry.stream)
        head = stream[-1] if stream else None
        return ConflictError(f"somebody else was first: {why}", where=entry.stream, head=head)

    def stream(self, name: str, *, after: int = 0) -> list[Entry]:
        """Entries of one stream with a number above `after`, in order."""
        return self._streams.get(name, [])[max(after, 0) :]

    def streams(self, prefix: str = "") -> dict[str, int]:
        """Names of the streams that begin with a prefix, and the number of each one's head."""
        return {name: len(self._streams[name]) for name in sorted(self._streams) if name.startswith(prefix)}

    def runs(self, *, flow: str | None = None, prefix: str = "", limit: int = 100) -> list[Run]:
        """Runs, newest first; `prefix` is the beginning of an id."""
        found = [one for one in self._runs.values() if one.id.startswith(prefix) and flow in (None, one.flow)]
        return sorted(found, key=lambda one: (-one.started, one.id))[:limit]

    def step_runs(self, run: str) -> list[StepRun]:
        """The decisions of one run, in the order in which they were recorded."""
        return [replace(one, outputs=self._outputs(one.outputs)) for one in self._step_runs.values() if one.run == run]

    def makers(self, digest: str) -> list[Result]:
        """Results of which this digest is an output."""
        return self._where(lambda one: any(output.digest == digest for output in one.outputs))

    def users(self, digest: str) -> list[Result]:
        """Results whose argument tree holds this digest."""
        from penstock.store.rows import digests_in

        return self._where(lambda one: digest in digests_in(one.tree))

    def _where(self, holds: Callable[[Result], bool]) -> list[Result]:
        return sorted(map(self._result, filter(holds, self._results.values())), key=lambda one: one.recipe)

    def close(self) -> None:
        """Nothing to release."""

    def recipes(self) -> list[str]:
        """Every recipe of the hit table."""
        return list(self._results)

    def artifacts(self, digests: Collection[str] | None = None) -> Iterator[Artifact]:
        """Artifacts on record, all or those of some digests."""
        return (one for one in list(self._artifacts.values()) if digests is None or one.digest in digests)

    def forget(self, recipes: Collection[str]) -> int:
        """Remove results from the hit table; give their number."""
        return sum(self._results.pop(recipe, None) is not None for recipe in list(recipes))

    def integrity(self) -> list[str]:
        """Memory is whole."""
        return []


def _plain(value: T) -> T:
    """As JSON gives it back: a fake that kept tuples would hide a fault of its user."""
    plain: T = json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
    return plain


def _strict(body: Mapping[str, Any], stream: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(body), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"a decision on record must be plain JSON: {error}", where=stream) from error
    return plain
