"""Running a flow on this machine: decides each step as soon as its inputs are known, and feeds the workers."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.plan import Decision, Reason
from penstock.core.ports import Home
from penstock.core.run import Run, SourceStat
from penstock.engine import snapshots
from penstock.engine.admission import admission
from penstock.engine.checkpoints import Chunks
from penstock.engine.commit import Committer
from penstock.engine.earlier import earlier
from penstock.engine.events import Event, EventKind, Listener, silent
from penstock.engine.fetch import Fetcher
from penstock.engine.gather import ask, learn, probe
from penstock.engine.logs import keep_log, sweep_logs
from penstock.engine.mapped import Fans, Running
from penstock.engine.outcome import Effect, Key, Outcome, counts_of
from penstock.engine.planner import decide
from penstock.engine.pool import Answer, Pool
from penstock.engine.processes import Terminated, terminable
from penstock.engine.record import Record
from penstock.engine.shared import Shared
from penstock.engine.wire import rebuilt
from penstock.errors import CancelledError, CorruptObjectError, MissingObjectError, PenstockError, StepError, StoreError

__all__ = ["Effect", "Effects", "Execution", "Outcome"]

MOST_HEALS = 3
"""How often one step's corrupt input is made again before the run gives up."""

Effects = Mapping[str, Callable[[Node, Mapping[Key, Artifact], "Execution"], Effect]]


