"""What a run's row keeps at its end: what it cost, where its out-of-fold predictions are, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.engine.outcome import Outcome

MOST_STEPS = 200
"""Steps whose time is kept with the run; all of them are in their own rows."""


def costs(home: Home, outcome: Outcome) -> dict[str, Any]:
    """What the steps that ran cost.

    Returns
    -------
    dict
        "cost": {"cpu_s" (seconds, of all workers), "peak_bytes" (of the largest worker), "seconds" (step → s),
        "fit_s", "predict_s" (a fold each, where the evaluation ran)}; empty where nothing ran.
    """
    if "done" not in outcome.states.values():
        return {}
    rows = [row for row in home.ledger.step_runs(outcome.run.id) if row.action == "run"]
    found: dict[str, Any] = {
        "cpu_s": round(sum(row.cpu_s for row in rows), 3),
        "peak_bytes": max((row.peak_bytes for row in rows), default=0),
        "seconds": {row.step: round(row.wall_s, 3) for row in rows[:MOST_STEPS]},
    }
    noted = outcome.notes.get("evaluate", {})
    return {"cost": found | {name: noted[name] for name in ("fit_s", "predict_s") if name in noted}}


def evidence(home: Home, outcome: Outcome) -> dict[str, Any]:
    """Figures of a run that evaluated something, and the artifact of its out-of-fold predictions.

    Returns
    -------
    dict
        "figures": {"primary", "metrics": {scorer: {"value", "shown"}}}; "predictions": digest. Either may be absent.
    """
    found: dict[str, Any] = {}
    if ("evaluate", "report") in outcome.artifacts:
        report = home.formats.load(outcome.artifacts["evaluate", "report"], home.objects)
        metrics = {n: {"value": m["value"], "shown": m["shown"]} for n, m in report["metrics"].items()}
        found["figures"] = {"primary": report["primary"], "metrics": metrics}
    return found | predictions(outcome)


def predictions(outcome: Outcome) -> dict[str, Any]:
    """The digest of the out-of-fold predictions, if there are any."""
    made = outcome.artifacts.get(("evaluate", "predictions"))
    return {"predictions": made.digest} if made is not None else {}


def figures_kept(run: Run) -> Mapping[str, Any]:
    """Figures as a try or a run keeps them: "primary" and "metrics"; empty where it has none."""
    found: Mapping[str, Any] = run.info.get("try") or run.info.get("figures") or {}
    return found


def search_of(home: Home, steps: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Candidates of the search that a run trained with, the best first; empty where it searched nothing.

    Parameters
    ----------
    steps : dict
        Step → `records.StepSeen`.
    """
    seen = steps.get("train")
    if seen is None or len(seen.outputs) < 2:
        return []
    report = home.formats.load(seen.outputs[1], home.objects)
    return list((report.get("search") or {}).get("candidates", ())) if isinstance(report, dict) else []
