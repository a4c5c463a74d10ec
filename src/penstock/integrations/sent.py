"""A run as MLflow keeps it: what the ledger says of it by now, whether it goes on, has ended or was broken off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.notes import FIGURES
from penstock.core.ports import Home
from penstock.core.run import Run
from penstock.core.units import is_number
from penstock.errors import PenstockError, bounded
from penstock.integrations.tracking import Sent
from penstock.lifecycle.alive import state_of
from penstock.lifecycle.kept import figures_kept
from penstock.lifecycle.records import StepSeen, figures_of, steps_of
from penstock.lifecycle.stage_ids import STAGES

STATUS = {"failed": "FAILED", "cancelled": "KILLED", "interrupted": "KILLED", "running": "RUNNING"}
"""Any other state is FINISHED: a refusal is an outcome."""
MOST_STEPS = 200
"""Steps whose seconds are sent, and from whose notes figures are taken."""
MOST_FILES = 50
"""Figures of one run that are sent."""
_ODD = re.compile(r"[^\w\-. :/]")


def sent_of(home: Home, run: Run) -> Sent:
    """A run as MLflow keeps it."""
    info, state = run.info, state_of(run)
    steps = dict(list(steps_of(home, run).items())[:MOST_STEPS])
    files, contents = _files(home, info.get("code") or {}, steps)
    declared = {**info.get("parameters", {}), **info.get("params", {})}
    return Sent(
        run=run.id,
        experiment=home.config.mlflow.get("experiment") or run.flow,
        name=f"{run.kind} {run.id[:4]}",
        status=STATUS.get(state, "FINISHED"),
        started=int(run.started * 1000),
        ended=int(run.ended * 1000) if run.ended else 0,
        tags=_tags(run, state, steps),
        params={_name(path): str(value)[:500] for path, value in declared.items()},
        metrics=_metrics(home, run, steps),
        files=files,
        contents=contents,
    )


def _tags(run: Run, state: str, steps: Mapping[str, StepSeen]) -> dict[str, str]:
    info, code = run.info, run.info.get("code") or {}
    tags = {"penstock.run": run.id, "penstock.kind": run.kind, "penstock.state": state, "penstock.workflow": run.flow}
    tags |= {"mlflow.user": str(info.get("who", "")), "mlflow.note.content": str(info.get("note", ""))}
    tags |= {"mlflow.source.name": str(info.get("file", "")), "mlflow.source.git.commit": code.get("commit", "")}
    tags |= {"penstock.set": json.dumps(info["set"])} if "set" in info else {}
    tags |= {"penstock.predictions": info["predictions"]} if "predictions" in info else {}
    tags |= {"penstock.version": f"{run.flow}@{info['version']}"} if "version" in info else {}
    failed = [f"{one.step}: {one.error['what']}" for one in steps.values() if one.state == "failed" and one.error]
    tags |= {"penstock.failed": bounded("; ".join(failed), 1_000)} if failed else {}
    return {name: value[:4_000] for name, value in tags.items() if value}


def _metrics(home: Home, run: Run, steps: Mapping[str, StepSeen]) -> dict[str, float]:
    """Figures with their intervals, what was logged as a number, the seconds of each step, and the cost."""
    found: dict[str, Any] = {}
    for one in _figures(home, run, steps).values():
        shown = one["shown"]
        found |= {shown["name"]: shown.get("value")}
        found |= {f"{shown['name']}.{end}": shown.get(end) for end in ("low", "high")}
    for seen in steps.values():
        if seen.step not in STAGES:
            found |= {f"{seen.step}.{name}": value for name, value in seen.notes.items()}
    ran = [seen for seen in steps.values() if seen.action == "run"]
    found |= {f"seconds.{seen.step}": round(seen.wall_s, 3) for seen in ran}
    found |= {"peak_bytes": max(seen.peak_bytes for seen in ran)} if ran else {}
    cost = run.info.get("cost", {})
    found |= {name: cost[name] for name in ("cpu_s", "peak_bytes", "fit_s", "predict_s") if name in cost}
    return {_name(name): float(value) for name, value in found.items() if is_number(value)}


def _figures(home: Home, run: Run, steps: Mapping[str, StepSeen]) -> Mapping[str, Any]:
    """Figures that the run's row keeps; while it goes on, those of its evaluation."""
    kept: Mapping[str, Any] = figures_kept(run).get("metrics", {})
    if kept or "evaluate" not in steps:
        return kept
    try:
        return figures_of(home, run, steps)
    except PenstockError:  # not kept any more
        return {}


def _files(
    home: Home, code: Mapping[str, Any], steps: Mapping[str, StepSeen]
) -> tuple[dict[str, str], Callable[[str], bytes]]:
    """Name of each file → digest, and what reads it: the difference of the code from its commit, and logged figures."""
    files: dict[str, str] = {}
    for seen in steps.values():
        for name, one in seen.notes.get(FIGURES, {}).items():
            if len(files) < MOST_FILES:
                files[f"figures/{_part(seen.step)}/{_part(name)}.{one['kind']}"] = one["digest"]
    difference = Artifact.from_json(code["diff"]) if "diff" in code else None
    if difference is not None:
        files["code.diff"] = difference.digest

    def contents(name: str) -> bytes:
        if name == "code.diff" and difference is not None:
            return str(home.formats.load(difference, home.objects)["diff"]).encode()
        return home.objects.read(files[name])

    return files, contents


def _name(text: str) -> str:
    """A name as MLflow takes it."""
    return _ODD.sub("_", text)[:250]


def _part(text: str) -> str:
    """A name as a part of a path."""
    return re.sub(r"[^\w\-]", "_", text)[:100]