class Execution:
    """One run of a flow.

    Parameters
    ----------
    graph : Graph
    facts : Facts
        From `gather`; extended while the run goes on.
    home : Home
    run : Run
    pool : callable
        Gives the pool of workers, started when the first step has to run.
    effects : mapping
        Entry → function, for the steps that act on the ledger.
    seen : list of SourceStat
        Files hashed while gathering.
    listen : callable
    made : dict
        Recorded with each result: CPU level, threads, …
    fetcher : Fetcher
        Fetches files at URLs, again where they changed in between.
    shared : Shared, optional
        Of a run whose steps other processes do too: what this one may run, and what was done before it.
    """

    def __init__(
        self,
        graph: Graph,
        facts: Facts,
        home: Home,
        run: Run,
        pool: Callable[[], Pool],
        *,
        effects: Effects | None = None,
        seen: list[SourceStat] | None = None,
        listen: Listener = silent,
        made: Mapping[str, Any] | None = None,
        fetcher: Fetcher | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._fetcher = fetcher
        self.graph, self.facts, self.home, self.run = graph, facts, home, run
        self._common = shared
        self.outcome = Outcome(run) if shared is None else shared.before
        self.known = self.outcome.artifacts
        self._start_pool = pool
        self._pool: Pool | None = None
        self._effects, self._listen = dict(effects or {}), listen
        self._commit = Committer(home.objects, home.ledger)
        self._record = Record(graph, facts, self._commit, run, seen=list(seen or []), made=made or {})
        if shared is not None:
            self._record.share(shared.attempts, shared.wanted if shared.part else frozenset())
        self._lacks, self._tries = dict[str, int](), dict[str, int]()
        self._users: dict[str, list[Node]] = {}
        self._ready, self._queue = deque[Node](), deque[Node]()
        self._later: list[tuple[float, int, Node]] = []
        self._order, self._chunks = itertools.count(), Chunks(graph.codes, shared.part if shared else None)
        self._flying, self._heals = dict[str, list[Node]](), dict[Key, int]()
        self._corrupt, self._given = set[str](), set[str]()
        self._shared, self._fans = "", Fans(shared)
        self._admission = admission(graph, home.config, listen)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────────────────

    def execute(self) -> Outcome:
        """Run to the end.

        Returns
        -------
        Outcome
            A failed step does not raise: `outcome.error` has it, and everything that finished is on record.

        Raises
        ------
        CancelledError
            Ctrl-C or SIGTERM; workers are ended and the run is on record as cancelled.
        """
        self._wire()
        with terminable():
            try:
                self._loop()
            except (KeyboardInterrupt, Terminated) as stop:
                self._end("cancelled")
                code = 143 if isinstance(stop, Terminated) else 130
                error = CancelledError("the run was cancelled; what had finished is kept")
                error.exit_code = code  # type: ignore[misc]  # this one error has two codes
                raise error from None
            except BaseException:
                with contextlib.suppress(PenstockError):
                    self._end("failed")
                raise
        self._end("failed" if self.outcome.error else "done")
        return self.outcome

    def _wire(self) -> None:
        for node in self.graph.nodes:
            needs = dict.fromkeys(step for step, _ in node.needs)
            for step in needs:
                self._users.setdefault(step, []).append(node)
            if node.id in self.outcome.states:  # done before, in this run
                continue
            self._lacks[node.id] = sum(step not in self.outcome.states for step in needs)
            if not self._lacks[node.id]:
                self._ready.append(node)

    def _loop(self) -> None:
        while True:
            self._settle()
            self._feed()
            if not self._busy() and (not self._later or self.outcome.error is not None):
                return
            self._wait()

    def _busy(self) -> bool:
        return bool(self._queue and self.outcome.error is None) or (self._pool is not None and self._pool.running > 0)

    def _wait(self) -> None:
        waits = [wait for wait in (self._commit.due(), self._admission.due()) if wait is not None]
        if self._later:
            waits.append(max(0.0, self._later[0][0] - time.monotonic()))
        if self._pool is not None and (self._pool.running or not waits):
            for answer in self._pool.poll(min(waits) if waits else None):
                self._take(answer)
        elif waits:
            time.sleep(min(waits))
        while self._later and self._later[0][0] <= time.monotonic():
            self._queue.append(heapq.heappop(self._later)[2])
        if self._commit.due() == 0.0:
            self._commit.flush()

    # ── deciding ────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self) -> None:
        """Decide every step whose inputs are known, level by level."""
        while self._ready and self.outcome.error is None:
            level = list(self._ready)
            self._ready.clear()
            steps = [node for node in level if node.kind != "effect"]
            recipes = ask(steps, self.known, self.facts, self.home.ledger, self.home.objects)
            for node in level:
                if not self._has_inputs(node):  # taken back while this level was being decided
                    continue
                if node.kind == "effect":
                    self._act(node)
                    continue
                decision = decide(node, self.known, self.facts, recipes.get(node.id))
                if decision.action == "reuse":
                    self._reuse(node, decision)
                elif decision.reason.why == "missing" and any(
                    d.startswith(decision.reason.what) for d in self._corrupt
                ):
                    self._enqueue(node, replace(decision, reason=Reason("corrupt", decision.reason.what)))
                else:
                    self._enqueue(node, decision)

    def _enqueue(self, node: Node, decision: Decision) -> None:
        """A step that must run; an equal recipe in flight is waited for, not run twice."""
        if self._common is not None and node.id not in self._fans:
            self._common.check(node, decision)
        self.outcome.decisions[node.id] = decision
        if decision.recipe is not None and decision.recipe in self._flying:
            self._flying[decision.recipe].append(node)
            return
        if decision.recipe is not None:
            self._flying[decision.recipe] = []
        if node.mapped:
            self._spread(node, decision)
        else:
            self._queue.append(node)

    def _spread(self, node: Node, decision: Decision) -> None:
        """Decide on each item of a mapped step."""
        self._record.act()
        try:
            running, todo = self._fans.spread(node, decision, self.known, self.facts, self.home)
        except (StepError, CorruptObjectError, MissingObjectError) as error:
            self._failed(node, {"error": error.to_json(), "corrupt": error.facts.get("digest"), "wall_s": 0.0})
            return
        self.outcome.decisions[node.id] = running.decision
        self._listen(Event("started", node.id, running.decision))
        for child, one in todo:
            self._enqueue(child, one)
        self._gathered(running)

    def _gathered(self, running: Running | None) -> None:
        """Tell how far a mapped step is, and end it with the last of its items; None is one that was taken back."""
        if running is None:
            return
        node = running.fan.node
        self._listen(Event("progress", node.id, running.decision, facts=running.progress()))
        if not running.ended:
            return
        for child in self._fans.drop(node.id):
            self.outcome.decisions.pop(child.id, None)
        data = running.answer()
        self.outcome.notes[node.id] = data["notes"]
        if "error" in data:
            self._failed(node, data)
        elif self._fans.in_parts:
            self.outcome.states[node.id] = "done" if data["notes"]["items"]["run"] else "reused"
        else:
            self._done(node, running.outputs_in_order(self.home.objects), data)

    def _reuse(self, node: Node, decision: Decision) -> None:
        if node.id in self._fans:  # another step with its recipe has just run
            self._gathered(self._fans.done(node.id, decision.outputs, reused=True))
            return
        self.outcome.decisions[node.id] = decision
        self._record.reused(node, decision)
        self._finish(node, decision.outputs, "reused")
        self._listen(Event("reused", node.id, decision, decision.outputs))

    def _finish(self, node: Node, outputs: tuple[Artifact, ...], state: str) -> None:
        self.outcome.states[node.id] = state
        self.known.update(zip(((node.id, name) for name in node.names), outputs, strict=True))
        for user in self._users.get(node.id, ()):
            self._lacks[user.id] -= 1
            if self._lacks[user.id] == 0 and user.id not in self.outcome.states:  # made again, its users may be done
                self._ready.append(user)

    def _act(self, node: Node) -> None:
        """Run an effect here, after everything before it is durable."""
        self._record.begin()
        self._commit.flush()
        inputs = {need: self.known[need] for need in node.needs}
        began = time.perf_counter()
        try:
            effect = self._effects[node.entry](node, inputs, self)
        except (CorruptObjectError, MissingObjectError) as error:
            if self._heal(node, error.facts.get("digest", "")):
                return
            raise
        decision = Decision(node.id, "run" if effect.changed else "reuse", Reason("effect"))
        self.outcome.decisions[node.id] = decision
        if effect.changed or self._common is not None:
            self._record.acted(node, decision, effect.outputs, effect.notes)
        self.outcome.notes[node.id] = effect.notes
        state = "done" if effect.changed else "reused"
        if effect.skip:
            self.outcome.states[node.id] = state
            self.known.update(zip(((node.id, name) for name in node.names), effect.outputs, strict=False))
            self._skip_after(node, effect.skip)
        else:
            self._finish(node, effect.outputs, state)
        kind: EventKind = "done" if effect.changed else "reused"
        self._listen(Event(kind, node.id, decision, effect.outputs, time.perf_counter() - began, {"skip": effect.skip}))

    def _skip_after(self, node: Node, why: str) -> None:
        stack = list(self._users.get(node.id, ()))
        while stack:
            user = stack.pop()
            if user.id in self.outcome.states:
                continue
            self.outcome.states[user.id] = "skipped"
            decision = Decision(user.id, "skip", Reason("refused", why))
            self.outcome.decisions[user.id] = decision
            self._record.skipped(user, decision)
            self._listen(Event("skipped", user.id, decision))
            stack += self._users.get(user.id, ())

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────

    def _feed(self) -> None:
        if not self._queue or self.outcome.error is not None:
            return
        if self._pool is None:
            self._pool = self._start_pool()
        tasks = []
        for node in self._admission.admit(self._queue, self._pool.room()):
            if node.id not in self._fans:
                self._listen(Event("started", node.id, self.outcome.decisions[node.id]))
            tasks.append((node, self._task(node)))
            self._given.add(node.id)
        if tasks:
            self._record.act()
            self._pool.give(tasks)

    def _task(self, node: Node) -> dict[str, Any]:
        inputs = [[step, output, self.known[step, output].to_json()] for step, output in node.needs]
        task = self._fans.task(node, inputs, self.home.objects)
        if node.kind == "source":
            task["source"] = self.facts.sources.get(node.id)
            if (found := self.facts.found.get(node.id)) is not None:
                task["found"] = found.to_json()
        if others := snapshots.read_with(node, self.graph.nodes, self.facts):
            self._shared = self._shared or tempfile.mkdtemp(prefix="penstock-queries-")
            task["together"] = [os.path.join(self._shared, node.database), others]
        if (visible := self._admission.visible(node.id)) is not None:
            task["gpus"] = visible
        task |= earlier(node, self.outcome.decisions, self.facts, self.home)
        return task | self._chunks.task(node, self.outcome.decisions[node.id].recipe, self.home.ledger, self._commit)

    def _take(self, answer: Answer) -> None:
        """What a worker answered: done, failed, or to be given out again."""
        node, data = answer.node, answer.data
        if node.id in self._fans and node.id not in self.outcome.decisions:  # nobody waits for it any more
            self._admission.release(node.id)
            return
        if self._chunks.took(node, self.outcome.decisions[node.id], data, self._commit, self._listen, self.run.id):
            return
        self._given.discard(node.id)
        self._admission.release(node.id)
        if data.get("again"):
            self._queue.appendleft(node)
            if not self._has_inputs(node):
                self._decide_again([])
            return
        keep_log(replace(answer, node=self._fans.parent(node)))
        if not self._fans.took(node.id, data):
            self.outcome.notes[node.id] = data.get("notes", {})
        if data.get("part"):  # what it fitted is on record, and others make a whole of it
            self.outcome.states[node.id] = "done"
        elif "outputs" in data:
            self._done(node, tuple(map(Artifact.from_json, data["outputs"])), data)
        else:
            self._failed(node, data)

    def _done(self, node: Node, outputs: tuple[Artifact, ...], data: Mapping[str, Any]) -> None:
        decision = self.outcome.decisions[node.id]
        result = self._record.done(node, decision, outputs, data)
        if result is not None:
            self.facts.results[result.recipe] = result
            self.facts.missing -= {artifact.digest for artifact in outputs}
        if node.id in self._fans:
            self._gathered(self._fans.done(node.id, outputs))
        else:
            self._finish(node, outputs, "done")
            self._listen(Event("done", node.id, decision, outputs, data["wall_s"], data.get("notes", {})))
        for twin in self._flying.pop(decision.recipe or "", ()):
            if twin.id in self.outcome.decisions:
                self._reuse(twin, replace(self.outcome.decisions[twin.id], action="reuse", outputs=outputs))

    def _failed(self, node: Node, data: Mapping[str, Any]) -> None:
        if data.get("corrupt") and self._heal(node, data["corrupt"]):
            return
        if data["error"]["error"] == "SourceChangedError" and self._again_from_source(node):
            return
        error = rebuilt(data["error"])
        tries = self._tries[node.id] = self._tries.get(node.id, 0) + 1
        retriable = isinstance(error, StepError) and error.retriable
        decision = self.outcome.decisions[node.id]
        self._record.failed(node, decision, data)
        if retriable and tries <= node.retries and not node.mapped and self.outcome.error is None:
            wait, told = node.backoff_s * 2 ** (tries - 1), self._fans.parent(node).id
            self._listen(Event("retry", told, decision, facts=data["error"] | {"wait_s": wait, "try": tries + 1}))
            heapq.heappush(self._later, (time.monotonic() + wait, next(self._order), node))
            return
        twins = self._flying.pop(decision.recipe or "", [])
        if node.id in self._fans:
            self._item_failed([node, *twins], data)
            return
        if isinstance(error, StepError):
            error.step = node.id
        self.outcome.states[node.id] = "failed"
        self.outcome.error = self.outcome.error or error
        self._listen(Event("failed", node.id, decision, (), data.get("wall_s", 0.0), data["error"]))

    def _item_failed(self, nodes: list[Node], data: Mapping[str, Any]) -> None:
        """An item of a mapped step failed; the others go on. A step that waited for its result runs by itself."""
        for node in nodes:
            if node.id not in self._fans:
                self._enqueue(node, self.outcome.decisions[node.id])
            else:
                self._gathered(self._fans.failed(node.id, data["error"]))

    def _again_from_source(self, node: Node) -> bool:
        """The file is another than when it was hashed: hash it again and decide anew, a few times."""
        if not self._may_heal(node, ""):
            return False
        found, _ = probe([node], self.home.ledger, self._fetcher, fresh=True)
        learn(self.facts, found)
        self._decide_again([node])
        return True

    def _may_heal(self, reader: Node, digest: str) -> bool:
        tries = self._heals[reader.id, digest] = self._heals.get((reader.id, digest), 0) + 1
        return tries <= MOST_HEALS

    def _heal(self, node: Node, digest: str) -> bool:
        """Move a corrupt object aside and run its makers again, then whatever waits for it."""
        reader = self._fans.parent(node)
        makers = [n for n in self.graph.nodes if any(self._has(n, name, digest) for name in n.names)]
        if not (makers or digest in self._corrupt) or not self._may_heal(reader, digest):
            return False
        if reader is not node:
            self._queue.append(node)  # from where it is taken back with the other items of its step
        if makers:
            self.home.objects.quarantine(digest)
            self._corrupt.add(digest)
            self.facts.missing.add(digest)
        for maker in makers:
            if maker.refresh is not None:
                snapshots.renew(maker, self.facts, "the query is read again: its snapshot was damaged")
            for name in maker.names:
                self.known.pop((maker.id, name), None)
            self.outcome.states.pop(maker.id, None)
        self._decide_again([*makers, reader])
        return True

    def _decide_again(self, nodes: list[Node]) -> None:
        """Take steps back to before they were decided on, and with them all whose inputs were taken back."""
        nodes = self._fans.take_back(nodes, self.known)
        dead = self._fans.dead([*self._queue, *(entry[2] for entry in self._later)])
        self._queue = deque(node for node in self._queue if node.id not in dead)
        self._later = [entry for entry in self._later if entry[2].id not in dead]
        for recipe in {self.outcome.decisions[step].recipe or "" for step in dead}:
            for twin in self._flying.pop(recipe, ()):
                if not self._fans.dead([twin]):
                    self._enqueue(twin, self.outcome.decisions[twin.id])
        lost = {n.id: n for n in [*self._queue, *(n for _, _, n in self._later)] if not self._has_inputs(n)}
        again = {node.id: node for node in nodes} | lost
        for node in list(again.values()):
            decision = self.outcome.decisions.get(node.id)
            twins = self._flying.pop(decision.recipe or "", []) if decision is not None else []
            again |= {twin.id: twin for twin in twins}
        self._queue = deque(node for node in self._queue if node.id not in again)
        self._later = [entry for entry in self._later if entry[2].id not in again]
        heapq.heapify(self._later)
        self._ready = deque(node for node in self._ready if self._has_inputs(node))
        for node in self.graph.nodes:
            if node.id not in self.outcome.states and node.id not in self._given:
                self._lacks[node.id] = len({step for step, _ in node.needs if step not in self.outcome.states})
        ready = {node.id for node in self._ready}
        self._ready += [node for node in again.values() if node.id not in ready and not self._lacks[node.id]]

    def _has_inputs(self, node: Node) -> bool:
        return all(need in self.known for need in node.needs)

    def _has(self, node: Node, name: str, digest: str) -> bool:
        artifact = self.known.get((node.id, name))
        return artifact is not None and (artifact.digest == digest or digest in artifact.refs)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, state: str) -> None:
        """End the workers, write what is left, and put the run's end on record."""
        if self._pool is not None:
            self._pool.close()
            sweep_logs(self._pool.logs)
        self._admission.close()
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)
        if self._common is None:  # else it ends when the last of its steps does
            now, counts = time.time(), counts_of(self.outcome.states)
            self.run = self.outcome.run = replace(self.run, state=state, ended=now, counts=counts)
            self._record.end(self.run)
        try:
            self._commit.flush()
        except StoreError:
            if self.outcome.error is None:
                raise
