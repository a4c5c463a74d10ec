"""What goes on record of a run: its row, a row for each decision on a step, and what steps gave."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.plan import Decision
from penstock.core.run import Decided, Result, Run, SourceStat, StepRun
from penstock.engine import snapshots
from penstock.engine.commit import Committer


class Record:
    """The rows of one run. A run in which no step does anything leaves its own row only, at its end.

    Parameters
    ----------
    graph : Graph
    facts : Facts
        The run's.
    commit : Committer
        Takes the rows.
    run : Run
    seen : list of SourceStat
        Files hashed while gathering.
    made : dict
        Recorded with each result: CPU level, threads, …
    """

    def __init__(
        self,
        graph: Graph,
        facts: Facts,
        commit: Committer,
        run: Run,
        *,
        seen: list[SourceStat],
        made: Mapping[str, Any],
    ) -> None:
        self._graph, self._facts, self._commit, self._run = graph, facts, commit, run
        self._steps = {node.id for node in graph.nodes}
        self._codes = {digest: dict(parts) for digest, parts in graph.codes.items()}
        self._seen, self._made, self._is_begun = seen, dict(made), False
        self._attempts: dict[str, int] = {}
        self._reused: list[StepRun] = []
        self._acted, self._others = False, frozenset[str]()

    def share(self, attempts: Mapping[str, int], others: frozenset[str] = frozenset()) -> None:
        """Go on with a run that others began: its own row is theirs, and each decision is a row from the start.

        Parameters
        ----------
        attempts : dict
            Step → rows that it has.
        others : frozenset of str
            Steps that others put on record: what is done here is a part of them.
        """
        self._is_begun, self._acted, self._others = True, True, others
        self._attempts.update(attempts)
        self._commit.add(sources=self._seen)

    def begin(self) -> None:
        """Put the run's row on record, once."""
        if not self._is_begun:
            self._is_begun = True
            self._commit.add(run=self._run, sources=self._seen)

    def act(self) -> None:
        """A step is about to do something: from here on each decision is a row, and those before it too."""
        if self._acted:
            return
        self._acted = True
        self.begin()
        for row in self._reused:
            self._commit.add(step_run=row)

    def end(self, run: Run) -> None:
        """Put the run's end on record."""
        if not self._acted:
            self._commit.add(sources=self._seen)
        self._commit.add(run=run)

    def reused(self, node: Node, decision: Decision) -> None:
        """A step whose result was known."""
        if node.id in self._others:
            return
        row = self._row(node, decision, "reuse", "done", decision.outputs)
        if self._acted:
            self._commit.add(step_run=row)
        else:
            self._reused.append(row)
        self._remember(node, decision)

    def skipped(self, node: Node, decision: Decision) -> None:
        """A step that a refusal before it left out."""
        if self._acted:
            self._commit.add(step_run=self._row(node, decision, "skip", "skipped", ()))

    def acted(
        self, node: Node, decision: Decision, outputs: tuple[Artifact, ...], notes: Mapping[str, Any] | None = None
    ) -> None:
        """What an effect did."""
        self.act()
        told = {"notes": dict(notes)} if notes else None
        self._commit.add(step_run=self._row(node, decision, decision.action, "done", outputs, told))

    def failed(self, node: Node, decision: Decision, data: Mapping[str, Any]) -> None:
        """A try at a step that failed; `data` is the worker's answer."""
        if node.id in self._others:
            return
        self._commit.add(step_run=self._row(node, decision, "run", "failed", (), data))

    def done(
        self, node: Node, decision: Decision, outputs: tuple[Artifact, ...], data: Mapping[str, Any]
    ) -> Result | None:
        """A step that ran, and its result where it may be reused."""
        row = self._row(node, decision, "run", "done", outputs, data)
        if decision.recipe is None:
            self._commit.add(step_run=row)
            return None
        made = self._made | {"run": self._run.id, "step": node.id, "wall_s": round(data["wall_s"], 6)}
        made |= data.get("made", {})
        source = self._facts.sources.get(node.id)
        result = Result(decision.recipe, node.code, decision.tree, source, outputs, made)
        self._commit.add(result=result, step_run=row, codes=self._parts_of(node))
        if node.id in self._facts.reading:
            self._commit.add(sources=[snapshots.taken(node, data["began"], self._facts)])
        self._remember(node, decision)
        return result

    def _remember(self, node: Node, decision: Decision) -> None:
        """Keep the decision for the reasons of the next run, when it is another than the last; none on an item."""
        if node.id not in self._steps:
            return
        before = self._facts.previous.get(node.id)
        if decision.recipe is None or (before is not None and before.recipe == decision.recipe):
            return
        decided = Decided(node.id, decision.recipe, node.code, decision.tree, self._facts.sources.get(node.id))
        self._commit.add(decided=(self._graph.name, decided), codes=self._parts_of(node))

    def _parts_of(self, node: Node) -> dict[str, dict[str, str]]:
        """Digest → parts, of a step's code and of the files that it reads: what reasons are told by."""
        found = self._facts.found.get(node.id)
        files = {found.digest: found.parts} if found is not None and found.many else {}
        return {node.code: self._codes.get(node.code, {}), **files}

    def _row(
        self,
        node: Node,
        decision: Decision,
        action: str,
        state: str,
        outputs: tuple[Artifact, ...],
        data: Mapping[str, Any] | None = None,
    ) -> StepRun:
        data = data or {}
        attempt = self._attempts[node.id] = self._attempts.get(node.id, 0) + 1
        return StepRun(
            run=self._run.id,
            step=node.id,
            attempt=attempt,
            recipe=decision.recipe,
            action=action,
            state=state,
            reason=decision.reason.to_json(),
            outputs=outputs,
            error=data.get("error"),
            notes=data.get("notes", {}),
            started=data.get("began", time.time()),
            wall_s=data.get("wall_s", 0.0),
            cpu_s=data.get("cpu_s", 0.0),
            peak_bytes=data.get("peak_bytes", 0),
        )
