"""What a declaration asks of the table besides its schema: checks, columns that figures read, the target's kind."""

from __future__ import annotations

from typing import Any

from penstock.core.flow import calls_of, step_ids
from penstock.core.gate import RATES, MaxGap, NoWorseOn
from penstock.core.metric import Metric, named_rules, scorer_names
from penstock.core.names import DECIDE, SCORERS, TASKS, tasks_of
from penstock.core.workflow import Workflow
from penstock.errors import DeclarationError

PARTED = (MaxGap, NoWorseOn)
"""Rules that name a column."""


def demands(workflow: Workflow, own: tuple[Metric, ...], kind: str | None) -> dict[str, Any]:
    """Further arguments of `validate`; only what is declared, so that a workflow without any of it keeps its results.

    Parameters
    ----------
    workflow : Workflow
    own : tuple of Metric
        Its metrics of the user's own.
    kind : {"classification", "regression"} or None
        What its estimator is for, where that is known.

    Raises
    ------
    DeclarationError
        If a metric, or a threshold, fits no target that the estimator can have.
    """
    possible = {"classification": ("binary", "multiclass"), "regression": ("regression",)}.get(kind or "", TASKS)
    known = _tasks(workflow, own)
    faults = [
        f"metrics=: {name!r} does not fit a model for {kind}"
        for name, fits in known.items()
        if not set(fits) & set(possible)
    ]
    if workflow.decide is not None and kind == "regression":
        faults.append("decide=: a threshold parts two classes, and this is a model for regression")
    if faults:
        raise DeclarationError(faults, where=f"workflow {workflow.name}")
    columns = {f"metric {one.name}": one.columns for one in own if one.columns}
    rules = named_rules(workflow.gate, own)
    asked = [rule.by if isinstance(rule, MaxGap) else rule.column for rule in rules if isinstance(rule, PARTED)]
    parts = tuple(dict.fromkeys(one for one in asked if one not in workflow.slices))
    if parts:  # a first version has no champion, and a rule about a column that is not there would pass
        columns["gate"] = parts
    if isinstance(workflow.baseline, str):
        columns["baseline"] = (workflow.baseline,)
    if workflow.audit is not None and workflow.audit.waive:
        steps = set(step_ids(calls_of((workflow.data,)))[0].values())
        columns["waive"] = tuple(name for name in workflow.audit.waive if name not in steps)
    depends = {name: fits for name, fits in known.items() if not set(possible) <= set(fits)}
    if workflow.decide is not None:
        depends[DECIDE] = ("binary",)
    found = {"checks": workflow.checks, "columns": columns, "fits": depends}
    return {name: value for name, value in found.items() if value}


def _tasks(workflow: Workflow, own: tuple[Metric, ...]) -> dict[str, tuple[str, ...]]:
    """Scorer name → tasks that it fits, of every metric that is declared or that a rule names."""
    mine = {one.scorer: one.tasks for one in own}
    named = [getattr(rule, "metric", None) for rule in named_rules(workflow.gate, own)]
    rules = [str(name) for name in named if name is not None and name not in RATES]
    # People name errors without their sign.
    asked = [f"neg_{name}" if f"neg_{name}" in (*SCORERS, *mine) else name for name in rules]
    return {name: mine.get(name, tasks_of(name)) for name in (*scorer_names(workflow.metrics), *asked)}
