"""The steps of a version's life once more, and one that compares what they give with what is on record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.core.flow import calls_of
from penstock.core.step import Call, Options, Ref
from penstock.core.workflow import Workflow
from penstock.lifecycle.lower import lower

RECORDED, AGREE = "reproduce.recorded", "reproduce.agree"
"""Step ids that no step of a user's can have by accident: a function's name has no dot."""
GIVEN = "penstock.lifecycle:given"
"""Entry of what stands for an artifact that is there already."""


def lower_reproduction(
    workflow: Workflow, file: str, *, seed: int | None = None, full: bool = False, only: Sequence[str] = ()
) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """As `lower`, with a step that asks the recorded estimator and the new one the same held-out rows.

    Where a threshold is declared, each is asked with its own.

    Raises
    ------
    DeclarationError
    """
    outputs, about = lower(workflow, file, seed=seed, full=full, only=only)
    calls = {call.name: call for call in calls_of(outputs)}
    made = calls["register"].kwargs
    outputs_then = ("estimator", "decision") if "decision" in made else ()
    recorded = Call(GIVEN, RECORDED, (), {}, Options(outputs=outputs_then), kind="effect", part=RECORDED)
    if outputs_then:
        asked = {"fitted": made["estimator"], "recorded": Ref(recorded, "estimator")}
        asked |= {"decision": made["decision"], "recorded_decision": Ref(recorded, "decision")}
    else:
        asked = {"fitted": made["estimator"], "recorded": Ref(recorded)}
    known = {"target": workflow.hiding, "roles": workflow.roles, "schema": Ref(calls["validate"], "schema")}
    rows = Ref(calls["split"], "test")
    compared = Call("penstock.stages.agree:agree", AGREE, (rows,), {**asked, **known}, Options(), part=AGREE)
    return (*outputs, Ref(compared)), about
