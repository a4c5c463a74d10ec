"""An attempt at a champion whose effects are carried out by several processes: its state goes with the run's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Node
from penstock.engine.local import Effect, Execution
from penstock.engine.outcome import Key, Outcome
from penstock.lifecycle.attempt import Attempt
from penstock.lifecycle.records import NOT_COMPARED
from penstock.lifecycle.versions import version

STATE = "attempt"
"""Under which name an effect's row notes it."""
PLAIN = ("new", "ruled", "looked", "passed", "promoted", "reigns", "reigning", "reason", "golden", "fight")
"""What stands there as it is."""

CHAIN = ("register", "champion", "gate", "deploy")
"""Effects that follow each other; the last of them that has happened knows all before it. Others stand beside them."""

Act = Callable[[Node, Mapping[Key, Artifact], Execution], Effect]


def kept_effects(attempt: Attempt) -> dict[str, Act]:
    """The attempt's effects, each of which notes where the attempt then stands, and why what follows is skipped."""

    def kept(effect: Act) -> Act:
        def act(node: Node, inputs: Mapping[Key, Artifact], execution: Execution) -> Effect:
            made = effect(node, inputs, execution)
            notes: dict[str, Any] = {STATE: state_of(attempt)}
            return replace(made, notes=notes | ({"skip": made.skip} if made.skip else {}))

        return act

    return {entry: kept(effect) for entry, effect in attempt.effects().items()}


def state_of(attempt: Attempt) -> dict[str, Any]:
    """Where an attempt stands, as plain data; the verdict of a comparison is an artifact of the run."""
    told: dict[str, Any] = {name: getattr(attempt, name) for name in PLAIN}
    told |= {"git": dict(attempt.git), "notes": list(attempt.notes), "judged": attempt.verdict is not None}
    if attempt.verdict is not None and attempt.verdict["outcome"] == NOT_COMPARED:
        told["verdict"] = dict(attempt.verdict)
    return told | {"version": attempt.version.number if attempt.version is not None else None}


def restore(attempt: Attempt, outcome: Outcome) -> None:
    """Put an attempt where the run's rows say that it stands."""
    notes = {node.part: outcome.notes.get(node.id, {}) for node in attempt.graph.nodes if node.id in outcome.states}
    told = next((notes[part][STATE] for part in reversed(CHAIN) if STATE in notes.get(part, {})), None)
    if told is None:
        return
    for name in PLAIN:
        setattr(attempt, name, told[name])
    attempt.git, attempt.notes = dict(told["git"]), list(told["notes"])
    if told["version"] is not None:
        attempt.version = version(attempt.home.ledger, attempt.graph.name, told["version"])
    if told["judged"]:
        attempt.verdict = told.get("verdict") or attempt.load(outcome.artifacts["compare", ""])
