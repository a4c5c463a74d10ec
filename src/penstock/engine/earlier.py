"""What a step that runs others again is told of earlier runs: seconds that each took, and code that was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.facts import Facts
from penstock.core.flow import Node
from penstock.core.plan import Decision
from penstock.core.ports import Home
from penstock.core.run import Result
from penstock.core.tree import children
from penstock.errors import PenstockError

REPLAY = ["data", "penstock.core.replay:Replay"]
"""How a `Replay` begins among a step's arguments."""


def replays(node: Node) -> bool:
    """Whether a step runs others again."""
    return any(
        type(part) is list and part[:2] == REPLAY for _, named in children(node.tree) for _, part in children(named)
    )


def earlier(node: Node, decisions: Mapping[str, Decision], facts: Facts, home: Home) -> dict[str, dict[str, Any]]:
    """Part of the step's task; it decides nothing but whether a slow step is run again.

    Returns
    -------
    dict
        Empty, or {"replay": {"seconds": step → seconds on record, "tried": step → digest of code}}.
    """
    if not replays(node):
        return {}
    seconds = {}
    for step, _ in node.needs:
        decision = decisions.get(step)
        result = facts.results.get(decision.recipe or "") if decision is not None else None
        if result is not None and "wall_s" in result.made:
            seconds[step] = result.made["wall_s"]
    return {"replay": {"seconds": seconds, "tried": _tried(node, facts, home)}}


def _tried(node: Node, facts: Facts, home: Home) -> dict[str, str]:
    """The code that the last proof of this flow ran again, by step."""
    before = facts.previous.get(node.id)
    if before is None:
        return {}
    try:
        result: Result | None = home.ledger.results([before.recipe]).get(before.recipe)
        report = home.formats.load(result.outputs[0], home.objects) if result is not None else {}
    except PenstockError:  # it is not kept any more: what it tried is tried again
        return {}
    return dict(report.get("codes", {}))
