"""The step that runs the user's steps again, as part of a workflow's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.replay import Replay
from penstock.core.step import Call, Options, Ref, call_of, promises
from penstock.core.workflow import Workflow
from penstock.lifecycle.official import official_table

STEP = "scramble"


def replay_of(
    workflow: Workflow, rows: tuple[Ref, Ref], roles: Mapping[str, Any], seed: int, fitting: Call | None = None
) -> dict[str, Any]:
    """What the audit is given of the steps before the split; nothing where there are none.

    Parameters
    ----------
    rows : (Ref, Ref)
        Training and held-out rows.
    roles : dict
        "target" and "roles", as every stage takes them.
    seed : int
    fitting : Call, optional
        The step that fits, to be run again too.
    """
    calls = calls_of((workflow.data,))
    if all(call.kind == "source" for call in calls):
        return {}
    also = () if fitting is None else (rows[0], Ref(fitting, "fitted"))
    more = () if fitting is None else (fitting,)
    told: dict[str, Any] = {"full": True} if fitting is not None else {}
    arguments = {
        "steps": Replay((*calls, *more), workflow.data, also),
        "train": rows[0],
        "test": rows[1],
        **roles,
        "split": workflow.split if workflow.split.shares else None,  # else no rule can be asked about one row
        "seed": seed,
        **told,
    }
    if workflow.split.final is not None:
        arguments["final"] = Ref(call_of(rows[0]), "final")
    if (official := official_table(workflow)) is not None:
        arguments["official"] = _shared(calls, calls_of((official,)))
    return {"steps": Ref(Call("penstock.stages.scramble:scramble", STEP, (), arguments, Options(), part=STEP))}


def _shared(calls: Sequence[Call], others: Sequence[Call]) -> tuple[int, ...]:
    """Places of calls that stand among others too; a source is one with whatever reads the same."""
    known = {id(call) for call in others}
    read = [call.args for call in others if call.kind == "source" and not promises(call.args)]
    return tuple(
        at
        for at, call in enumerate(calls)
        if id(call) in known or (call.kind == "source" and not promises(call.args) and call.args in read)
    )
