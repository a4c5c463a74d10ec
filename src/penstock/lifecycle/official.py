"""What a split that is more than a share asks of the flow: an official test file through the same steps, apart."""

from __future__ import annotations

import dataclasses
from typing import Any

from penstock.core.flow import calls_of, needs_of
from penstock.core.split import Split
from penstock.core.step import Call, Ref, call_of, output_of
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError

APART = "test."
"""What the id of a step begins with that runs on the official test file."""


def official_table(workflow: Workflow) -> Ref | None:
    """The official test rows as the stages take them; None where none are declared.

    A file stands for the one source of `data`, and goes through the same steps by itself: no step sees training and
    test rows together. The result of steps is taken as it is.

    Parameters
    ----------
    workflow : Workflow
    """
    test = workflow.split.test
    if not isinstance(test, Ref):
        return None
    if call_of(test).kind != "source" or call_of(workflow.data).kind == "source":
        return test
    stands: dict[int, Call] = {}
    for call in calls_of((workflow.data,)):
        if call.kind == "source":
            stands[id(call)] = call_of(test)
        elif any(id(need) in stands for need in needs_of(call)):
            stands[id(call)] = dataclasses.replace(
                call, name=f"{APART}{call.name}", args=_instead(call.args, stands), kwargs=_instead(call.kwargs, stands)
            )
    return Ref(stands[id(call_of(workflow.data))], output_of(workflow.data))


def _instead(value: Any, stands: dict[int, Call]) -> Any:
    """Arguments with each reference to a call replaced by one to what stands for it."""
    if isinstance(value, Ref):
        call = call_of(value)
        return Ref(stands.get(id(call), call), output_of(value))
    if type(value) in (list, tuple):
        return type(value)(_instead(item, stands) for item in value)
    if type(value) is dict:
        return {key: _instead(item, stands) for key, item in value.items()}
    return value


def rule_of_folds(split: Split) -> Split:
    """What of a split the training rows are folded by; which rows are held out is no part of it, but a share stays.

    So another mask, or another test file, that leaves the same rows to train on leaves their fits as they are.
    """
    if split.shares and split.final is None:
        return split
    return dataclasses.replace(split, test=split.test if split.shares else Split().test, final=None)


def check_final(workflow: Workflow, *, asked: bool) -> None:
    """A final hold-out that is to be opened is declared.

    Raises
    ------
    DeclarationError
    """
    if asked and workflow.split.final is None:
        raise DeclarationError(
            "--final: the split keeps no final hold-out",
            where=f"workflow {workflow.name}",
            hint="declare split=ps.Split(final=0.1): rows that neither training nor the gate sees",
        )
