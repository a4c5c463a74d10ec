"""A hypothesis state machine: a store and a ledger against a dictionary, with crashes, restarts and collections.

Needs `hypothesis`. Subclass `StoreMachine`, define `open`, and give `YourMachine.TestCase` to pytest.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_bytes, digest_recipe
from penstock.core.run import Entry, Group, Result, Run
from penstock.errors import ConflictError, MissingObjectError
from penstock.store.fsck import fsck
from penstock.store.gc import collect
from penstock.testing.ledger_suite import CODE

if TYPE_CHECKING:
    from penstock.store.upkeep import KeptLedger, KeptObjects

# Few different values, so that the same object is put, published, named and collected again and again.
_DATA = st.integers(0, 7).map(lambda number: b"object %d" % number * (number + 1))
_STREAMS = st.sampled_from(["m/version", "m/look", "n/version"])


class StoreMachine(RuleBasedStateMachine):
    """Puts, publishes, commits, appends and promotes; crashes, restarts and collects garbage at any time.

    The model: what was staged since the last crash, what was published, what was committed, the streams.
    """

    folder: str | None = None
    """Where its directories are made; None for the system's temporary folder."""

    def open(self, root: str) -> tuple[KeptObjects, KeptLedger]:
        """Open, or open again, what is kept below a directory: the subclass says how."""
        raise TypeError(f"{type(self).__name__} must define open(); it was asked to open {root}")

    @initialize()
    def start(self) -> None:
        """An empty store."""
        self.root = tempfile.mkdtemp(prefix="penstock-machine-", dir=self.folder)
        self.objects, self.ledger = self.open(self.root)
        self.staged: dict[str, bytes] = {}
        self.published: dict[str, bytes] = {}
        self.results: dict[str, Result] = {}
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.runs = 0

    @rule(data=_DATA)
    def stage(self, data: bytes) -> None:
        """Bytes are readable at once."""
        digest, size = self.objects.stage(data)
        assert (digest, size) == (digest_bytes(data), len(data))
        if digest not in self.published:
            self.staged[digest] = data

    @rule(data=_DATA)
    def publish(self, data: bytes) -> None:
        """Durable afterwards; refused when nobody staged them."""
        digest = digest_bytes(data)
        if digest in self.staged or digest in self.published:
            self.objects.publish([digest])
            self.published[digest] = data
            self.staged.pop(digest, None)
        else:
            try:
                self.objects.publish([digest])
            except MissingObjectError:
                return
            raise AssertionError(f"{digest} was published out of nothing")

    @rule(data=_DATA)
    def put(self, data: bytes) -> None:
        """Stage and publish."""
        self.stage(data)
        self.publish(data)

    @precondition(lambda self: bool(self.published))
    @rule(chosen=st.data(), old=st.booleans())
    def commit(self, chosen: Any, *, old: bool) -> None:
        """A result of a recent run, or of one that is too old to be kept for its own sake."""
        digest = chosen.draw(st.sampled_from(sorted(self.published)))
        self.runs += 1
        started = 1.0 if old else time.time()
        run = Run(f"{self.runs:016x}", "m", "run", "done", started)
        tree = ["machine", digest, old]
        artifact = Artifact(digest, "bytes", len(self.published[digest]))
        made = {"run": run.id, "step": "s"}
        result = Result(digest_recipe(CODE, tree, None), CODE, tree, None, (artifact,), made)
        self.objects.publish([digest])
        self.ledger.commit(Group(runs=[run], results=[result]))
        self.results.setdefault(result.recipe, result)

    @precondition(lambda self: bool(self.published))
    @rule(stream=_STREAMS, chosen=st.data(), behind=st.integers(0, 2))
    def append(self, stream: str, chosen: Any, behind: int) -> None:
        """The next number is taken, any other is refused."""
        digest = chosen.draw(st.sampled_from(sorted(self.published)))
        self.objects.publish([digest])
        recorded = self.streams.get(stream, [])
        body = {"artifacts": {"object": digest}}
        self._append(stream, len(recorded) + 1 - behind, body)

    @rule(version=st.integers(0, 3))
    def promote(self, version: int) -> None:
        """A legal move of the alias, to a version that exists or to none."""
        moves = self.streams.get("m/alias/champion", [])
        target = version if 1 <= version <= len(self.streams.get("m/version", [])) else None
        body = {"version": target, "previous": moves[-1]["version"] if moves else None}
        self._append("m/alias/champion", len(moves) + 1, body)

    def _append(self, stream: str, number: int, body: dict[str, Any]) -> None:
        head = len(self.streams.get(stream, []))
        try:
            self.ledger.append([Entry(stream, number, body)])
        except ConflictError:
            assert number != head + 1
        else:
            assert number == head + 1
            self.streams.setdefault(stream, []).append(body)

    @rule()
    def crash(self) -> None:
        """The process goes without a word; what was only staged may be there or not."""
        self.objects, self.ledger = self.open(self.root)
        self.staged = {digest: data for digest, data in self.staged.items() if not self.objects.missing([digest])}

    @rule()
    def restart(self) -> None:
        """An orderly end and a new start."""
        self.ledger.close()
        self.crash()

    @rule()
    def collect_nothing(self) -> None:
        """Within the grace nothing goes but old results."""
        collect(self.objects, self.ledger)
        self._forget()

    @rule()
    def collect_all(self) -> None:
        """Without a grace all goes that nothing reaches, and nothing else."""
        collect(self.objects, self.ledger, grace_s=-60.0)
        self._forget()
        named = {
            body["artifacts"]["object"] for bodies in self.streams.values() for body in bodies if "artifacts" in body
        }
        kept = named | {result.outputs[0].digest for result in self.results.values()}
        self.staged = {digest: data for digest, data in self.staged.items() if digest in kept}
        self.published = {digest: data for digest, data in self.published.items() if digest in kept}
        assert {item.digest for item in self.objects.walk()} == {*self.staged, *self.published}

    def _forget(self) -> None:
        """What `gc` may forget: results of old runs whose outputs no decision names."""
        named = {
            body["artifacts"]["object"] for bodies in self.streams.values() for body in bodies if "artifacts" in body
        }
        known = self.ledger.results(self.results)
        for recipe, result in list(self.results.items()):
            may_go = result.tree[2] and result.outputs[0].digest not in named
            assert recipe in known or may_go
            if recipe not in known:
                del self.results[recipe]

    @invariant()
    def agrees(self) -> None:
        """Product and model say the same."""
        if not hasattr(self, "objects"):
            return
        for digest, data in {**self.staged, **self.published}.items():
            assert self.objects.read(digest) == data
        assert {item.digest for item in self.objects.walk() if not item.staged} == set(self.published)
        assert self.ledger.results(self.results) == self.results
        assert self.ledger.streams() == {stream: len(bodies) for stream, bodies in self.streams.items()}
        for stream, bodies in self.streams.items():
            assert [entry.body for entry in self.ledger.stream(stream)] == bodies

    def teardown(self) -> None:
        """`fsck` has the last word."""
        if hasattr(self, "objects"):
            assert [finding for finding in fsck(self.objects, self.ledger) if finding.fault] == []
            self.ledger.close()
            shutil.rmtree(self.root, ignore_errors=True)
