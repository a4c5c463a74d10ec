"""Deciding: a pure, total fold of `decide` over a flow. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.digest import digest_recipe
from penstock.core.facts import Facts
from penstock.core.fan import Fan, named_by
from penstock.core.flow import Graph, Node
from penstock.core.plan import Decision, Plan, Reason
from penstock.core.run import Decided, Result
from penstock.core.tree import resolve
from penstock.engine.reasons import why_changed

Known = Mapping[tuple[str, str], Artifact]
"""(step id, output) → artifact, of the steps that are known so far."""


def recipe_of(node: Node, known: Known, facts: Facts) -> tuple[str, Any] | None:
    """Digest of all that decides a step's result, and the resolved tree that went into it.

    Returns
    -------
    (recipe, tree), or None for an effect, for what cannot be cached, and for a source that could not be read.
    """
    if node.kind == "effect" or node.uncacheable:
        return None
    source = facts.sources.get(node.id)
    if node.kind == "source" and source is None:
        return None
    inputs = {need: [known[need].format, known[need].digest] for need in node.needs}
    tree = resolve(node.tree, inputs)
    return digest_recipe(node.code, tree, source), tree


def decide(node: Node, known: Known, facts: Facts, found: tuple[str, Any] | None = None) -> Decision:
    """What happens to one step whose inputs are all known.

    Called by `plan` over what is known beforehand, and at run time by whoever holds the facts.

    Parameters
    ----------
    node : Node
    known : mapping
        Artifacts of all steps that the node needs.
    facts : Facts
        `facts.results` must have been asked for this recipe.
    found : (recipe, tree), optional
        What `recipe_of` gave for them, where it has been asked before.

    Returns
    -------
    Decision
        "run" or "reuse".
    """
    if node.kind == "effect":
        return Decision(node.id, "run", Reason("effect"))
    found = found or recipe_of(node, known, facts)
    if found is None:
        return Decision(node.id, "run", Reason("uncacheable", node.uncacheable or "its source is unknown"))
    recipe, tree = found
    result = facts.results.get(recipe)
    if node.id in facts.forced:
        return Decision(node.id, "run", Reason("forced"), recipe, tree=tree)
    if result is not None:
        gone = [digest for a in result.outputs for digest in named_by(a) if digest in facts.missing]
        if not gone:
            return Decision(node.id, "reuse", _why_reused(node, result, facts), recipe, result.outputs, tree)
        return Decision(node.id, "run", Reason("missing", gone[0][:12]), recipe, tree=tree)
    if node.id in facts.reading:
        return Decision(node.id, "run", Reason("query", facts.reading[node.id]), recipe, tree=tree)
    now = Decided(node.id, recipe, node.code, tree, facts.sources.get(node.id))
    reason = why_changed(node, now, facts.previous.get(node.id), facts.codes)
    return Decision(node.id, "run", reason, recipe, tree=tree)


def decide_item(
    child: Node, fan: Fan, decision: Decision, known: Known, facts: Facts, recipe: tuple[str, Any] | None = None
) -> Decision:
    """What happens to one item of a mapped step that runs; what made the step run is the reason of the item too.

    Parameters
    ----------
    child : Node
        One of the fan's.
    fan : Fan
    decision : Decision
        The one on the mapped step.
    known : mapping
        Artifacts of all steps that the mapped step needs.
    facts : Facts
        `facts.results` must have been asked for the child's recipe.
    recipe : (recipe, tree), optional
        What `recipe_of` gave for the child, where it has been asked before.
    """
    found = decide(child, known, facts, recipe)
    if fan.node.id in facts.forced and found.recipe is not None:
        return Decision(child.id, "run", Reason("forced"), found.recipe, tree=found.tree)
    if found.reason.why == "new":
        return replace(found, reason=decision.reason)
    return found


def counted(node: Node, decision: Decision, known: Known, facts: Facts) -> Decision:
    """A decision on a mapped step with the count of its items and of those to run, where these are known."""
    fan = facts.fans.get(decision.recipe or "") if node.mapped and decision.action == "run" else None
    if fan is None:
        return decision
    run = sum(decide_item(child, fan, decision, known, facts).action == "run" for child in fan.children)
    return replace(decision, items=(len(fan.places), run))


def _why_reused(node: Node, result: Result, facts: Facts) -> Reason:
    """A hit; one that another kind of processor made says so, since the last digits may be others here."""
    if age := facts.snapshots.get(node.id):
        return Reason("snapshot", age)
    made = str(result.made.get("cpu", ""))
    if made and facts.cpu and made != facts.cpu and node.kind != "source":
        return Reason("elsewhere", f"made on {made}, this is {facts.cpu}")
    return Reason("unchanged")


def plan(graph: Graph, facts: Facts) -> Plan:
    """Decisions on a whole flow, with what is known before it runs.

    A step behind one that will run is "wait": whether it runs depends on what that one gives (early cut-off). So is
    an effect: what it does depends on the ledger at that moment.
    """
    known: dict[tuple[str, str], Artifact] = {}
    decisions: list[Decision] = []
    running: dict[str, str] = {}
    for node in graph.nodes:
        behind = next((step for step, _ in node.needs if step in running), None)
        if behind is not None:
            decision = Decision(node.id, "wait", Reason("waits", running[behind]))
            running[node.id] = running[behind]
        elif node.kind == "effect":
            decision = Decision(node.id, "wait", Reason("effect"))
            running[node.id] = node.id
        else:
            decision = counted(node, decide(node, known, facts), known, facts)
            if decision.action == "reuse":
                known.update(zip(((node.id, name) for name in node.names), decision.outputs, strict=True))
            else:
                running[node.id] = node.id
        decisions.append(decision)
    return Plan(graph.name, tuple(decisions))
