"""What steps ask for: what a workflow says by stage or step, and whether this machine has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.core.facts import Facts
from penstock.core.flow import Graph, Node, calls_of, step_ids
from penstock.core.names import did_you_mean
from penstock.core.ports import Config
from penstock.engine.admission import asks, totals_of, unfit
from penstock.engine.planner import plan
from penstock.errors import DeclarationError
from penstock.lifecycle.stage_ids import CANDIDATE, FINAL, OFFICIAL, STAGES

if TYPE_CHECKING:
    from penstock.core.workflow import Workflow


def with_requests(graph: Graph, workflow: Workflow) -> Graph:
    """A flow whose steps ask for what the workflow says: a step by its name, else by its stage, else by itself.

    Parameters
    ----------
    graph : Graph
    workflow : Workflow

    Raises
    ------
    DeclarationError
        A name that is neither a stage's nor a step's, with the nearest one.
    """
    given = workflow.resources or {}
    known = names(workflow)
    faults = [
        f"resources=: {name!r} is no stage or step of this workflow{did_you_mean(name, known)}"
        for name in given
        if name not in known
    ]
    if faults:
        hint = f"there are {', '.join(known)}"
        raise DeclarationError(faults, where=f"workflow {workflow.name}", hint=hint)

    def asking(node: Node) -> Node:
        found = given.get(node.id, given.get(node.part))
        return node if found is None else replace(node, resources=found.to_json())

    return replace(graph, nodes=tuple(map(asking, graph.nodes)))


def names(workflow: Workflow) -> list[str]:
    """What a workflow's `resources=` may name: its steps, what reads, candidates, and every stage."""
    calls = calls_of(workflow.tables)
    ids, _ = step_ids(calls)
    candidates = [f"{CANDIDATE}{name}" for name in workflow.model] if type(workflow.model) is dict else []
    stages = ["ingest", *STAGES, OFFICIAL, *candidates, *FINAL]
    return list(dict.fromkeys([*ids.values(), *(call.part for call in calls if call.part), *stages]))


def check_fits(graph: Graph, facts: Facts, config: Config) -> None:
    """Refuse, before anything runs, a flow with a step that is to run and can never fit on this machine.

    Raises
    ------
    DeclarationError
    """
    faults = lacking(graph, facts, config)
    if faults:
        hint = "ask for less, or run it where there is more; `gpus = N` and `jobs = N` set what is taken to be there"
        raise DeclarationError(faults, where=f"flow {graph.name}", hint=hint)


def lacking(graph: Graph, facts: Facts, config: Config) -> list[str]:
    """A sentence for each step that is not known to be reused and can never fit on this machine."""
    nodes = [node for node in graph.nodes if node.kind != "effect"]
    if not asks(graph) or not unfit(nodes, totals := totals_of(graph, config)):
        return []
    kept = {decision.step for decision in plan(graph, facts).decisions if decision.action == "reuse"}
    return unfit((node for node in nodes if node.id not in kept), totals)


def told(graph: Graph, facts: Facts, config: Config) -> list[str]:
    """What a plan says of requests: what would be refused, and that labels mean nothing here."""
    found = [f"a run would be refused: {fault}" for fault in lacking(graph, facts, config)]
    labelled = [node.id for node in graph.nodes if node.resources.get("labels")]
    if labelled:
        more = f" and {len(labelled) - 3} more" if len(labelled) > 3 else ""
        found.append(f"labels are for backends, this machine has none: {', '.join(labelled[:3])}{more}")
    return found
