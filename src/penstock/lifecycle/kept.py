"""What a run's row keeps at its end: what it cost, where its out-of-fold predictions are, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from penstock.core.fan import mapped_by
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.engine.outcome import Outcome

MOST_STEPS = 200
"""Steps whose time is kept with the run; all of them are in their own rows."""
MOST_CANDIDATES = 100
MOST_TEXT = 30_000
"""Candidates of a search that are kept with the run, the best first, and their characters as JSON."""


def costs(home: Home, outcome: Outcome) -> dict[str, Any]:
    """What the steps that ran cost; a mapped step's row has the sum of its items'.

    Returns
    -------
    dict
        "cost": {"cpu_s" (seconds, of all workers), "peak_bytes" (of the largest worker), "seconds" (step → s),
        "fit_s", "predict_s" (a fold each, where the evaluation ran)}; empty where nothing ran.
    """
    if "done" not in outcome.states.values():
        return {}
    rows = [row for row in home.ledger.step_runs(outcome.run.id) if row.action == "run" and not mapped_by(row.step)]
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


def searched(home: Home, outcome: Outcome) -> dict[str, Any]:
    """Candidates of the search that a run trained with, as its row keeps them.

    Returns
    -------
    dict
        "search": as the training's report has it, with fewer candidates, and "path" the whole one; empty where
        nothing was searched.
    """
    made = outcome.artifacts.get(("train", "report"))
    report = home.formats.load(made, home.objects) if made is not None else {}
    search = report.get("search")
    if not search:
        return {}
    kept, room = [], MOST_TEXT
    for one in search["candidates"][:MOST_CANDIDATES]:
        room -= len(json.dumps(one))
        if room < 0:
            break
        kept.append(one)
    name = f"{report['candidate']}." if "candidate" in report else ""
    told = {"n_candidates": search["n_candidates"], "scorer": search["scorer"], "path": f"model.{name}{search['path']}"}
    return {"search": told | {"candidates": kept}}


def search_of(home: Home, steps: Mapping[str, Any]) -> dict[str, Any]:
    """The search that a run trained with: all of its candidates that are listed; empty where it searched nothing.

    Parameters
    ----------
    steps : dict
        Step → `records.StepSeen`.
    """
    seen = steps.get("train")
    if seen is None or len(seen.outputs) < 2:
        return {}
    report = home.formats.load(seen.outputs[1], home.objects)
    return dict(report.get("search") or {}) if isinstance(report, dict) else {}


def scored_by(search: Mapping[str, Any]) -> str:
    """What a search chose by, as people say it; "" where that has no name."""
    return str(search.get("scorer", "")).removeprefix("neg_")


def is_loss(search: Mapping[str, Any]) -> bool:
    """Whether its scores are shown with the other sign: errors and losses are positive numbers to people."""
    return str(search.get("scorer", "")).startswith("neg_")


def score_shown(search: Mapping[str, Any], score: float | None) -> float | None:
    """A candidate's score as people are told.

    Examples
    --------
    >>> score_shown({"scorer": "neg_log_loss"}, -0.4), score_shown({"scorer": ""}, 0.8)
    (0.4, 0.8)
    """
    return score if score is None or not is_loss(search) else 0.0 - score
