"""Monitoring: a window of traffic or of a file against what the champion was trained and judged on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.artifact import Artifact
from penstock.core.flow import Node
from penstock.core.metric import own_metrics, scorer_names
from penstock.core.ports import Home
from penstock.core.run import Entry
from penstock.core.source import READ, Source, meant_for, read, stem_and_suffix
from penstock.core.step import Call, Options, Ref, call_of
from penstock.core.workflow import Workflow
from penstock.engine.local import Effect, Execution
from penstock.errors import UnknownNameError
from penstock.lifecycle.lower import effect, stage
from penstock.lifecycle.own import check_code
from penstock.lifecycle.register import json_artifact
from penstock.lifecycle.versions import Version, alias, head, manifest, stream

REFERENCE = ("profile", "prediction_profile", "input", "metrics", "estimator", "decision")


def log_folder(home: Home, workflow: str) -> str:
    """Where a workflow's predictions are logged."""
    return os.path.join(home.config.root, ".penstock", "predictions", workflow)


def lower_window(workflow: Workflow, extra: Mapping[str, Any]) -> tuple[tuple[Ref, ...], dict[str, Any]]:
    """The steps of one look at the world.

    Parameters
    ----------
    workflow : Workflow
    extra : dict
        "data": a table to look at, relative to the working directory, else None for the prediction log; "log":
        the log's folder; "model", "since": what to take of the log.
    """
    # Checks are of a table: the log holds what the model reads and no more, however many rows there happen to be.
    reference = effect("reference", outputs=REFERENCE)
    if extra.get("data"):
        current: Any = read(os.path.abspath(extra["data"]), name="window_data", **_as_declared(workflow, extra["data"]))
        told = stage(
            "answered",
            current,
            fitted=Ref(reference, "estimator"),
            input=Ref(reference, "input"),
            decision=Ref(reference, "decision"),
        )
        predictions: Any = Ref(told)
    else:
        taken = Call(
            "penstock.stages.prediction_log:read_log",
            "read_log",
            (extra["log"],),
            {"model": extra.get("model"), "since": extra.get("since") or 0.0},
            Options(outputs=("inputs", "predictions")),
            part="monitor",
            uncacheable="the log may have grown",
        )
        current, predictions = Ref(taken, "inputs"), Ref(taken, "predictions")
    window = stage(
        "window",
        current,
        profile=Ref(reference, "profile"),
        prediction_profile=Ref(reference, "prediction_profile"),
        input=Ref(reference, "input"),
        predictions=predictions,
        labels=workflow.monitor.labels,
        label_on=tuple(workflow.key),
        metrics=scorer_names(workflow.metrics),
        target=workflow.target,
        reference_metrics=Ref(reference, "metrics"),
        **_beside(workflow),
        **({"checks": workflow.checks} if workflow.checks and extra.get("data") else {}),
        entry="penstock.stages.monitor:window",
    )
    recorded = effect("window", Ref(window))
    about = {"workflow": workflow.name, "seed": workflow.seed}
    return (Ref(recorded),), about


def _as_declared(workflow: Workflow, path: str) -> dict[str, Any]:
    """How the workflow's one source is read, as far as it is meant for another file of such rows."""
    call = call_of(workflow.data)
    source = call.args[0] if call.entry == READ else None
    if not isinstance(source, Source):
        return {}
    return {name: getattr(source, name) for name in meant_for(stem_and_suffix(path)[1], source.suffix)}


def _beside(workflow: Workflow) -> dict[str, Any]:
    """What figures are made of besides answers and labels, where it is declared."""
    found = {"own": own_metrics(workflow.metrics, ()), "weight": workflow.weight}
    return {name: value for name, value in found.items() if value}


@dataclass
class Watch:
    """What one look does to the ledger, and what it found.

    Parameters
    ----------
    home : Home
    workflow : str
    who, run : str
    """

    home: Home
    workflow: str
    who: str
    run: str
    version: Version | None = None
    found: Mapping[str, Any] = field(default_factory=dict)

    def effects(self) -> dict[str, Any]:
        """Entry → method, for the engine."""
        return {f"penstock.lifecycle:{name}": getattr(self, name) for name in ("reference", "window")}

    def reference(self, _node: Node, _inputs: Mapping[tuple[str, str], Artifact], execution: Execution) -> Effect:
        """What the champion was trained and judged on."""
        self.version, _ = alias(self.home.ledger, self.workflow, "champion")
        if self.version is None:
            raise UnknownNameError(f"{self.workflow} has no champion to monitor", hint="`penstock run` makes one")
        if any(node.id == "answered" for node in execution.graph.nodes):
            check_code(self.home, self.version)
        files = manifest(self.home, self.version.bundle)["files"]
        judged = self._verdict()
        artifacts = [
            Artifact.from_json(files["profile"]),
            json_artifact(self.home.objects, judged.get("prediction_profile")),
            Artifact.from_json(files["input"]),
            json_artifact(self.home.objects, judged.get("metrics")),
            Artifact.from_json(files["estimator"]),
            Artifact.from_json(files["decision"]) if "decision" in files else json_artifact(self.home.objects, None),
        ]
        return Effect(tuple(artifacts), changed=False)

    def _verdict(self) -> dict[str, Any]:
        """The comparison that made the champion, for its figures on held-out rows."""
        assert self.version is not None
        for entry in reversed(self.home.ledger.stream(stream(self.workflow, "verdict"))):
            if entry.body["version"] == self.version.number:
                comparison = Artifact.from_json(entry.body["comparison"])
                found: dict[str, Any] = self.home.formats.load(comparison, self.home.objects)
                return found
        return {}

    def window(self, _node: Node, inputs: Mapping[tuple[str, str], Artifact], _execution: Execution) -> Effect:
        """Put what was found on record."""
        assert self.version is not None
        artifact = inputs["window", ""]
        self.found = self.home.formats.load(artifact, self.home.objects)
        name = stream(self.workflow, "window")
        last = head(self.home.ledger, name)
        body = {
            "version": self.version.number,
            "alarm": bool(self.found["alarm"]),
            "summary": self.found["summary"],
            "window": artifact.to_json(),
            "artifacts": {"window": artifact.digest} if artifact.text is None else {},
            "run": self.run,
        }
        if artifact.text is None:
            self.home.objects.publish([artifact.digest])
        number = last.number + 1 if last else 1
        self.home.ledger.append([Entry(name, number, body, who=self.who, why="monitor")])
        return Effect((artifact,))
