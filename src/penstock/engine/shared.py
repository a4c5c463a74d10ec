"""A run whose steps several processes do, each a part of them: what one may run, and what was done before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node
from penstock.core.plan import Action, Decision, Reason
from penstock.core.ports import Ledger
from penstock.core.run import Run, StepRun
from penstock.engine.outcome import Outcome
from penstock.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shared:
    """One process's part in a run.

    Attributes
    ----------
    wanted : frozenset of str
        Steps that this process may run.
    before : Outcome
        What the run did before, in other processes.
    attempts : dict
        Step → rows that it has.
    done : frozenset of str
        Steps that the run has done before; `before` goes on as the run does.
    part : (int, int), optional
        K and N: of the one wanted step this process does the K-th of N parts, and none of what makes it whole.
    hopeless : dict
        Recipe → error, of the items of wanted steps that failed in this run in a way that no other try mends.
    items : tuple of StepRun
        Rows of the items of a wanted step that this run did before, in parts of it: what they took is the step's.
    """

    wanted: frozenset[str]
    before: Outcome
    attempts: Mapping[str, int] = field(default_factory=dict)
    done: frozenset[str] = frozenset()
    part: tuple[int, int] | None = None
    hopeless: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    items: tuple[StepRun, ...] = ()

    def check(self, node: Node, decision: Decision) -> None:
        """Refuse to run what is another task's; what was done and is damaged now is made again by whoever finds it.

        Raises
        ------
        UsageError
        """
        if node.id in self.wanted or node.id in self.done:
            return
        asked = ", ".join(sorted(self.wanted))
        what = f"{node.id} has not run, and its result is not known ({decision.reason})"
        raise UsageError(what, where=f"step {asked}", hint=f"run {node.id} first: {asked} needs what it gives")


def needed(graph: Graph, wanted: Collection[str]) -> Graph:
    """The part of a flow that some steps need, themselves included; these are tried once: a backend has retries.

    Parameters
    ----------
    graph : Graph
    wanted : collection of str
        Step ids.
    """
    needs = {node.id: {step for step, _ in node.needs} for node in graph.nodes}
    found: set[str] = set()
    stack = list(wanted)
    while stack:
        step = stack.pop()
        if step not in found:
            found.add(step)
            stack += needs[step]
    return replace(graph, nodes=tuple(replace(node, retries=0) for node in graph.nodes if node.id in found))


def done_before(graph: Graph, run: Run, rows: Iterable[StepRun]) -> Outcome:
    """What a run has done so far, from its rows.

    Parameters
    ----------
    graph : Graph
        The steps that count.
    run : Run
    rows : iterable of StepRun
        In the order in which they were recorded; of several for one step the last counts.
    """
    nodes = {node.id: node for node in graph.nodes}
    outcome = Outcome(run)
    for row in rows:
        node = nodes.get(row.step)
        if node is None:
            continue
        if row.state != "done":
            outcome.states.pop(row.step, None)
            continue
        skips = bool(row.notes.get("skip"))  # it gave what it had, and nothing after it happens
        if not skips and len(row.outputs) != len(node.names):
            continue
        action: Action = "reuse" if row.action == "reuse" else "run"
        reason = Reason.from_json(row.reason)
        outcome.states.pop(row.step, None)
        outcome.states[row.step] = "reused" if action == "reuse" else "done"
        outcome.decisions[row.step] = Decision(row.step, action, reason, row.recipe, row.outputs)
        outcome.notes[row.step] = row.notes
        names = zip(node.names, row.outputs, strict=False)
        outcome.artifacts.update({(row.step, name): artifact for name, artifact in names})
    outcome.artifacts = {key: one for key, one in outcome.artifacts.items() if key[0] in outcome.states}
    return outcome


def learn_results(outcome: Outcome, facts: Facts, ledger: Ledger) -> None:
    """Take up what the ledger knows of the steps that are done: their results, and what their sources held."""
    recipes = {step: decision.recipe for step, decision in outcome.decisions.items() if decision.recipe is not None}
    results = ledger.results(list(recipes.values()))
    facts.results.update(results)
    for step, recipe in recipes.items():
        if recipe not in results:
            continue
        outcome.decisions[step] = replace(outcome.decisions[step], tree=results[recipe].tree)
        if (source := results[recipe].source) is not None:
            facts.sources[step] = source


def refusal_before(graph: Graph, step: str, outcome: Outcome) -> str:
    """Why a step is skipped: what a step before it in this run ended with; "" where nothing did."""
    part = needed(graph, [step])
    found = (str(outcome.notes.get(node.id, {}).get("skip", "")) for node in part.nodes if node.id != step)
    return next(filter(None, found), "")
