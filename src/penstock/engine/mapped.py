"""Mapped steps while they run: which of their items are known, which are being done, what came of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.facts import Facts
from penstock.core.fan import ITEM, Fan, cut, mapped_by, pack
from penstock.core.flow import Node
from penstock.core.plan import Decision
from penstock.core.ports import Home, Objects
from penstock.core.run import StepRun
from penstock.engine.fan import fan_of
from penstock.engine.gather import ask
from penstock.engine.planner import decide_item
from penstock.engine.shared import Shared
from penstock.engine.wire import rebuilt
from penstock.errors import StepError, bounded


@dataclass(slots=True)
class Running:
    """A mapped step whose items are being done.

    Attributes
    ----------
    fan : Fan
    decision : Decision
        The one on the step.
    outputs : dict
        Child's id → what it gave.
    recipes : list of str
        Those of the children that have one.
    failed : dict
        Child's id → its error, as plain data.
    reused : int
        Children of which the result was known before the run.
    began, start : float
        Unix time, and by the clock for durations.
    seconds : float
        What the items take one after another, those that were known too.
    cpu_s, peak_bytes
        As in a step's row.
    """

    fan: Fan
    decision: Decision
    outputs: dict[str, tuple[Artifact, ...]] = field(default_factory=dict)
    recipes: list[str] = field(default_factory=list)
    failed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    reused: int = 0
    began: float = field(default_factory=time.time)
    start: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0

    @property
    def ended(self) -> bool:
        """Whether every item has been done, or has failed."""
        return len(self.outputs) + len(self.failed) == len(self.fan.children)

    def decided(self, found: Sequence[Decision]) -> None:
        """Take what was decided on each child, and with it what is known already."""
        for child, one in zip(self.fan.children, found, strict=True):
            if one.action == "reuse":
                self.outputs[child.id] = one.outputs
        self.reused = len(self.outputs)
        self.recipes = [one.recipe for one in found if one.recipe is not None]
        self.decision = replace(self.decision, items=(len(self.fan.places), len(found) - self.reused))

    def resume(self, rows: Sequence[StepRun]) -> None:
        """Count what the run's other parts of the step have taken."""
        if rows:
            began = min(row.started for row in rows)
            self.start -= max(0.0, self.began - began)
            self.began = min(self.began, began)
            self.cpu_s = sum(row.cpu_s for row in rows)
            self.peak_bytes = max(row.peak_bytes for row in rows)

    def progress(self) -> dict[str, Any]:
        """How many of the items are done, for whoever watches."""
        of = [len(self.outputs) + len(self.failed), len(self.fan.children)]
        return {"done": of[0], "total": of[1], "failed": len(self.failed)}

    def answer(self) -> dict[str, Any]:
        """What came of the whole but its outputs, in the words of a worker."""
        items = {
            "items": len(self.fan.places),
            "distinct": len(self.fan.children),
            "run": len(self.outputs) - self.reused,
            "reused": self.reused,
            "failed": len(self.failed),
        }
        made = {"items": self.recipes, "wall_s": round(self.seconds, 6)}
        spent = {"wall_s": time.perf_counter() - self.start, "cpu_s": self.cpu_s, "peak_bytes": self.peak_bytes}
        found = {"notes": {"items": items}, "began": self.began, **spent, "made": made}
        return found | ({"error": self._error()} if self.failed else {})

    def _error(self) -> dict[str, Any]:
        """The first error, one that another try may end otherwise before others, told as that of the whole."""
        order = {child.id: place for child, place in zip(self.fan.children, self.fan.firsts, strict=True)}
        first = min(self.failed, key=lambda one: (_is_final(self.failed[one]), order[one]))
        error, total = self.failed[first], len(self.fan.children)
        n = f"{len(self.failed):,} of {total:,} item{'' if total == 1 else 's'} failed"
        kept = "what the others gave is kept: the next run does only those that failed"
        return {
            **error,
            "what": bounded(f"{n}; the first, item {order[first]}: {error['what']}", 1_000),
            "where": f"step {self.fan.node.id}",
            "hint": "; ".join(filter(None, (error.get("hint", ""), kept))),
        }

    def outputs_in_order(self, objects: Objects) -> tuple[Artifact, ...]:
        """For each output of the step the list of what the items gave."""
        ids = [child.id for child in self.fan.children]
        rows = [self.outputs[ids[place]] for place in self.fan.places]
        names = self.fan.node.names
        return tuple(pack([row[at] for row in rows], objects.stage) for at in range(len(names)))


def _is_final(error: Mapping[str, Any]) -> bool:
    found = rebuilt(error)
    return not (isinstance(found, StepError) and found.retriable)


