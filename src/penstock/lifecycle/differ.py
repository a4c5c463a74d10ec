"""What two runs differ in: parameters, code, libraries, inputs, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.plan import Reason
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.lifecycle.changes import changes
from penstock.lifecycle.environments import differences
from penstock.lifecycle.records import StepSeen, figures_of, results_of, steps_of

LEDGER_BOUND = ("register", "champion", "compare", "gate", "deploy")
"""Stages of which it depends on who reigns whether they run: not a difference between two runs' declarations."""


def diff(home: Home, a: Run, b: Run) -> dict[str, Any]:
    """Compare two runs.

    Parameters
    ----------
    a, b : Run
        The earlier and the later one, as a reader thinks of them.

    Returns
    -------
    dict
        "runs": ids; "parameters": {name: [a, b]} that differ; "steps": {step: [sentences]} of every step whose
        recipe differs; "only": {run id: [steps]}; "figures": {scorer: [a, b]} as shown, for every scorer of either;
        "unknown": steps of which nothing is on record any more; "environment": what differs between the machines and
        their libraries, of two runs that both did something.
    """
    first, second = _declared(steps_of(home, a)), _declared(steps_of(home, b))
    ours, theirs = results_of(home, first), results_of(home, second)
    results = (*ours.values(), *theirs.values())
    codes = home.ledger.codes({digest for one in results for digest in (one.code, one.source) if digest})
    steps, unknown = {}, []
    for step in [step for step in first if step in second]:
        before, now = first[step].recipe, second[step].recipe
        if before == now:
            continue
        if step not in ours or step not in theirs:
            unknown.append(step)
            continue
        old, new = ours[step], theirs[step]
        file = b.info.get("sources", {}).get(step, step)
        found = changes(
            (codes.get(old.code, {}), old.tree, old.source),
            (codes.get(new.code, {}), new.tree, new.source),
            file,
            (codes.get(old.source or ""), codes.get(new.source or "")),
        )
        steps[step] = [str(reason) for reason in found] or [str(Reason("new"))]
    return {
        "runs": [a.id, b.id],
        "parameters": _parameters(a, b),
        "steps": steps,
        "only": {a.id: sorted(set(first) - set(second)), b.id: sorted(set(second) - set(first))},
        "figures": _figures(home, (a, first), (b, second)),
        "unknown": unknown,
        "environment": differences(machine_of(home, a), machine_of(home, b)),
    }


def machine_of(home: Home, run: Run) -> Mapping[str, Any]:
    """The environment of a run as `engine.environment` measured it; empty where none is kept."""
    kept = (run.info.get("code") or {}).get("machine")
    if kept is None or home.objects.missing([kept["digest"]]):
        return {}
    found: Mapping[str, Any] = home.formats.load(Artifact.from_json(kept), home.objects)
    return found


def _declared(steps: dict[str, StepSeen]) -> dict[str, StepSeen]:
    return {step: seen for step, seen in steps.items() if step not in LEDGER_BOUND}


def _parameters(a: Run, b: Run) -> dict[str, list[Any]]:
    old, new = parameters_kept(a), parameters_kept(b)
    return {name: [old.get(name), new.get(name)] for name in sorted({*old, *new}) if old.get(name) != new.get(name)}


def parameters_kept(run: Run) -> dict[str, Any]:
    """All parameters of a run by path, those of `ps.Param` by name; defaults too."""
    info = run.info
    return {**info.get("defaults", {}), **info.get("parameters", {}), **info.get("params", {})}


def _figures(home: Home, *runs: tuple[Run, dict[str, StepSeen]]) -> dict[str, list[Any]]:
    found = [figures_of(home, run, steps) for run, steps in runs]
    names = dict.fromkeys(name for figures in found for name in figures)
    return {name: [figures[name]["shown"] if name in figures else None for figures in found] for name in names}