class Fans:
    """The mapped steps of one run that are being done, by their ids and by their children's.

    Parameters
    ----------
    shared : Shared, optional
        Of a run whose steps other processes do too: which part of a step this one does, and what is hopeless.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._run = shared.before.run.id if shared is not None else ""
        self._part = shared.part if shared is not None else None
        self._before = shared.items if shared is not None else ()
        self._hopeless = shared.hopeless if shared is not None else {}
        self._running: dict[str, Running] = {}
        self._child: dict[str, tuple[Running, int]] = {}

    def __contains__(self, step: str) -> bool:
        """Whether a step is, or was, one of a mapped step's children."""
        return step in self._child

    def spread(
        self, node: Node, decision: Decision, known: dict[tuple[str, str], Artifact], facts: Facts, home: Home
    ) -> tuple[Running, list[tuple[Node, Decision]]]:
        """Take a step that is to run; give it, and each child that is to run with the decision on it.

        Raises
        ------
        StepOutputError, CorruptObjectError, MissingObjectError
            As for `fan.fan_of`.
        """
        fan = facts.fans.pop(decision.recipe or "", None) or fan_of(node, known, home.objects)
        fan = cut(fan, *self._part) if self._part is not None else fan
        recipes = ask(fan.children, known, facts, home.ledger, home.objects)
        found = [decide_item(n, fan, decision, known, facts, recipes.get(n.id)) for n in fan.children]
        running = self._running[node.id] = Running(fan, decision)
        running.decided(found)
        if self._part is None:
            running.resume([row for row in self._before if mapped_by(row.step) == node.id])
        known_before = (facts.results.get(one.recipe or "") for one in found if one.action == "reuse")
        made = [result.made for result in known_before if result is not None]
        running.seconds = sum(one.get("wall_s", 0.0) for one in made)
        running.reused -= sum(one.get("run") == self._run for one in made)  # in another part, or an earlier try
        self._child |= {child.id: (running, at) for at, child in enumerate(fan.children)}
        todo = [(n, one) for n, one in zip(fan.children, found, strict=True) if one.action == "run"]
        hopeless = {n.id: self._hopeless.get(one.recipe or "") for n, one in todo}
        running.failed |= {step: error for step, error in hopeless.items() if error is not None}
        return running, [(n, one) for n, one in todo if n.id not in running.failed]

    @property
    def in_parts(self) -> bool:
        """Whether this process does a part of its step alone."""
        return self._part is not None

    def of(self, child: str) -> Running | None:
        """The mapped step that waits for a child; None where it has been dropped since."""
        running, _ = self._child[child]
        return running if self._running.get(running.fan.node.id) is running else None

    def took(self, child: str, data: Mapping[str, Any]) -> bool:
        """Count what one try at an item cost; whether it is an item."""
        if child in self._child:
            running, _ = self._child[child]
            running.seconds += data.get("wall_s", 0.0)
            running.cpu_s += data.get("cpu_s", 0.0)
            running.peak_bytes = max(running.peak_bytes, data.get("peak_bytes", 0))
        return child in self._child

    def done(self, child: str, outputs: tuple[Artifact, ...], *, reused: bool = False) -> Running | None:
        """Take what an item gave; give the step that waits for it, as `of` does."""
        if (running := self.of(child)) is not None:
            running.outputs[child] = outputs
            running.reused += reused
        return running

    def failed(self, child: str, error: Mapping[str, Any]) -> Running | None:
        """Take the failure of an item; the others go on."""
        if (running := self.of(child)) is not None:
            running.failed[child] = error
        return running

    def parent(self, node: Node) -> Node:
        """The mapped step that a child belongs to; any other node is its own."""
        return self._child[node.id][0].fan.node if node.id in self._child else node

    def drop(self, step: str) -> list[Node]:
        """Forget a step: it has ended, or one of its inputs was taken back; give its children."""
        running = self._running.pop(step, None)
        return list(running.fan.children) if running is not None else []

    def dead(self, nodes: Iterable[Node]) -> set[str]:
        """Ids of those that are children of steps that were dropped."""
        return {node.id for node in nodes if node.id in self._child and self.of(node.id) is None}

    def take_back(self, nodes: Iterable[Node], known: Mapping[tuple[str, str], Artifact]) -> list[Node]:
        """Drop steps that are decided on again, and those of which an input was taken back; give all of them."""
        running = [one.fan.node for one in self._running.values()]
        found = [*nodes, *(node for node in running if any(need not in known for need in node.needs))]
        for node in found:
            self.drop(node.id)
        return found

    def task(self, node: Node, inputs: list[Any], objects: Objects) -> dict[str, Any]:
        """A worker's task; a child's says whose it is and which item, which stands among its inputs if it was made."""
        if node.id not in self._child:
            return {"step": node.id, "inputs": inputs}
        running, at = self._child[node.id]
        fan = running.fan
        if fan.made:
            item = fan.made[at]
            if item.digest in fan.texts:
                objects.stage(fan.texts[item.digest])
            inputs = [*inputs, [*ITEM, item.to_json()]]
        return {"step": fan.node.id, "item": fan.firsts[at], "inputs": inputs}
